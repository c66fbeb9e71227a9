"""What an object file holds, as records whose fields are the keys of ``obj show -j``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from bpfctl import insn
from bpfctl.btf.text import type_text
from bpfctl.errors import BpfctlError, BtfError
from bpfctl.objfile import (
    LinkedProgram,
    Linker,
    MapSpec,
    ObjectSpec,
    ProgramSpec,
    Relocation,
    relocations,
    section_bytes,
)
from bpfctl.objfile.sections import section_kind
from bpfctl.objfile.spec import FunctionSpec, MapOrigin, Pinning, SectionSpec
from bpfctl.record import NamedTuple
from bpfctl.uapi import AttachType, MapFlag, MapType, ProgramFlag, ProgramType, flag_names, type_name

_SHF_EXECINSTR = 0x4
# The BPF ELF ABI (Linux Documentation/bpf/llvm_reloc.rst)
_RELOCATION_TYPES = {
    0: "R_BPF_NONE",
    1: "R_BPF_64_64",
    2: "R_BPF_64_ABS64",
    3: "R_BPF_64_ABS32",
    4: "R_BPF_64_NODYLD32",
    10: "R_BPF_64_32",
}


class SectionRecord(NamedTuple):
    """A section; types are None where its name, or its not being code, says nothing."""

    number: int
    name: str
    program_type: str | None
    attach_type: str | None
    size: int


class ProgramRecord(NamedTuple):
    """An entry program; ``size`` in bytes of its own function, ``subprograms`` are linked behind it."""

    name: str
    section: str
    program_type: str | None
    attach_type: str | None
    flags: tuple[str, ...]
    size: int
    autoload: bool
    tail_call: dict[str, int] | None
    subprograms: tuple[str, ...]
    error: str | None  # why it cannot be linked


class SlotRecord(NamedTuple):
    """An initial entry: a map or program at ``key``."""

    key: int
    target: str


class FunctionRecord(NamedTuple):
    """A function pointer of a struct_ops map, and the program that it is set to."""

    member: str
    program: str


class MapRecord(NamedTuple):
    """A map definition.  Sizes in bytes; ``id`` to ``inner_map_idx`` are of legacy definitions."""

    name: str
    section: str
    offset: int
    type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    flag_names: tuple[str, ...]
    key_type: str | None
    value_type: str | None
    abi: str
    pinning: str
    map_extra: int | None
    numa_node: int | None
    id: int | None
    inner_id: int | None
    inner_idx: int | None
    inner_map_idx: int | None
    inner: MapRecord | None
    slots: tuple[SlotRecord, ...]
    data_size: int | None
    frozen: bool | None
    functions: tuple[FunctionRecord, ...] | None
    autocreate: bool | None


class RelocationRecord(NamedTuple):
    """A relocation; ``before`` and ``after`` are the instruction in the file and as linked, if it is one."""

    section: str
    offset: int
    type: str
    symbol: str
    target: str
    function: str | None
    before: str | None
    after: str | None


class ExternRecord(NamedTuple):
    """A symbol that the object expects from elsewhere."""

    name: str
    kind: str
    weak: bool


class BtfRecord(NamedTuple):
    """Size of the BTF: number of types, bytes in all and of names."""

    types: int
    bytes: int
    string_bytes: int


class ObjectRecord(NamedTuple):
    """Everything in one object file."""

    path: str
    byte_order: str
    license: str
    version: int | None
    sections: tuple[SectionRecord, ...]
    programs: tuple[ProgramRecord, ...]
    maps: tuple[MapRecord, ...]
    relocations: tuple[RelocationRecord, ...]
    externs: tuple[ExternRecord, ...]
    btf: BtfRecord | None
    warnings: tuple[str, ...]


def describe(obj: ObjectSpec) -> ObjectRecord:
    """The record of ``obj``; a program that cannot be linked has the reason in its ``error``."""
    linked: dict[str, LinkedProgram] = {}
    linker = Linker(obj, unfitted=True)
    programs = tuple(_program(linker, program, linked) for program in obj.programs.values())
    return ObjectRecord(
        path=obj.path,
        byte_order=obj.byte_order,
        license=obj.license,
        version=obj.version,
        sections=tuple(map(_section, obj.sections)),
        programs=programs,
        maps=tuple(_map(obj, spec) for spec in obj.maps.values()),
        relocations=tuple(_relocations(obj, linked)),
        externs=tuple(ExternRecord(*extern[:3]) for extern in obj.externs),
        btf=BtfRecord(len(obj.btf), len(obj.btf.data), obj.btf.strings_size) if obj.btf else None,
        warnings=tuple(obj.warnings),
    )


def _section(section: SectionSpec) -> SectionRecord:
    types: tuple[str | None, str | None] = (None, None)
    if section.flags & _SHF_EXECINSTR:
        kind = section_kind(section.name)
        types = _types(kind.program_type, kind.attach_type)
    return SectionRecord(section.index, section.name, *types, section.size)


def _types(program_type: int | None, attach_type: int) -> tuple[str | None, str | None]:
    if program_type is None:
        return None, None
    # 0 is a type too, but the sections that mean it are those of cgroup_skb
    attach = (
        type_name(AttachType, attach_type) if attach_type or program_type == ProgramType.CGROUP_SKB else None
    )
    return type_name(ProgramType, program_type), attach


def _program(linker: Linker, program: ProgramSpec, linked: dict[str, LinkedProgram]) -> ProgramRecord:
    error = None
    try:
        linked[program.name] = linker.link(program.name)
    except BpfctlError as failure:
        error = failure.message
    functions = linked[program.name].functions[1:] if error is None else ()
    return ProgramRecord(
        program.name,
        program.section,
        *_types(program.program_type, program.attach_type),
        flags=tuple(flag_names(ProgramFlag, program.flags)),
        size=program.function.size,
        autoload=program.autoload,
        tail_call=program.tail_call._asdict() if program.tail_call else None,
        subprograms=tuple(function.name for function in functions),
        error=error,
    )


def _map(obj: ObjectSpec, spec: MapSpec) -> MapRecord:
    is_legacy = spec.origin is MapOrigin.LEGACY
    is_data = spec.origin is MapOrigin.DATA
    is_struct_ops = spec.origin is MapOrigin.STRUCT_OPS
    return MapRecord(
        name=spec.name,
        section=spec.section,
        offset=spec.offset,
        type=type_name(MapType, spec.map_type),
        key_size=spec.key_size,
        value_size=spec.value_size,
        max_entries=spec.max_entries,
        flags=spec.flags,
        flag_names=tuple(flag_names(MapFlag, spec.flags)),
        key_type=_type_text(obj, spec.key_type_id),
        value_type=_type_text(obj, spec.value_type_id),
        abi=spec.abi or spec.origin.name.lower(),
        pinning=_pinning(spec),
        map_extra=spec.map_extra or None,
        numa_node=spec.numa_node,
        id=spec.id if is_legacy else None,
        inner_id=spec.inner_id if is_legacy else None,
        inner_idx=spec.inner_idx if is_legacy else None,
        inner_map_idx=spec.inner_map_idx,
        inner=_map(obj, spec.inner) if spec.inner else None,
        slots=tuple(SlotRecord(*slot) for slot in spec.slots),
        data_size=len(spec.data) if spec.data is not None else None,
        frozen=spec.frozen if is_data else None,
        functions=tuple(FunctionRecord(*f) for f in spec.functions) if is_struct_ops else None,
        autocreate=spec.autocreate if is_struct_ops else None,
    )


def _type_text(obj: ObjectSpec, type_id: int) -> str | None:
    if not type_id or obj.btf is None:
        return None
    try:
        return type_text(obj.btf, type_id)
    except BtfError as error:
        return f"type {type_id}: {error.reason}"


def _pinning(spec: MapSpec) -> str:
    if spec.origin is MapOrigin.BTF:
        return "by_name" if spec.pins_by_name else "none"
    return type_name(Pinning, spec.pinning)


# --- relocations ---


def _relocations(obj: ObjectSpec, linked: dict[str, LinkedProgram]) -> Iterator[RelocationRecord]:
    code = {s.name: s for s in obj.sections if s.flags & _SHF_EXECINSTR}
    views = _Views(obj, linked)
    for relocation in relocations(obj):
        section = code.get(relocation.section)
        function, before, after = (
            views.at(section.index, relocation.offset) if section else (None, None, None)
        )
        yield RelocationRecord(
            relocation.section,
            relocation.offset,
            _RELOCATION_TYPES.get(relocation.type, str(relocation.type)),
            relocation.symbol,
            _target(relocation),
            function,
            before,
            after,
        )


def _target(relocation: Relocation) -> str:
    if not relocation.target_section:
        return "undefined"
    return f"{relocation.target_section}+{relocation.target_offset:#x}"


class _Views:
    """Instruction texts by place: as they stand in the file, and as linked into the first program.

    Linked code keeps the order of a function's instructions, so a place is a function and a slot in it.
    """

    def __init__(self, obj: ObjectSpec, linked: dict[str, LinkedProgram]) -> None:
        self._functions: dict[int, dict[int, FunctionSpec]] = {}  # by section and offset
        for found in obj.functions:  # of aliases the first
            self._functions.setdefault(found.section_index, {}).setdefault(found.offset, found)
        self._starts = {section: sorted(functions) for section, functions in self._functions.items()}
        self._before: dict[int, list[str]] = {}
        self._after: dict[str, list[str]] = {}
        self._obj = obj
        for program in linked.values():
            texts = _linked_texts(program, obj.byte_order)
            for function in program.functions:
                self._after.setdefault(function.name, texts[function.start : function.start + function.size])

    def at(self, section_index: int, offset: int) -> tuple[str | None, str | None, str | None]:
        """Name of the function at a place, its instruction before and after; None for what is unknown."""
        before = self._file_texts(section_index)
        text = before[offset // insn.SLOT] if offset // insn.SLOT < len(before) else None
        starts = self._starts.get(section_index, [])
        number = bisect_right(starts, offset)
        if number:
            function = self._functions[section_index][starts[number - 1]]
            position = offset - function.offset
            if position < function.size:
                after = self._after.get(function.name, [])
                slot = position // insn.SLOT
                return function.name, text, after[slot] if slot < len(after) else None
        return None, text, None

    def _file_texts(self, section_index: int) -> list[str]:
        if section_index not in self._before:
            code = section_bytes(self._obj, section_index)
            self._before[section_index] = insn.disassemble(code, self._obj.byte_order)
        return self._before[section_index]


def _linked_texts(program: LinkedProgram, byte_order: str) -> list[str]:
    """Disassembly with the names of maps, ``map[fd:counters]``, and of what the kernel has to answer for."""
    texts = insn.disassemble(program.code, byte_order)
    for index, name, value_offset in program.references:
        register = texts[index].partition(" ")[0]
        value = "" if value_offset is None else f"[0]+{value_offset}"
        texts[index] = f"{register} = map[fd:{name}]{value}"
    for index, name, is_call in program.externs:
        texts[index] = f"call {name}" if is_call else f"{texts[index].partition(' ')[0]} = &{name}"
    return texts
