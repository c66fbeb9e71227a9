"""One BPF instruction: decode, encode, print.

Layout of a slot, 8 bytes (Linux Documentation/bpf/standardization/instruction-set.rst): code, registers
(low nibble dst, high nibble src; swapped in big-endian objects), s16 off, s32 imm.  The 64-bit immediate
load takes two slots; the second carries the high half in its imm and is zero elsewhere.

The text is the kernel verifier's (kernel/bpf/disasm.c), so that a line of ``obj show`` can be found in a
verifier log; map and function references look as in ``bpftool prog dump``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from bpfctl.record import NamedTuple
from bpfctl.uapi import (
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
)

SLOT = 8  # bytes

# code & 0x07
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)

# Whole opcodes that a loader looks for.
LD_IMM64 = 0x18
CALL = 0x85
EXIT = 0x95
LONG_JUMP = 0x06  # its distance is in imm
INDIRECT_JUMP = 0x0D

BPF_PSEUDO_MAP_IDX = 5
BPF_PSEUDO_MAP_IDX_VALUE = 6

_LAYOUT = {"little": Struct("<BBhi"), "big": Struct(">BBhi")}


class Instruction(NamedTuple):
    """The fields of one slot: ``off`` is signed 16 bits, ``imm`` signed 32."""

    code: int
    dst: int
    src: int
    off: int
    imm: int

    @property
    def instruction_class(self) -> int:
        """``LD`` ... ``ALU64``."""
        return self.code & 0x07


def decode(code: bytes, byte_order: str = "little") -> list[Instruction]:
    """One :class:`Instruction` for each slot of ``code``, whose length is a multiple of 8."""
    slots = _LAYOUT[byte_order].iter_unpack(code)
    if byte_order == "little":
        return [Instruction(op, regs & 15, regs >> 4, off, imm) for op, regs, off, imm in slots]
    return [Instruction(op, regs >> 4, regs & 15, off, imm) for op, regs, off, imm in slots]


def encode(insn: Instruction, byte_order: str = "little") -> bytes:
    """The 8 bytes of ``insn``; struct.error if a field does not fit its width."""
    low, high = (insn.dst, insn.src) if byte_order == "little" else (insn.src, insn.dst)
    return _LAYOUT[byte_order].pack(insn.code, high << 4 | low, insn.off, insn.imm)


def disassemble(code: bytes, byte_order: str = "little") -> list[str]:
    """One text for each slot of ``code``; "" for the second slot of a 64-bit immediate load."""
    insns = decode(code, byte_order)
    texts = []
    high_half = False
    for index, insn in enumerate(insns):
        if high_half:
            texts.append("")
            high_half = False
        elif insn.code == LD_IMM64 and index + 1 < len(insns):
            texts.append(_load_imm64(insn, insns[index + 1].imm))
            high_half = True
        else:
            texts.append(_PRINTERS[insn.code & 7](insn))
    return texts


_ALU_SIGNS = ("+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian")
_SIGNED_DIVISION = {0x3: "s/=", 0x9: "s%="}
_SIGN_EXTEND = {8: "(s8)", 16: "(s16)", 32: "(s32)"}
_ADDRESS_SPACE_CAST = 1  # off of a 64-bit register move
_PER_CPU_ADDRESS = -1

_SIZES = ("u32", "u16", "u8", "u64")  # (code >> 3) & 3
_SIGNED_SIZES = ("s32", "s16", "s8")

_MODE_ABS, _MODE_IND, _MODE_MEM, _MODE_MEMSX, _MODE_ATOMIC = 0x20, 0x40, 0x60, 0x80, 0xC0  # code & 0xE0

# src of a 64-bit immediate load -> text of what it loads.
_IMM64 = {
    0: "{value:#x}",
    BPF_PSEUDO_MAP_FD: "map[fd:{low}]",
    BPF_PSEUDO_MAP_VALUE: "map[fd:{low}][0]+{high}",
    BPF_PSEUDO_BTF_ID: "btf_id[{low}]",
    BPF_PSEUDO_FUNC: "subprog[{low:+d}]",
    BPF_PSEUDO_MAP_IDX: "map[idx:{low}]",
    BPF_PSEUDO_MAP_IDX_VALUE: "map[idx:{low}][0]+{high}",
}

_ATOMIC_SIGNS = {0x00: "+=", 0x40: "|=", 0x50: "&=", 0xA0: "^="}
_ATOMIC_FETCH = {0x01: "fetch_add", 0x41: "fetch_or", 0x51: "fetch_and", 0xA1: "fetch_xor", 0xE1: "xchg"}
_ATOMIC_CMPXCHG, _ATOMIC_LOAD_ACQUIRE, _ATOMIC_STORE_RELEASE = 0xF1, 0x100, 0x110

_JUMP_SIGNS = ("jmp", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<=")
_JUMP = JMP
_MAY_GOTO = 0xE5


def _unknown(insn: Instruction) -> str:
    return f"unknown instruction {insn.code:#04x}"


def _load_imm64(insn: Instruction, high: int) -> str:
    template = _IMM64.get(insn.src, "unknown[{low}][{high}]")
    high &= 0xFFFFFFFF
    value = high << 32 | insn.imm & 0xFFFFFFFF
    return f"r{insn.dst} = {template.format(low=insn.imm, high=high, value=value)}"


def _load(insn: Instruction) -> str:
    size = _SIZES[insn.code >> 3 & 3]
    mode = insn.code & 0xE0
    if mode == _MODE_ABS:
        return f"r0 = *({size} *)skb[{insn.imm}]"
    if mode == _MODE_IND:
        return f"r0 = *({size} *)skb[r{insn.src} + {insn.imm}]"
    return _unknown(insn)


def _load_memory(insn: Instruction) -> str:
    mode, size = insn.code & 0xE0, insn.code >> 3 & 3
    if mode == _MODE_MEM:
        text = _SIZES[size]
    elif mode == _MODE_MEMSX and size < len(_SIGNED_SIZES):
        text = _SIGNED_SIZES[size]
    else:
        return _unknown(insn)
    return f"r{insn.dst} = *({text} *)(r{insn.src} {insn.off:+d})"


def _store_imm(insn: Instruction) -> str:
    if insn.code & 0xE0 != _MODE_MEM:
        return _unknown(insn)
    return f"{_target(insn)} = {insn.imm}"


def _store(insn: Instruction) -> str:
    mode = insn.code & 0xE0
    if mode == _MODE_MEM:
        return f"{_target(insn)} = r{insn.src}"
    if mode == _MODE_ATOMIC:
        return _atomic(insn)
    return _unknown(insn)


def _target(insn: Instruction) -> str:
    return f"*({_SIZES[insn.code >> 3 & 3]} *)(r{insn.dst} {insn.off:+d})"


def _atomic(insn: Instruction) -> str:
    size = _SIZES[insn.code >> 3 & 3]
    place = f"({size} *)(r{insn.dst} {insn.off:+d})"
    wide = "64" if size == "u64" else ""
    if insn.imm in _ATOMIC_SIGNS:
        return f"lock *{place} {_ATOMIC_SIGNS[insn.imm]} r{insn.src}"
    if insn.imm in _ATOMIC_FETCH:
        return f"r{insn.src} = atomic{wide}_{_ATOMIC_FETCH[insn.imm]}({place}, r{insn.src})"
    if insn.imm == _ATOMIC_CMPXCHG:
        return f"r0 = atomic{wide}_cmpxchg({place}, r0, r{insn.src})"
    if insn.imm == _ATOMIC_LOAD_ACQUIRE:
        return f"r{insn.dst} = load_acquire(({size} *)(r{insn.src} {insn.off:+d}))"
    if insn.imm == _ATOMIC_STORE_RELEASE:
        return f"store_release({place}, r{insn.src})"
    return _unknown(insn)


def _arithmetic(insn: Instruction) -> str:
    is_64 = insn.code & 7 == ALU64
    reg = "r" if is_64 else "w"
    operation, by_register = insn.code >> 4, insn.code & 0x08
    if operation >= len(_ALU_SIGNS):
        return _unknown(insn)
    sign = _ALU_SIGNS[operation]
    if sign == "endian":
        swap = "bswap" if is_64 else "be" if by_register else "le"
        return f"r{insn.dst} = {swap}{insn.imm} r{insn.dst}"
    if sign == "neg":
        return f"{reg}{insn.dst} = -{reg}{insn.dst}"
    if insn.off == 1:
        sign = _SIGNED_DIVISION.get(operation, sign)
    if not by_register:
        return f"{reg}{insn.dst} {sign} {insn.imm}"
    if sign == "=" and insn.off:
        return _special_move(insn, reg)
    return f"{reg}{insn.dst} {sign} {reg}{insn.src}"


def _special_move(insn: Instruction, reg: str) -> str:
    if insn.off in _SIGN_EXTEND:
        return f"{reg}{insn.dst} = {_SIGN_EXTEND[insn.off]}{reg}{insn.src}"
    if reg == "r" and insn.off == _ADDRESS_SPACE_CAST:
        to, of = insn.imm >> 16 & 0xFFFF, insn.imm & 0xFFFF
        return f"r{insn.dst} = addr_space_cast(r{insn.src}, {to}, {of})"
    if reg == "r" and insn.off == _PER_CPU_ADDRESS:
        return f"r{insn.dst} = &(void __percpu *)(r{insn.src})"
    return _unknown(insn)


def _jump(insn: Instruction) -> str:
    if insn.code == CALL:
        return _call(insn)
    if insn.code == EXIT:
        return "exit"
    if insn.code == _JUMP:
        return f"goto pc{insn.off:+d}"
    if insn.code == LONG_JUMP:
        return f"gotol pc{insn.imm:+d}"
    if insn.code == INDIRECT_JUMP:
        return f"gotox r{insn.dst}"
    if insn.code == _MAY_GOTO and insn.src == 0:
        return f"may_goto pc{insn.off:+d}"
    return _conditional_jump(insn)


def _conditional_jump(insn: Instruction) -> str:
    operation = insn.code >> 4
    if operation >= len(_JUMP_SIGNS) or _JUMP_SIGNS[operation] in ("jmp", "call", "exit"):
        return _unknown(insn)
    reg = "w" if insn.code & 7 == JMP32 else "r"
    other = f"{reg}{insn.src}" if insn.code & 0x08 else f"{insn.imm & 0xFFFFFFFF:#x}"
    return f"if {reg}{insn.dst} {_JUMP_SIGNS[operation]} {other} goto pc{insn.off:+d}"


def _call(insn: Instruction) -> str:
    if insn.src == BPF_PSEUDO_CALL:
        return f"call pc{insn.imm:+d}"
    if insn.src == BPF_PSEUDO_KFUNC_CALL:
        return f"call kernel-function#{insn.imm}"
    from bpfctl.helpers import helper_name

    return f"call {helper_name(insn.imm) or 'unknown'}#{insn.imm}"


_PRINTERS: Sequence[Callable[[Instruction], str]] = (
    _load,
    _load_memory,
    _store_imm,
    _store,
    _arithmetic,
    _jump,
    _jump,
    _arithmetic,
)
