"""perf events: what a program can be attached to (tracepoints, kprobes, uprobes), and what it writes to.

Layout of ``struct perf_event_attr`` up to ``config2`` (PERF_ATTR_SIZE_VER1, include/uapi/linux/perf_event.h).
Kprobes and uprobes have performance monitoring units of their own, whose numbers and bits sysfs tells.
"""

from __future__ import annotations

import struct

from bpfctl.kernel import syscall
from bpfctl.kernel.syscall import address

_ATTR = struct.Struct("=2I5Q2I2Q")
_TYPE_SOFTWARE, _TYPE_TRACEPOINT = 1, 2
_COUNT_BPF_OUTPUT = 10  # PERF_COUNT_SW_BPF_OUTPUT
_SAMPLE_RAW = 1 << 10
_COUNTER_SHIFT = 32  # of ref_ctr_offset in a uprobe's config
_UNITS = "/sys/bus/event_source/devices"


def _open(kind: int, config: int, config1: int = 0, config2: int = 0, cpu: int = 0) -> int:
    """In all processes on ``cpu``; of tracepoints and probes any one CPU means all."""
    attr = bytearray(_ATTR.pack(kind, _ATTR.size, config, 0, 0, 0, 0, 0, 0, config1, config2))
    return syscall.system.perf_event_open(attr, -1, cpu)


def tracepoint(number: int) -> int:
    """The event of the tracepoint whose ``id`` file in tracefs holds ``number``."""
    return _open(_TYPE_TRACEPOINT, number)


def kprobe(symbol: str, offset: int, *, at_return: bool) -> int:
    """``offset`` bytes into function ``symbol``; FileNotFoundError where the kernel has no kprobes."""
    name = bytearray(symbol.encode() + b"\0")
    kind, config = _unit("kprobe", at_return)
    return _open(kind, config, address(name), offset)


def uprobe(path: str, offset: int, *, at_return: bool, counter: int = 0) -> int:
    """Byte ``offset`` of the file ``path``, with its semaphore at ``counter`` (0: none).

    FileNotFoundError where the kernel has no uprobes.
    """
    name = bytearray(path.encode("utf-8", "surrogateescape") + b"\0")
    kind, config = _unit("uprobe", at_return)
    return _open(kind, config | counter << _COUNTER_SHIFT, address(name), offset)


def counter(kind: int, config: int, cpu: int) -> int:
    """A counter of ``cpu``, which counts from now on; FileNotFoundError where the hardware has none such."""
    return _open(kind, config, cpu=cpu)


def bpf_output(cpu: int) -> int:
    """What programs on ``cpu`` write by bpf_perf_event_output(), each record waking up its reader."""
    attr = bytearray(
        _ATTR.pack(
            *(_TYPE_SOFTWARE, _ATTR.size, _COUNT_BPF_OUTPUT),
            *(1, _SAMPLE_RAW, 0, 0),  # sample_period, sample_type, read_format, flags
            *(1, 0, 0, 0),  # wakeup_events
        )
    )
    return syscall.system.perf_event_open(attr, -1, cpu)


def enable(fd: int) -> None:
    """Let the event happen."""
    syscall.system.perf_event_enable(fd)


def has_unit(name: str) -> bool:
    """Whether the kernel has the unit ``kprobe`` or ``uprobe``."""
    try:
        _read(f"{name}/type")
    except FileNotFoundError:
        return False
    return True


def _unit(name: str, at_return: bool) -> tuple[int, int]:
    """Number of a unit, and the config that says whether the event is a function's return."""
    config = 1 << int(_read(f"{name}/format/retprobe").removeprefix("config:")) if at_return else 0
    return int(_read(f"{name}/type")), config


def _read(path: str) -> str:
    with open(f"{_UNITS}/{path}", encoding="ascii") as file:
        return file.read().strip()
