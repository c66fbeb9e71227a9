"""struct_ops: variables that are tables of functions for the kernel -> :class:`MapSpec`.

Each variable of a section ``.struct_ops`` or ``.struct_ops.link`` (which is registered through a link) is
one map.  Its bytes are those of the object's own struct; what the kernel's struct of that name makes of them
is the loader's business (:mod:`bpfctl.objfile.struct_ops_value`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping

from bpfctl.errors import NotFoundError, ObjectFileError, UsageError, printable
from bpfctl.objfile.elf import SHT_PROGBITS, Elf, RelocationEntry
from bpfctl.objfile.programs import Place
from bpfctl.objfile.sections import STRUCT_OPS_FLAGS, is_struct_ops_section
from bpfctl.objfile.spec import MapOrigin, MapSpec, MemberFunction, ObjectSpec, ProgramSpec, SectionSpec
from bpfctl.record import TYPE_CHECKING, replace
from bpfctl.uapi import MapType, ProgramType

if TYPE_CHECKING:
    from typing import Literal

    from bpfctl.btf.kinds import DatasecVar, Member
    from bpfctl.btf.types import Btf

_POINTER_SIZE = 8  # bytes
_MOST_MEMBERS = 1024  # each variable's are looked at one by one; the kernel's structs have some dozens


def read_struct_ops(elf: Elf, btf: Btf | None, programs: Mapping[str, ProgramSpec]) -> list[MapSpec]:
    """A map for each struct_ops variable, in the order of sections and offsets.

    Raises ObjectFileError for a variable that is no struct of the section, or a relocation that does not
    set a function pointer of one to a struct_ops program.
    """
    maps: list[MapSpec] = []
    for section in elf.sections:
        if is_struct_ops_section(section.name) and section.type == SHT_PROGBITS and section.size:
            if btf is None:
                raise elf.error(
                    "its variables are defined by types, and the object has none",
                    section=section.index,
                    hint="compile with -g, and strip with llvm-strip -g",
                )
            maps += _Section(elf, btf, section).read(programs)
    return maps


class _Section:
    """One section while it is read."""

    def __init__(self, elf: Elf, btf: Btf, section: SectionSpec) -> None:
        self._elf = elf
        self._btf = btf
        self._section = section
        self._data = elf.section_data(section.index)
        self._by_offset: dict[int, dict[int, str]] = {}  # see _pointers

    def read(self, programs: Mapping[str, ProgramSpec]) -> list[MapSpec]:
        from bpfctl.btf.kinds import Kind

        datasec = self._btf.find(self._section.name, Kind.DATASEC)
        if datasec is None:
            raise self._error("no types for this section in .BTF", 0)
        maps: list[MapSpec] = []
        end = 0
        for variable in self._btf.datasec(datasec):
            maps.append(self._map(variable))
            if variable.offset < end:
                raise self._error(f"variable {maps[-1].name} overlaps {maps[-2].name}", variable.offset)
            end = variable.offset + maps[-1].value_size
        self._set_functions(maps, programs)
        return maps

    def _map(self, variable: DatasecVar) -> MapSpec:
        from bpfctl.btf.kinds import Kind

        btf, offset = self._btf, variable.offset
        name = btf.name(variable.type_id)
        if btf.kind(variable.type_id) is not Kind.VAR or not name:
            raise self._error(f"type {variable.type_id} is no variable with a name", offset)
        type_id = btf.skip_modifiers(btf.type(variable.type_id).size_or_type)
        if btf.kind(type_id) is not Kind.STRUCT or not btf.name(type_id):
            kind = f"{btf.kind(type_id).label} {btf.name(type_id)!r}"
            raise self._error(f"variable {name} is {kind}, no struct with a name", offset)
        _, _, _, members, _, size = btf.type(type_id)
        if members > _MOST_MEMBERS:
            raise self._error(f"variable {name} has {members} members, more than any struct_ops", offset)
        if offset + size > len(self._data):
            message = f"variable {name}: {size} bytes run past the section's {len(self._data)}"
            raise self._error(message, offset)
        return MapSpec(
            name=name,
            origin=MapOrigin.STRUCT_OPS,
            section=self._section.name,
            offset=offset,
            map_type=int(MapType.STRUCT_OPS),
            key_size=4,
            value_size=size,
            max_entries=1,
            flags=STRUCT_OPS_FLAGS[self._section.name.removeprefix("?")],
            value_type_id=type_id,
            data=self._data[offset : offset + size],
            autocreate=not self._section.name.startswith("?"),
        )

    def _set_functions(self, maps: list[MapSpec], programs: Mapping[str, ProgramSpec]) -> None:
        """Take the relocations for what they are: programs in function pointers."""
        starts = [spec.offset for spec in maps]
        places = {program.function[1:3]: program for program in programs.values()}
        found: dict[int, dict[int, MemberFunction]] = {}  # number of the map -> offset -> function
        for entry in self._elf.relocations(self._section.index):
            number = bisect_right(starts, entry.offset) - 1
            spec = maps[number] if number >= 0 else None
            if spec is None or entry.offset + _POINTER_SIZE > spec.offset + spec.value_size:
                raise self._error("a relocation belongs to no variable", entry.offset)
            member = self._pointers(spec.value_type_id).get(entry.offset - spec.offset)
            if member is None:
                where = entry.offset - spec.offset
                message = f"variable {spec.name}: a relocation at byte {where}, which is no function pointer"
                raise self._error(message, entry.offset)
            program = places.get(self._target(entry))
            if program is None or program.program_type != ProgramType.STRUCT_OPS:
                symbol = self._elf.name(self._elf.symbols[entry.symbol_index]) or "the symbol"
                message = f"variable {spec.name}: {symbol}, set as {member}, is no struct_ops program"
                raise self._error(message, entry.offset)
            found.setdefault(number, {})[entry.offset - spec.offset] = MemberFunction(member, program.name)
        for number, functions in found.items():
            _set(maps[number], functions)

    def _pointers(self, type_id: int) -> dict[int, str]:
        """Function pointers of a struct: byte offset -> name."""
        if type_id not in self._by_offset:
            self._by_offset[type_id] = {
                member.offset // 8: member.name
                for member in self._btf.members(type_id)
                if member.offset % 8 == 0 and is_function_pointer(self._btf, member.type_id)
            }
        return self._by_offset[type_id]

    def _target(self, entry: RelocationEntry) -> Place:
        """The function that a relocated word points to; a static one by its section and the word itself."""
        symbol = self._elf.symbols[entry.symbol_index]
        word = self._data[entry.offset : entry.offset + _POINTER_SIZE]
        order: Literal["little", "big"] = "little" if self._elf.byte_order == "little" else "big"
        return symbol.section_index, symbol.value + int.from_bytes(word, order)

    def _error(self, message: str, offset: int) -> ObjectFileError:
        return self._elf.error(printable(message, 256), section=self._section.index, offset=offset)


def is_function_pointer(btf: Btf, type_id: int) -> bool:
    """Whether a member of this type takes a program."""
    from bpfctl.btf.kinds import Kind

    pointer = btf.skip_modifiers(type_id)
    if btf.kind(pointer) is not Kind.PTR:
        return False
    return btf.kind(btf.skip_modifiers(btf.type(pointer).size_or_type)) is Kind.FUNC_PROTO


def maps_to_make(obj: ObjectSpec, programs: Collection[str]) -> list[MapSpec]:
    """The struct_ops maps that are made on their own, and those that alone have one of ``programs``."""
    tables = [spec for spec in obj.maps.values() if spec.origin is MapOrigin.STRUCT_OPS]
    served = {function.program for spec in tables if spec.autocreate for function in spec.functions}
    wanted = set(programs) - served
    return [
        spec
        for spec in tables
        if spec.autocreate or any(function.program in wanted for function in spec.functions)
    ]


def settle_autoload(maps: Iterable[MapSpec], programs: Mapping[str, ProgramSpec]) -> None:
    """Programs of struct_ops maps are loaded with them: if any of their maps is made, and only then."""
    made: dict[str, bool] = {}
    for spec in maps:
        for function in spec.functions:
            made[function.program] = made.get(function.program, False) or spec.autocreate
    for name, is_made in made.items():
        programs[name].autoload = is_made


# -- changes before the load -----------------------------------------------------------------------------


def with_autocreate(obj: ObjectSpec, name: str, wanted: bool = True) -> ObjectSpec:
    """``obj`` with struct_ops map ``name`` made, or not, when it is loaded."""
    return _with_map(obj, replace(_struct_ops_map(obj, name), autocreate=wanted))


def with_member(obj: ObjectSpec, name: str, member: str, value: int | str | bytes | None) -> ObjectSpec:
    """``obj`` with ``member`` of struct_ops map ``name`` set to another value before it is loaded.

    A function pointer takes a program's name, or None for none; an array of bytes a text or bytes, which are
    filled up with NULs; any other member a number, or bytes of its size.

    Raises NotFoundError for a name that is not there, UsageError for a value that does not fit.
    """
    spec = _struct_ops_map(obj, name)
    assert obj.btf is not None
    assert spec.data is not None
    found = next((m for m in obj.btf.members(spec.value_type_id) if m.name == member), None)
    if found is None or found.bitfield_size:
        raise NotFoundError(f"{obj.path}: struct_ops map {printable(name)} has no member {printable(member)}")
    changed = replace(spec)
    if is_function_pointer(obj.btf, found.type_id):
        if value is not None and (not isinstance(value, str) or not _is_struct_ops(obj, value)):
            raise UsageError(f"{printable(name)}.{printable(member)}: {value!r} is no struct_ops program")
        kept = tuple(function for function in spec.functions if function.member != member)
        changed.functions = (*kept, MemberFunction(member, value)) if value else kept
        data = bytes(_POINTER_SIZE)
    else:
        data = _packed(obj, found, value, f"{printable(name)}.{printable(member)}")
    start = found.offset // 8
    changed.data = spec.data[:start] + data + spec.data[start + len(data) :]
    return _with_map(obj, changed)


def _struct_ops_map(obj: ObjectSpec, name: str) -> MapSpec:
    spec = obj.maps.get(name)
    if spec is None or spec.origin is not MapOrigin.STRUCT_OPS:
        raise NotFoundError(f"{obj.path}: no struct_ops map {printable(name)} in the object")
    return spec


def _is_struct_ops(obj: ObjectSpec, program: str) -> bool:
    return program in obj.programs and obj.programs[program].program_type == ProgramType.STRUCT_OPS


def _with_map(obj: ObjectSpec, spec: MapSpec) -> ObjectSpec:
    """``obj`` with ``spec`` in place of the map of its name; the object it came from stays as it is."""
    programs = {name: replace(program) for name, program in obj.programs.items()}
    for function in obj.maps[spec.name].functions:
        programs[function.program].autoload = False  # unless a map still wants it
    maps = {**obj.maps, spec.name: spec}
    settle_autoload(maps.values(), programs)
    return replace(obj, maps=maps, programs=programs)


def _set(spec: MapSpec, functions: Mapping[int, MemberFunction]) -> None:
    """Give ``spec`` its functions, by byte offset; their words in the data become zero."""
    assert spec.data is not None
    data = bytearray(spec.data)
    for offset in functions:
        data[offset : offset + _POINTER_SIZE] = bytes(_POINTER_SIZE)
    spec.data = bytes(data)
    spec.functions = tuple(functions[offset] for offset in sorted(functions))


def _packed(obj: ObjectSpec, member: Member, value: int | str | bytes | None, what: str) -> bytes:
    assert obj.btf is not None
    size = obj.btf.resolve_size(member.type_id)
    if isinstance(value, int):
        try:
            return value.to_bytes(size, "little" if obj.byte_order == "little" else "big", signed=value < 0)
        except OverflowError:
            raise UsageError(f"{what}: {value} does not fit into {size} bytes") from None
    data = value.encode() if isinstance(value, str) else value or b""
    if len(data) > size:
        raise UsageError(f"{what}: {len(data)} bytes are more than its {size}")
    return data + bytes(size - len(data))
