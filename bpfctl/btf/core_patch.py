"""CO-RE answers written into instructions.

Only three kinds of instruction can carry one: arithmetic with an immediate, loads and stores, and the
64-bit immediate load.  What the instruction holds now has to be what the object's own types give, or the
relocation is not about this instruction.
"""

from __future__ import annotations

from bpfctl.btf.core import CoreFixup
from bpfctl.errors import CoreRelocationError
from bpfctl.insn import (
    ALU,
    ALU64,
    CALL,
    LD,
    LD_IMM64,
    LDX,
    SLOT,
    ST,
    STX,
    Instruction,
    decode,
    disassemble,
    encode,
)

# The verifier reports a poisoned instruction, if it can be reached, as a call of this unknown helper.
POISON_CALL = 0xBAD2310

_UINT64_MAX = (1 << 64) - 1
_INT16_MAX = (1 << 15) - 1
_SOURCE_REGISTER = 0x08  # bit of an arithmetic code: the operand is a register

_SIZE_MASK = 0x18
_SIZE_BITS = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}  # bytes -> code & 0x18
_SIZES = {bits: size for size, bits in _SIZE_BITS.items()}


def apply(code: bytearray, index: int, fixup: CoreFixup, byte_order: str = "little") -> bool:
    """Patch the instruction in slot ``index`` of ``code``; False if it was poisoned.

    Raises CoreRelocationError when the instruction is none that can be patched, or does not hold what it
    should.
    """
    insns = decode(bytes(code[index * SLOT : (index + 2) * SLOT]), byte_order)
    if not insns:
        raise _error(fixup, index, "no such instruction")
    insn = insns[0]
    kind = insn.instruction_class
    if kind in (ALU, ALU64) and not insn.code & _SOURCE_REGISTER:
        patched = [_immediate(insn, index, fixup)]
    elif kind in (LDX, ST, STX):
        patched = [_access(insn, index, fixup)]
    elif kind == LD:
        patched = _immediate64(insns, index, fixup)
    else:
        raise _error(fixup, index, f"{_text(insn, byte_order)} carries no value that could be relocated")
    for slot, new in enumerate(patched, index):
        code[slot * SLOT : (slot + 1) * SLOT] = encode(new, byte_order)
    return patched[0] != _POISON


_POISON = Instruction(CALL, 0, 0, 0, POISON_CALL)


def _immediate(insn: Instruction, index: int, fixup: CoreFixup) -> Instruction:
    if fixup.poison:
        return _POISON
    _check_value(insn.imm, index, fixup)
    return insn._replace(imm=_signed32(fixup.target_value))


def _access(insn: Instruction, index: int, fixup: CoreFixup) -> Instruction:
    if fixup.poison:
        return _POISON
    _check_value(insn.off, index, fixup)
    if fixup.target_value > _INT16_MAX:
        raise _error(fixup, index, f"offset {fixup.target_value} does not fit a load or store")
    if not fixup.resizable:
        return _POISON
    patched = insn._replace(off=fixup.target_value)
    if fixup.local_size == fixup.target_size:
        return patched
    size = _SIZES[insn.code & _SIZE_MASK]
    if size != fixup.local_size:
        raise _error(fixup, index, f"accesses {size} bytes, the field has {fixup.local_size}")
    if fixup.target_size not in _SIZE_BITS:
        raise _error(fixup, index, f"the kernel's field has {fixup.target_size} bytes, no load has")
    return patched._replace(code=insn.code & ~_SIZE_MASK | _SIZE_BITS[fixup.target_size])


def _immediate64(insns: list[Instruction], index: int, fixup: CoreFixup) -> list[Instruction]:
    clean = (
        len(insns) == 2
        and insns[0]._replace(dst=0, imm=0) == Instruction(LD_IMM64, 0, 0, 0, 0)
        and insns[1]._replace(imm=0) == Instruction(0, 0, 0, 0, 0)
    )
    if not clean:
        raise _error(fixup, index, "the 64-bit immediate load carries something else")
    if fixup.poison:
        return [_POISON, _POISON]
    low, high = insns
    _check_value(high.imm << 32 | low.imm & 0xFFFFFFFF, index, fixup)
    return [
        low._replace(imm=_signed32(fixup.target_value)),
        high._replace(imm=_signed32(fixup.target_value >> 32)),
    ]


def _check_value(value: int, index: int, fixup: CoreFixup) -> None:
    if fixup.check and value & _UINT64_MAX != fixup.local_value:
        raise _error(fixup, index, f"holds {value}, {fixup.local_value} expected")


def _signed32(value: int) -> int:
    return (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


def _text(insn: Instruction, byte_order: str) -> str:
    return disassemble(encode(insn, byte_order), byte_order)[0]


def _error(fixup: CoreFixup, index: int, message: str) -> CoreRelocationError:
    return CoreRelocationError(
        f"unexpected instruction {index} for CO-RE relocation {fixup.spec}: {message}",
        path=fixup.spec.btf.path,
    )
