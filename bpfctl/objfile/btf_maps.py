"""Maps defined by their types: section ``.maps`` -> :class:`MapSpec`.

The bytes of ``.maps`` are all zero.  A definition is a struct variable whose *types* speak (libbpf's
bpf_helpers.h): ``int (*max_entries)[16]`` says 16, ``struct key *key`` says a type, a one-constant enum says
a 64-bit number, and ``struct inner *values[]`` names what the slots of a map-in-map or program array hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bpfctl.btf.kinds import DatasecVar, Kind, Linkage, Member
from bpfctl.btf.types import POINTER_SIZE, Btf
from bpfctl.errors import ObjectFileError, printable
from bpfctl.objfile.spec import MapOrigin, MapSlot, MapSpec
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapType

MAPS_SECTION = ".maps"

_MAPS_OF_MAPS = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})
_FD_SIZE = 4  # bytes; value of a map whose values are maps or programs
_SLOT_KEY_SIZE = 4  # bytes


class SlotRelocation(NamedTuple):
    """A relocation of ``.maps``: the slot at byte ``offset`` of the section holds ``symbol``.

    ``section`` is the symbol's; ``is_program``: it is the start of an entry program, not of a subprogram.
    """

    offset: int
    symbol: str
    section: str
    is_program: bool


class _Definition(NamedTuple):
    """One definition while it is read: what error messages name, and where they point."""

    btf: Btf
    name: str
    offset: int
    strict: bool
    is_inner: bool

    def error(self, message: str) -> ObjectFileError:
        return ObjectFileError(
            f"map {printable(self.name)}: {message}",
            path=self.btf.path,
            section=MAPS_SECTION,
            offset=self.offset,
        )


def read_btf_maps(
    btf: Btf,
    *,
    section_size: int,
    slots: Iterable[SlotRelocation] = (),
    strict: bool = True,
) -> list[MapSpec]:
    """The maps of ``.maps``, ``section_size`` bytes, in the order of their offsets.

    ``btf`` must have its section offsets in place (:func:`bpfctl.btf.fixup.kernel_btf`).  ``strict``: an
    unknown member is an error; otherwise it is noted in the spec.  What depends on the machine (CPUs, page
    size) is left as the object has it.

    Raises ObjectFileError (BtfError where types lead nowhere), naming map and member.
    """
    section_id = btf.find(MAPS_SECTION, Kind.DATASEC)
    if section_id is None:
        raise ObjectFileError(
            "no types for this section in .BTF",
            path=btf.path,
            section=MAPS_SECTION,
            hint="compile with -g, and strip with llvm-strip -g",
        )
    variables = btf.datasec(section_id)
    maps = [_read_map(btf, variable, section_size, strict) for variable in variables]
    _fill_slots(btf, variables, maps, slots)
    return maps


def _read_map(btf: Btf, variable: DatasecVar, section_size: int, strict: bool) -> MapSpec:
    name = btf.name(variable.type_id)
    definition = _Definition(btf, name, variable.offset, strict, is_inner=False)
    if not name:
        raise definition.error("has no name")
    if variable.offset + variable.size > section_size:
        raise definition.error(f"{variable.size} bytes run past the section's {section_size}")
    if btf.kind(variable.type_id) is not Kind.VAR:
        raise definition.error(f"is {btf.kind(variable.type_id).label}, not a variable")
    if btf.linkage(variable.type_id) is not Linkage.GLOBAL:
        raise definition.error("is static, hidden or extern; maps have to be global")
    struct_id = btf.skip_modifiers(btf.type(variable.type_id).size_or_type)
    if btf.kind(struct_id) is not Kind.STRUCT:
        raise definition.error(f"defined by {btf.kind(struct_id).label}, not by a struct")
    if btf.type(struct_id).size_or_type > variable.size:
        raise definition.error(f"its struct is larger than the {variable.size} bytes of the variable")
    return _read_struct(definition, struct_id)


def _read_struct(definition: _Definition, struct_id: int) -> MapSpec:
    """One definition; members in any order, but ``values`` looks back at ``type``."""
    spec = MapSpec(
        name=definition.name,
        origin=MapOrigin.BTF,
        section=MAPS_SECTION,
        offset=definition.offset,
        map_type=MapType.UNSPEC,
        key_size=0,
        value_size=0,
        max_entries=0,
    )
    members = definition.btf.members(struct_id)
    for member in members:
        if member.name == "values" and member is not members[-1]:
            raise definition.error("'values' must be the last member")
        _read_member(definition, spec, member)
    if spec.map_type == MapType.UNSPEC:
        raise definition.error("has no type")
    return spec


def _read_member(definition: _Definition, spec: MapSpec, member: Member) -> None:
    match member.name:
        case "type":
            spec.map_type = _number(definition, member)
        case "max_entries":
            spec.max_entries = _number(definition, member)
        case "map_flags":
            spec.flags = _number(definition, member)
        case "numa_node":
            spec.numa_node = _number(definition, member)
        case "map_extra":
            spec.map_extra = _long_number(definition, member)
        case "key_size":
            spec.key_size = _agreed(definition, member, spec.key_size, _number(definition, member))
        case "value_size":
            spec.value_size = _agreed(definition, member, spec.value_size, _number(definition, member))
        case "key":
            spec.key_type_id, size = _sized_type(definition, member)
            spec.key_size = _agreed(definition, member, spec.key_size, size)
        case "value":
            spec.value_type_id, size = _sized_type(definition, member)
            spec.value_size = _agreed(definition, member, spec.value_size, size)
        case "pinning":
            spec.pinning = _pinning(definition, member)
        case "values":
            _read_values(definition, spec, member)
        case _ if definition.strict:
            raise definition.error(f"unknown member {printable(member.name)!r}")
        case _:
            spec.unknown_members += (member.name,)


def _pinning(definition: _Definition, member: Member) -> int:
    if definition.is_inner:
        raise definition.error("'pinning' in the definition of an inner map")
    pinning = _number(definition, member)
    if pinning not in (0, 1):
        raise definition.error(f"'pinning' is {pinning}, must be 0 (none) or 1 (by name)")
    return pinning


def _read_values(definition: _Definition, spec: MapSpec, member: Member) -> None:
    """``values``: the array part, whose element says what an inner map looks like."""
    if definition.is_inner:
        raise definition.error("'values' in the definition of an inner map: maps nest two levels deep")
    if spec.map_type not in _MAPS_OF_MAPS and spec.map_type != MapType.PROG_ARRAY:
        raise definition.error("'values' needs a map-in-map or program array type, stated before it")
    spec.value_size = _agreed(definition, member, spec.value_size, _FD_SIZE)
    btf = definition.btf
    if btf.kind(member.type_id) is not Kind.ARRAY or btf.array(member.type_id).length:
        raise definition.error("'values' is not an array without a length")
    pointer = btf.skip_modifiers(btf.array(member.type_id).element_id)
    if btf.kind(pointer) is not Kind.PTR:
        raise definition.error(f"'values' is an array of {btf.kind(pointer).label}, not of pointers")
    element = btf.skip_modifiers(btf.type(pointer).size_or_type)
    expected = Kind.FUNC_PROTO if spec.map_type == MapType.PROG_ARRAY else Kind.STRUCT
    if btf.kind(element) is not expected:
        raise definition.error(f"'values' points to {btf.kind(element).label}, not to {expected.label}")
    if expected is Kind.STRUCT:
        inner = definition._replace(name=f"{definition.name}.inner", is_inner=True)
        spec.inner = _read_struct(inner, element)


def _number(definition: _Definition, member: Member) -> int:
    """``int (*member)[N]`` -> N."""
    btf = definition.btf
    pointer = btf.skip_modifiers(member.type_id)
    if btf.kind(pointer) is not Kind.PTR:
        raise definition.error(f"{member.name!r} is {btf.kind(pointer).label}, not made with __uint()")
    array = btf.type(pointer).size_or_type
    if btf.kind(array) is not Kind.ARRAY:
        raise definition.error(f"{member.name!r} points to {btf.kind(array).label}, not made with __uint()")
    return btf.array(array).length


def _long_number(definition: _Definition, member: Member) -> int:
    """``enum { unique = N } member`` -> N; the form of :func:`_number` is fine too."""
    btf = definition.btf
    type_id = btf.skip_modifiers(member.type_id)
    if btf.kind(type_id) not in (Kind.ENUM, Kind.ENUM64):
        return _number(definition, member)
    constants = btf.enumerators(type_id)
    if len(constants) != 1:
        raise definition.error(f"{member.name!r} has {len(constants)} constants, not made with __ulong()")
    return constants[0].value & 0xFFFFFFFFFFFFFFFF


def _sized_type(definition: _Definition, member: Member) -> tuple[int, int]:
    """``T *member`` -> id of T, size of T in bytes."""
    btf = definition.btf
    if btf.kind(member.type_id) is not Kind.PTR:
        raise definition.error(f"{member.name!r} is {btf.kind(member.type_id).label}, not made with __type()")
    type_id = btf.type(member.type_id).size_or_type
    return type_id, btf.resolve_size(type_id)


def _agreed(definition: _Definition, member: Member, before: int, size: int) -> int:
    """A size may be said twice (``key`` and ``key_size``), but not differently."""
    if before and before != size:
        raise definition.error(f"{member.name!r} means {size} bytes, an earlier member {before}")
    return size


def _fill_slots(
    btf: Btf, variables: list[DatasecVar], maps: list[MapSpec], relocations: Iterable[SlotRelocation]
) -> None:
    """Give each map the slots that relocations name; for a slot named twice the later one counts."""
    by_name = {spec.name: spec for spec in maps}
    slots: dict[str, dict[int, MapSlot]] = {}
    for relocation in relocations:
        spec, variable = _holder(btf, variables, maps, relocation)
        _check_target(btf, spec, relocation, by_name)
        key = _slot_number(btf, variable, relocation)
        slots.setdefault(spec.name, {})[key] = MapSlot(key, relocation.symbol)
    for name, filled in slots.items():
        by_name[name].slots = tuple(filled[key] for key in sorted(filled))


def _holder(
    btf: Btf, variables: list[DatasecVar], maps: list[MapSpec], relocation: SlotRelocation
) -> tuple[MapSpec, DatasecVar]:
    """The map that the relocated word belongs to."""
    end = relocation.offset + POINTER_SIZE
    for spec, variable in zip(maps, variables, strict=True):
        if variable.offset <= relocation.offset and end <= variable.offset + variable.size:
            return spec, variable
    raise _slot_error(btf, relocation, "belongs to no map")


def _check_target(btf: Btf, holder: MapSpec, relocation: SlotRelocation, maps: Mapping[str, MapSpec]) -> None:
    if holder.map_type in _MAPS_OF_MAPS:
        if relocation.section != MAPS_SECTION or relocation.symbol not in maps:
            raise _slot_error(btf, relocation, f"of map {holder.name} is no map of {MAPS_SECTION}")
        if holder.map_type == MapType.HASH_OF_MAPS and holder.key_size != _SLOT_KEY_SIZE:
            raise _slot_error(
                btf,
                relocation,
                f"of map {holder.name}: slot numbers are the keys, which have {_SLOT_KEY_SIZE} bytes, "
                f"but the map's have {holder.key_size}",
            )
    elif holder.map_type == MapType.PROG_ARRAY:
        if not relocation.is_program:
            raise _slot_error(btf, relocation, f"of map {holder.name} is no entry program")
    else:
        raise _slot_error(btf, relocation, f"of map {holder.name}: its type has no 'values'")


def _slot_number(btf: Btf, variable: DatasecVar, relocation: SlotRelocation) -> int:
    """Which element of ``values``, the last member, lies at the relocated offset."""
    members = btf.members(btf.skip_modifiers(btf.type(variable.type_id).size_or_type))
    if not members or members[-1].name != "values":
        raise _slot_error(btf, relocation, "lies in a map without 'values'")
    start = variable.offset + members[-1].offset // 8
    number, rest = divmod(relocation.offset - start, POINTER_SIZE)
    if number < 0 or rest:
        raise _slot_error(btf, relocation, "lies between the slots of 'values'")
    return number


def _slot_error(btf: Btf, relocation: SlotRelocation, message: str) -> ObjectFileError:
    return ObjectFileError(
        f"initial value {printable(relocation.symbol)!r} {printable(message)}",
        path=btf.path,
        section=MAPS_SECTION,
        offset=relocation.offset,
    )
