"""Which types count as the same: field-compatible, type-compatible, type-match."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.core_types import essential_name, fields_compatible, types_compatible, types_match
from bpfctl.btf.kinds import Kind
from bpfctl.errors import BtfError

Make = Callable[[BtfBuilder], int]


@pytest.mark.parametrize(
    ("name", "essential"),
    [
        ("task_struct", "task_struct"),
        ("task_struct___v2", "task_struct"),
        ("task___a___b", "task___a"),
        ("a___b", "a"),
        ("___b", "___b"),
        ("a___", "a___"),
        ("a____b", "a____b"),
        ("x___y___", "x"),
        ("a____b___c", "a____b"),
        ("", ""),
    ],
)
def test_essential_name(name: str, essential: str) -> None:
    assert essential_name(name) == essential


def _build(*makes: Make) -> tuple[tuple[BtfBuilder, int], ...]:
    built = []
    for make in makes:
        b = BtfBuilder()
        built.append((b, make(b)))
    return tuple(built)


def _ask(relation: Callable[..., bool], local: Make, target: Make) -> bool:
    (lb, local_id), (tb, target_id) = _build(local, target)
    return relation(lb.btf(), local_id, tb.btf(), target_id)


def _int(size: int = 4, *, signed: bool = True) -> Make:
    return lambda b: b.int("number", size, signed=signed)


def _ptr(to: Make) -> Make:
    return lambda b: b.ptr(to(b))


def _array(of: Make, length: int = 3) -> Make:
    return lambda b: b.array(of(b), length)


def _const(of: Make) -> Make:
    return lambda b: b.add(Kind.CONST, "", b.add(Kind.TYPEDEF, "alias", of(b)))


def _struct(name: str, *members: tuple[str, Make], kind: Kind = Kind.STRUCT) -> Make:
    return lambda b: b.struct(name, 8, [(label, make(b), 0) for label, make in members], kind=kind)


def _union(name: str, *members: tuple[str, Make]) -> Make:
    return _struct(name, *members, kind=Kind.UNION)


def _enum(name: str, *labels: str, size: int = 4) -> Make:
    return lambda b: b.enum(name, {label: n for n, label in enumerate(labels)}, size=size)


def _enum64(name: str, *labels: str) -> Make:
    return lambda b: b.enum64(name, {label: n for n, label in enumerate(labels)})


def _fwd(name: str, *, union: bool = False) -> Make:
    return lambda b: b.add(Kind.FWD, name, kflag=union)


def _proto(returns: Make, *params: Make) -> Make:
    return lambda b: b.func_proto(returns(b), [(f"p{n}", make(b)) for n, make in enumerate(params)])


def _void(_: BtfBuilder) -> int:
    return 0


def _float(b: BtfBuilder) -> int:
    return b.add(Kind.FLOAT, "double", 8)


def _bit_range_int(b: BtfBuilder) -> int:
    return b.add(Kind.INT, "old_bitfield", 4, words=[3 << 16 | 5])


@pytest.mark.parametrize(
    ("local", "target", "verdict"),
    [
        (_int(4), _int(8, signed=False), True),
        (_int(), _bit_range_int, False),
        (_int(), _const(_int()), True),
        (_int(), _ptr(_int()), False),
        (_struct("a"), _union("b"), True),
        (_struct("a"), _int(), False),
        (_ptr(_int()), _ptr(_struct("a")), True),
        (_float, _float, True),
        (_enum("e", "A"), _enum64("e", "B"), True),
        (_enum("e___local", "A"), _enum("e", "A"), True),
        (_enum("e", "A"), _enum("f", "A"), False),
        (_enum("", "A"), _enum("f", "A"), True),
        (_fwd("s"), _fwd("s"), True),
        (_fwd("s"), _fwd("t"), False),
        (_array(_int(), 3), _array(_int(8), 7), True),
        (_array(_array(_int())), _array(_array(_ptr(_int()))), False),
        (_proto(_void), _proto(_void), False),
        (_void, _void, False),
    ],
)
def test_fields(local: Make, target: Make, verdict: bool) -> None:
    assert _ask(fields_compatible, local, target) is verdict


@pytest.mark.parametrize(
    ("local", "target", "verdict"),
    [
        (_struct("a", ("x", _int())), _struct("a"), True),
        (_struct("a"), _union("a"), False),
        (_enum("e", "A"), _enum64("e", "B"), True),
        (_fwd("s"), _fwd("s", union=True), True),
        (_int(4), _int(8, signed=False), True),
        (_int(), _bit_range_int, False),
        (_ptr(_void), _ptr(_void), True),
        (_ptr(_struct("a")), _ptr(_struct("b")), True),
        (_ptr(_struct("a")), _ptr(_int()), False),
        (_ptr(_const(_int())), _ptr(_int()), True),
        (_array(_int(), 3), _array(_int(), 4), True),
        (_array(_int()), _array(_ptr(_int())), False),
        (_proto(_int(), _int(), _ptr(_void)), _proto(_int(), _int(), _ptr(_void)), True),
        (_proto(_int(), _int()), _proto(_int(), _int(), _int()), False),
        (_proto(_int(), _int()), _proto(_int(), _ptr(_void)), False),
        (_proto(_int()), _proto(_void), False),
        (_float, _float, False),
    ],
)
def test_types(local: Make, target: Make, verdict: bool) -> None:
    assert _ask(types_compatible, local, target) is verdict


def test_modifiers_of_the_root_are_part_of_its_kind() -> None:
    assert not _ask(types_compatible, _const(_int()), _int())


_DEEP_LOCAL = _struct("s", ("p", _ptr(_struct("other", ("only_local", _int())))))
_DEEP_TARGET = _struct("s", ("p", _ptr(_struct("other", ("only_target", _int())))))


@pytest.mark.parametrize(
    ("local", "target", "verdict"),
    [
        (_int(4), _int(4), True),
        (_int(4), _int(8), False),
        (_int(4), _int(4, signed=False), False),
        (_struct("s", ("x", _int())), _struct("s", ("y", _int()), ("x", _int())), True),
        (_struct("s", ("x", _int())), _struct("s", ("y", _int())), False),
        (_struct("s", ("x", _int())), _struct("s", ("x", _int(8))), False),
        (_struct("s", ("x", _int()), ("y", _int())), _struct("s", ("x", _int())), False),
        (_struct("s___local"), _struct("s"), True),
        (_struct("s"), _struct("t"), False),
        (_struct("s"), _struct(""), False),
        (_struct("s"), _union("s"), False),
        (_DEEP_LOCAL, _DEEP_TARGET, True),
        (_ptr(_struct("s")), _ptr(_fwd("s")), True),
        (_ptr(_struct("s")), _ptr(_fwd("s", union=True)), False),
        (_ptr(_fwd("s", union=True)), _ptr(_union("s")), True),
        (_ptr(_fwd("s")), _ptr(_union("s")), False),
        (_fwd("s"), _fwd("s"), True),
        (_fwd("s"), _fwd("s", union=True), False),
        (_fwd("s"), _struct("s"), False),
        (_enum("e", "A"), _enum("e", "B", "A"), True),
        (_enum("e", "A___x"), _enum("e", "A"), True),
        (_enum("e", "A"), _enum("e", "B"), False),
        (_enum("e", "A", size=8), _enum64("e", "A"), True),
        (_enum("e", "A", size=4), _enum64("e", "A"), False),
        (_enum("e", "A"), _int(), False),
        (_array(_int(), 3), _array(_int(), 3), True),
        (_array(_int(), 3), _array(_int(), 4), False),
        (_proto(_void, _int()), _proto(_void, _int()), True),
        (_proto(_void, _int()), _proto(_void, _int(8)), False),
        (_proto(_void, _int()), _proto(_void), False),
        (_float, _float, False),
    ],
)
def test_matches(local: Make, target: Make, verdict: bool) -> None:
    assert _ask(types_match, local, target) is verdict


def _nested_pointers(b: BtfBuilder) -> int:
    type_id = b.int()
    for _ in range(100):
        type_id = b.ptr(type_id)
    return type_id


def _prototype_that_takes_itself(b: BtfBuilder) -> int:
    proto = b.next_id
    b.func_proto(0, [("a", proto + 1), ("b", proto + 1)])
    return b.ptr(proto)


@pytest.mark.parametrize("relation", [types_compatible, types_match])
@pytest.mark.parametrize("make", [_nested_pointers, _prototype_that_takes_itself])
def test_endless_nesting_is_an_error(relation: Callable[..., bool], make: Make) -> None:
    with pytest.raises(BtfError, match="nest too deep"):
        _ask(relation, make, make)


def _branching_prototypes(b: BtfBuilder) -> int:
    """14 levels, each prototype taking the next one eight times: 8 ** 14 paths."""
    type_id = b.ptr(0)
    for _ in range(14):
        type_id = b.ptr(b.func_proto(0, [(f"p{n}", type_id) for n in range(8)]))
    return type_id


@pytest.mark.parametrize("relation", [types_compatible, types_match])
def test_each_pair_is_compared_once(relation: Callable[..., bool]) -> None:
    assert _ask(relation, _branching_prototypes, _branching_prototypes)
