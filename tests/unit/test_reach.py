"""Which instructions can run, by programs of a few lines."""

from __future__ import annotations

import pytest

from bpfctl.insn import Instruction, encode
from bpfctl.objfile.reach import Reach
from bpfctl.objfile.spec import LinkedProgram

EXIT = (0x95, 0, 0, 0, 0)
CALL = (0x85, 0, 0, 0, 5)


def reach(*insns: tuple[int, int, int, int, int], frozen: int | None = None) -> tuple[list[int], list[int]]:
    """Instructions that run, and those that certainly may; ``frozen``: a load of read-only data."""
    code = b"".join(encode(Instruction(*each)) for each in insns)
    loads = {(".rodata", 0): [frozen]} if frozen is not None else {}
    found = Reach(LinkedProgram("p", code, loads, ()), {".rodata"})
    return sorted(found.runs), sorted(found.certain)


def mov(register: int, number: int) -> tuple[int, int, int, int, int]:
    return (0xB7, register, 0, 0, number)


@pytest.mark.parametrize(
    ("constant", "operation", "right", "taken"),
    [
        (0, 0x15, 0, True),  # ==
        (1, 0x15, 0, False),
        (0, 0x55, 0, False),  # !=
        (-1, 0x25, 5, True),  # > without sign
        (-1, 0x65, 5, False),  # > with sign
        (4, 0x45, 4, True),  # &
        (-1, 0xC5, 0, True),  # < with sign
        (7, 0xB5, 7, True),  # <=
        (-1, 0x56, -1, False),  # 32 bits
    ],
)
def test_a_constant_decides(constant: int, operation: int, right: int, taken: bool) -> None:
    runs, certain = reach(mov(1, constant), (operation, 1, 0, 1, right), CALL, EXIT)
    assert runs == certain == ([0, 1, 3] if taken else [0, 1, 2, 3])


def test_what_is_not_known_decides_nothing() -> None:
    runs, certain = reach((0x61, 1, 1, 0, 0), (0x15, 1, 0, 1, 0), CALL, EXIT)
    assert runs == certain == [0, 1, 2, 3]


def test_a_call_forgets_what_it_may_change() -> None:
    kept, _ = reach(mov(6, 0), CALL, (0x15, 6, 0, 1, 0), CALL, EXIT)
    forgotten, _ = reach(mov(1, 0), CALL, (0x15, 1, 0, 1, 0), CALL, EXIT)
    assert (kept, forgotten) == ([0, 1, 2, 4], [0, 1, 2, 3, 4])


def test_read_only_data_decides_in_a_way_that_is_not_known_here() -> None:
    """r1 = &.rodata; r1 = *r1; if r1 == 0 goto exit; call."""
    runs, certain = reach(
        (0x18, 1, 0, 0, 0), (0, 0, 0, 0, 0), (0x61, 1, 1, 4, 0), (0x15, 1, 0, 1, 0), CALL, EXIT, frozen=0
    )
    assert (runs, certain) == ([0, 2, 3, 4, 5], [0, 2, 3])


def test_a_loop_ends() -> None:
    runs, _ = reach(mov(1, 0), (0x07, 1, 0, 0, 1), (0x55, 1, 0, -2, 1000), EXIT)
    assert runs == [0, 1, 2, 3]


def test_subprograms_and_callbacks_run() -> None:
    """0 calls 4; the pair at 1 is the address of 5."""
    runs, _ = reach((0x85, 0, 1, 0, 3), (0x18, 1, 4, 0, 3), (0, 0, 0, 0, 0), EXIT, EXIT, EXIT, EXIT)
    assert runs == [0, 1, 3, 4, 5]


def test_a_jump_out_of_the_program_goes_nowhere() -> None:
    assert reach((0x05, 0, 0, 100, 0))[0] == [0]
    assert reach((0x05, 0, 0, -5, 0))[0] == [0]
    assert reach((0xB7, 15, 15, 0, 0), (0xBF, 15, 14, 0, 0), (0x1D, 12, 13, 0, 0), EXIT)[0] == [0, 1, 2, 3]
