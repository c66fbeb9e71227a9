"""Counters of one program, by the words of ``bpftool prog profile``: of the hardware, and the kernel's clock.

A counter is a perf event on each CPU.  Two programs, at the entry and the exit of the one in question, read
it there and sum up the differences, each CPU for itself; what the two themselves take is not in them.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bpfctl.asm import FP, Code
from bpfctl.errors import BpfctlError, KernelError, NotSupportedError, printable
from bpfctl.kernel import bpf, info, link, perf_event
from bpfctl.kernel.bpf import MapAttributes, ProgAttributes, VerifierLog
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import permission_hint, possible_cpus
from bpfctl.record import NamedTuple
from bpfctl.uapi import AttachType, MapType, ProgramType


class Counter(NamedTuple):
    """``type`` and ``config`` of the perf event, ``meaning`` of what it counts."""

    type: int
    config: int
    meaning: str


class CounterRecord(NamedTuple):
    """What one counter saw of the ``runs`` that it was read in.

    ``value``: while it counted; ``percent``: of the time of these runs, less than 100 where the hardware
    has fewer counters than are asked for.
    """

    name: str
    value: int
    runs: int
    per_run: float | None  # of all the time, by that share
    percent: float | None


def _cache(number: int, *, misses: bool) -> int:
    """Loads of a cache: number, operation 0, and what came of it (PERF_COUNT_HW_CACHE_*)."""
    return number | misses << 16


_HARDWARE, _SOFTWARE, _CACHE = 0, 1, 3  # enum perf_type_id, include/uapi/linux/perf_event.h
COUNTERS = {
    "cycles": Counter(_HARDWARE, 0, "CPU cycles"),
    "instructions": Counter(_HARDWARE, 1, "instructions"),
    "l1d_loads": Counter(_CACHE, _cache(0, misses=False), "loads of the first data cache"),
    "llc_misses": Counter(_CACHE, _cache(2, misses=True), "misses of the last cache"),
    "itlb_misses": Counter(_CACHE, _cache(4, misses=True), "misses of the instruction TLB"),
    "dtlb_misses": Counter(_CACHE, _cache(3, misses=True), "misses of the data TLB"),
    "cpu_clock": Counter(_SOFTWARE, 0, "ns of the CPU's clock"),
}
_NO_COUNTER = (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL)
_HINT = "without such words, prog profile counts runs and their time, which needs no hardware"

# The one value of each CPU: runs, whether one is on, then of each counter how it stood at the entry and what
# has been summed up, both as struct bpf_perf_event_value: counter, enabled, running.
_HEAD = struct.Struct("=2Q")
_READING = struct.Struct("=3Q")
_RUNS, _IS_ON = 0, 8
_LOOKUP_ELEM, _READ_VALUE = 1, 55  # helpers
_CURRENT_CPU = 0xFFFFFFFF  # BPF_F_CURRENT_CPU
_STATE = 6  # a register that calls preserve
_KEY = -8  # on the stack
_LOG_SIZE = 1 << 16


@contextmanager
def counting(fd: int, words: Sequence[str]) -> Iterator[Callable[[], list[CounterRecord]]]:
    """Count ``words``, of COUNTERS, of the program ``fd`` as long as the block is open; what it gives reads.

    Nothing is put at a program of which nothing is to be counted.  NotSupportedError: the machine has no such
    counter; BpfctlError for a program without types; KernelError where the kernel lets this process not ask,
    or puts nothing at the entry of this program.
    """
    if not words:
        yield list
        return
    words = tuple(dict.fromkeys(words))
    size = _HEAD.size + 2 * _READING.size * len(words)
    with ExitStack() as stack:
        try:
            events = [_events(word, stack) for word in words]
            state = stack.enter_context(_map(MapType.PERCPU_ARRAY, size, 1, "bpfctl_profile"))
            # the exit first: it counts nothing that it has not seen begin
            _attach(fd, AttachType.TRACE_FEXIT, _exit_program(state.number, events), stack)
            _attach(fd, AttachType.TRACE_FENTRY, _entry_program(state.number, events), stack)
        except OSError as error:
            raise KernelError("cannot keep what counters say", errno=error.errno or 0) from error
        yield lambda: _read(state.number, size, words)


def _map(kind: MapType, value_size: int, entries: int, name: str) -> Fd:
    return Fd(bpf.map_create(MapAttributes(kind, 4, value_size, entries, name=name)))


def _events(word: str, stack: ExitStack) -> int:
    """A map with the event ``word`` of each CPU that is there."""
    counter, cpus, found = COUNTERS[word], possible_cpus(), 0
    array = stack.enter_context(_map(MapType.PERF_EVENT_ARRAY, 4, cpus, word))
    for cpu in range(cpus):
        try:
            event = stack.enter_context(Fd(perf_event.counter(counter.type, counter.config, cpu)))
        except OSError as error:
            if error.errno == errno.ENODEV:  # a CPU that is off
                continue
            raise _refused(word, error) from error
        bpf.map_update(array.number, struct.pack("=I", cpu), struct.pack("=I", event.number))
        found += 1
    if not found:
        raise _refused(word, OSError(errno.ENOENT, ""))
    return array.number


def _refused(word: str, error: OSError) -> BpfctlError:
    meaning = COUNTERS[word].meaning
    if error.errno in _NO_COUNTER:
        message = f"this machine has no hardware counter of {meaning} ({word})"
        return NotSupportedError(message, feature=word, hint=_HINT)
    return KernelError(
        f"cannot ask for the counter of {meaning}",
        call="perf_event_open",
        errno=error.errno or 0,
        hint=permission_hint("CAP_PERFMON"),
    )


# --- the two programs ---------------------------------------------------------------------------------


def _entry_program(state: int, events: Sequence[int]) -> bytes:
    code = Code()
    _find_state(code, state)
    for number, event in enumerate(events):
        _read_event(code, event, _STATE, _place(number))
    code.store_imm(8, _STATE, _IS_ON, 1)
    return _finish(code)


def _exit_program(state: int, events: Sequence[int]) -> bytes:
    code = Code()
    _find_state(code, state)
    code.load(8, 1, _STATE, _IS_ON)
    code.jump_if("jeq", 1, 0, "out")
    code.store_imm(8, _STATE, _IS_ON, 0)
    # all of them before any sum, which is nothing of the program's
    for number, event in enumerate(events):
        _read_event(code, event, FP, _on_stack(number))
    for number in range(len(events)):
        for field in range(0, _READING.size, 8):
            total = _place(number) + _READING.size + field
            code.load(8, 1, FP, _on_stack(number) + field)
            code.load(8, 2, _STATE, _place(number) + field)
            code.alu("sub", 1, 2)
            code.load(8, 2, _STATE, total)
            code.alu("add", 2, 1)
            code.store(8, _STATE, total, 2)
    code.load(8, 1, _STATE, _RUNS)
    code.alu_imm("add", 1, 1)
    code.store(8, _STATE, _RUNS, 1)
    return _finish(code)


def _find_state(code: Code, state: int) -> None:
    code.store_imm(4, FP, _KEY, 0)
    code.map_fd(1, state)
    code.alu("mov", 2, FP)
    code.alu_imm("add", 2, _KEY)
    code.call(_LOOKUP_ELEM)
    code.jump_if("jeq", 0, 0, "out")
    code.alu("mov", _STATE, 0)


def _read_event(code: Code, event: int, base: int, offset: int) -> None:
    """This CPU's reading to ``base + offset``; the end of the program where there is none."""
    code.map_fd(1, event)
    code.imm64(2, _CURRENT_CPU)
    code.alu("mov", 3, base)
    code.alu_imm("add", 3, offset)
    code.alu_imm("mov", 4, _READING.size)
    code.call(_READ_VALUE)
    code.jump_if("jne", 0, 0, "out")


def _finish(code: Code) -> bytes:
    code.label("out")
    code.alu_imm("mov", 0, 0)
    code.exit()
    return code.build()


def _place(number: int) -> int:
    return _HEAD.size + 2 * _READING.size * number


def _on_stack(number: int) -> int:
    return _KEY - _READING.size * (number + 1)


def _attach(target: int, attach_type: AttachType, code: bytes, stack: ExitStack) -> None:
    """``code`` at the entry or exit of the program ``target`` until ``stack`` closes."""
    facts = info.prog_info(target)
    label = f"program {printable(facts.name)} (id {facts.id})"
    type_id = info.prog_main_type(target) if facts.btf_id and facts.nr_func_info else 0
    if not type_id:
        raise BpfctlError(f"{label} was loaded without types, so that no counter can be read at its entry")
    wanted = ProgAttributes(
        ProgramType.TRACING,
        code,
        "GPL",
        "bpfctl_profile",
        attach_type,
        attach_btf_id=type_id,
        attach_fd=target,
    )
    log = VerifierLog(1, _LOG_SIZE)
    try:
        program = stack.enter_context(Fd(bpf.prog_load(wanted, log)))
        stack.enter_context(Fd(link.raw_tracepoint_open(program.number, None)))
    except OSError as error:
        number = error.errno or 0
        lines = tuple(line for line in log.text.splitlines() if not line.startswith("processed "))
        raise KernelError(
            f"cannot read counters at the entry and exit of {label}",
            call="BPF_PROG_LOAD" if lines or number == errno.EPERM else "BPF_RAW_TRACEPOINT_OPEN",
            errno=number,
            hint=permission_hint("CAP_BPF", "CAP_PERFMON") if number == errno.EPERM else None,
            details=lines[-3:],
        ) from error


# --- what came of it ----------------------------------------------------------------------------------


def _read(state: int, size: int, words: Sequence[str]) -> list[CounterRecord]:
    cpus = bpf.map_lookup(state, bytes(4), size * possible_cpus())
    values = [cpus[at : at + size] for at in range(0, len(cpus), size)]
    runs = sum(_HEAD.unpack_from(value)[0] for value in values)
    counts = []
    for number, word in enumerate(words):
        at = _place(number) + _READING.size
        readings = [_READING.unpack_from(value, at) for value in values]
        value, enabled, running = (sum(column) for column in zip(*readings, strict=True))
        share = running / enabled if enabled else None
        per_run = round(value / share / runs, 1) if runs and share else None
        percent = round(100 * share, 1) if share is not None else None
        counts.append(CounterRecord(word, value, runs, per_run, percent))
    return counts
