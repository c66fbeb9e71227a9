"""CO-RE answers in instructions."""

from __future__ import annotations

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.core import CoreFixup
from bpfctl.btf.core_patch import POISON_CALL, apply
from bpfctl.btf.core_spec import CoreKind, Spec, Step
from bpfctl.errors import CoreRelocationError
from bpfctl.insn import LD_IMM64, Instruction, decode, encode


def _fixup(local: int, target: int, *, poison: bool = False, check: bool = True, **sizes: int) -> CoreFixup:
    b = BtfBuilder()
    root = b.struct("s", 4, [("f", b.int(), 0)])
    spec = Spec(b.btf("test.o"), CoreKind.FIELD_BYTE_OFFSET, root, (0, 0), (Step(root, 0, "f"),), 0)
    resizable = bool(sizes.pop("resizable", True))
    return CoreFixup(spec, None, local, target, poison, check, resizable=resizable, **sizes)


def _patch(insns: list[Instruction], fixup: CoreFixup, byte_order: str = "little") -> list[Instruction]:
    """What becomes of ``insns`` between two others, which must stay as they are."""
    around = Instruction(0xB7, 3, 0, 0, 77)
    code = bytearray(b"".join(encode(insn, byte_order) for insn in (around, *insns, around)))
    applied = apply(code, 1, fixup, byte_order)
    first, *patched, last = decode(bytes(code), byte_order)
    assert first == last == around
    assert applied == (patched[0].imm != POISON_CALL)
    return patched


_POISON = Instruction(0x85, 0, 0, 0, POISON_CALL)
_LOAD = Instruction(0x61, 1, 6, 4, 0)
_ADD = Instruction(0x07, 1, 0, 0, 4)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("code", [0x07, 0x04, 0xB7, 0xB4, 0x67])
def test_immediate(code: int, byte_order: str) -> None:
    insn = Instruction(code, 1, 0, 0, 4)
    assert _patch([insn], _fixup(4, 16), byte_order) == [insn._replace(imm=16)]


@pytest.mark.parametrize(("value", "imm"), [((1 << 64) - 2, -2), (0xFFFFFFFF, -1), (1 << 32 | 5, 5)])
def test_immediate_takes_the_low_32_bits(value: int, imm: int) -> None:
    assert _patch([_ADD], _fixup(4, value)) == [_ADD._replace(imm=imm)]


def test_negative_immediates_are_compared_as_64_bits() -> None:
    insn = Instruction(0xB7, 1, 0, 0, -2)
    assert _patch([insn], _fixup((1 << 64) - 2, 1)) == [insn._replace(imm=1)]
    with pytest.raises(CoreRelocationError, match="holds -2, 4294967294 expected"):
        _patch([insn], _fixup(0xFFFFFFFE, 1))


@pytest.mark.parametrize("code", [0x61, 0x71, 0x63, 0x62])
def test_loads_and_stores(code: int) -> None:
    insn = Instruction(code, 1, 6, 4, 0)
    assert _patch([insn], _fixup(4, 16)) == [insn._replace(off=16)]
    assert _patch([insn], _fixup(4, 32767)) == [insn._replace(off=32767)]


@pytest.mark.parametrize("value", [32768, (1 << 64) - 8])
def test_offsets_that_no_load_has(value: int) -> None:
    with pytest.raises(CoreRelocationError, match=f"offset {value} does not fit"):
        _patch([_LOAD], _fixup(4, value))


@pytest.mark.parametrize(("size", "code"), [(1, 0x71), (2, 0x69), (4, 0x61), (8, 0x79)])
def test_loads_follow_the_size_of_the_field(size: int, code: int) -> None:
    patched = _patch([_LOAD], _fixup(4, 16, local_size=4, target_size=size))
    assert patched == [Instruction(code, 1, 6, 16, 0)]


def test_a_size_that_no_load_has() -> None:
    with pytest.raises(CoreRelocationError, match="the kernel's field has 3 bytes"):
        _patch([_LOAD], _fixup(4, 16, local_size=4, target_size=3))


def test_a_load_that_is_not_of_the_field() -> None:
    with pytest.raises(CoreRelocationError, match="accesses 4 bytes, the field has 2"):
        _patch([_LOAD], _fixup(4, 16, local_size=2, target_size=8))


def test_a_load_that_must_not_change_its_size_is_poisoned() -> None:
    fixup = _fixup(4, 16, local_size=4, target_size=8, resizable=False)
    assert _patch([_LOAD], fixup) == [_POISON]
    assert _patch([_ADD], fixup) == [_ADD._replace(imm=16)]


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_64_bit_immediate(byte_order: str) -> None:
    insns = [Instruction(LD_IMM64, 1, 0, 0, -1), Instruction(0, 0, 0, 0, 1)]
    patched = _patch(insns, _fixup(0x1FFFFFFFF, 0x2_80000000), byte_order)
    assert [insn.imm for insn in patched] == [-0x80000000, 2]
    assert [insn._replace(imm=0) for insn in patched] == [insn._replace(imm=0) for insn in insns]


@pytest.mark.parametrize(
    "insns",
    [
        [Instruction(LD_IMM64, 1, 1, 0, 4), Instruction(0, 0, 0, 0, 0)],
        [Instruction(LD_IMM64, 1, 0, 8, 4), Instruction(0, 0, 0, 0, 0)],
        [Instruction(LD_IMM64, 1, 0, 0, 4), Instruction(0, 1, 0, 0, 0)],
        [Instruction(LD_IMM64, 1, 0, 0, 4), Instruction(0x95, 0, 0, 0, 0)],
        [Instruction(0x30, 0, 0, 0, 4), Instruction(0x95, 0, 0, 0, 0)],
    ],
)
def test_a_64_bit_immediate_that_is_something_else(insns: list[Instruction]) -> None:
    with pytest.raises(CoreRelocationError, match="carries something else"):
        _patch(insns, _fixup(4, 8))


def test_a_64_bit_immediate_cut_off() -> None:
    code = bytearray(encode(Instruction(LD_IMM64, 1, 0, 0, 4)))
    with pytest.raises(CoreRelocationError, match="carries something else"):
        apply(code, 0, _fixup(4, 8))


@pytest.mark.parametrize(
    "insns",
    [[_ADD], [_LOAD], [Instruction(LD_IMM64, 1, 0, 0, 4), Instruction(0, 0, 0, 0, 0)]],
)
def test_poison_takes_every_slot(insns: list[Instruction]) -> None:
    assert _patch(insns, _fixup(99, 0, poison=True)) == [_POISON] * len(insns)


@pytest.mark.parametrize("insn", [_ADD, _LOAD])
def test_what_the_instruction_holds_is_checked(insn: Instruction) -> None:
    with pytest.raises(CoreRelocationError, match="holds 4, 5 expected") as caught:
        _patch([insn], _fixup(5, 8))
    assert "unexpected instruction 1 for CO-RE relocation <byte_off> [2] struct s.f" in str(caught.value)
    assert _patch([insn], _fixup(5, 8, check=False)) != [insn]


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (Instruction(0x0F, 1, 2, 0, 0), "r1 \\+= r2"),
        (Instruction(0x85, 0, 0, 0, 1), "call bpf_map_lookup_elem#1"),
        (Instruction(0x15, 1, 0, 1, 4), "if r1 == 0x4"),
    ],
)
@pytest.mark.parametrize("poison", [False, True])
def test_instructions_that_carry_nothing(insn: Instruction, text: str, poison: bool) -> None:
    with pytest.raises(CoreRelocationError, match=f"{text}.* carries no value"):
        _patch([insn], _fixup(4, 8, poison=poison))


def test_past_the_end_of_the_code() -> None:
    with pytest.raises(CoreRelocationError, match="no such instruction"):
        apply(bytearray(8), 1, _fixup(4, 8))
