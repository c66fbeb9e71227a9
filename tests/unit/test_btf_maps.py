"""Map definitions made of types: each member by its rules, and what breaks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.kinds import Kind
from bpfctl.errors import BtfError, ObjectFileError
from bpfctl.objfile.btf_maps import SlotRelocation, read_btf_maps
from bpfctl.objfile.spec import MapOrigin, MapSlot, MapSpec
from bpfctl.uapi import MapType

Members = Callable[[BtfBuilder], Sequence[tuple[str, int]]]


def _struct(b: BtfBuilder, members: Sequence[tuple[str, int]]) -> int:
    """A definition: members of 8 bytes one after the other, an array without length adding nothing."""
    placed = [(name, type_id, 64 * n) for n, (name, type_id) in enumerate(members)]
    size = 8 * sum(name != "values" for name, _ in members)
    return b.struct("", size, placed)


def _define(b: BtfBuilder, name: str, members: Sequence[tuple[str, int]], size: int = 0) -> tuple[int, int]:
    """(VAR id, bytes of the variable); ``size`` when the variable is larger than its struct."""
    struct_id = _struct(b, members)
    return b.var(name, struct_id), size or 8 * sum(label != "values" for label, _ in members)


def _section(b: BtfBuilder, variables: Sequence[tuple[int, int]]) -> int:
    """Put the variables one after the other; returns the size of the section in bytes."""
    placed, end = [], 0
    for var, size in variables:
        placed.append((var, end, size))
        end += size
    b.datasec(".maps", placed, size=end)
    return end


def _read_one(members: Members, *, strict: bool = True) -> MapSpec:
    b = BtfBuilder()
    size = _section(b, [_define(b, "m", members(b))])
    (spec,) = read_btf_maps(b.btf("test.o"), section_size=size, strict=strict)
    return spec


def _array_members(b: BtfBuilder) -> list[tuple[str, int]]:
    return [("type", b.uint(MapType.ARRAY)), ("max_entries", b.uint(4))]


# --- members -------------------------------------------------------------------------------------


def test_every_plain_member() -> None:
    ids = {}

    def members(b: BtfBuilder) -> list[tuple[str, int]]:
        ids["key"] = b.struct("key", 12)
        ids["value"] = b.add(Kind.TYPEDEF, "u64", b.int("u64", 8))
        return [
            ("type", b.uint(MapType.HASH)),
            ("key", b.ptr(ids["key"])),
            ("value", b.ptr(ids["value"])),
            ("max_entries", b.uint(1024)),
            ("map_flags", b.uint(5)),
            ("numa_node", b.uint(1)),
            ("map_extra", b.uint(3)),
            ("pinning", b.uint(1)),
        ]

    spec = _read_one(members)
    assert spec == MapSpec(
        name="m",
        origin=MapOrigin.BTF,
        section=".maps",
        offset=0,
        map_type=MapType.HASH,
        key_size=12,
        value_size=8,
        max_entries=1024,
        flags=5,
        map_extra=3,
        numa_node=1,
        key_type_id=ids["key"],
        value_type_id=ids["value"],
        pinning=1,
    )
    assert spec.pins_by_name


def test_sizes_alone_leave_types_and_the_rest_unset() -> None:
    spec = _read_one(
        lambda b: [*_array_members(b), ("key_size", b.uint(4)), ("value_size", b.uint(64))],
    )
    assert (spec.key_size, spec.value_size) == (4, 64)
    assert (spec.key_type_id, spec.value_type_id, spec.numa_node, spec.pinning) == (0, 0, None, 0)


def test_defaults_that_depend_on_the_machine_are_left_out() -> None:
    perf = _read_one(lambda b: [("type", b.uint(MapType.PERF_EVENT_ARRAY))])
    ring = _read_one(lambda b: [("type", b.uint(MapType.RINGBUF)), ("max_entries", b.uint(5000))])
    assert (perf.max_entries, ring.max_entries) == (0, 5000)


def test_a_size_may_be_said_twice() -> None:
    spec = _read_one(lambda b: [*_array_members(b), ("key_size", b.uint(4)), ("key", b.ptr(b.int()))])
    assert spec.key_size == 4


@pytest.mark.parametrize("wide", [False, True])
def test_long_numbers(wide: bool) -> None:
    number = 1 << 44 if wide else 0x80000000

    def members(b: BtfBuilder) -> list[tuple[str, int]]:
        make = b.enum64 if wide else b.enum
        return [*_array_members(b), ("map_extra", make("", {"__unique_value1": number}))]

    assert _read_one(members).map_extra == number


def test_modifiers_around_definition_and_numbers() -> None:
    b = BtfBuilder()
    typedef = b.add(Kind.TYPEDEF, "number", b.add(Kind.CONST, "", b.uint(MapType.ARRAY)))
    struct_id = _struct(b, [("type", typedef)])
    var = b.var("m", b.add(Kind.VOLATILE, "", b.add(Kind.TYPEDEF, "definition", struct_id)))
    size = _section(b, [(var, 8)])
    (spec,) = read_btf_maps(b.btf(), section_size=size)
    assert spec.map_type == MapType.ARRAY


def test_several_maps_keep_their_places() -> None:
    b = BtfBuilder()
    first, second = _define(b, "first", _array_members(b)), _define(b, "second", _array_members(b))
    size = _section(b, [second, first])
    maps = read_btf_maps(b.btf(), section_size=size)
    assert [(spec.name, spec.offset) for spec in maps] == [("second", 0), ("first", 16)]


def test_unknown_members_are_passed_over_on_request() -> None:
    spec = _read_one(lambda b: [*_array_members(b), ("colour", b.uint(1))], strict=False)
    assert (spec.max_entries, spec.unknown_members) == (4, ("colour",))


# --- values --------------------------------------------------------------------------------------


def _values_of_maps(b: BtfBuilder, inner: Sequence[tuple[str, int]]) -> int:
    """The type of ``struct { inner } *values[]``."""
    return b.array(b.ptr(_struct(b, inner)), 0, index=1)


def _outer(b: BtfBuilder, map_type: MapType, key_size: int = 4) -> list[tuple[str, int]]:
    return [
        ("type", b.uint(map_type)),
        ("max_entries", b.uint(4)),
        ("key_size", b.uint(key_size)),
    ]


def test_inner_map_template() -> None:
    spec = _read_one(
        lambda b: [
            *_outer(b, MapType.ARRAY_OF_MAPS),
            ("values", _values_of_maps(b, [*_array_members(b), ("value", b.ptr(b.int("u64", 8)))])),
        ]
    )
    assert spec.value_size == 4
    assert spec.inner is not None
    assert (spec.inner.name, spec.inner.map_type, spec.inner.value_size) == ("m.inner", MapType.ARRAY, 8)
    assert spec.slots == ()


def _map_in_map(map_type: MapType = MapType.ARRAY_OF_MAPS, key_size: int = 4) -> tuple[BtfBuilder, int]:
    """``outer`` at bytes 0...55 with four slots from byte 24 on; ``inner`` behind it."""
    b = BtfBuilder()
    values = _values_of_maps(b, _array_members(b))
    outer = _define(b, "outer", [*_outer(b, map_type, key_size), ("values", values)], size=24 + 4 * 8)
    inner = _define(b, "inner", _array_members(b))
    return b, _section(b, [outer, inner])


def test_slots_of_a_map_in_map() -> None:
    b, size = _map_in_map()
    slots = [SlotRelocation(24 + 8 * n, "inner", ".maps", False) for n in (3, 0)]
    outer, inner = read_btf_maps(b.btf(), section_size=size, slots=slots)
    assert outer.slots == (MapSlot(0, "inner"), MapSlot(3, "inner"))
    assert inner.slots == ()


def _prog_array() -> tuple[BtfBuilder, int]:
    b = BtfBuilder()
    values = b.array(b.ptr(b.func_proto(b.int(), [("ctx", b.ptr(0))])), 0, index=1)
    jumps = _define(b, "jumps", [*_outer(b, MapType.PROG_ARRAY), ("values", values)], size=24 + 16)
    return b, _section(b, [jumps])


def test_slots_of_a_program_array() -> None:
    b, size = _prog_array()
    slots = [SlotRelocation(32, "handler", "xdp", True)]
    (spec,) = read_btf_maps(b.btf(), section_size=size, slots=slots)
    assert spec.slots == (MapSlot(1, "handler"),)
    assert (spec.inner, spec.value_size) == (None, 4)


@pytest.mark.parametrize(
    ("make", "slot", "message"),
    [
        (_map_in_map, (24, "prog", "xdp", True), r"'prog' of map outer is no map of \.maps"),
        (_map_in_map, (24, "absent", ".maps", False), r"'absent' of map outer is no map"),
        (_map_in_map, (28, "inner", ".maps", False), "lies between the slots"),
        (_map_in_map, (16, "inner", ".maps", False), "lies between the slots"),
        (_map_in_map, (52, "inner", ".maps", False), "belongs to no map"),
        (_map_in_map, (4096, "inner", ".maps", False), "belongs to no map"),
        (_map_in_map, (56, "inner", ".maps", False), "of map inner: its type has no 'values'"),
        (lambda: _map_in_map(MapType.HASH_OF_MAPS, 8), (24, "inner", ".maps", False), "the map's have 8"),
        (_prog_array, (24, "helper", ".text", False), "'helper' of map jumps is no entry program"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_slots_that_cannot_be(
    make: Callable[[], tuple[BtfBuilder, int]], slot: tuple[int, str, str, bool], message: str
) -> None:
    b, size = make()
    with pytest.raises(ObjectFileError, match=message) as caught:
        read_btf_maps(b.btf(), section_size=size, slots=[SlotRelocation(*slot)])
    assert (caught.value.section, caught.value.offset) == (".maps", slot[0])


# --- broken --------------------------------------------------------------------------------------


def _prog_array_of_structs(b: BtfBuilder) -> list[tuple[str, int]]:
    return [*_outer(b, MapType.PROG_ARRAY), ("values", _values_of_maps(b, _array_members(b)))]


def _inner_in_inner(b: BtfBuilder) -> list[tuple[str, int]]:
    innermost = _values_of_maps(b, _array_members(b))
    inner = [*_outer(b, MapType.ARRAY_OF_MAPS), ("values", innermost)]
    return [*_outer(b, MapType.ARRAY_OF_MAPS), ("values", _values_of_maps(b, inner))]


def _map_of_maps(values: Callable[[BtfBuilder], int]) -> Members:
    return lambda b: [*_outer(b, MapType.ARRAY_OF_MAPS), ("values", values(b))]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (lambda b: [("max_entries", b.uint(1))], "has no type"),
        (lambda b: [("type", b.uint(0))], "has no type"),
        (lambda b: [("type", b.int())], "'type' is int, not made with __uint"),
        (lambda b: [("type", b.ptr(b.int()))], "'type' points to int, not made with __uint"),
        (lambda b: [*_array_members(b), ("key", b.int())], "'key' is int, not made with __type"),
        (lambda b: [*_array_members(b), ("colour", b.uint(1))], "unknown member 'colour'"),
        (lambda b: [*_array_members(b), ("pinning", b.uint(2))], "'pinning' is 2"),
        (
            lambda b: [*_array_members(b), ("key_size", b.uint(8)), ("key", b.ptr(b.int()))],
            "'key' means 4 bytes, an earlier member 8",
        ),
        (
            lambda b: [*_array_members(b), ("value", b.ptr(b.int())), ("value_size", b.uint(2))],
            "'value_size' means 2 bytes, an earlier member 4",
        ),
        (
            lambda b: [*_array_members(b), ("map_extra", b.enum("", {"A": 1, "B": 2}))],
            "'map_extra' has 2 constants, not made with __ulong",
        ),
        (
            lambda b: [("values", _values_of_maps(b, _array_members(b))), *_array_members(b)],
            "'values' must be the last member",
        ),
        (
            lambda b: [*_array_members(b), ("values", _values_of_maps(b, _array_members(b)))],
            "'values' needs a map-in-map or program array",
        ),
        (
            lambda b: [
                *_outer(b, MapType.ARRAY_OF_MAPS),
                ("value_size", b.uint(8)),
                ("values", _values_of_maps(b, _array_members(b))),
            ],
            "'values' means 4 bytes, an earlier member 8",
        ),
        (_map_of_maps(lambda b: b.int()), "'values' is not an array without a length"),
        (_map_of_maps(lambda b: b.array(b.ptr(0), 3, index=1)), "'values' is not an array without"),
        (_map_of_maps(lambda b: b.array(b.int(), 0)), "'values' is an array of int, not of pointers"),
        (_map_of_maps(lambda b: b.array(b.ptr(b.int()), 0)), "'values' points to int, not to struct"),
        (_prog_array_of_structs, "'values' points to struct, not to func_proto"),
        (_inner_in_inner, r"map m\.inner: 'values' in the definition of an inner map"),
        (
            _map_of_maps(lambda b: _values_of_maps(b, [*_array_members(b), ("pinning", b.uint(1))])),
            r"map m\.inner: 'pinning' in the definition of an inner map",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_members(members: Members, message: str) -> None:
    with pytest.raises(ObjectFileError, match=message) as caught:
        _read_one(members)
    assert (caught.value.path, caught.value.section, caught.value.offset) == ("test.o", ".maps", 0)
    assert "map m" in str(caught.value)


def test_no_types_for_the_section() -> None:
    with pytest.raises(ObjectFileError, match=r"no types for this section in \.BTF") as caught:
        read_btf_maps(BtfBuilder().btf(), section_size=32)
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (lambda b: (b.int(), 8), "is int, not a variable"),
        (lambda b: (b.var("m", _struct(b, _array_members(b)), 0), 16), "is static, hidden or extern"),
        (lambda b: (b.var("m", b.int()), 8), "defined by int, not by a struct"),
        (lambda b: (b.var("m", _struct(b, _array_members(b))), 8), "larger than the 8 bytes of the variable"),
        (lambda b: (b.var("", _struct(b, _array_members(b))), 16), "has no name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_variables(variable: Callable[[BtfBuilder], tuple[int, int]], message: str) -> None:
    b = BtfBuilder()
    size = _section(b, [variable(b)])
    with pytest.raises(ObjectFileError, match=message):
        read_btf_maps(b.btf(), section_size=size)


def test_variable_past_the_end_of_the_section() -> None:
    b = BtfBuilder()
    _section(b, [_define(b, "m", _array_members(b))])
    with pytest.raises(ObjectFileError, match="16 bytes run past the section's 8"):
        read_btf_maps(b.btf(), section_size=8)


def test_a_type_that_leads_nowhere() -> None:
    with pytest.raises(BtfError, match="type id 4711 is out of range"):
        _read_one(lambda b: [*_array_members(b), ("key", b.ptr(4711))])
