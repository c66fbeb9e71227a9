"""Values of one type as those of another: what stays, moves, grows, is looked at, is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bpfctl.btf.aggregates import ArrayOf, Field, Record
from bpfctl.btf.reshape import Reshape, parts
from bpfctl.btf.scalars import Codec, Enum, Ipv4, NetworkNumber, Number, Text
from bpfctl.errors import BpfctlError, TypedValueError


def number(size: int, *, signed: bool = False) -> Number:
    return Number(size, f"{'s' if signed else 'u'}{size * 8}", "little", signed=signed)


def struct(*members: tuple[str, Codec]) -> Record:
    fields, at = [], 0
    for name, codec in members:
        fields.append(Field(name, codec, at * 8))
        at += codec.size
    return Record(at, "struct s", "little", fields)


def enum(**names: int) -> Enum:
    return Enum(4, "enum e", "little", signed=False, names=list(names.items()))


BITS = Record(4, "struct b", "little", [Field("a", number(4).narrowed(3), 0, 3), Field("b", number(4), 3, 9)])
BITS_LATER = Record(
    4, "struct b", "little", [Field("b", number(4), 0, 9), Field("a", number(4).narrowed(4), 9, 4)]
)

# old type, new type, a value of the old, the same value in the new, actions by field
FITTING: list[tuple[Codec, Codec, Any, Any, dict[str, str]]] = [
    (
        struct(("a", number(4)), ("b", number(8))),
        struct(("b", number(8)), ("a", number(4))),
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        {"a": "move", "b": "move"},
    ),
    (
        struct(("a", number(4))),
        struct(("a", number(8)), ("c", number(2))),
        {"a": 5},
        {"a": 5, "c": 0},
        {"a": "resize", "c": "add"},
    ),
    (struct(("a", number(4))), struct(("a", number(2))), {"a": 65535}, {"a": 65535}, {"a": "check"}),
    (
        struct(("a", number(2, signed=True))),
        struct(("a", number(4, signed=True))),
        {"a": -2},
        {"a": -2},
        {"a": "resize"},
    ),
    (
        struct(("e", enum(NO=0, YES=1))),
        struct(("e", enum(NO=0, MAYBE=1, YES=2))),
        {"e": "YES"},
        {"e": "YES"},
        {"e": "check"},
    ),
    (struct(("t", Text(4, "char[4]"))), struct(("t", Text(8, "char[8]"))), {"t": "ab"}, {"t": "ab"}, {}),
    (struct(("t", Text(8, "char[8]"))), struct(("t", Text(4, "char[4]"))), {"t": "abcd"}, {"t": "abcd"}, {}),
    (
        struct(("l", ArrayOf(number(2), 2, "u16[2]"))),
        struct(("l", ArrayOf(number(4), 3, "u32[3]"))),
        {"l": [1, 2]},
        {"l": [1, 2, 0]},
        {"l[1]": "resize"},
    ),
    (
        struct(("a", number(4)), ("x", number(4))),
        struct(("a", Ipv4(4, "__be32")), ("y", number(1))),
        {"a": 0x0100000A, "x": 1},
        {"a": "10.0.0.1", "y": 0},
        {"x": "drop"},
    ),
    (BITS, BITS_LATER, {"a": 5, "b": 300}, {"b": 300, "a": 5}, {"a": "resize", "b": "resize"}),
    (number(4), number(8), 7, 7, {"": "resize"}),
]


@pytest.mark.parametrize(("old", "new", "before", "after", "actions"), FITTING)
def test_kept_by_name(old: Codec, new: Codec, before: Any, after: Any, actions: dict[str, str]) -> None:
    shape = Reshape("value", old, new, "little")
    assert not shape.identical
    assert new.decode(shape.convert(old.encode(before))) == after
    found = {change.field: change.action for change in shape.changes}
    assert actions.items() <= found.items()
    assert shape.dropped == [field for field, action in actions.items() if action == "drop"]


def test_the_same_type_keeps_every_byte_its_padding_too() -> None:
    old = Record(8, "struct s", "little", [Field("a", number(1), 0), Field("b", number(4), 32)])
    new = Record(8, "struct t", "little", [Field("a", number(1), 0), Field("b", number(4), 32)])
    shape = Reshape("key", old, new, "little")
    assert shape.identical
    assert shape.convert(b"\x01\xff\xff\xff\x02\0\0\0") == b"\x01\xff\xff\xff\x02\0\0\0"


# old type, new type, a value that does not fit, the error
UNFIT = [
    (
        struct(("a", number(4))),
        struct(("a", number(2))),
        {"a": 65536},
        "value.a: 65536 does not fit; u16 from",
    ),
    (
        struct(("a", number(4, signed=True))),
        struct(("a", number(4))),
        {"a": -1},
        "value.a: -1 does not fit; u32 from 0",
    ),
    (
        struct(("e", enum(NO=0, YES=1))),
        struct(("e", enum(NO=0))),
        {"e": "YES"},
        "value.e: 'YES' does not fit; enum e (NO)",
    ),
    (
        struct(("t", Text(8, "char[8]"))),
        struct(("t", Text(4, "char[4]"))),
        {"t": "abcde"},
        "value.t: what is behind its new end is not zero",
    ),
    (
        struct(("l", ArrayOf(number(2), 3, "u16[3]"))),
        struct(("l", ArrayOf(number(4), 2, "u32[2]"))),
        {"l": [0, 0, 1]},
        "value.l: what is behind",
    ),
]


@pytest.mark.parametrize(("old", "new", "value", "message"), UNFIT)
def test_a_value_that_does_not_fit_is_named(old: Codec, new: Codec, value: Any, message: str) -> None:
    shape = Reshape("value", old, new, "little")
    assert shape.convert(bytes(old.size)) == bytes(new.size)
    with pytest.raises(TypedValueError) as caught:
        shape.convert(old.encode(value))
    assert str(caught.value).startswith(message)


UNLIKE = [
    (struct(("a", number(4))), struct(("a", Text(4, "char[4]")))),
    (struct(("a", NetworkNumber(2, "__be16"))), struct(("a", number(4)))),
    (number(4), struct(("a", number(4)))),
    (
        Record(4, "union u", "little", [Field("a", number(4), 0), Field("b", number(2), 0)]),
        Record(4, "union u", "little", [Field("a", number(4), 0), Field("c", number(2), 0)]),
    ),
]


@pytest.mark.parametrize(("old", "new"), UNLIKE)
def test_types_with_nothing_in_common_are_refused(old: Codec, new: Codec) -> None:
    with pytest.raises(BpfctlError, match="cannot become"):
        Reshape("value", old, new, "little")


def test_what_the_kernel_owns_is_left_alone() -> None:
    lock = Record(4, "struct bpf_spin_lock", "little", [Field("val", number(4), 0)])
    shape = Reshape(
        "value", struct(("l", lock), ("a", number(4))), struct(("a", number(8)), ("l", lock)), "little"
    )
    assert {change.field: change.action for change in shape.changes} == {"l": "own", "a": "resize"}
    assert [part[:3] for part in parts(struct(("l", lock), ("a", number(8)), ("b", number(8))), 20)] == [
        (4, 8, False),  # not where an atomic operation could reach it
        (12, 8, False),
    ]


def test_counters_are_whole_numbers_in_their_place() -> None:
    value = struct(("n", number(8)), ("m", number(4)), ("e", enum(NO=0)), ("p", NetworkNumber(4, "__be32")))
    assert [part.counter for part in parts(value, value.size)] == [True, True, False, False]
    assert [tuple(part)[:3] for part in parts(None, 12)] == [(0, 8, True), (8, 4, True)]
