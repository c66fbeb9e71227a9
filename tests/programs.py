"""The smallest programs there are, for tests that only care where a program is attached."""

from __future__ import annotations

import struct

from bpfctl.insn import Instruction, encode
from bpfctl.kernel import bpf, info, syscall
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import Command, ProgramType

XDP_DROP, XDP_PASS = 1, 2
TC_ACT_OK, TC_ACT_SHOT = 0, 2

_TEST_RUN = struct.Struct("=4I2Q2I")  # to ``duration`` of BPF_PROG_TEST_RUN


def load(kind: ProgramType, result: int, name: str = "") -> Fd:
    """A program that returns ``result``, loaded."""
    code = encode(Instruction(0xB7, 0, 0, 0, result)) + encode(Instruction(0x95, 0, 0, 0, 0))
    return Fd(bpf.prog_load(bpf.ProgAttributes(kind, code, "GPL", name)))


def program_id(program: Fd) -> int:
    return info.prog_info(program.number).id


def run_once(program: Fd, size: int = 64) -> int:
    """The program's verdict on a packet of ``size`` bytes."""
    packet = bytearray(size)
    attr = bytearray(_TEST_RUN.pack(program.number, 0, size, 0, syscall.address(packet), 0, 1, 0))
    syscall.system.bpf(Command.PROG_TEST_RUN, attr)
    return int(_TEST_RUN.unpack(attr)[1])
