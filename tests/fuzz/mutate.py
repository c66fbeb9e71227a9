"""Objects broken on purpose: mutations that know what the bytes of an ELF file mean.

Random bytes die at the first header.  These go where a parser believes something: a word of a section
header, symbol, relocation, type record, line record, CO-RE record, map definition or instruction is given
a value that is wrong in an interesting way, or records are cut, doubled or swapped.
"""

from __future__ import annotations

import struct
from random import Random
from typing import Literal, NamedTuple

from bpfctl.objfile.elf import SHT_NOBITS, SHT_REL, Elf

_INTERESTING = (
    0, 1, 2, 3, 7, 8, 0x10, 0x7F, 0x80, 0xFF, 0x100, 0xFFF, 0x1000, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
    0xFFFFFF, 0x1000000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF,
)  # fmt: skip
_HEADER_SIZE = 64  # bytes, of the ELF header and of a section header
_WORD = 4
_MOST_MUTATIONS = 4
# How often a region is chosen, by what it holds; everything else counts 1.
_WEIGHTS = {"sections": 6, ".BTF": 8, ".BTF.ext": 8, ".symtab": 4, "maps": 4, ".maps": 3, "relocations": 4}


class Region(NamedTuple):
    """Bytes ``start`` to ``end`` of the file, made of records of ``size`` bytes."""

    name: str
    start: int
    end: int
    size: int


class Sample:
    """A sound object and where its parts are."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self._little = data[5:6] == b"\x01"
        self.regions = _regions(data)
        self._weights = [_WEIGHTS.get(region.name, 1) for region in self.regions]

    def mutated(self, random: Random) -> bytes:
        """``data`` with one to four mutations; the same for the same state of ``random``."""
        data = bytearray(self.data)
        for _ in range(random.randint(1, _MOST_MUTATIONS)):
            region = random.choices(self.regions, self._weights)[0]
            # Where an earlier cut moved things, a region is just a place like any other.
            end = min(region.end, len(data))
            if region.start + _WORD <= end:
                random.choices(_MUTATIONS, _MUTATION_WEIGHTS)[0](
                    data, region._replace(end=end), random, self._little
                )
        return bytes(data)


def _regions(data: bytes) -> list[Region]:
    elf = Elf(data, "")
    (table,) = struct.unpack_from(elf.prefix + "Q", data, 40)
    regions = [
        Region("header", 0, _HEADER_SIZE, _WORD),
        Region("sections", table, table + _HEADER_SIZE * len(elf.sections), _HEADER_SIZE),
    ]
    for section in elf.sections:
        if section.type != SHT_NOBITS and section.size >= _WORD:
            name = "relocations" if section.type == SHT_REL else section.name
            size = section.entsize or (_WORD if name.startswith((".BTF", "maps")) else 8)
            regions.append(Region(name, section.offset, section.offset + section.size, size))
    return regions


# --- mutations: (data, region, random, little endian) ------------------------------------------------


def _word(data: bytearray, region: Region, random: Random, little: bool) -> None:
    """One word becomes an interesting number, its neighbour, or another word of the region."""
    at = _aligned(region, random, _WORD)
    order: Literal["little", "big"] = "little" if little else "big"
    old = int.from_bytes(data[at : at + _WORD], order)
    how = random.randrange(4)
    if how == 0:
        new = random.choice(_INTERESTING)
    elif how == 1:
        new = old + random.choice((-8, -4, -1, 1, 4, 8))
    elif how == 2:
        other = _aligned(region, random, _WORD)
        new = int.from_bytes(data[other : other + _WORD], order)
    else:
        new = old ^ 1 << random.randrange(32)
    data[at : at + _WORD] = (new & 0xFFFFFFFF).to_bytes(_WORD, order)


def _byte(data: bytearray, region: Region, random: Random, _little: bool) -> None:
    data[random.randrange(region.start, region.end)] = random.choice(
        (0, 1, 0x7F, 0x80, 0xFF, random.randrange(256))
    )


def _swap(data: bytearray, region: Region, random: Random, _little: bool) -> None:
    """Two records change places."""
    one, other = _aligned(region, random, region.size), _aligned(region, random, region.size)
    if abs(one - other) >= region.size and max(one, other) + region.size <= region.end:
        first, second = data[one : one + region.size], data[other : other + region.size]
        data[one : one + region.size], data[other : other + region.size] = second, first


def _repeat(data: bytearray, region: Region, random: Random, _little: bool) -> None:
    """A record is written over another: the same thing twice."""
    one, other = _aligned(region, random, region.size), _aligned(region, random, region.size)
    if max(one, other) + region.size <= region.end:
        data[other : other + region.size] = data[one : one + region.size]


def _fill(data: bytearray, region: Region, random: Random, _little: bool) -> None:
    """A run of one byte value."""
    start = random.randrange(region.start, region.end)
    end = min(region.end, start + random.choice((4, 8, 16, 64)))
    data[start:end] = bytes([random.choice((0, 0xFF, 0x41))]) * (end - start)


def _cut(data: bytearray, region: Region, random: Random, _little: bool) -> None:
    """The file ends inside of the region."""
    del data[random.randrange(region.start, region.end) :]


def _shift(data: bytearray, region: Region, random: Random, _little: bool) -> None:
    """A record is gone, or there twice, and all that follows has moved."""
    at = _aligned(region, random, region.size)
    if random.randrange(2):
        del data[at : at + region.size]
    else:
        data[at:at] = data[at : at + region.size]


def _aligned(region: Region, random: Random, size: int) -> int:
    return region.start + random.randrange(max((region.end - region.start) // size, 1)) * size


_MUTATIONS = (_word, _byte, _swap, _repeat, _fill, _cut, _shift)
_MUTATION_WEIGHTS = (12, 4, 2, 2, 1, 1, 1)
