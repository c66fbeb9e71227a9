"""Hardware counters of one program, by the words of ``bpftool prog profile``: whether this machine has them.

They would be read by programs at the entry and exit of the one in question; bpfctl has none such.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from bpfctl.errors import KernelError, NotSupportedError
from bpfctl.kernel import perf_event
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import permission_hint
from bpfctl.record import NamedTuple


class Counter(NamedTuple):
    """``type`` and ``config`` of the perf event, ``meaning`` of what it counts."""

    type: int
    config: int
    meaning: str


def _cache(number: int, *, misses: bool) -> int:
    """Loads of a cache: number, operation 0, and what came of it (PERF_COUNT_HW_CACHE_*)."""
    return number | misses << 16


_HARDWARE, _CACHE = 0, 3  # enum perf_type_id, include/uapi/linux/perf_event.h
COUNTERS = {
    "cycles": Counter(_HARDWARE, 0, "CPU cycles"),
    "instructions": Counter(_HARDWARE, 1, "instructions"),
    "l1d_loads": Counter(_CACHE, _cache(0, misses=False), "loads of the first data cache"),
    "llc_misses": Counter(_CACHE, _cache(2, misses=True), "misses of the last cache"),
    "itlb_misses": Counter(_CACHE, _cache(4, misses=True), "misses of the instruction TLB"),
    "dtlb_misses": Counter(_CACHE, _cache(3, misses=True), "misses of the data TLB"),
}
_NO_COUNTER = (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL)
_HINT = "without such words, prog profile counts runs and their time, which needs no hardware"


def refuse(words: Sequence[str]) -> None:
    """Say why the counters ``words``, of COUNTERS, cannot be had.

    NotSupportedError: the machine has not all of them, or bpfctl does not read them; KernelError where this
    process may not ask.
    """
    for word in words:
        counter = COUNTERS[word]
        try:
            Fd(perf_event.counter(counter.type, counter.config)).close()
        except OSError as error:
            if error.errno in _NO_COUNTER:
                message = f"this machine has no hardware counter of {counter.meaning} ({word})"
                raise NotSupportedError(message, feature=word, hint=_HINT) from error
            message = f"cannot ask for the hardware counter of {counter.meaning}"
            raise KernelError(
                message,
                call="perf_event_open",
                errno=error.errno or 0,
                hint=permission_hint("CAP_PERFMON"),
            ) from error
    raise NotSupportedError(
        f"hardware counters of programs ({', '.join(words)}) are not read by bpfctl",
        feature=words[0],
        hint="`bpftool prog profile` reads them",
    )
