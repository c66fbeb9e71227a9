"""An object file, step by step: bytes in, :class:`ObjectSpec` out.  No kernel, and the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bpfctl.errors import BtfError, ObjectFileError, printable
from bpfctl.objfile.arena import read_arena_data
from bpfctl.objfile.data_maps import read_data_maps, value_size
from bpfctl.objfile.elf import (
    SHN_UNDEF,
    SHT_PROGBITS,
    STB_LOCAL,
    STT_FUNC,
    STT_OBJECT,
    Elf,
    read_file,
)
from bpfctl.objfile.externs import read_config_map, read_externs
from bpfctl.objfile.legacy_maps import read_legacy_maps
from bpfctl.objfile.programs import SUBPROGRAMS, read_functions, read_programs
from bpfctl.objfile.relocate import called_places
from bpfctl.objfile.sections import is_struct_ops_section
from bpfctl.objfile.spec import ExternSpec, FunctionSpec, MapSpec, ObjectSpec, ProgramSpec
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.btf.ext import BtfExt
    from bpfctl.btf.types import Btf

BTF_MAPS_SECTION = ".maps"


def read_object(path: str, *, maps_abi: str | None = None) -> ObjectSpec:
    """Read the object file ``path``.

    ``maps_abi`` ("iproute2", "libbpf" or "samples") settles how definitions in section ``maps`` are read
    where the bytes leave it open.  Raises BpfctlError for a file that cannot be read, ObjectFileError for
    contents that break the contract.
    """
    return read_object_bytes(read_file(path), path=path, maps_abi=maps_abi)


def read_object_bytes(data: bytes, *, path: str = "", maps_abi: str | None = None) -> ObjectSpec:
    """As :func:`read_object`, from the bytes of a file; ``path`` is for messages and names."""
    warnings: list[str] = []
    elf = Elf(data, path)
    btf, btf_ext, externs = _read_btf(elf, warnings)
    functions = read_functions(elf)
    programs = read_programs(elf, functions, _called(elf, functions), warnings)
    maps = _read_maps(elf, btf, programs, read_config_map(externs, btf), maps_abi, warnings)
    return ObjectSpec(
        path=path,
        byte_order=elf.byte_order,
        license=_license(elf),
        version=_version(elf),
        sections=elf.sections,
        maps=maps,
        programs=programs,
        functions=functions,
        externs=externs,
        btf=btf,
        btf_ext=btf_ext,
        warnings=warnings,
        _elf=elf,
    )


def _contents(elf: Elf, name: str) -> bytes | None:
    """The bytes of the section ``name``, None if there is none."""
    section = elf.find_section(name)
    return elf.section_data(section.index) if section and section.type == SHT_PROGBITS else None


def _license(elf: Elf) -> str:
    """Up to the first NUL; "" without a section, which the kernel takes as not GPL-compatible."""
    return (_contents(elf, "license") or b"").partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _version(elf: Elf) -> int | None:
    section = elf.find_section("version")
    data = _contents(elf, "version")
    if section is None or data is None:
        return None
    if len(data) != 4:
        raise elf.error(f"a kernel version has 4 bytes, this section {len(data)}", section=section.index)
    return int.from_bytes(data, "little" if elf.byte_order == "little" else "big")


# -- BTF -----------------------------------------------------------------------------------------------


def _read_btf(elf: Elf, warnings: list[str]) -> tuple[Btf | None, BtfExt | None, tuple[ExternSpec, ...]]:
    """Types with sizes and linkage put right, and the externs that they describe.

    Broken types are only an error where maps depend on them; types of data that is not there always are.
    """
    data = _contents(elf, ".BTF")
    if data is None:
        return None, None, read_externs(elf, None)
    from bpfctl.btf.ext import BtfExt
    from bpfctl.btf.types import Btf

    try:
        btf = Btf.from_bytes(data, path=elf.path)
        externs = read_externs(elf, btf)
        btf = _with_symbols(elf, btf, externs)
    except BtfError as error:
        if any(_needs_types(section.name) for section in elf.sections):
            raise
        warnings.append(f"loaded without types: {error}")
        return None, None, read_externs(elf, None)
    ext = _contents(elf, ".BTF.ext")
    try:
        return btf, BtfExt.from_bytes(ext, btf, path=elf.path) if ext is not None else None, externs
    except BtfError as error:
        warnings.append(f"loaded without source lines: {error}")
        return btf, None, externs


def _needs_types(section: str) -> bool:
    return section == BTF_MAPS_SECTION or is_struct_ops_section(section)


def _with_symbols(elf: Elf, btf: Btf, externs: tuple[ExternSpec, ...]) -> Btf:
    """``btf`` with what only symbols know: data sections' sizes and offsets, hidden subprograms, externs."""
    from bpfctl.btf.fixup import VariablePlace, kernel_btf
    from bpfctl.btf.types import Btf

    variables: dict[str, VariablePlace] = {}
    text = elf.find_section(SUBPROGRAMS)
    subprograms = text.index if text else None
    hidden: set[str] = set()
    for symbol in elf.symbols:
        if symbol.binding == STB_LOCAL or symbol.section_index == SHN_UNDEF:
            continue
        if symbol.type == STT_OBJECT:
            variables[elf.name(symbol)] = VariablePlace(symbol.value, symbol.is_hidden)
        elif symbol.type == STT_FUNC and symbol.is_hidden and symbol.section_index == subprograms:
            hidden.add(elf.name(symbol))
    sizes = {section.name: value_size(section) for section in elf.sections}
    fixed = kernel_btf(btf, section_sizes=sizes, variables=variables, hidden_functions=hidden)
    if externs:
        from bpfctl.btf.extern_fixup import define_externs

        config = {e.name: (e.value.offset, e.value.size) for e in externs if e.kind == "kconfig"}
        names = {extern.name for extern in externs}
        fixed = define_externs(Btf.from_bytes(fixed, path=elf.path), config, names)
    return Btf.from_bytes(fixed, path=elf.path)


def section_bytes(obj: ObjectSpec, index: int) -> bytes:
    """Contents of section number ``index``; b"" where the file has none."""
    return obj._elf.section_data(index)


def kernel_btf(obj: ObjectSpec) -> bytes | None:
    """The object's BTF as BPF_BTF_LOAD takes it; None when it has none."""
    return obj.btf.data if obj.btf is not None else None


# -- functions, maps, externs --------------------------------------------------------------------------


def _called(elf: Elf, functions: tuple[FunctionSpec, ...]) -> set[tuple[int, int]]:
    """Places of called functions; only asked for where a static function might be an entry program."""
    is_open = any(not f.is_global and elf.sections[f.section_index].name != SUBPROGRAMS for f in functions)
    only_text = all(elf.sections[f.section_index].name == SUBPROGRAMS for f in functions)
    return called_places(elf) if is_open or only_text else set()


def _read_maps(
    elf: Elf,
    btf: Btf | None,
    programs: Mapping[str, ProgramSpec],
    config: list[MapSpec],
    maps_abi: str | None,
    warnings: list[str],
) -> dict[str, MapSpec]:
    """All maps in the order in which libbpf creates them."""
    legacy = read_legacy_maps(elf, btf, abi=maps_abi, warnings=warnings)
    maps: dict[str, MapSpec] = {}
    struct_ops = _struct_ops_maps(elf, btf, programs)
    data = (*read_data_maps(elf, btf), *config)
    for spec in (*legacy, *_btf_maps(elf, btf, programs), *data, *struct_ops):
        if spec.name in maps:
            message = f"a second map called {printable(spec.name)}"
            raise ObjectFileError(message, path=elf.path, section=spec.section, offset=spec.offset)
        maps[spec.name] = spec
    read_arena_data(elf, maps.values())
    return maps


def _struct_ops_maps(elf: Elf, btf: Btf | None, programs: Mapping[str, ProgramSpec]) -> list[MapSpec]:
    if not any(is_struct_ops_section(section.name) for section in elf.sections):
        return []
    from bpfctl.objfile.struct_ops import read_struct_ops, settle_autoload

    maps = read_struct_ops(elf, btf, programs)
    settle_autoload(maps, programs)
    return maps


def _btf_maps(elf: Elf, btf: Btf | None, programs: Mapping[str, ProgramSpec]) -> list[MapSpec]:
    section = elf.find_section(BTF_MAPS_SECTION)
    if section is None or not section.size:
        return []
    if btf is None:
        raise elf.error(
            "its maps are defined by types, and the object has none",
            section=section.index,
            hint="compile with -g, and strip with llvm-strip -g",
        )
    from bpfctl.objfile.btf_maps import SlotRelocation, read_btf_maps

    def slots() -> Iterator[SlotRelocation]:
        for entry in elf.relocations(section.index):
            symbol = elf.symbols[entry.symbol_index]
            name, index = elf.name(symbol), symbol.section_index
            program = programs.get(name)
            is_program = program is not None and program.function[1:3] == (index, symbol.value)
            holder = elf.sections[index].name if index < len(elf.sections) else ""
            yield SlotRelocation(entry.offset, name, holder, is_program)

    # What an unknown member means for the load, the command knows.
    return read_btf_maps(btf, section_size=section.size, slots=slots(), strict=False)
