"""How often programs run, and how long: the kernel's own counters over a while (BPF_ENABLE_STATS).

The kernel counts only as long as somebody asks for it; then every program on the machine pays for it, some
ten ns a run.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence

from bpfctl.errors import KernelError, NotSupportedError
from bpfctl.inventory import names
from bpfctl.inventory.counters import CounterRecord, counting
from bpfctl.inventory.reference import PROGRAM, Reference, iter_open, open_program
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import permission_hint
from bpfctl.record import NamedTuple
from bpfctl.uapi import ProgramType, type_name


class Profile(NamedTuple):
    """What one program did in ``duration`` ns.  ``cpu_percent``: of one CPU."""

    id: int
    type: str
    name: str
    duration: int
    run_cnt: int
    run_time_ns: int
    ns_per_run: float | None  # where it ran
    runs_per_second: float
    cpu_percent: float
    recursion_misses: int
    counters: tuple[CounterRecord, ...] | None = None  # of those that were asked for


class _Count(NamedTuple):
    at: int  # ns of the monotonic clock
    facts: info.ProgInfo
    name: str


def profile(
    reference: Reference | None, wait: Callable[[], object], counters: Sequence[str] = ()
) -> list[Profile]:
    """What programs did while ``wait`` ran: the one that ``reference`` names, or all that ran, busiest first.

    ``counters``: words of :data:`bpfctl.inventory.counters.COUNTERS`, of one program only.  Raises as
    :func:`open_program` and :func:`bpfctl.inventory.counters.counting`, NotSupportedError where the kernel
    cannot count on demand (before Linux 5.8), KernelError where this process may not ask for it.
    """
    with _counting():
        if reference is None:
            before = {count.facts.id: count for count in _all()}
            wait()
            pairs = [(before[count.facts.id], count) for count in _all() if count.facts.id in before]
            ran = [record for record in (_difference(*pair) for pair in pairs) if record.run_cnt]
            return sorted(ran, key=lambda record: -record.run_time_ns)
        with open_program(reference) as fd, counting(fd.number, counters) as read:
            first = _count(fd.number)
            wait()
            record = _difference(first, _count(fd.number))
            return [record._replace(counters=tuple(read())) if counters else record]


def _counting() -> Fd:
    try:
        return Fd(bpf.enable_stats())
    except OSError as error:
        number = error.errno or 0
        if number == errno.EINVAL:
            raise NotSupportedError(
                "the kernel does not count runs of programs on demand",
                feature="stats",
                errno=number,
                hint="sysctl kernel.bpf_stats_enabled=1 makes it count all the time",
            ) from error
        hint = permission_hint("CAP_SYS_ADMIN") if number == errno.EPERM else None
        message = "cannot make the kernel count runs of programs"
        raise KernelError(message, call="BPF_ENABLE_STATS", errno=number, hint=hint) from error


def _all() -> Iterator[_Count]:
    return (_count(fd.number) for fd in iter_open(PROGRAM))


def _count(fd: int) -> _Count:
    try:
        facts = info.prog_info(fd)
    except OSError as error:
        raise KernelError("cannot read a program's info", errno=error.errno or 0) from error
    return _Count(time.monotonic_ns(), facts, names.full_program_name(fd, facts))


def _difference(before: _Count, after: _Count) -> Profile:
    duration = max(1, after.at - before.at)
    runs = after.facts.run_cnt - before.facts.run_cnt
    spent = after.facts.run_time_ns - before.facts.run_time_ns
    return Profile(
        id=after.facts.id,
        type=type_name(ProgramType, after.facts.type),
        name=after.name,
        duration=duration,
        run_cnt=runs,
        run_time_ns=spent,
        ns_per_run=round(spent / runs, 1) if runs else None,
        runs_per_second=round(runs * 1e9 / duration, 1),
        cpu_percent=round(100 * spent / duration, 3),
        recursion_misses=after.facts.recursion_misses - before.facts.recursion_misses,
    )
