"""Instructions with labels: what the measured programs are written in.

Registers are the numbers 0 to 10; r10 is the frame pointer.  Every method appends one instruction (a
64-bit load two slots).  Names of operations and sizes are those of the instruction set's specification
(Linux Documentation/bpf/standardization/instruction-set.rst).
"""

from __future__ import annotations

from bpfctl.insn import ALU64, CALL, EXIT, JMP, LD_IMM64, LDX, SLOT, ST, STX, Instruction, encode
from bpfctl.uapi import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE

FP = 10

_MEM, _ATOMIC = 0x60, 0xC0
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # bytes -> bits 3 and 4 of the opcode
_ALU = {"add": 0x00, "sub": 0x10, "mul": 0x20, "and": 0x50, "lsh": 0x60, "rsh": 0x70, "mov": 0xB0}
_JUMPS = {"jeq": 0x10, "jgt": 0x20, "jge": 0x30, "jne": 0x50}
_ALWAYS = 0x00
_REGISTER = 0x08  # the operand is a register


class Code:
    """Instructions in the making; :meth:`build` resolves the labels."""

    def __init__(self) -> None:
        self._slots: list[Instruction] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def alu(self, operation: str, dst: int, src: int) -> None:
        """``dst = dst operation src``, 64 bits wide."""
        self._slots.append(Instruction(ALU64 | _REGISTER | _ALU[operation], dst, src, 0, 0))

    def alu_imm(self, operation: str, dst: int, imm: int) -> None:
        """``dst = dst operation imm``; ``imm`` is a signed number of 32 bits."""
        self._slots.append(Instruction(ALU64 | _ALU[operation], dst, 0, 0, imm))

    def load(self, size: int, dst: int, src: int, offset: int) -> None:
        """``dst`` = ``size`` bytes at ``src + offset``."""
        self._slots.append(Instruction(LDX | _MEM | _SIZES[size], dst, src, offset, 0))

    def store(self, size: int, dst: int, offset: int, src: int) -> None:
        """``size`` bytes of ``src`` to ``dst + offset``."""
        self._slots.append(Instruction(STX | _MEM | _SIZES[size], dst, src, offset, 0))

    def store_imm(self, size: int, dst: int, offset: int, imm: int) -> None:
        """The number ``imm`` to ``size`` bytes at ``dst + offset``."""
        self._slots.append(Instruction(ST | _MEM | _SIZES[size], dst, 0, offset, imm))

    def atomic_add(self, size: int, dst: int, offset: int, src: int, *, fetch: int = 0) -> None:
        """``src`` added to ``size`` (4 or 8) bytes at ``dst + offset``, for all CPUs to see.

        ``fetch`` 1: ``src`` then has what was there before.
        """
        self._slots.append(Instruction(STX | _ATOMIC | _SIZES[size], dst, src, offset, fetch))

    def imm64(self, dst: int, value: int) -> None:
        """``dst = value``, any 64 bits."""
        self._wide(dst, 0, value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF)

    def map_fd(self, dst: int, fd: int) -> None:
        """``dst`` = the map behind ``fd``."""
        self._wide(dst, BPF_PSEUDO_MAP_FD, fd, 0)

    def map_value(self, dst: int, fd: int, offset: int) -> None:
        """``dst`` = address of byte ``offset`` in the only value of an array."""
        self._wide(dst, BPF_PSEUDO_MAP_VALUE, fd, offset)

    def call(self, helper: int) -> None:
        """Call a helper: arguments in r1 to r5, which it spoils, the result in r0."""
        self._slots.append(Instruction(CALL, 0, 0, 0, helper))

    def jump(self, label: str) -> None:
        """Go to ``label``."""
        self._jump(JMP | _ALWAYS, 0, 0, 0, label)

    def jump_if(self, condition: str, dst: int, imm: int, label: str) -> None:
        """Go to ``label`` if ``dst`` and the number ``imm`` fulfil ``condition``."""
        self._jump(JMP | _JUMPS[condition], dst, 0, imm, label)

    def jump_if_register(self, condition: str, dst: int, src: int, label: str) -> None:
        """Go to ``label`` if ``dst`` and ``src`` fulfil ``condition``."""
        self._jump(JMP | _REGISTER | _JUMPS[condition], dst, src, 0, label)

    def label(self, name: str) -> None:
        """``name`` is the place of the next instruction."""
        assert name not in self._labels, name
        self._labels[name] = len(self._slots)

    def exit(self) -> None:
        """Leave the program with r0."""
        self._slots.append(Instruction(EXIT, 0, 0, 0, 0))

    def build(self) -> bytes:
        """The code, 8 bytes a slot."""
        slots = list(self._slots)
        for index, label in self._jumps:
            slots[index] = slots[index]._replace(off=self._labels[label] - index - 1)
        code = b"".join(map(encode, slots))
        assert len(code) == len(slots) * SLOT
        return code

    def _jump(self, code: int, dst: int, src: int, imm: int, label: str) -> None:
        self._jumps.append((len(self._slots), label))
        self._slots.append(Instruction(code, dst, src, 0, imm))

    def _wide(self, dst: int, src: int, low: int, high: int) -> None:
        self._slots.append(Instruction(LD_IMM64, dst, src, 0, _signed(low)))
        self._slots.append(Instruction(0, 0, 0, 0, _signed(high)))


def _signed(word: int) -> int:
    return (word ^ 0x80000000) - 0x80000000
