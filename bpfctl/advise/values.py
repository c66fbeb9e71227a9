"""What a register or a stack slot may hold, as far as advice about maps needs to know.

The order is flat but for sets of maps: two different values meet in one that covers both, and a chain of such
meetings ends after a few steps, which is why the interpretation of any program does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MapToken = int | str  # a live map's id, an object's map by name
MOST_MAPS = 8  # that one pointer is followed to

_WORD = 0xFFFFFFFF
_DOUBLE = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value: a pointer to any stack or map among them."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, or a pointer to neither stack nor map: a packet, the context, an object of the kernel.

    ``own``: made of a CPU or task number, so no other CPU has it at the same time.  ``loaded``: read from
    this map's value, at this offset, and changed by arithmetic only.
    """

    own: bool = False
    loaded: tuple[MapToken, int] | None = None


@dataclass(frozen=True, slots=True)
class Constant:
    """A known number, 0 to 2^64 - 1."""

    number: int


@dataclass(frozen=True, slots=True)
class MapPointer:
    """One of ``maps``."""

    maps: frozenset[MapToken]


@dataclass(frozen=True, slots=True)
class ValuePointer:
    """Into a value of one of ``maps``, at byte ``offset`` if that is known; or NULL if ``nullable``.

    ``origin``: the instruction whose latest run returned it.  ``own``: the key, or the way to it, is
    ``Scalar.own``.
    """

    maps: frozenset[MapToken]
    origin: int | None = None
    offset: int | None = 0
    nullable: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class StackPointer:
    """Into the frame of the function that starts at instruction ``frame``; ``offset`` from its end."""

    frame: int
    offset: int | None = 0


@dataclass(frozen=True, slots=True)
class FunctionPointer:
    """The function that starts at instruction ``entry``."""

    entry: int


@dataclass(frozen=True, slots=True)
class HighHalf:
    """In a stack slot: the upper four bytes of the pointer in the slot below."""


Value = Anything | Scalar | Constant | MapPointer | ValuePointer | StackPointer | FunctionPointer | HighHalf

ANYTHING = Anything()
UNKNOWN = Scalar()
OWN = Scalar(own=True)
NULL = Constant(0)
HIGH_HALF = HighHalf()


def inner(outer: MapToken) -> MapToken:
    """Stands for all maps that are in the map of maps ``outer``."""
    return f"{outer}[]"


def is_inner(token: MapToken) -> bool:
    """Whether it stands for maps in a map."""
    return isinstance(token, str) and token.endswith("[]")


def constant(number: int) -> Constant:
    """``number`` as a register holds it."""
    return Constant(number & _DOUBLE)


def is_number(value: Value) -> bool:
    """Whether it leads to no stack and no map."""
    return isinstance(value, (Scalar, Constant))


def join(one: Value, other: Value) -> Value:
    """What covers both."""
    if one is other or one == other:
        return one
    if isinstance(one, (Scalar, Constant)) and isinstance(other, (Scalar, Constant)):
        return Scalar(own=_own(one) and _own(other))
    if isinstance(one, ValuePointer):
        if isinstance(other, ValuePointer):
            return _join_values(one, other)
        if other == NULL:
            return replace(one, origin=None, nullable=True)
    elif isinstance(other, ValuePointer) and one == NULL:
        return replace(other, origin=None, nullable=True)
    elif isinstance(one, MapPointer) and isinstance(other, MapPointer):
        maps = one.maps | other.maps
        return MapPointer(maps) if len(maps) <= MOST_MAPS else ANYTHING
    elif isinstance(one, StackPointer) and isinstance(other, StackPointer) and one.frame == other.frame:
        return StackPointer(one.frame, None)
    return ANYTHING


def _own(value: Scalar | Constant) -> bool:
    return isinstance(value, Scalar) and value.own


def _join_values(one: ValuePointer, other: ValuePointer) -> Value:
    maps = one.maps | other.maps
    if len(maps) > MOST_MAPS:
        return ANYTHING
    return ValuePointer(
        maps,
        one.origin if one.origin == other.origin else None,
        one.offset if one.offset == other.offset else None,
        one.nullable or other.nullable,
        one.own and other.own,
    )


def moved(pointer: Value, by: Value) -> Value:
    """``pointer + by``, either of which may be the pointer."""
    if is_number(pointer) and not is_number(by):
        pointer, by = by, pointer
    if isinstance(pointer, (ValuePointer, StackPointer)):
        if isinstance(pointer, ValuePointer) and isinstance(by, Scalar) and by.own:
            return replace(pointer, offset=None, own=True)  # an element of an array, each CPU has one
        if pointer.offset is None or not isinstance(by, Constant):
            return replace(pointer, offset=None)
        return replace(pointer, offset=pointer.offset + signed(by.number))
    if isinstance(pointer, MapPointer):  # only in code that the kernel has rewritten: to an array's values
        return ValuePointer(pointer.maps, offset=None)
    return mixed(pointer, by) if is_number(pointer) and is_number(by) else ANYTHING


def mixed(one: Value, other: Value) -> Value:
    """A number made of both that is not worked out; of anything but numbers, an unknown one."""
    for value in (one, other):
        if isinstance(value, Scalar) and (value.own or value.loaded):
            return value
    return UNKNOWN


def low_word(value: Value) -> Value:
    """The lower 32 bits as a number."""
    if isinstance(value, Constant):
        return Constant(value.number & _WORD)
    return value if isinstance(value, Scalar) else UNKNOWN


def signed(number: int, bits: int = 64) -> int:
    """The low ``bits`` of ``number`` as two's complement."""
    sign = 1 << (bits - 1)
    return (number & ((sign << 1) - 1) ^ sign) - sign
