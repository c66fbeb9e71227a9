"""The light NamedTuple, dataclass and enumerations behave as the originals do, in what the package uses."""

from __future__ import annotations

import dataclasses
import enum
import json
import pickle
import subprocess
import sys
import typing
from typing import Any

import pytest

from bpfctl import record


class Point(record.NamedTuple):
    """A point."""

    x: int
    y: int = 2

    @property
    def total(self) -> int:
        return self.x + self.y


class Original(typing.NamedTuple):
    x: int
    y: int = 2


class Empty(record.NamedTuple):
    """Nothing."""


@record.dataclass(slots=True)
class Thing:
    name: str
    size: int = 1
    parts: list[int] = record.field(default_factory=list)
    secret: int = record.field(kw_only=True, repr=False, compare=False)

    def double(self) -> int:
        return self.size * 2


@dataclasses.dataclass(slots=True)
class OriginalThing:
    name: str
    size: int = 1
    parts: list[int] = dataclasses.field(default_factory=list)
    secret: int = dataclasses.field(kw_only=True, repr=False, compare=False)


def outcome(make: Any) -> Any:
    """The value of ``make()``, or the kind of its error."""
    try:
        return make()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: tuple(kind(1)),
        lambda kind: tuple(kind(1, 5)),
        lambda kind: tuple(kind(y=1, x=5)),
        lambda kind: kind(),
        lambda kind: kind(1, 2, 3),
        lambda kind: kind(1, z=3),
        lambda kind: kind(1)._asdict(),
        lambda kind: tuple(kind(1)._replace(y=9)),
        lambda kind: kind(1)._replace(z=9),
        lambda kind: tuple(kind._make([3, 4])),
        lambda kind: kind._make([3]),
        lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__),
        lambda kind: (kind(1, 2) == kind(1), kind(1) == (1, 2), hash(kind(1)) == hash((1, 2))),
        lambda kind: repr(kind(1)).partition("(")[2],
        lambda kind: [(x, y) for x, y in [kind(4)]],
        lambda kind: outcome(lambda: setattr(kind(1), "x", 2)),
        lambda kind: outcome(lambda: setattr(kind(1), "new", 2)),
        lambda kind: (kind(7).x, kind(7).y, kind(7)[0]),
        lambda kind: sorted([kind(2), kind(1)])[0].x,
        lambda kind: pickle.loads(pickle.dumps(kind(1))) == kind(1),
    ],
)
def test_tuple_is_as_the_original(use: Any) -> None:
    assert outcome(lambda: use(Point)) == outcome(lambda: use(Original))


def test_tuple_has_what_its_class_body_has() -> None:
    assert Point(1).total == 3
    assert Point.__doc__ == "A point."
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert Empty() == ()
    match Point(3):
        case Point(x, y):
            assert (x, y) == (3, 2)


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: kind("a"),
        lambda kind: repr(kind("a", 2, secret=3)).partition("(")[2],
        lambda kind: repr(kind(name="b", parts=[4], secret=3)).partition("(")[2],
        lambda kind: kind("a", secret=1) == kind("a", secret=2),
        lambda kind: kind("a", secret=1) == kind("b", secret=1),
        lambda kind: kind("a", 1, [], 4),
        lambda kind: kind("a", secret=1).parts is kind("a", secret=1).parts,
        lambda kind: kind("a", secret=1, colour=2),
        lambda kind: hash(kind("a", secret=1)),
        lambda kind: outcome(lambda: setattr(kind("a", secret=1), "colour", 2)),
        lambda kind: outcome(lambda: setattr(kind("a", secret=1), "size", 2)),
        lambda kind: kind.__slots__,
    ],
)
def test_dataclass_is_as_the_original(use: Any) -> None:
    assert outcome(lambda: use(Thing)) == outcome(lambda: use(OriginalThing))


def test_replace_makes_a_copy() -> None:
    thing = Thing("a", secret=1)
    other = record.replace(thing, size=5)
    assert (thing.size, other.size, other.double(), other.secret) == (1, 5, 10, 1)
    with pytest.raises(TypeError):
        record.replace(thing, colour=2)


class Number(record.IntEnum):
    """Numbers."""

    NONE = 0
    ONE = 1
    UNO = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class OriginalNumber(enum.IntEnum):
    NONE = 0
    ONE = 1
    UNO = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class Word(record.StrEnum):
    NONE = ""
    ONE = "one"
    UNO = "one"


class OriginalWord(enum.StrEnum):
    NONE = ""
    ONE = "one"
    UNO = "one"


@pytest.mark.parametrize(
    "use",
    [
        lambda kind: (kind.ONE.name, kind.ONE.value, kind.UNO is kind.ONE, kind.ONE == kind.NONE),
        lambda kind: [kind(kind.ONE.value) is kind.ONE, kind(kind.ONE) is kind.ONE, kind["ONE"] is kind.ONE],
        lambda kind: kind(77),
        lambda kind: kind["TWO"],
        lambda kind: [member.name for member in kind],
        lambda kind: (len(kind), list(kind.__members__), kind.NONE in kind, kind.ONE in tuple(kind)),
        lambda kind: repr(kind.ONE).partition(".")[2],
        lambda kind: (str(kind.ONE), f"{kind.ONE}", f"{kind.ONE:>5}"),
        lambda kind: (json.dumps({"kind": kind.ONE}), json.dumps({kind.ONE: 1})),
        lambda kind: (kind.ONE.value == kind.ONE, hash(kind.ONE) == hash(kind.ONE.value), bool(kind.NONE)),
        lambda kind: kind.ONE.label,
        lambda kind: (kind.ONE | 2, kind.ONE & 3, kind.ONE + 1, int(kind.ONE)),
        lambda kind: pickle.loads(pickle.dumps(kind.ONE)) is kind.ONE,
        lambda kind: (isinstance(kind.ONE, kind), type(kind.ONE) is kind),
    ],
)
@pytest.mark.parametrize(("ours", "original"), [(Number, OriginalNumber), (Word, OriginalWord)])
def test_enumeration_is_as_the_original(use: Any, ours: Any, original: Any) -> None:
    assert outcome(lambda: use(ours)) == outcome(lambda: use(original))


def test_none_needs_what_it_replaces() -> None:
    script = "import sys, bpfctl.record; print({'typing', 'dataclasses', 'enum'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
