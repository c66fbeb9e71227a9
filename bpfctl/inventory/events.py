"""What programs send to user space: the records of ring buffers and perf event arrays."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from bpfctl.errors import BpfctlError, KernelError
from bpfctl.inventory.elements import OpenMap
from bpfctl.kernel import syscall
from bpfctl.kernel.perf_buffer import PerfBuffer
from bpfctl.kernel.privilege import permission_hint, possible_cpus
from bpfctl.kernel.ring_buffer import RingBuffer
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapType, type_name

_EPOLLIN = 1
_LONGEST_WAIT = 3600.0  # seconds


class Event(NamedTuple):
    """A record: ``data`` as written, from a perf buffer with padding; ``cpu`` of a perf buffer, or None."""

    data: bytes
    cpu: int | None = None


class Events:
    """Reads the ring buffer or perf event array ``target``; use it in a ``with`` block."""

    def __init__(self, target: OpenMap) -> None:
        self._stack = ExitStack()
        self._perf: list[PerfBuffer] = []
        self._ring: RingBuffer | None = None
        if target.map_type not in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):
            kind = type_name(MapType, target.map_type)
            raise BpfctlError(
                f"{target}: maps of type {kind} have no events", hint="ringbuf, perf_event_array"
            )
        try:
            self._open(target)
        except OSError as error:
            self._stack.close()
            hint = permission_hint("CAP_PERFMON") if isinstance(error, PermissionError) else None
            number = error.errno or 0
            raise KernelError(f"cannot read the events of {target}", errno=number, hint=hint) from error
        except BaseException:
            self._stack.close()
            raise

    @property
    def lost(self) -> int:
        """Records that did not fit into a perf buffer; a ring buffer tells its writers instead."""
        return sum(buffer.lost for buffer in self._perf)

    def _open(self, target: OpenMap) -> None:
        self._poll = syscall.system.epoll()
        self._stack.callback(self._poll.close)
        if target.map_type == MapType.RINGBUF:
            self._ring = RingBuffer(target.fd, target.max_entries)
            self._stack.callback(self._ring.close)
            self._poll.register(target.fd, _EPOLLIN)
            return
        for cpu in range(min(possible_cpus(), target.max_entries)):
            try:
                buffer = PerfBuffer(target.fd, cpu)
            except OSError as error:
                if error.errno == errno.ENODEV:  # offline
                    continue
                raise
            self._stack.callback(buffer.close)
            self._perf.append(buffer)
            self._poll.register(buffer.event.number, _EPOLLIN)

    def read(self, left: Callable[[], float]) -> Iterator[Event]:
        """Records as they come, until ``left``, seconds that may be waited, is 0."""
        while True:
            yield from self._now()
            seconds = left()
            if not seconds:
                return
            self._poll.poll(min(seconds, _LONGEST_WAIT))

    def _now(self) -> Iterator[Event]:
        if self._ring:
            for data in self._ring.records():
                yield Event(data)
        for buffer in self._perf:
            for data in buffer.records():
                yield Event(data, buffer.cpu)

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
