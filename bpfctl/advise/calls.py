"""Calls that leave the program: helpers and functions of the kernel, and what they may change."""

from __future__ import annotations

from bpfctl.advise import effects
from bpfctl.advise.code import KERNEL_FUNCTION, UNKNOWN_HELPER
from bpfctl.advise.sites import MapCall
from bpfctl.advise.state import CURRENT, LOCKED, LOOKED, SLOT, Fact, State
from bpfctl.advise.values import (
    ANYTHING,
    OWN,
    UNKNOWN,
    Anything,
    Constant,
    FunctionPointer,
    MapPointer,
    MapToken,
    Scalar,
    StackPointer,
    Value,
    ValuePointer,
    inner,
    is_inner,
)
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.advise.interpret import Interpreter

_SPIN = Fact(LOCKED, -1)


class Calls:
    """The calls of one interpreter's program."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._run = interpreter
        self._code = interpreter.code

    def call(self, pc: int, state: State, block: int) -> None:
        """What the helper at ``pc`` does to the state."""
        helper = self._code.helper(pc)
        arguments = state.registers[1:6]
        if helper in effects.KEYED or helper in effects.REWRITTEN:
            result = self._map_call(pc, helper, state)
        else:
            result = OWN if helper in effects.OWN_NUMBERS else UNKNOWN
            if helper in (UNKNOWN_HELPER, KERNEL_FUNCTION):
                # It may return an argument, and change maps.
                result = UNKNOWN if all(isinstance(a, (Scalar, Constant)) for a in arguments) else ANYTHING
                if not isinstance(result, Scalar):
                    self._run.change_maps(state, None)
        self._write_arguments(helper, arguments, state)
        for argument in arguments:
            if isinstance(argument, FunctionPointer):
                self._run.callback(argument.entry, block, state)
        if helper == effects.SPIN_LOCK:
            state.facts |= {_SPIN}
        elif helper == effects.SPIN_UNLOCK:
            state.facts -= {_SPIN}
        state.registers[0:6] = [result, *[UNKNOWN] * 5]

    # --- maps -----------------------------------------------------------------------------------

    def _map_call(self, pc: int, helper: int, state: State) -> Value:
        maps = _maps(state.registers[1])
        pointer = state.registers[2]
        key, own, place = None, False, None
        if maps and helper in effects.KEYED:
            size = self._key_size(maps)
            key, own = self._key(pointer, size, state)
            if isinstance(pointer, StackPointer) and pointer.offset is not None and size:
                place = (pointer.frame, pointer.offset)
        if self._run.recording:
            flags = state.registers[4]
            known = flags.number if isinstance(flags, Constant) else None
            self._run.calls.append(MapCall(pc, helper, maps, key, place, own, known, state.facts))
        if helper in effects.LOOKUPS:
            return self._lookup(pc, maps, place, own, state)
        if helper in (effects.UPDATE, effects.DELETE, effects.PUSH, effects.POP):
            self._run.change_maps(state, maps or None)
        return UNKNOWN

    def _lookup(
        self, pc: int, maps: frozenset[MapToken], place: tuple[int, int] | None, own: bool, state: State
    ) -> Value:
        state.renew(pc)
        if not maps:
            return ANYTHING
        only = next(iter(maps)) if len(maps) == 1 else None
        if place is not None and only is not None and not is_inner(only):
            size = self._key_size(maps)
            state.learn(*(Fact(kind, pc, only, *place, size) for kind in (LOOKED, CURRENT)))
        return ValuePointer(maps, pc, 0, nullable=True, own=own)

    def _key_size(self, maps: frozenset[MapToken]) -> int:
        """Bytes; 0 when they differ."""
        definitions = [self._code.maps.get(token) for token in maps]
        sizes = {0 if definition is None else definition.key_size for definition in definitions}
        return sizes.pop() if len(sizes) == 1 else 0

    def _key(self, pointer: Value, size: int, state: State) -> tuple[int | None, bool]:
        """The key as a number, and whether a part of it is this CPU's or task's own."""
        if not isinstance(pointer, StackPointer) or pointer.offset is None or not 0 < size <= 512:
            return None, False
        number: int | None = 0
        own = False
        for at in range(0, size, SLOT):
            width = min(SLOT, size - at)
            part = state.load(pointer.frame, pointer.offset + at, width)
            own = own or (isinstance(part, Scalar) and part.own)
            if number is None or not isinstance(part, Constant):
                number = None
            else:
                number |= part.number << at * 8
        return number, own

    # --- memory ---------------------------------------------------------------------------------

    def _write_arguments(self, helper: int, arguments: list[Value], state: State) -> None:
        if helper in effects.WRITES:
            pointer, size = (arguments[number - 1] for number in effects.WRITES[helper])
            if (
                isinstance(pointer, StackPointer)
                and pointer.offset is not None
                and isinstance(size, Constant)
            ):
                end = pointer.offset + size.number
                self._run.write(state, pointer.frame, pointer.offset, min(end, 0))
            else:
                self._write_through(pointer, state)
        for number in effects.pointers_written(helper):
            self._write_through(arguments[number - 1], state)

    def _write_through(self, pointer: Value, state: State) -> None:
        if isinstance(pointer, StackPointer):
            self._run.write(state, pointer.frame, pointer.offset)
        elif isinstance(pointer, Anything):
            self._run.write_anywhere(state)


def _maps(value: Value) -> frozenset[MapToken]:
    """Those that the value may be; none when it may be any."""
    if isinstance(value, MapPointer):
        return value.maps
    if isinstance(value, ValuePointer):  # of a map of maps: the maps in it
        return frozenset(map(inner, value.maps))
    return frozenset()
