"""The smallest programs there are, for tests that only care where a program is attached."""

from __future__ import annotations

from bpfctl.insn import Instruction, encode
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import ProgramType

XDP_DROP, XDP_PASS = 1, 2
TC_ACT_OK, TC_ACT_SHOT = 0, 2


def load(kind: ProgramType, result: int, name: str = "") -> Fd:
    """A program that returns ``result``, loaded."""
    code = encode(Instruction(0xB7, 0, 0, 0, result)) + encode(Instruction(0x95, 0, 0, 0, 0))
    return Fd(bpf.prog_load(bpf.ProgAttributes(kind, code, "GPL", name)))


def program_id(program: Fd) -> int:
    return info.prog_info(program.number).id
