"""Externs: undefined symbols that the kernel, or its configuration, has to answer for.

The object's BTF says which are which: a variable of its DATASEC ``.kconfig`` is a value of the kernel's
configuration, one of ``.ksyms`` a kernel variable or address, a function there a kernel function (kfunc).
Neither is a section of the file.
"""

from __future__ import annotations

from bpfctl.errors import ObjectFileError, printable
from bpfctl.objfile.elf import SHN_UNDEF, STB_GLOBAL, STB_WEAK, Elf
from bpfctl.objfile.spec import ConfigValue, ExternSpec, MapOrigin, MapSpec
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import MapFlag, MapType

if TYPE_CHECKING:
    from bpfctl.btf.types import Btf

KCONFIG, KSYMS = ".kconfig", ".ksyms"

_TRISTATE = "libbpf_tristate"
_MAX_CONFIG = 1 << 20  # bytes of all configuration values; real ones have hundreds
_ORDER = {"undefined": 0, "kconfig": 1, "ksym": 2, "kfunc": 2}


def read_externs(elf: Elf, btf: Btf | None) -> tuple[ExternSpec, ...]:
    """All externs in libbpf's order, which numbers those that are missing; kconfig values have their places.

    ``btf`` as the compiler left it.  Raises ObjectFileError for an extern that no loader could fill: a
    function in ``.kconfig``, or a value of a type that the configuration cannot have.
    """
    weak = {
        elf.name(symbol): symbol.binding == STB_WEAK
        for symbol in elf.symbols
        if symbol.section_index == SHN_UNDEF
        and symbol.name_offset
        and symbol.binding in (STB_GLOBAL, STB_WEAK)
    }
    if not weak:
        return ()
    described = _described(elf, btf, weak) if btf is not None else {}
    externs = [
        described.get(name) or ExternSpec(name, "undefined", is_weak) for name, is_weak in weak.items()
    ]
    placed = tuple(_placed(externs))
    if config_size(placed) > _MAX_CONFIG:
        text = f"its configuration values would take {config_size(placed)} bytes"
        raise ObjectFileError(text, path=elf.path, section=".BTF", hint=f"{_MAX_CONFIG} are allowed")
    return placed


def _described(elf: Elf, btf: Btf, weak: dict[str, bool]) -> dict[str, ExternSpec]:
    """Those that types describe, by name."""
    from bpfctl.btf.kinds import Kind, Linkage

    found: dict[str, ExternSpec] = {}
    for section in (KCONFIG, KSYMS):
        section_id = btf.find(section, Kind.DATASEC)
        for variable in btf.datasec(section_id) if section_id else ():
            name, kind = btf.name(variable.type_id), btf.kind(variable.type_id)
            if name not in weak or btf.linkage(variable.type_id) is not Linkage.EXTERN:
                continue
            type_id = btf.type(variable.type_id).size_or_type
            if section == KSYMS:
                label = "kfunc" if kind is Kind.FUNC else "ksym"
                found[name] = ExternSpec(name, label, weak[name], btf.skip_modifiers(type_id))
                continue
            value = _config_value(btf, type_id) if kind is Kind.VAR else None
            if value is None:
                text = f"extern {printable(name)} is of no type that a configuration value can have"
                hint = "bool, char, an integer, an array of char, or enum libbpf_tristate"
                offset = btf.offset_of(variable.type_id)
                raise ObjectFileError(text, path=elf.path, section=".BTF", offset=offset, hint=hint)
            found[name] = ExternSpec(name, "kconfig", weak[name], value=value)
    return found


def _config_value(btf: Btf, type_id: int) -> ConfigValue | None:
    """How a value of that type is stored, its place left open; None for any other type."""
    from bpfctl.btf.kinds import Kind

    type_id = btf.skip_modifiers(type_id)
    record = btf.type(type_id)
    if record.kind is Kind.INT:
        encoding, size = btf.int_encoding(type_id), record.size_or_type
        if encoding.bool:
            return ConfigValue("bool", 1) if size == 1 else None
        if size == 1:
            return ConfigValue("char", 1, encoding.signed)
        return ConfigValue("int", size, encoding.signed) if size in (2, 4, 8) else None
    if record.kind in (Kind.ENUM, Kind.ENUM64):
        is_tristate = record.name == _TRISTATE and (record.kind is Kind.ENUM64 or record.size_or_type == 4)
        return ConfigValue("tristate", record.size_or_type) if is_tristate else None
    if record.kind is Kind.ARRAY:
        array = btf.array(type_id)
        element = _config_value(btf, array.element_id) if array.length else None
        return ConfigValue("string", array.length) if element and element.form == "char" else None
    return None


def _placed(externs: list[ExternSpec]) -> list[ExternSpec]:
    """In order, configuration values at offsets of the one map that holds them.

    By descending alignment, ascending size, and name.
    """
    externs.sort(key=lambda e: (_ORDER[e.kind], -e.value.alignment, e.value.size, e.name.encode()))
    placed, end = [], 0
    for extern in externs:
        if extern.kind == "kconfig":
            alignment = extern.value.alignment
            offset = (end + alignment - 1) // alignment * alignment
            end = offset + extern.value.size
            extern = extern._replace(value=extern.value._replace(offset=offset))
        placed.append(extern)
    return placed


def config_size(externs: tuple[ExternSpec, ...]) -> int:
    """Bytes of all configuration values; 0 when there are none."""
    return max((e.value.offset + e.value.size for e in externs if e.kind == "kconfig"), default=0)


def read_config_map(externs: tuple[ExternSpec, ...], btf: Btf | None) -> list[MapSpec]:
    """The map of all configuration values, if there are any; the loader writes them into it."""
    from bpfctl.btf.kinds import Kind

    size = config_size(externs)
    if not size or btf is None:
        return []
    return [
        MapSpec(
            name=KCONFIG,
            origin=MapOrigin.DATA,
            section=KCONFIG,
            offset=0,
            map_type=int(MapType.ARRAY),
            key_size=4,
            value_size=size,
            max_entries=1,
            flags=int(MapFlag.RDONLY_PROG | MapFlag.MMAPABLE),
            value_type_id=btf.find(KCONFIG, Kind.DATASEC) or 0,
            frozen=True,
        )
    ]
