"""Instructions: the text is that of the kernel's own printer, opcode by opcode."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.helpers import helper_name
from bpfctl.insn import LD_IMM64, Instruction, decode, disassemble, encode

# (code, dst, src, off, imm) and what kernel/bpf/disasm.c prints for it
TEXTS = [
    ((0x07, 1, 0, 0, -8), "r1 += -8"),
    ((0x0F, 1, 2, 0, 0), "r1 += r2"),
    ((0x04, 1, 0, 0, 1), "w1 += 1"),
    ((0x1C, 1, 2, 0, 0), "w1 -= w2"),
    ((0x27, 1, 0, 0, 3), "r1 *= 3"),
    ((0x37, 1, 0, 0, 3), "r1 /= 3"),
    ((0x37, 1, 0, 1, 3), "r1 s/= 3"),
    ((0x9F, 1, 2, 1, 0), "r1 s%= r2"),
    ((0x47, 1, 0, 0, 3), "r1 |= 3"),
    ((0x57, 1, 0, 0, 3), "r1 &= 3"),
    ((0x67, 1, 0, 0, 32), "r1 <<= 32"),
    ((0x77, 1, 0, 0, 32), "r1 >>= 32"),
    ((0x97, 1, 0, 0, 3), "r1 %= 3"),
    ((0xAF, 1, 2, 0, 0), "r1 ^= r2"),
    ((0xC7, 1, 0, 0, 32), "r1 s>>= 32"),
    ((0x87, 1, 0, 0, 0), "r1 = -r1"),
    ((0x84, 1, 0, 0, 0), "w1 = -w1"),
    ((0xB7, 0, 0, 0, 1), "r0 = 1"),
    ((0xB4, 0, 0, 0, 1), "w0 = 1"),
    ((0xBF, 6, 1, 0, 0), "r6 = r1"),
    ((0xBC, 6, 1, 0, 0), "w6 = w1"),
    ((0xBF, 6, 1, 32, 0), "r6 = (s32)r1"),
    ((0xBC, 6, 1, 8, 0), "w6 = (s8)w1"),
    ((0xBF, 6, 1, 1, 1), "r6 = addr_space_cast(r1, 0, 1)"),
    ((0xBF, 6, 1, 1, 0x10000), "r6 = addr_space_cast(r1, 1, 0)"),
    ((0xBF, 6, 1, -1, 0), "r6 = &(void __percpu *)(r1)"),
    ((0xDC, 1, 0, 0, 16), "r1 = be16 r1"),
    ((0xD4, 1, 0, 0, 64), "r1 = le64 r1"),
    ((0xD7, 1, 0, 0, 32), "r1 = bswap32 r1"),
    ((0x61, 1, 6, 4, 0), "r1 = *(u32 *)(r6 +4)"),
    ((0x79, 1, 6, -8, 0), "r1 = *(u64 *)(r6 -8)"),
    ((0x91, 1, 6, 0, 0), "r1 = *(s8 *)(r6 +0)"),
    ((0x81, 1, 6, 0, 0), "r1 = *(s32 *)(r6 +0)"),
    ((0x7B, 10, 1, -8, 0), "*(u64 *)(r10 -8) = r1"),
    ((0x6A, 10, 0, -2, 5), "*(u16 *)(r10 -2) = 5"),
    ((0x28, 0, 0, 0, 12), "r0 = *(u16 *)skb[12]"),
    ((0x50, 0, 7, 0, 12), "r0 = *(u8 *)skb[r7 + 12]"),
    ((0xDB, 1, 2, 0, 0x00), "lock *(u64 *)(r1 +0) += r2"),
    ((0xC3, 1, 2, 0, 0xA0), "lock *(u32 *)(r1 +0) ^= r2"),
    ((0xDB, 1, 2, 8, 0x01), "r2 = atomic64_fetch_add((u64 *)(r1 +8), r2)"),
    ((0xC3, 1, 2, 8, 0xE1), "r2 = atomic_xchg((u32 *)(r1 +8), r2)"),
    ((0xDB, 1, 2, 8, 0xF1), "r0 = atomic64_cmpxchg((u64 *)(r1 +8), r0, r2)"),
    ((0xDB, 1, 2, 8, 0x100), "r1 = load_acquire((u64 *)(r2 +8))"),
    ((0xC3, 1, 2, 8, 0x110), "store_release((u32 *)(r1 +8), r2)"),
    ((0x05, 0, 0, -3, 0), "goto pc-3"),
    ((0x06, 0, 0, 0, 70000), "gotol pc+70000"),
    ((0xE5, 0, 0, 4, 0), "may_goto pc+4"),
    ((0x15, 0, 0, 2, 0), "if r0 == 0x0 goto pc+2"),
    ((0x55, 0, 0, 2, -1), "if r0 != 0xffffffff goto pc+2"),
    ((0x2D, 1, 2, 2, 0), "if r1 > r2 goto pc+2"),
    ((0x16, 1, 0, 2, 7), "if w1 == 0x7 goto pc+2"),
    ((0xCE, 1, 2, -2, 0), "if w1 s< w2 goto pc-2"),
    ((0x45, 1, 0, 1, 4), "if r1 & 0x4 goto pc+1"),
    ((0x85, 0, 0, 0, 1), "call bpf_map_lookup_elem#1"),
    ((0x85, 0, 0, 0, 195896080), "call unknown#195896080"),
    ((0x85, 0, 1, 0, 9), "call pc+9"),
    ((0x85, 0, 2, 0, 4711), "call kernel-function#4711"),
    ((0x95, 0, 0, 0, 0), "exit"),
    ((0x8B, 1, 2, 0, 0), "unknown instruction 0x8b"),
    ((0xE7, 1, 2, 0, 0), "unknown instruction 0xe7"),
    ((0x99, 1, 2, 0, 0), "unknown instruction 0x99"),
    ((0xDB, 1, 2, 0, 0x33), "unknown instruction 0xdb"),
    ((0xBF, 1, 2, 5, 0), "unknown instruction 0xbf"),
    ((0xC2, 1, 0, 0, 0), "unknown instruction 0xc2"),
    ((0x00, 0, 0, 0, 0), "unknown instruction 0x00"),
    ((0x86, 0, 0, 0, 1), "unknown instruction 0x86"),
]


@pytest.mark.parametrize(("fields", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_prints_as_the_verifier_does(fields: tuple[int, int, int, int, int], text: str) -> None:
    assert disassemble(encode(Instruction(*fields))) == [text]


@pytest.mark.parametrize(
    ("src", "low", "high", "text"),
    [
        (0, -1, 1, "r1 = 0x1ffffffff"),
        (0, 0, -1, "r1 = 0xffffffff00000000"),
        (1, 3, 0, "r1 = map[fd:3]"),
        (2, 3, 8, "r1 = map[fd:3][0]+8"),
        (3, 77, 0, "r1 = btf_id[77]"),
        (4, -5, 0, "r1 = subprog[-5]"),
        (5, 1, 0, "r1 = map[idx:1]"),
        (6, 1, 16, "r1 = map[idx:1][0]+16"),
        (9, 1, 2, "r1 = unknown[1][2]"),
    ],
)
def test_64_bit_immediate_takes_two_slots(src: int, low: int, high: int, text: str) -> None:
    code = encode(Instruction(LD_IMM64, 1, src, 0, low)) + encode(Instruction(0, 0, 0, 0, high))
    assert disassemble(code + encode(Instruction(0x95, 0, 0, 0, 0))) == [text, "", "exit"]


def test_64_bit_immediate_without_its_second_slot() -> None:
    assert disassemble(encode(Instruction(LD_IMM64, 1, 0, 0, 7))) == ["unknown instruction 0x18"]


def test_registers_swap_nibbles_in_big_endian() -> None:
    insn = Instruction(0x79, 1, 6, -8, 0x01020304)
    assert encode(insn, "big") == bytes.fromhex("79 16 fff8 01020304")
    assert encode(insn) == bytes.fromhex("79 61 f8ff 04030201")
    assert decode(encode(insn, "big"), "big") == [insn]


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, None),
        (1, "bpf_map_lookup_elem"),
        (12, "bpf_tail_call"),
        (44, "bpf_xdp_adjust_head"),
        (130, "bpf_ringbuf_output"),
        (211, "bpf_cgrp_storage_delete"),
        (212, None),
        (-1, None),
    ],
)
def test_helper_names(number: int, name: str | None) -> None:
    assert helper_name(number) == name


@given(st.binary(max_size=64), st.sampled_from(["little", "big"]))
def test_any_slots_decode_print_and_encode_back(data: bytes, byte_order: str) -> None:
    code = data[: len(data) // 8 * 8]
    insns = decode(code, byte_order)
    assert b"".join(encode(insn, byte_order) for insn in insns) == code
    assert len(disassemble(code, byte_order)) == len(insns)


def test_a_field_too_wide_is_refused() -> None:
    with pytest.raises(struct.error):
        encode(Instruction(0x05, 0, 0, 40000, 0))
