"""The machine code of a loaded program, function by function, with the source lines that it was made from.

There is no disassembler here: objdump(1) is asked where it is installed and knows the machine.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from bpfctl.errors import KernelError
from bpfctl.inventory.xlated import Dump
from bpfctl.kernel.kallsyms import Symbols
from bpfctl.kernel.privilege import permission_hint
from bpfctl.record import NamedTuple

_OBJDUMP = "objdump"
_MACHINES = {
    "x86_64": "i386:x86-64",
    "aarch64": "aarch64",
    "riscv64": "riscv:rv64",
    "s390x": "s390:64-bit",
    "ppc64le": "powerpc:common64",
}
_TIMEOUT = 60  # s


class MachineInstruction(NamedTuple):
    """``pc``: bytes from the start of the function; ``operation`` None where nothing disassembles it.

    Without a disassembler it stands for all the bytes that one source line was compiled to.
    """

    pc: int
    src: str | None
    file: str | None
    line_num: int | None
    line_col: int | None
    bytes: str
    operation: str | None


class MachineFunction(NamedTuple):
    """``name``: as in /proc/kallsyms, or of the function; ``size`` in bytes."""

    name: str
    proto: str | None
    size: int
    insns: tuple[MachineInstruction, ...]


def functions(dump: Dump) -> Iterator[MachineFunction]:
    """The functions of a program; KernelError when it is not compiled, or the kernel does not show it."""
    code = dump.code
    if not code.jited:
        raise KernelError(
            "the kernel shows no machine code of this program",
            hint=permission_hint("CAP_BPF")
            or "it may be interpreted (net.core.bpf_jit_enable) or hidden (kernel.kptr_restrict)",
        )
    lengths = code.func_lens or (len(code.jited),)
    names = Symbols().names(code.ksyms)
    start = 0
    for number, length in enumerate(lengths):
        address = code.ksyms[number] if number < len(code.ksyms) else 0
        name = names.get(address) or dump.function_name(number) or dump.name
        body = code.jited[start : start + length]
        start += length
        yield MachineFunction(name, dump.proto(number), length, tuple(_body(dump, body, address)))


def _body(dump: Dump, body: bytes, address: int) -> Iterator[MachineInstruction]:
    marks = {
        at - address: number
        for number, at in enumerate(dump.code.jited_lines)
        if address and address <= at < address + len(body) and number < len(dump.code.lines)
    }
    pieces = _disassembled(body)
    if pieces is None:
        edges = sorted({0, len(body), *marks})
        pieces = [(a, body[a:b].hex(), None) for a, b in pairwise(edges)]
    known = [at for at, _, _ in pieces]
    # A mark inside an instruction cannot be; should it come, it belongs to that instruction.
    by_piece = {known[bisect_right(known, at) - 1]: number for at, number in marks.items()} if known else {}
    for at, digits, operation in pieces:
        src, file, line, column = dump.source(by_piece.get(at))
        yield MachineInstruction(at, src, file, line, column, digits, operation)


def _disassembled(body: bytes) -> list[tuple[int, str, str | None]] | None:
    """(offset, hex digits, text) of each instruction, by objdump(1); None where it cannot."""
    import shutil
    import subprocess
    import tempfile

    machine = _MACHINES.get(os.uname().machine)
    if machine is None or shutil.which(_OBJDUMP) is None:
        return None
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = [_OBJDUMP, "-D", "-w", "-z", "-b", "binary", "-m", machine, file.name]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired):
            return None
    if done.returncode:
        return None
    return list(_parse(done.stdout))


def _parse(listing: str) -> Iterator[tuple[int, str, str | None]]:
    """Lines of the form ``   4:<tab>0f 1f 44 00 00<tab>nopl 0x0(%rax)``."""
    for line in listing.splitlines():
        place, _, rest = line.partition(":\t")
        digits, _, operation = rest.partition("\t")
        if rest and operation:
            yield int(place, 16), "".join(digits.split()), " ".join(operation.split())
