"""Change a map element in place while programs write to it: numbers added, bits turned over, atomically.

From user space an element can only be replaced, and what a program counted between our read and our write
would be lost.  So a program of our own does it, run by BPF_PROG_TEST_RUN: the amounts come as a packet.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from bpfctl.insn import CALL, EXIT, JMP, LD_IMM64, LDX, STX, Instruction, encode
from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.bpf import ProgAttributes, RunInput
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import BPF_PSEUDO_MAP_FD, ProgramType

_MOST_BYTES = 3000  # of a packet for a test run, which has to fit into a page
_LEAST_BYTES = 14  # an Ethernet header
_MEM, _ATOMIC, _ADD, _XOR = 0x60, 0xC0, 0x00, 0xA0
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # bytes -> bits 3 and 4 of the opcode
_MOV, _ADD_IMM, _XOR_REGISTER, _GREATER = 0xBF, 0x07, 0xAF, JMP | 0x28
_LOOKUP = 1  # bpf_map_lookup_elem


class Merger:
    """For one map; ``counters`` are (offset, size) of numbers of 4 or 8 bytes, ``others`` of other bytes.

    Raises OSError where the kernel does not take it: atomic xor came with Linux 5.12.
    """

    def __init__(
        self,
        map_fd: int,
        key_size: int,
        value_size: int,
        counters: Sequence[tuple[int, int]],
        others: Sequence[tuple[int, int]],
    ) -> None:
        self._key_room = -(-key_size // 8) * 8
        self._value_room = -(-value_size // 8) * 8
        total = self._key_room + 2 * self._value_room
        if total > _MOST_BYTES:
            raise OSError(7, "values are too long for a packet")
        self._room = max(total, _LEAST_BYTES)
        code = self._code(map_fd, counters, others)
        self._fd = Fd(bpf.prog_load(ProgAttributes(ProgramType.XDP, code, "GPL", name="bpfctl_merge")))

    def __call__(self, key: bytes, add: bytes, flip: bytes) -> bool:
        """Add and turn over what these say, a value's bytes each; False when there is no such element.

        In a per-CPU map it is the value of the CPU that this thread runs on.
        """
        packet = key.ljust(self._key_room, b"\0") + add.ljust(self._value_room, b"\0") + flip
        run = RunInput(packet.ljust(self._room, b"\0"), repeat=1)
        return bpf.prog_test_run(self._fd.number, run).retval == 1

    def close(self) -> None:
        self._fd.close()

    def _code(
        self, map_fd: int, counters: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]
    ) -> bytes:
        body: list[Instruction] = []
        for offset, size in counters:
            body += self._atomic(size, offset, self._key_room + offset, _ADD)
        flips = self._key_room + self._value_room
        for offset, size in (*counters, *(word for part in others for word in _words(*part))):
            if size >= 4:
                body += self._atomic(size, offset, flips + offset, _XOR)
            else:  # no atomic operation is that small
                body += self._flip(size, offset, flips + offset)
        head = [
            Instruction(LDX | _MEM | _SIZES[4], 7, 1, 0, 0),  # r7, r8: the packet and its end
            Instruction(LDX | _MEM | _SIZES[4], 8, 1, 4, 0),
            Instruction(_MOV, 2, 7, 0, 0),
            Instruction(_ADD_IMM, 2, 0, 0, self._room),
            Instruction(_GREATER, 2, 8, len(body) + 7, 0),
            Instruction(LD_IMM64, 1, BPF_PSEUDO_MAP_FD, 0, map_fd),
            Instruction(0, 0, 0, 0, 0),
            Instruction(_MOV, 2, 7, 0, 0),
            Instruction(CALL, 0, 0, 0, _LOOKUP),
            Instruction(JMP | 0x10, 0, 0, len(body) + 2, 0),
        ]
        done = [Instruction(0xB7, 0, 0, 0, 1), Instruction(EXIT, 0, 0, 0, 0)]
        missing = [Instruction(0xB7, 0, 0, 0, 0), Instruction(EXIT, 0, 0, 0, 0)]
        return b"".join(encode(slot) for slot in [*head, *body, *done, *missing])

    def _atomic(self, size: int, offset: int, source: int, operation: int) -> list[Instruction]:
        return [
            Instruction(LDX | _MEM | _SIZES[size], 1, 7, source, 0),
            Instruction(STX | _ATOMIC | _SIZES[size], 0, 1, offset, operation),
        ]

    def _flip(self, size: int, offset: int, source: int) -> list[Instruction]:
        return [
            Instruction(LDX | _MEM | _SIZES[size], 1, 7, source, 0),
            Instruction(LDX | _MEM | _SIZES[size], 2, 0, offset, 0),
            Instruction(_XOR_REGISTER, 2, 1, 0, 0),
            Instruction(STX | _MEM | _SIZES[size], 0, 2, offset, 0),
        ]


def _words(offset: int, size: int) -> list[tuple[int, int]]:
    """The bytes in pieces that are naturally aligned."""
    words = []
    while size:
        step = next(width for width in (8, 4, 2, 1) if width <= size and offset % width == 0)
        words.append((offset, step))
        offset += step
        size -= step
    return words


def on_cpu(cpu: int) -> None:
    """This thread runs on ``cpu`` from now on; OSError (EINVAL) when that is offline."""
    syscall.system.set_affinity({cpu})


def here() -> set[int]:
    """The CPUs that this thread may run on."""
    return os.sched_getaffinity(0)


def back_to(cpus: set[int]) -> None:
    """Undo :func:`on_cpu`."""
    syscall.system.set_affinity(cpus)
