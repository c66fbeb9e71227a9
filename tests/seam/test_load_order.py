"""The order of a load and what a failure takes back, against a scripted kernel: no root needed."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfctl.errors import KernelError
from bpfctl.kernel import syscall
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.objfile import read_object
from bpfctl.uapi import BPF_FS_MAGIC, Command

TESTDATA = Path(__file__).parents[2] / "testdata"
_MAKES_FD = {Command.MAP_CREATE, Command.PROG_LOAD, Command.BTF_LOAD}


class ScriptedKernel(syscall.System):
    """Says yes to everything but what ``refusals`` names: (command, how manyth of it) -> errno."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refusals: dict[tuple[Command, int], int] = {}
        self.open: set[int] = set()
        self._seen: Counter[Command] = Counter()

    def bpf(self, command: int, attr: bytearray) -> int:
        known = Command(command)
        self._seen[known] += 1
        self.calls.append(known.name)
        number = self.refusals.get((known, self._seen[known]), 0)
        if known is Command.OBJ_GET:
            number = number or errno.ENOENT
        if number:
            raise OSError(number, os.strerror(number))
        if known not in _MAKES_FD:
            return 0
        fd = os.open("/dev/null", os.O_RDONLY)
        self.open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self.open.remove(fd)

    def mkdir(self, path: str, mode: int) -> None:
        self.calls.append(f"mkdir {Path(path).name}")

    def rmdir(self, path: str) -> None:
        self.calls.append(f"rmdir {Path(path).name}")

    def symlink(self, target: str, path: str) -> None:
        self.calls.append(f"symlink {Path(path).name}")

    def unlink(self, path: str) -> None:
        self.calls.append(f"unlink {Path(path).name}")

    def statfs_type(self, path: str) -> int:
        return BPF_FS_MAGIC


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedKernel]:
    scripted = ScriptedKernel()
    monkeypatch.setattr(syscall, "system", scripted)
    monkeypatch.setenv("TC_BPF_MNT", "/bpf-of-the-test")
    yield scripted
    assert scripted.open == set()


LAYOUT = ["mkdir tc", "mkdir globals", "symlink xdp", "symlink ip"]
UNDONE = ["unlink ip", "unlink xdp", "rmdir globals", "rmdir tc"]


def load_and_close(name: str, *programs: str) -> None:
    obj = read_object(str(TESTDATA / f"{name}.bpf.o"))
    with Transaction() as transaction, load(obj, LoadRequest(programs), transaction):
        pass


def test_pin_comes_after_the_verifier(kernel: ScriptedKernel) -> None:
    load_and_close("proto_counters", "count_protocols")
    assert kernel.calls == ["BTF_LOAD", *LAYOUT, "OBJ_GET", "MAP_CREATE", "PROG_LOAD", "OBJ_PIN"]


def test_object_without_pins_needs_no_bpffs(kernel: ScriptedKernel) -> None:
    load_and_close("tc_pass", "tc_pass")
    assert kernel.calls == ["BTF_LOAD", "PROG_LOAD"]


def test_constants_are_frozen_before_the_verifier_sees_them(kernel: ScriptedKernel) -> None:
    load_and_close("subprogs", "sum_up")
    order = kernel.calls
    assert max(i for i, call in enumerate(order) if call == "MAP_FREEZE") < order.index("PROG_LOAD")


def test_refused_program_leaves_no_pin_and_no_directory(kernel: ScriptedKernel) -> None:
    kernel.refusals = {(Command.PROG_LOAD, n): errno.EACCES for n in (1, 2)}
    with pytest.raises(KernelError):
        load_and_close("proto_counters", "count_protocols")
    assert "OBJ_PIN" not in kernel.calls
    assert kernel.calls[-4:] == UNDONE


def test_refused_pin_undoes_the_layout(kernel: ScriptedKernel) -> None:
    kernel.refusals = {(Command.OBJ_PIN, 1): errno.EPERM}
    with pytest.raises(KernelError, match="proto_counters"):
        load_and_close("proto_counters", "count_protocols")
    assert kernel.calls[-4:] == UNDONE


def test_interrupted_verifier_is_asked_again(kernel: ScriptedKernel) -> None:
    kernel.refusals = {(Command.PROG_LOAD, n): errno.EAGAIN for n in range(1, 5)}
    load_and_close("tc_pass", "tc_pass")
    assert kernel.calls == ["BTF_LOAD", *["PROG_LOAD"] * 5]


def test_refused_btf_is_no_obstacle(kernel: ScriptedKernel) -> None:
    kernel.refusals = {(Command.BTF_LOAD, 1): errno.EINVAL}
    load_and_close("proto_counters", "count_protocols")
    assert kernel.calls[-1] == "OBJ_PIN"


def test_program_array_is_pinned_last_and_filled_before(kernel: ScriptedKernel) -> None:
    load_and_close("xdp_root", "xdp_root")
    assert kernel.calls.index("MAP_UPDATE_ELEM") > kernel.calls.index("PROG_LOAD")
    assert kernel.calls[-1] == "OBJ_PIN"
