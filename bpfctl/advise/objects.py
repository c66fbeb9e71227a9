"""The programs of an object file as code to interpret: linked, not fitted to a kernel's types."""

from __future__ import annotations

import time
from contextlib import suppress
from struct import Struct

from bpfctl.advise.code import KERNEL_FUNCTION, Code, MapDefinition, MapLoad, SourceLine
from bpfctl.advise.subject import Subject
from bpfctl.advise.values import MapToken, inner
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, BtfError, UnsupportedObjectError, printable
from bpfctl.insn import SLOT, decode
from bpfctl.objfile import read_object
from bpfctl.objfile.linker import Linker
from bpfctl.objfile.spec import LinkedProgram, MapOrigin, MapSpec, ObjectSpec, ProgramSpec
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFERRED = ("bpf_timer", "bpf_wq", "bpf_task_work")
_MOST_TYPES = 200  # in one value
_LINE = Struct("<4I")
_COLUMN_BITS = 10
_MAP_ITERATORS = ("iter/bpf_map_elem", "iter/bpf_sk_storage_map", "iter/sockmap")
MOST_SECONDS = 4.0  # for linking all programs
MOST_INSTRUCTIONS = 400_000  # of all programs, some 100 bytes each


def read_subject(path: str, *, maps_abi: str | None = None) -> Subject:
    """All programs and maps of the object file ``path``; ``maps_abi`` as for ``read_object``.

    Raises as ``read_object``, and UnsupportedObjectError for one of the other byte order.
    """
    return subject_of(read_object(path, maps_abi=maps_abi))


def subject_of(obj: ObjectSpec) -> Subject:
    """All programs and maps of ``obj``; raises UnsupportedObjectError for one of the other byte order."""
    if obj.byte_order != "little":
        raise UnsupportedObjectError("big-endian code is not analysed", path=obj.path)
    maps = _definitions(obj)
    codes, skipped = [], []
    linker = Linker(obj, unfitted=True)
    end, left = time.monotonic() + MOST_SECONDS, MOST_INSTRUCTIONS
    for program in obj.programs.values():
        name = printable(program.name)
        if left < 0 or time.monotonic() > end:
            skipped.append(f"program {name}: the object is too large")
            continue
        try:
            codes.append(_code(linker, program, maps))
            left -= len(codes[-1].slots)
        except BpfctlError as error:
            skipped.append(f"program {name}: {error.message}")
    return Subject(obj.path, False, codes, maps, skipped)


def _definitions(obj: ObjectSpec) -> dict[MapToken, MapDefinition]:
    found: dict[MapToken, MapDefinition] = {}
    placed = {slot.target for spec in obj.maps.values() for slot in spec.slots}
    if any(program.section.startswith(_MAP_ITERATORS) for program in obj.programs.values()):
        placed |= obj.maps.keys()  # such a program is attached to a map
    placed |= {spec.inner.name for spec in obj.maps.values() if spec.inner is not None}
    for name, spec in obj.maps.items():
        deferred = obj.btf is not None and is_deferred(obj.btf, spec.value_type_id)
        found[name] = _definition(name, spec)._replace(placed=name in placed, deferred=deferred)
        if spec.inner is not None:
            found[inner(name)] = _definition(str(inner(name)), spec.inner)
    return found


def _definition(name: str, spec: MapSpec) -> MapDefinition:
    return MapDefinition(
        token=name,
        name=name,
        type=spec.map_type,
        key_size=spec.key_size,
        value_size=spec.value_size,
        max_entries=spec.max_entries,
        flags=int(spec.flags),
        numa_node=spec.numa_node,
        pinned=bool(spec.pinning),
        data=spec.origin in (MapOrigin.DATA, MapOrigin.STRUCT_OPS),
    )


def is_deferred(btf: Btf, value: int) -> bool:
    """Whether a value of this type has a timer or the like in it."""
    left, seen = [value], {0}
    with suppress(BtfError):
        while left and len(seen) < _MOST_TYPES:
            type_id = btf.skip_modifiers(left.pop())
            if type_id in seen:
                continue
            seen.add(type_id)
            kind = btf.kind(type_id)
            if kind is Kind.ARRAY:
                left.append(btf.array(type_id).element_id)
            elif kind in (Kind.STRUCT, Kind.UNION):
                if btf.name(type_id) in _DEFERRED:
                    return True
                left += [member.type_id for member in btf.members(type_id)]
    return False


def _code(linker: Linker, program: ProgramSpec, maps: dict[MapToken, MapDefinition]) -> Code:
    obj, linked = linker.obj, linker.link(program.name)
    tables = linked.jump_tables
    indirect = {target for table in tables.values() for target in table}
    return Code(
        name=program.name,
        type=program.program_type,
        slots=decode(linked.code),
        maps=maps,
        loads={
            reference.index: MapLoad(reference.map, reference.value_offset)
            for reference in linked.references
            if reference.map not in tables
        },
        helpers={extern.index: KERNEL_FUNCTION for extern in linked.externs if extern.is_call},
        unsure=frozenset(_fitted_later(obj, linked)),
        indirect=tuple(sorted(indirect)) if tables else None,
        lines=list(_lines(obj, linked)),
    )


def _fitted_later(obj: ObjectSpec, linked: LinkedProgram) -> Iterator[int]:
    """Instructions that CO-RE or an extern gives a value."""
    yield from (extern.index for extern in linked.externs)
    if obj.btf_ext is None:
        return
    for placed in linked.functions:
        for function in obj.functions:
            if function.name == placed.name and function.size == placed.size * SLOT:
                section = obj._elf.sections[function.section_index].name
                found = obj.btf_ext.core_relocations_for(section, function.offset, function.size)
                yield from (placed.start + (core.offset - function.offset) // SLOT for core in found)


def _lines(obj: ObjectSpec, linked: LinkedProgram) -> Iterator[tuple[int, SourceLine]]:
    """By rising instruction number."""
    if obj.btf is None or not linked.line_info:
        return
    size = linked.line_info_size
    for start in range(0, len(linked.line_info), size):
        pc, file, text, place = _LINE.unpack_from(linked.line_info, start)
        yield pc, SourceLine(obj.btf.string(file), place >> _COLUMN_BITS, obj.btf.string(text).strip())
