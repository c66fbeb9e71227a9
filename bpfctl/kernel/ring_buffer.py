"""The records of a BPF ring buffer, read from the memory that it shares with this process.

Layout (kernel/bpf/ringbuf.c): a page with the position of the consumer, one with that of the producer, then
the data, twice in a row, so that no record is cut at the end.  A record has a header of 8 bytes, whose first
word is its length, with a bit for one that is still written and one for one that was thrown away.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap

_POSITION = struct.Struct("=Q")
_LENGTH = struct.Struct("=I")
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_HEADER = 8


class RingBuffer:
    """Reads ring buffer ``fd`` of ``size`` bytes; a record that was read is gone for everybody else."""

    def __init__(self, fd: int, size: int) -> None:
        self._mask = size - 1
        self._consumer = mmap(fd, PAGESIZE, MAP_SHARED, PROT_READ | PROT_WRITE)
        try:
            self._producer = mmap(fd, PAGESIZE + 2 * size, MAP_SHARED, PROT_READ, offset=PAGESIZE)
        except BaseException:
            self._consumer.close()
            raise

    def records(self) -> Iterator[bytes]:
        """Those that are complete now; each is taken out before the caller gets it."""
        at = _POSITION.unpack_from(self._consumer)[0]
        while at < _POSITION.unpack_from(self._producer)[0]:
            start = PAGESIZE + (at & self._mask)
            word = _LENGTH.unpack_from(self._producer, start)[0]
            if word & _BUSY:
                return
            length = word & ~_DISCARDED
            data = self._producer[start + _HEADER : start + _HEADER + length]
            at += -(-(length + _HEADER) // 8) * 8
            _POSITION.pack_into(self._consumer, 0, at)
            if not word & _DISCARDED:
                yield data

    def close(self) -> None:
        """Unmap it."""
        self._producer.close()
        self._consumer.close()
