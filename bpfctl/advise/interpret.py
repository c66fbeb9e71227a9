"""Running a program on what values may be, until nothing new comes: all of its paths at once.

Each block of instructions keeps the state before it, which only ever grows.  A function is interpreted once
for all of its callers together; a caller goes on from its own state, changed by what the function may return,
may write to the frames above its own, and may do to maps.  Functions whose address is taken are run with
nothing known.  When the state of every block stands, each is run once more to note what uses maps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from heapq import heappop, heappush

from bpfctl.advise.code import Code, is_jump
from bpfctl.advise.sites import Access, MapCall, Uses
from bpfctl.advise.state import State
from bpfctl.advise.values import ANYTHING, UNKNOWN, MapToken, StackPointer, Value, ValuePointer, join
from bpfctl.insn import EXIT

MOST_STEPS = 2_000_000  # instructions, repeats counted
MOST_SLOTS = 400_000  # stack slots and facts of all states kept, some 100 bytes each
MOST_SECONDS = 4.0  # for one program
_STEPS_UNWATCHED = 1024
_MOST_WRITES = 32  # ranges written by one function to the frames of others


class Unfinished(Exception):
    """The interpretation is given up; the text says why."""


@dataclass(slots=True)
class Effects:
    """What a function does to its callers.  ``returned`` None: it never did.

    ``writes``: (frame, start, end) of other functions' frames; None: anywhere.  ``maps``: changed by helpers;
    None: any of them.
    """

    returned: Value | None = None
    writes: set[tuple[int, int | None, int]] | None = field(default_factory=set)
    maps: set[MapToken] | None = field(default_factory=set)
    callers: set[int] = field(default_factory=set)  # blocks

    def size(self) -> tuple[object, ...]:
        """Differs after each change."""
        writes = -1 if self.writes is None else len(self.writes)
        return self.returned, writes, -1 if self.maps is None else len(self.maps)


class Interpreter:
    """One program; :meth:`run` once.  ``deadline``: in the time of ``time.monotonic``."""

    def __init__(self, code: Code, deadline: float) -> None:
        from bpfctl.advise.transfer import Transfer

        self.code = code
        self.effects: dict[int, Effects] = {}
        self.calls: list[MapCall] = []
        self.accesses: list[Access] = []
        self.recording = False
        self._deadline = deadline
        self._starts = code.block_starts()
        self._states: dict[int, State] = {}
        self._waiting: list[int] = []  # a heap: what comes first in the code is run first
        self._queued: set[int] = set()
        self._steps = 0
        self._kept = 0
        self._transfer = Transfer(self)

    def run(self) -> Uses:
        """Uses of maps, or why there are none."""
        try:
            self._settle()
            self.recording = True
            for start, state in sorted(self._states.items(), key=lambda item: item[0]):
                self._block(start, state.copy())
        except Unfinished as reason:
            return Uses(maps=self._maps(), unfinished=str(reason))
        return Uses(tuple(self.calls), tuple(self.accesses), self._maps())

    def _maps(self) -> frozenset[MapToken]:
        return frozenset(load.token for load in self.code.loads.values())

    def _settle(self) -> None:
        self.reach(0, State.entry(0, [UNKNOWN] * 5))
        while self._waiting:
            start = heappop(self._waiting)
            self._queued.discard(start)
            self._check_time()
            self._block(start, self._states[start].copy())

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise Unfinished("it took too long")

    def _block(self, pc: int, state: State) -> None:
        """From ``pc`` to the end of its block, and on to those that follow."""
        start = pc
        slots = self.code.slots
        while True:
            if not 0 <= pc < len(slots):
                raise Unfinished(f"instruction {pc} is outside of the program")
            self._steps += 1
            if not self._steps % _STEPS_UNWATCHED:
                self._check_time()
            slot = slots[pc]
            if slot.code == EXIT:
                self._exit(state)
                return
            if is_jump(slot):
                for target, then in self._transfer.jump(pc, slot, state):
                    self.reach(target, then)
                return
            if self.code.calls_function(pc):
                self._call(pc, start, state)
                return
            self._transfer.step(pc, slot, state, start)
            pc = self.code.next(pc)
            if pc in self._starts:
                self.reach(pc, state)
                return

    def reach(self, pc: int, state: State) -> None:
        """``state`` is one of those that block ``pc`` begins with."""
        if self.recording:
            return
        if self._steps > MOST_STEPS:
            raise Unfinished("it has too many paths")
        known = self._states.get(pc)
        if known is None:
            self._kept += len(state.stack) + len(state.facts)
            if self._kept > MOST_SLOTS:
                raise Unfinished("its states take too much memory")
            self._states[pc] = state.copy()
        elif not known.absorb(state):
            return
        if pc not in self._queued:
            self._queued.add(pc)
            heappush(self._waiting, pc)

    # --- functions ------------------------------------------------------------------------------

    def effects_of(self, function: int | None) -> Effects:
        """Those of the function that begins at ``function``."""
        if function is None:
            raise Unfinished("the frame pointer is overwritten")
        return self.effects.setdefault(function, Effects())

    def changed(self, function: int, before: tuple[object, ...]) -> None:
        """Run the callers again if the effects of ``function`` have grown."""
        effects = self.effects[function]
        if effects.size() != before and not self.recording:
            for block in effects.callers - self._queued:
                self._queued.add(block)
                heappush(self._waiting, block)

    def _exit(self, state: State) -> None:
        effects = self.effects_of(state.function)
        before = effects.size()
        result = state.registers[0]
        if isinstance(result, ValuePointer):  # its origin means something only here
            result = ValuePointer(result.maps, None, result.offset, result.nullable, result.own)
        effects.returned = result if effects.returned is None else join(effects.returned, result)
        assert state.function is not None
        self.changed(state.function, before)

    def _call(self, pc: int, block: int, state: State) -> None:
        target = self.code.callee(pc)
        if not 0 <= target < len(self.code.slots):
            raise Unfinished(f"instruction {pc} calls what is outside of the program")
        if target == state.function:
            raise Unfinished("a function calls itself")
        entry = state.copy()
        entry.registers[6:10] = [UNKNOWN] * 4
        entry.registers[10] = StackPointer(target)
        entry.stack = {place: value for place, value in entry.stack.items() if place[0] != target}
        entry.forget_keys(target, -1 << 16, 0)
        self.reach(target, entry)
        self.callback(target, block, state)
        returned = self.effects[target].returned
        if returned is None:
            return
        state.registers[0:6] = [returned, *[UNKNOWN] * 5]
        self.reach(self.code.next(pc), state)

    def address_taken(self, function: int) -> None:
        """Whoever calls ``function``, with whatever."""
        if not 0 <= function < len(self.code.slots):
            raise Unfinished(f"a function is said to begin at {function}, outside of the program")
        self.reach(function, State.entry(function, [ANYTHING] * 5))

    def callback(self, function: int, block: int, state: State) -> None:
        """Apply what ``function``, called somewhere in ``block``, does to others' frames and to maps."""
        effects = self.effects_of(function)
        effects.callers.add(block)
        if effects.writes is None:
            self.write_anywhere(state)
        else:
            for frame, start, end in effects.writes:
                self.write(state, frame, start, end)
        self.change_maps(state, None if effects.maps is None else frozenset(effects.maps))

    # --- what changes the state of others -------------------------------------------------------

    def write(self, state: State, frame: int, start: int | None, end: int = 0) -> None:
        """Unknown bytes to ``frame``."""
        state.forget(frame, start, end)
        self.note_write(state, frame, start, end)

    def note_write(self, state: State, frame: int, start: int | None, end: int) -> None:
        """For the callers of the running function: it wrote to ``frame``."""
        function = state.function
        if function == frame or function is None:
            return
        effects = self.effects_of(function)
        if effects.writes is not None and (frame, start, end) not in effects.writes:
            before = effects.size()
            effects.writes.add((frame, start, end))
            if len(effects.writes) > _MOST_WRITES:
                effects.writes = None
            self.changed(function, before)

    def write_anywhere(self, state: State) -> None:
        """Unknown bytes through a pointer to anything."""
        state.forget_stack()
        effects = self.effects_of(state.function)
        before = effects.size()
        effects.writes = None
        self.changed(state.function or 0, before)

    def change_maps(self, state: State, maps: frozenset[MapToken] | None) -> None:
        """Elements of ``maps`` come, go or change; None: of any map."""
        if maps is not None and not maps:
            return
        state.forget_contents(maps)
        effects = self.effects_of(state.function)
        before = effects.size()
        if maps is None:
            effects.maps = None
        elif effects.maps is not None:
            effects.maps |= maps
        self.changed(state.function or 0, before)


def interpret(code: Code, seconds: float = MOST_SECONDS) -> Uses:
    """Uses of maps in ``code``; within ``seconds``, or unfinished."""
    return Interpreter(code, time.monotonic() + seconds).run()
