"""Global variables of loaded programs: those that the maps of data sections hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpfctl.btf.aggregates import Record
from bpfctl.btf.paths import assign, find_place
from bpfctl.errors import AmbiguousError, BpfctlError, NotFoundError, printable
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.typed import map_types
from bpfctl.kernel import info, map_memory
from bpfctl.objfile.spec import Setting
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import MapFlag, MapType

if TYPE_CHECKING:
    from typing import Any

_KEY = bytes(4)
_LISTED = 16


class Variable(NamedTuple):
    """One variable.  ``frozen``: it is a constant, set before the load."""

    name: str
    type: str
    value: Any
    map: str
    map_id: int
    frozen: bool


class _Section(NamedTuple):
    """The map of a data section, and the codec of its one value."""

    target: OpenMap
    codec: Record
    frozen: bool


class _Change(NamedTuple):
    section: _Section
    offset: int
    data: bytes
    image: bytes


class Sections:
    """The data sections among ``targets``, in the order of their ids; NotFoundError when there are none."""

    def __init__(self, targets: Sequence[OpenMap]) -> None:
        self._sections = [section for target in targets if (section := _section(target)) is not None]
        if not self._sections:
            raise NotFoundError(
                "there are no global variables with types", hint="data sections need BTF: compile with -g"
            )

    def variables(self) -> Iterator[Variable]:
        """Every variable, with its value now."""
        for target, codec, frozen in self._sections:
            data = target.lookup(_KEY).value
            assert isinstance(data, bytes)
            shown = codec.decode(data)
            for name, field in codec.fields.items():
                yield Variable(name, field.codec.label, shown[name], target.name, target.id, frozen)

    def set(self, settings: Sequence[Setting]) -> None:
        """Set variables, or parts of them; nothing is written unless all settings fit.

        Where the map can be mapped only the bytes of the variable are written, so that what programs write
        to others meanwhile is not lost.
        """
        for change in [self._change(setting) for setting in settings]:
            target = change.section.target
            with target.translated("set a variable of"):
                if target.facts.map_flags & MapFlag.MMAPABLE:
                    map_memory.write(target.fd, target.value_size, change.offset, change.data)
                else:
                    target.update(_KEY, change.image)

    def _change(self, setting: Setting) -> _Change:
        section = self._holder(setting.path)
        if section.frozen:
            raise BpfctlError(
                f"{printable(setting.path)} is a constant of a loaded program",
                hint="prog load FILE PATH set NAME=VALUE sets it before the load",
            )
        data = section.target.lookup(_KEY).value
        assert isinstance(data, bytes)
        image = bytearray(data)
        assign(section.codec, image, setting.path, setting.text)
        place = find_place(section.codec, setting.path)
        start = place.offset // 8
        end = (place.offset + (place.bits or place.codec.size * 8) + 7) // 8
        return _Change(section, start, bytes(image[start:end]), bytes(image))

    def _holder(self, path: str) -> _Section:
        found = [section for section in self._sections if section.codec.field_of(path)]
        if len(found) > 1:
            names = ", ".join(f"{section.target.name} (id {section.target.id})" for section in found)
            raise AmbiguousError(
                f"variable {printable(path)} is in several maps: {names}", hint="name the map"
            )
        if not found:
            known = [name for section in self._sections for name in section.codec.fields]
            listed = ", ".join(known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
            raise NotFoundError(
                f"there is no variable {printable(path)}", hint=printable(f"known: {listed}", 1024)
            )
        return found[0]


def _section(target: OpenMap) -> _Section | None:
    if target.map_type != MapType.ARRAY or target.max_entries != 1 or not target.facts.btf_value_type_id:
        return None
    codec = map_types(target).value
    if not isinstance(codec, Record) or not codec.label.startswith("section "):
        return None
    return _Section(target, codec, info.fdinfo(target.fd).get("frozen") == "1")
