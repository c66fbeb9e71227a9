"""Where the arguments of a USDT probe lie, as text of a note and as the record that a BPF program reads.

A text is ``SIZE@PLACE`` for each argument, SIZE negative for a signed one and PLACE an operand in the words
of the machine's assembler: ``-4@%eax 8@-16(%rbp) 4@$5``, or on arm64 ``-4@x0 8@[sp, 16] 4@5``.

The record is ``struct __bpf_usdt_spec`` of libbpf's usdt.bpf.h: twelve times {u64 number, u8 kind, 12 bits
of offset and 4 of shift for an index register, s16 offset of the register in struct pt_regs, bool signed, u8
bits above the value}, u64 cookie, s16 count, 6 bytes of padding.  It has 208 bytes, and 304 since libbpf 1.7,
where compilers pad the bit fields; before, no program could read an argument by an index register.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from bpfctl.record import NamedTuple

MAX_ARGUMENTS = 12
_MAX_TEXT = 4096
_CONST, _REGISTER, _MEMORY, _INDEXED = range(4)
_TAIL = struct.Struct("=QhB5x")
# The form of an argument by the size of the record.
_ARGUMENTS = {
    MAX_ARGUMENTS * form.size + _TAIL.size: form
    for form in (struct.Struct("=QBHxh?B"), struct.Struct("=QBxHxxh?B6x"))
}
SIZES = tuple(_ARGUMENTS)

# Byte offsets in struct pt_regs, by the register's 64-bit name (arch/x86/include/asm/ptrace.h).
_X86_ORDER = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs flags rsp"
_X86 = {name: 8 * at for at, name in enumerate(_X86_ORDER.split())}
for _letter in "abcd":
    _X86 |= {name: _X86[f"r{_letter}x"] for name in (f"e{_letter}x", f"{_letter}x", f"{_letter}l")}
for _name in ("si", "di", "bp", "sp", "ip"):
    _X86 |= {form: _X86[f"r{_name}"] for form in (f"e{_name}", _name, f"{_name}l")}
for _register in range(8, 16):
    _X86 |= {f"r{_register}{end}": _X86[f"r{_register}"] for end in "dwb"}
# struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h)
_ARM64 = {f"{kind}{number}": 8 * number for kind in "xw" for number in range(31)} | {"sp": 8 * 31}

_WORDS = re.compile(r"(-?)([1248])f?@((?:\[[^\]]*\]|\S)+)(?:\s+|$)")
_NUMBER = r"[+-]?(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})"
_X86_CONST = re.compile(rf"\$({_NUMBER})")
_X86_REGISTER = re.compile(r"%(\w+)")
_X86_MEMORY = re.compile(rf"({_NUMBER})?\(%(\w+)(?:,%(\w+)(?:,([1248]))?)?\)")
_ARM64_CONST = re.compile(rf"#?({_NUMBER})")
_ARM64_REGISTER = re.compile(r"(\w+)")
_ARM64_MEMORY = re.compile(rf"\[\s*(\w+)\s*(?:,\s*#?({_NUMBER})\s*)?\]")


class _Place(NamedTuple):
    """``kind``: of the operand; ``number``: the constant, or what is added to an address."""

    kind: int
    number: int
    register: int = 0
    index_register: int = 0
    shift: int = 0


def record(text: str, machine: str, size: int) -> bytes:
    """The record, of ``size`` bytes, for the arguments ``text`` on ``machine`` (as uname has it).

    ValueError with the reason for what is no argument, or one where no BPF program can read: a float
    register, a symbol.
    """
    read = _READERS.get(machine)
    if read is None:
        raise ValueError(f"arguments of {machine} cannot be read")
    if len(text) > _MAX_TEXT:
        raise ValueError(f"arguments of {len(text)} characters")
    packed: list[bytes] = []
    at, text = 0, text.strip()
    while at < len(text):
        word = _WORDS.match(text, at)
        place = read(word[3]) if word else None
        if word is None or place is None:
            raise ValueError(f"argument {len(packed) + 1} is not understood: {text[at:].split()[0]}")
        packed.append(_pack(_ARGUMENTS[size], place, 8 * int(word[2]), word[1] == "-"))
        at = word.end()
    if len(packed) > MAX_ARGUMENTS:
        raise ValueError(f"{len(packed)} arguments, of which a BPF program can read {MAX_ARGUMENTS}")
    # The byte behind the count, which no program reads, tells a record of no arguments from an unused one.
    return b"".join(packed).ljust(size - _TAIL.size, b"\0") + _TAIL.pack(0, len(packed), 1)


def _pack(form: struct.Struct, place: _Place, bits: int, signed: bool) -> bytes:
    number = place.number & (1 << 64) - 1
    index = place.index_register | place.shift << 12
    return form.pack(number, place.kind, index, place.register, signed, 64 - bits)


def _number(text: str | None) -> int:
    if not text:
        return 0
    return int(text, 16 if "x" in text.lower() else 10)


def _x86(text: str) -> _Place | None:
    if found := _X86_CONST.fullmatch(text):
        return _Place(_CONST, _number(found[1]))
    if (found := _X86_REGISTER.fullmatch(text)) and found[1] in _X86:
        return _Place(_REGISTER, 0, _X86[found[1]])
    found = _X86_MEMORY.fullmatch(text)
    if not found or found[2] not in _X86:
        return None
    offset, register = _number(found[1]), _X86[found[2]]
    if found[3] is None:
        return _Place(_MEMORY, offset, register)
    if found[3] not in _X86:
        return None
    return _Place(_INDEXED, offset, register, _X86[found[3]], int(found[4] or "1").bit_length() - 1)


def _arm64(text: str) -> _Place | None:
    if found := _ARM64_CONST.fullmatch(text):
        return _Place(_CONST, _number(found[1]))
    if (found := _ARM64_REGISTER.fullmatch(text)) and found[1] in _ARM64:
        return _Place(_REGISTER, 0, _ARM64[found[1]])
    found = _ARM64_MEMORY.fullmatch(text)
    if not found or found[1] not in _ARM64:
        return None
    return _Place(_MEMORY, _number(found[2]), _ARM64[found[1]])


_READERS: dict[str, Callable[[str], _Place | None]] = {"x86_64": _x86, "aarch64": _arm64}
