"""Arenas: memory that programs and user space share, and the variables that an object keeps in one.

An object has one arena at most, a map of ``.maps``.  Variables declared in it (address space 1) are compiled
into section ``.addr_space.1``, whose bytes are the arena's initial data.
"""

from __future__ import annotations

from collections.abc import Collection

from bpfctl.errors import printable
from bpfctl.objfile.elf import SHT_PROGBITS, Elf
from bpfctl.objfile.spec import MapSpec
from bpfctl.uapi import MapType

ARENA_SECTION = ".addr_space.1"


def find_arena(maps: Collection[MapSpec]) -> MapSpec | None:
    """The arena among ``maps``."""
    return next((spec for spec in maps if spec.map_type == MapType.ARENA), None)


def read_arena_data(elf: Elf, maps: Collection[MapSpec]) -> None:
    """Give the arena among ``maps`` its initial data.

    Raises ObjectFileError for a second arena, and for data without an arena.
    """
    arenas = [spec for spec in maps if spec.map_type == MapType.ARENA]
    if len(arenas) > 1:
        section = elf.find_section(arenas[1].section)
        message = f"map {arenas[1].name} is an arena, and so is {arenas[0].name}: an object has one at most"
        raise elf.error(
            printable(message), section=section.index if section else None, offset=arenas[1].offset
        )
    section = elf.find_section(ARENA_SECTION)
    if section is None or section.type != SHT_PROGBITS or not section.size:
        return
    if not arenas:
        hint = "define a map of type BPF_MAP_TYPE_ARENA in .maps"
        raise elf.error("variables of an arena, and no arena", section=section.index, hint=hint)
    arenas[0].data = elf.section_data(section.index)
