"""What a broken object may do: be read, or end in an error of ours; quickly, and in little memory."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from btf_builder import BtfBuilder

from bpfctl.advise.advice import advise
from bpfctl.advise.machine import Machine
from bpfctl.advise.objects import subject_of
from bpfctl.advise.sarif import document
from bpfctl.btf.kinds import Kind
from bpfctl.cli.obj_records import describe
from bpfctl.errors import BpfctlError
from bpfctl.kernel import kconfig, ksyms, syscall
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.objfile import ObjectSpec, read_object
from bpfctl.objfile.reader import read_object_bytes
from bpfctl.uapi import BPF_FS_MAGIC, Command, ProgramType

TESTDATA = Path(__file__).parents[2] / "testdata"

_MAKES_FD = {Command.MAP_CREATE, Command.PROG_LOAD, Command.BTF_LOAD, Command.LINK_CREATE}


class AgreeableKernel(syscall.System):
    """Says yes to everything and does nothing: what counts happens before the kernel is asked."""

    def bpf(self, command: int, attr: bytearray) -> int:
        if command in _MAKES_FD:
            return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        if command in (Command.OBJ_GET, Command.MAP_LOOKUP_ELEM):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return 0

    def mkdir(self, path: str, mode: int) -> None:
        pass

    rmdir = unlink = umount = lambda self, path: None  # type: ignore[assignment]

    def symlink(self, target: str, path: str) -> None:
        pass

    def mount(self, source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
        pass

    def statfs_type(self, path: str) -> int:
        return BPF_FS_MAGIC

    def mmap(self, fd: int, size: int, address: int) -> int:
        return address or 1 << 12

    def perf_event_open(self, attr: bytearray, pid: int, cpu: int) -> int:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def munmap(self, address: int, size: int) -> None:
        pass

    def read_into(self, fd: int, address: int, size: int, offset: int) -> int:
        return size


@contextmanager
def agreeable_kernel() -> Iterator[None]:
    """System calls go nowhere inside of the block."""
    before = syscall.system, ksyms.addresses, kconfig.config_values
    syscall.system = AgreeableKernel()
    ksyms.addresses = lambda names: {name: [1] for name in names}
    kconfig.config_values = lambda names: ("/proc/config.gz", dict.fromkeys(names, "y"))
    try:
        yield
    finally:
        syscall.system, ksyms.addresses, kconfig.config_values = before


def check(data: bytes) -> bool:
    """Show and load ``data``; whether it could be loaded.  Any exception that is not ours passes through."""
    loaded = False
    with suppress(BpfctlError):
        obj = read_object_bytes(data, path="fuzz.o")
        for step in (_show, _advise, _load_all):
            loaded = _survives(step, obj)
    return loaded


def _survives(step: Callable[[ObjectSpec], object], obj: ObjectSpec) -> bool:
    try:
        step(obj)
    except BpfctlError:
        return False
    return True


def _show(obj: ObjectSpec) -> None:
    str(describe(obj))


def _advise(obj: ObjectSpec) -> None:
    machine = Machine(memory=1 << 34, cpus=2, nodes=2)
    document([advise(subject_of(obj), machine, pedantic=True)])


def _load_all(obj: ObjectSpec) -> None:
    """All programs at once; those whose section says nothing of their type as what a command would say."""
    if obj.byte_order != sys.byteorder:
        return
    for program_type in (None, ProgramType.XDP):
        programs = obj.programs.values()
        names = tuple(p.name for p in programs if (p.program_type is None) is (program_type is not None))
        if names:
            with Transaction() as transaction:
                load(obj, LoadRequest(names, program_type), transaction, _types()).close()


class _ObjectTypes(KernelTypes):
    """Types of an object in the place of a kernel's, so that a run does not hang on this machine's."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        btf = read_object(str(path)).btf
        assert btf is not None
        self._vmlinux = btf

    @property
    def running(self) -> KernelTypes:
        return _RunningTypes()


class _RunningTypes(KernelTypes):
    """With what the samples ask for: struct_ops types, kernel functions, a variable, attach targets."""

    def __init__(self) -> None:
        super().__init__()
        b = BtfBuilder()
        function, text = b.ptr(b.func_proto(0)), b.array(b.int("char", 1), 16)
        functions = ("ssthresh", "cong_avoid", "init", "undo_cwnd")
        members = [(name, function, 64 * n) for n, name in enumerate(functions)]
        ops = b.struct("tcp_congestion_ops", 64, [*members, ("flags", b.int(), 256), ("name", text, 288)])
        b.struct("bpf_struct_ops_tcp_congestion_ops", 128, [("data", ops, 512)])
        proto = b.func_proto(0)
        for name in ("bpf_rcu_read_lock", "bpf_rcu_read_unlock", "schedule", "bpf_iter_task"):
            b.func(name, proto)
        b.var("runqueues", b.struct("rq", 4))
        b.add(Kind.TYPEDEF, "btf_trace_sched_switch", b.ptr(proto))
        self._vmlinux = b.btf()
        self._modules = []


@cache
def _types() -> KernelTypes:
    return _ObjectTypes(TESTDATA / "core_user.bpf.o")
