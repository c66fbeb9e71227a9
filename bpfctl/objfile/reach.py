"""Which instructions of a linked program can run: a verifier's view of branches, and of nothing else.

CO-RE leaves constants behind, and so do weak externs: ``if (0)`` around what a kernel lacks.  Instructions
behind such a branch never run.  Values from read-only data (configuration, kernel version) are constants to
the verifier too, only not known here: what depends on them may run or not.
"""

from __future__ import annotations

from collections.abc import Collection

from bpfctl.insn import ALU, ALU64, CALL, EXIT, JMP, JMP32, LD, LD_IMM64, LDX, Instruction, decode
from bpfctl.objfile.spec import LinkedProgram
from bpfctl.uapi import BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC

_MOV_IMM, _MOV_REG, _JA, _INDIRECT_JUMP = 0xB0, 0xBF, 0x00, 0x0D
_WORDS = 1 << 64

# What a register holds: a number, or one of these.
_UNKNOWN, _CONSTANTS, _DECIDED = None, "address of read-only data", "value of read-only data"
_Value = int | str | None
_Registers = tuple[_Value, ...]
_MOST = 4  # states looked at for one instruction; after that its registers count as unknown


class Reach:
    """``runs``: instructions that run on some path; ``certain``: on one that read-only data has no say in."""

    def __init__(self, linked: LinkedProgram, frozen: Collection[str], byte_order: str = "little") -> None:
        self._insns = decode(linked.code, byte_order)
        self._places = [place for table in linked.jump_tables.values() for place in table]
        self._constants = {ref.index for ref in linked.references if ref.map in frozen}
        self._seen: dict[int, set[tuple[_Registers, bool]]] = {}
        self.runs: set[int] = set()
        self.certain: set[int] = set()
        self._walk([(0, (_UNKNOWN,) * 11, True)])

    def _walk(self, todo: list[tuple[int, _Registers, bool]]) -> None:
        while todo:
            index, registers, certain = todo.pop()
            if not 0 <= index < len(self._insns):
                continue
            states = self._seen.setdefault(index, set())
            if len(states) >= _MOST:
                registers = (_UNKNOWN,) * 11
            if (registers, certain) in states:
                continue
            states.add((registers, certain))
            self.runs.add(index)
            if certain:
                self.certain.add(index)
            todo += self._after(index, self._insns[index], registers, certain)

    def _after(
        self, index: int, insn: Instruction, registers: _Registers, certain: bool
    ) -> list[tuple[int, _Registers, bool]]:
        if insn.code == LD_IMM64:
            return self._load_imm64(index, insn, registers, certain)
        if insn.code == EXIT:
            return []
        if insn.code == CALL:
            clobbered = (_UNKNOWN,) * 6 + registers[6:]
            following = [(index + 1, clobbered, certain)]
            if insn.src == BPF_PSEUDO_CALL:
                following.append((index + 1 + insn.imm, (_UNKNOWN,) * 11, certain))
            return following
        if insn.code == _INDIRECT_JUMP:
            return [(place, registers, certain) for place in self._places]
        if insn.instruction_class in (JMP, JMP32):
            return _branch(index, insn, registers, certain)
        return [(index + 1, _written(insn, registers), certain)]

    def _load_imm64(
        self, index: int, insn: Instruction, registers: _Registers, certain: bool
    ) -> list[tuple[int, _Registers, bool]]:
        value: _Value = _UNKNOWN
        if index in self._constants:
            value = _CONSTANTS
        elif not insn.src and index + 1 < len(self._insns):
            value = self._insns[index + 1].imm << 32 & _WORDS - 1 | insn.imm & 0xFFFFFFFF
        following = [(index + 2, _with(registers, insn.dst, value), certain)]
        if insn.src == BPF_PSEUDO_FUNC:  # a callback, which something will call
            following.append((index + 1 + insn.imm, (_UNKNOWN,) * 11, certain))
        return following


def _with(registers: _Registers, number: int, value: _Value) -> _Registers:
    if number >= len(registers):
        return registers
    return (*registers[:number], value, *registers[number + 1 :])


def _written(insn: Instruction, registers: _Registers) -> _Registers:
    """Registers after an instruction that goes on to the next."""
    kind = insn.instruction_class
    if kind == LDX:
        source = registers[insn.src] if insn.src < len(registers) else _UNKNOWN
        return _with(registers, insn.dst, _DECIDED if source is _CONSTANTS else _UNKNOWN)
    if kind in (ALU, ALU64):
        return _with(registers, insn.dst, _computed(insn, registers))
    return (_UNKNOWN, *registers[1:]) if kind == LD else registers


def _computed(insn: Instruction, registers: _Registers) -> _Value:
    if insn.code & 0xF8 == _MOV_IMM:
        return insn.imm & (0xFFFFFFFF if insn.instruction_class == ALU else _WORDS - 1)
    if insn.dst >= len(registers) or insn.src >= len(registers):
        return _UNKNOWN
    if insn.code == _MOV_REG and not insn.off:
        return registers[insn.src]
    uses = (registers[insn.dst], registers[insn.src] if insn.code & 0x08 else _UNKNOWN)
    if _CONSTANTS in uses:
        return _CONSTANTS
    return _DECIDED if _DECIDED in uses else _UNKNOWN


def _branch(
    index: int, insn: Instruction, registers: _Registers, certain: bool
) -> list[tuple[int, _Registers, bool]]:
    operation, target = insn.code & 0xF0, index + 1 + insn.off
    if operation == _JA:
        is_long = insn.instruction_class == JMP32
        return [(index + 1 + insn.imm if is_long else target, registers, certain)]
    left = registers[insn.dst] if insn.dst < len(registers) else _UNKNOWN
    right: _Value = insn.imm & _WORDS - 1
    if insn.code & 0x08:
        right = registers[insn.src] if insn.src < len(registers) else _UNKNOWN
    if isinstance(left, int) and isinstance(right, int):
        taken = _taken(operation, left, right, 32 if insn.instruction_class == JMP32 else 64)
        if taken is not None:
            return [(target if taken else index + 1, registers, certain)]
    certain = certain and _DECIDED not in (left, right)
    return [(index + 1, registers, certain), (target, registers, certain)]


def _taken(operation: int, left: int, right: int, bits: int) -> bool | None:
    """Whether the branch is taken; None for an operation that is not known."""
    mask, sign = (1 << bits) - 1, 1 << bits - 1
    left, right = left & mask, right & mask
    signed_left, signed_right = (left ^ sign) - sign, (right ^ sign) - sign
    answers = {
        0x10: left == right,
        0x20: left > right,
        0x30: left >= right,
        0x40: bool(left & right),
        0x50: left != right,
        0x60: signed_left > signed_right,
        0x70: signed_left >= signed_right,
        0xA0: left < right,
        0xB0: left <= right,
        0xC0: signed_left < signed_right,
        0xD0: signed_left <= signed_right,
    }
    return answers.get(operation)
