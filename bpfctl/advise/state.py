"""The machine at one instruction, for all runs that reach it: registers, stack, and what is certain.

The stack is kept in slots of four bytes; a slot that is missing may hold anything.  Facts hold on every path,
so where paths meet only the common ones stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bpfctl.advise.values import (
    ANYTHING,
    HIGH_HALF,
    NULL,
    UNKNOWN,
    Constant,
    HighHalf,
    MapToken,
    Scalar,
    StackPointer,
    Value,
    ValuePointer,
    is_number,
    join,
)
from bpfctl.record import NamedTuple

FRAME_SIZE = 512  # bytes, MAX_BPF_STACK
SLOT = 4
MOST_FACTS = 128
_FP = 10

LOOKED, CURRENT, HIT, MISS, LOCKED = "looked", "current", "hit", "miss", "locked"


class Fact(NamedTuple):
    """Something that is so on every path.

    LOOKED: instruction ``pc`` looked ``map`` up with the key at ``offset`` of ``frame``, whose ``size`` bytes
    have not been written since; CURRENT: nor has this program changed the map.  HIT, MISS: what the latest
    run of ``pc`` returned.  LOCKED: a spin lock is held.
    """

    kind: str
    pc: int
    map: MapToken | None = None
    frame: int = 0
    offset: int = 0
    size: int = 0


Place = tuple[int, int]  # frame, offset


class State:
    """Changed in place by one instruction after the other; ``copy`` before it goes another way."""

    __slots__ = ("facts", "registers", "stack")

    def __init__(self, registers: list[Value], stack: dict[Place, Value], facts: frozenset[Fact]) -> None:
        self.registers = registers
        self.stack = stack
        self.facts = facts

    @classmethod
    def entry(cls, function: int, arguments: list[Value]) -> State:
        """Where ``function`` begins, called with r1 to r5."""
        registers: list[Value] = [UNKNOWN, *arguments, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]
        return cls([*registers, StackPointer(function)], {}, frozenset())

    def copy(self) -> State:
        return State(self.registers.copy(), self.stack.copy(), self.facts)

    @property
    def function(self) -> int | None:
        """Where the running function starts; None when that is lost."""
        frame = self.registers[_FP]
        return frame.frame if isinstance(frame, StackPointer) else None

    def absorb(self, other: State) -> bool:
        """Cover ``other`` too; whether that changed anything."""
        registers = [
            self._missed(mine, theirs, other) or other._missed(theirs, mine, self) or join(mine, theirs)
            for mine, theirs in zip(self.registers, other.registers, strict=True)
        ]
        stack = {
            place: joined
            for place, value in self.stack.items()
            if place in other.stack and (joined := join(value, other.stack[place])) is not ANYTHING
        }
        facts = self.facts & other.facts
        changed = registers != self.registers or stack != self.stack or facts != self.facts
        self.registers, self.stack, self.facts = registers, stack, facts
        return changed

    def _missed(self, pointer: Value, null: Value, other: State) -> Value | None:
        """A pointer that ``other`` has as NULL since its origin found nothing: a test tells which it was."""
        if null != NULL or not isinstance(pointer, ValuePointer) or pointer.origin is None:
            return None
        return replace(pointer, nullable=True) if Fact(MISS, pointer.origin) in other.facts else None

    # --- stack ----------------------------------------------------------------------------------

    def store(self, frame: int, offset: int, size: int, value: Value) -> None:
        """``size`` bytes, 1 to 8, of ``value``."""
        self.forget_keys(frame, offset, offset + size)
        stack = self.stack
        if offset % SLOT or size < SLOT:
            self._store_part(frame, offset, size, value)
        elif size == SLOT:
            stack[frame, offset] = value if is_number(value) else UNKNOWN
        elif isinstance(value, Constant):
            stack[frame, offset] = Constant(value.number & 0xFFFFFFFF)
            stack[frame, offset + SLOT] = Constant(value.number >> 32)
        elif isinstance(value, Scalar):
            stack[frame, offset] = stack[frame, offset + SLOT] = value
        else:
            stack[frame, offset] = value
            stack[frame, offset + SLOT] = HIGH_HALF

    def _store_part(self, frame: int, offset: int, size: int, value: Value) -> None:
        """Less than a slot, or across slots: bytes of constants stay known within one slot."""
        first = offset - offset % SLOT
        old = self.stack.get((frame, first))
        within = offset + size <= first + SLOT
        for slot in range(first, offset + size, SLOT):
            self.stack[frame, slot] = UNKNOWN
        if not within:
            return
        if isinstance(old, Constant) and isinstance(value, Constant):
            shift, mask = (offset - first) * 8, (1 << size * 8) - 1
            number = old.number & ~(mask << shift) | (value.number & mask) << shift
            self.stack[frame, first] = Constant(number)
        elif isinstance(value, Scalar) and value.own:
            self.stack[frame, first] = value

    def load(self, frame: int, offset: int, size: int) -> Value:
        """``size`` bytes as a register gets them, zeros above."""
        first = offset - offset % SLOT
        low = self.stack.get((frame, first), ANYTHING)
        if size <= SLOT and offset + size <= first + SLOT:
            if isinstance(low, Constant):
                return Constant(low.number >> (offset - first) * 8 & (1 << size * 8) - 1)
            return low if isinstance(low, Scalar) else UNKNOWN
        if size == 2 * SLOT and offset == first:
            return self._load_double(low, self.stack.get((frame, first + SLOT), ANYTHING))
        return UNKNOWN

    def _load_double(self, low: Value, high: Value) -> Value:
        if isinstance(high, HighHalf):
            # Its lower half may have been written since; then only numbers are there.
            return low if not is_number(low) and not isinstance(low, HighHalf) else UNKNOWN
        if isinstance(low, Constant) and isinstance(high, Constant):
            return Constant(high.number << 32 | low.number)
        if isinstance(low, Scalar) and low == high:
            return low
        return ANYTHING if high is ANYTHING and not is_number(low) else UNKNOWN

    def forget(self, frame: int, start: int | None, end: int = 0) -> None:
        """Bytes ``start`` to ``end`` of ``frame`` may have changed to anything; None: all of them."""
        if start is None or start < -FRAME_SIZE:
            start = -FRAME_SIZE
        for slot in range(start - start % SLOT, min(end, 0), SLOT):
            self.stack.pop((frame, slot), None)
        self.forget_keys(frame, start, end)

    def forget_stack(self) -> None:
        """Anything may have been written to any frame."""
        self.stack.clear()
        self.facts = frozenset(fact for fact in self.facts if not fact.size)

    # --- facts ----------------------------------------------------------------------------------

    def learn(self, *facts: Fact) -> None:
        """Add ``facts``; more than a bounded number are not kept."""
        if len(self.facts) < MOST_FACTS:
            self.facts |= set(facts)

    def forget_keys(self, frame: int, start: int, end: int) -> None:
        """No key that lies in these bytes is what it was."""
        stale = [
            fact
            for fact in self.facts
            if fact.size and fact.frame == frame and fact.offset < end and start < fact.offset + fact.size
        ]
        if stale:
            self.facts -= frozenset(stale)

    def forget_contents(self, maps: frozenset[MapToken] | None) -> None:
        """This program changed one of ``maps``; None: any map."""
        self.facts = frozenset(
            fact for fact in self.facts if fact.kind != CURRENT or (maps is not None and fact.map not in maps)
        )

    def renew(self, pc: int) -> None:
        """Instruction ``pc`` is about to run again: what it returned before is its latest no more."""
        self.facts = frozenset(fact for fact in self.facts if fact.pc != pc)
        self._replace_origin(pc, _without_origin)

    def resolve(self, origin: int, hit: bool) -> None:
        """A test told whether the pointer that ``origin`` returned is NULL."""
        self.learn(Fact(HIT if hit else MISS, origin))
        self._replace_origin(origin, _found if hit else lambda _: Constant(0))

    def _replace_origin(self, origin: int, change: Callable[[ValuePointer], Value]) -> None:
        for number, value in enumerate(self.registers):
            if isinstance(value, ValuePointer) and value.origin == origin:
                self.registers[number] = change(value)
        for place, value in list(self.stack.items()):
            if isinstance(value, ValuePointer) and value.origin == origin:
                self.store_resolved(place, change(value))

    def store_resolved(self, place: Place, value: Value) -> None:
        """Another word for what slot ``place`` holds already: no key has changed."""
        self.stack[place] = value
        if isinstance(value, Constant):
            self.stack[place[0], place[1] + SLOT] = Constant(0)


def _without_origin(pointer: ValuePointer) -> Value:
    return replace(pointer, origin=None)


def _found(pointer: ValuePointer) -> Value:
    return replace(pointer, nullable=False)
