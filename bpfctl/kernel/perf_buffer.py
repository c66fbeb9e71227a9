"""The records that programs write into a perf event array, one buffer for each CPU.

The layout of the buffer is ``struct perf_event_mmap_page``, that of records ``enum perf_event_type``
(include/uapi/linux/perf_event.h).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

from bpfctl.kernel import bpf, perf_event
from bpfctl.kernel.fd import Fd

_POSITION = struct.Struct("=Q")
_HEAD, _TAIL = 1024, 1032  # data_head, data_tail
_HEADER = struct.Struct("=IHH")
_LOST, _SAMPLE = 2, 9
_PAGES = 64  # of data, a power of two


class PerfBuffer:
    """That of ``cpu``, in slot ``cpu`` of the array ``map_fd`` until :meth:`close`.

    ``lost``: how many records did not fit, as far as the kernel has said.
    """

    def __init__(self, map_fd: int, cpu: int) -> None:
        self.cpu = cpu
        self.lost = 0
        self._map_fd = map_fd
        self._size = _PAGES * PAGESIZE
        self.event = Fd(perf_event.bpf_output(cpu))
        try:
            self._memory = mmap(self.event.number, PAGESIZE + self._size, MAP_SHARED, PROT_READ | PROT_WRITE)
            bpf.map_update(map_fd, struct.pack("=I", cpu), struct.pack("=I", self.event.number))
            perf_event.enable(self.event.number)
        except BaseException:
            self.event.close()
            raise

    def records(self) -> Iterator[bytes]:
        """What programs have written; up to 7 bytes of padding may be behind it."""
        head = _POSITION.unpack_from(self._memory, _HEAD)[0]
        tail = _POSITION.unpack_from(self._memory, _TAIL)[0]
        while tail < head:
            kind, _, size = _HEADER.unpack(self._bytes(tail, _HEADER.size))
            body = self._bytes(tail + _HEADER.size, size - _HEADER.size)
            tail += size
            _POSITION.pack_into(self._memory, _TAIL, tail)
            if kind == _SAMPLE:
                length = struct.unpack_from("=I", body)[0]
                yield body[4 : 4 + length]
            elif kind == _LOST:
                self.lost += struct.unpack_from("=QQ", body)[1]

    def _bytes(self, position: int, size: int) -> bytes:
        """Around the end of the buffer where need be."""
        start = position % self._size
        first = self._memory[PAGESIZE + start : PAGESIZE + min(start + size, self._size)]
        return first + self._memory[PAGESIZE : PAGESIZE + size - len(first)]

    def close(self) -> None:
        """Take it out of the array, and unmap it."""
        with suppress(OSError):  # another reader may have put its own there
            bpf.map_delete(self._map_fd, struct.pack("=I", self.cpu))
        self._memory.close()
        self.event.close()
