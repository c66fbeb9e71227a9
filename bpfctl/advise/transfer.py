"""One instruction at a time: what it does to the state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bpfctl.advise.calls import Calls
from bpfctl.advise.code import INDIRECT_JUMP, JUMP, LONG_JUMP
from bpfctl.advise.sites import ATOMIC, LOAD, STORE, Access
from bpfctl.advise.state import LOCKED, State
from bpfctl.advise.values import (
    ANYTHING,
    NULL,
    UNKNOWN,
    Anything,
    Constant,
    FunctionPointer,
    MapPointer,
    Scalar,
    StackPointer,
    Value,
    ValuePointer,
    constant,
    is_number,
    low_word,
    mixed,
    moved,
    signed,
)
from bpfctl.insn import ALU, ALU64, CALL, JMP32, LD, LD_IMM64, LDX, ST, STX, Instruction
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.advise.interpret import Interpreter

_SIZES = (4, 2, 1, 8)  # by bits 3 and 4 of the opcode
_SIGN_EXTENDED = 0x80  # mode of a load
_ATOMIC_MODE, _ATOMIC_ADD, _FETCH, _EXCHANGE = 0xC0, 0x00, 0x01, 0xF1
_LOAD_ACQUIRE, _STORE_RELEASE = 0x100, 0x110
_REGISTER = 0x08
_ADD, _SUB, _NEG, _MOV, _END = 0x0, 0x1, 0x8, 0xB, 0xD
_JEQ, _JNE = 0x1, 0x5
_PER_CPU = -1  # off of a move that adds this CPU's offset, only in code that the kernel has rewritten
_MASK = 0xFFFFFFFFFFFFFFFF


class Transfer:
    """The instructions of one interpreter's program."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._run = interpreter
        self._code = interpreter.code
        self._calls = Calls(interpreter)

    def step(self, pc: int, slot: Instruction, state: State, block: int) -> None:
        """Any instruction but jumps, ends and calls of functions."""
        kind = slot.code & 7
        if slot.code == CALL:
            self._calls.call(pc, state, block)
        elif kind in (ALU, ALU64):
            value = self._arithmetic(slot, state)
            state.registers[_register(slot.dst)] = UNKNOWN if pc in self._code.unsure else value
        elif kind == LDX:
            state.registers[_register(slot.dst)] = self._load(pc, slot, state)
        elif kind in (ST, STX):
            self._store(pc, slot, state)
        elif slot.code == LD_IMM64:
            state.registers[_register(slot.dst)] = self._immediate(pc, slot)
        elif kind == LD:  # of packets: as a call
            state.registers[0:6] = [UNKNOWN] * 6

    def _immediate(self, pc: int, slot: Instruction) -> Value:
        load = self._code.loads.get(pc)
        if load is not None:
            maps = frozenset({load.token})
            return MapPointer(maps) if load.offset is None else ValuePointer(maps, offset=load.offset)
        if self._code.loads_function(pc):
            self._run.address_taken(self._code.callee(pc))
            return FunctionPointer(self._code.callee(pc))
        if slot.src or pc in self._code.unsure or pc + 1 >= len(self._code.slots):
            return UNKNOWN
        return constant(self._code.slots[pc + 1].imm << 32 | slot.imm & 0xFFFFFFFF)

    # --- memory ---------------------------------------------------------------------------------

    def _load(self, pc: int, slot: Instruction, state: State) -> Value:
        base, size = state.registers[_register(slot.src)], _SIZES[slot.code >> 3 & 3]
        if isinstance(base, StackPointer):
            if base.offset is None:
                return ANYTHING
            value = state.load(base.frame, base.offset + slot.off, size)
            if slot.code & 0xE0 == _SIGN_EXTENDED:
                return constant(signed(value.number, size * 8)) if isinstance(value, Constant) else UNKNOWN
            return value
        if isinstance(base, ValuePointer):
            return self._load_value(pc, slot, base, state)
        return ANYTHING if isinstance(base, Anything) else UNKNOWN

    def _load_value(self, pc: int, slot: Instruction, base: ValuePointer, state: State) -> Value:
        if self._is_address(pc, slot) or (self._code.translated and self._holds_maps(base)):
            return replace(base, offset=0)
        offset = None if base.offset is None else base.offset + slot.off
        self._note(Access(pc, LOAD, base.maps, offset, own=base.own), state)
        if offset is None or len(base.maps) > 1:
            return UNKNOWN
        return Scalar(loaded=(next(iter(base.maps)), offset))

    def _holds_maps(self, base: ValuePointer) -> bool:
        """Whether the address of a map lies there, which is what a lookup in a map of maps returns."""
        return all(token in self._code.maps and self._code.maps[token].holds_maps for token in base.maps)

    def _is_address(self, pc: int, slot: Instruction) -> bool:
        """Whether the kernel loads the address of a per-CPU value here, for this CPU to be added to it."""
        if pc + 1 >= len(self._code.slots):
            return False
        after = self._code.slots[pc + 1]
        is_move = after.code == ALU64 | _REGISTER | _MOV << 4
        return is_move and after.off == _PER_CPU and after.src == slot.dst

    def _store(self, pc: int, slot: Instruction, state: State) -> None:
        base, size = state.registers[_register(slot.dst)], _SIZES[slot.code >> 3 & 3]
        atomic = slot.code & 7 == STX and slot.code & 0xE0 == _ATOMIC_MODE
        if atomic and slot.imm == _LOAD_ACQUIRE:
            load = slot._replace(code=LDX | 0x60 | slot.code & 0x18)
            state.registers[_register(slot.dst)] = self._load(pc, load, state)
            return
        if slot.code & 7 == ST:
            value: Value = constant(slot.imm)
        else:
            value = state.registers[_register(slot.src)]
        if isinstance(base, StackPointer):
            self._store_stack(base, slot.off, size, UNKNOWN if atomic else value, state)
        elif isinstance(base, ValuePointer):
            self._store_value(pc, slot, base, value, atomic, state)
        elif isinstance(base, Anything):
            self._run.write_anywhere(state)
        if atomic and slot.imm & _FETCH:
            state.registers[0 if slot.imm == _EXCHANGE else _register(slot.src)] = UNKNOWN

    def _store_stack(self, base: StackPointer, offset: int, size: int, value: Value, state: State) -> None:
        if base.offset is None:
            self._run.write(state, base.frame, None)
            return
        at = base.offset + offset
        state.store(base.frame, at, size, value)
        self._run.note_write(state, base.frame, at, at + size)

    def _store_value(
        self, pc: int, slot: Instruction, base: ValuePointer, value: Value, atomic: bool, state: State
    ) -> None:
        offset = None if base.offset is None else base.offset + slot.off
        loaded = value.loaded if isinstance(value, Scalar) else None
        modifies = not atomic and loaded is not None and base.maps == {loaded[0]} and offset == loaded[1]
        # What asks for the old value hands out numbers, which no CPU can do for itself.
        kind = ATOMIC if atomic and slot.imm == _ATOMIC_ADD else STORE
        self._note(Access(pc, kind, base.maps, offset, modifies, base.own), state)

    def _note(self, access: Access, state: State) -> None:
        if self._run.recording:
            locked = any(fact.kind == LOCKED for fact in state.facts)
            self._run.accesses.append(access._replace(locked=locked))

    # --- arithmetic -----------------------------------------------------------------------------

    def _arithmetic(self, slot: Instruction, state: State) -> Value:
        operation = slot.code >> 4
        wide = slot.code & 7 == ALU64
        old = state.registers[_register(slot.dst)]
        if operation in (_NEG, _END):
            return mixed(old, UNKNOWN)
        operand = self._operand(slot, state)
        if operation == _MOV:
            return self._move(slot, operand, wide)
        if not wide:
            old, operand = low_word(old), low_word(operand)
        if operation == _ADD and not (is_number(old) and is_number(operand)):
            return moved(old, operand)
        if operation == _SUB and not is_number(old):
            return self._less(old, operand)
        if isinstance(old, Constant) and isinstance(operand, Constant):
            return _calculated(operation, old.number, operand.number, 64 if wide else 32)
        return mixed(old, operand)

    def _operand(self, slot: Instruction, state: State) -> Value:
        return state.registers[_register(slot.src)] if slot.code & _REGISTER else constant(slot.imm)

    def _move(self, slot: Instruction, operand: Value, wide: bool) -> Value:
        if slot.code & _REGISTER and slot.off == _PER_CPU:
            return operand
        if slot.code & _REGISTER and slot.off:
            if slot.off in (8, 16, 32):
                if not isinstance(operand, Constant):
                    return mixed(operand, UNKNOWN)
                number = signed(operand.number, slot.off)
                return constant(number if wide else number & 0xFFFFFFFF)
            return UNKNOWN if is_number(operand) else ANYTHING
        return operand if wide else low_word(operand)

    def _less(self, pointer: Value, by: Value) -> Value:
        if isinstance(by, Constant):
            return moved(pointer, constant(-by.number))
        if is_number(by):
            return moved(pointer, UNKNOWN)
        return ANYTHING

    # --- jumps ----------------------------------------------------------------------------------

    def jump(self, pc: int, slot: Instruction, state: State) -> Iterator[tuple[int, State]]:
        """Where it leads, with the state there."""
        if slot.code == INDIRECT_JUMP and self._code.indirect is None:
            from bpfctl.advise.interpret import Unfinished

            raise Unfinished(f"where instruction {pc} jumps is known at run time only")
        if slot.code in (JUMP, LONG_JUMP, INDIRECT_JUMP):
            yield from ((target, state) for target in self._code.targets(pc))
            return
        target, after = pc + 1 + slot.off, pc + 1
        operation, value = slot.code >> 4, state.registers[_register(slot.dst)]
        operand = self._operand(slot, state)
        if operation not in (_JEQ, _JNE) or slot.code & 7 == JMP32 or pc in self._code.unsure:
            yield from ((after, state), (target, state))
            return
        equal, different = (target, after) if operation == _JEQ else (after, target)
        if operand == NULL and isinstance(value, ValuePointer) and value.nullable:
            yield from self._tested(slot.dst, value, equal, different, state)
        elif isinstance(value, Constant) and isinstance(operand, Constant):
            yield (equal if value == operand else different), state
        else:
            yield from ((after, state), (target, state))

    def _tested(
        self, register: int, value: ValuePointer, null: int, found: int, state: State
    ) -> Iterator[tuple[int, State]]:
        for target, hit in ((null, False), (found, True)):
            then = state.copy()
            if value.origin is not None:
                then.resolve(value.origin, hit)
            elif hit:
                then.registers[register] = replace(value, nullable=False)
            else:
                then.registers[register] = NULL
            yield target, then


def _register(number: int) -> int:
    return min(number, 10)  # the kernel refuses 11 to 15


def _calculated(operation: int, one: int, other: int, bits: int) -> Value:
    if operation == 0x0:
        number = one + other
    elif operation == 0x1:
        number = one - other
    elif operation == 0x2:
        number = one * other
    elif operation == 0x4:
        number = one | other
    elif operation == 0x5:
        number = one & other
    elif operation == 0x6:
        number = one << (other & bits - 1)
    elif operation == 0x7:
        number = (one & (1 << bits) - 1) >> (other & bits - 1)
    elif operation == 0xA:
        number = one ^ other
    elif operation == 0xC:
        number = signed(one, bits) >> (other & bits - 1)
    else:
        return UNKNOWN
    return Constant(number & (_MASK >> 64 - bits))
