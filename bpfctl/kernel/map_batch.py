"""The batch commands of bpf(2): many elements of a map by one call (Linux 5.6; LPM tries 5.7 and later).

Which type of map knows which of them only the call itself can say: errno 524 (ENOTSUPP), EINVAL on a
kernel without the command.  Buffers are the caller's and are used again.  All raise ``OSError``.
"""

from __future__ import annotations

import errno
import struct

from bpfctl.kernel import syscall
from bpfctl.kernel.syscall import address
from bpfctl.record import NamedTuple
from bpfctl.uapi import Command

_BATCH = struct.Struct("=4Q2I2Q")
_COUNT = 32  # offset of ``count``, which the kernel sets to what it did

LEAST_CURSOR = 8  # bytes; a key, where that is longer


class Answer(NamedTuple):
    """Of a look-up: elements read, and whether that was the end of the map."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    end: bool


def lookup(
    fd: int,
    cursor: bytearray | None,
    following: bytearray,
    keys: bytearray,
    values: bytearray,
    count: int,
) -> Answer:
    """BPF_MAP_LOOKUP_BATCH: up to ``count`` elements after ``cursor`` (None: from the start).

    ``following`` gets the cursor to go on with.  ENOSPC: a bucket of the hash table holds more than
    ``count``, and nothing was read.
    """
    start = address(cursor) if cursor is not None else 0
    attr = bytearray(_BATCH.pack(start, address(following), address(keys), address(values), count, fd, 0, 0))
    try:
        syscall.system.bpf(Command.MAP_LOOKUP_BATCH, attr)
    except FileNotFoundError:
        return Answer(struct.unpack_from("=I", attr, _COUNT)[0], True)
    return Answer(struct.unpack_from("=I", attr, _COUNT)[0], False)


def update(fd: int, keys: bytearray, values: bytearray, count: int, flags: int = 0) -> None:
    """BPF_MAP_UPDATE_BATCH with BPF_ANY, BPF_NOEXIST or BPF_EXIST; raises BatchError."""
    _change(Command.MAP_UPDATE_BATCH, fd, keys, values, count, flags)


def delete(fd: int, keys: bytearray, count: int) -> None:
    """BPF_MAP_DELETE_BATCH; stops with ENOENT at a key that is not there."""
    _change(Command.MAP_DELETE_BATCH, fd, keys, bytearray(), count, 0)


class BatchError(OSError):
    """A batch that ended early, after ``done`` elements."""

    def __init__(self, error: OSError, done: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.done = done


def _change(command: Command, fd: int, keys: bytearray, values: bytearray, count: int, flags: int) -> None:
    attr = bytearray(_BATCH.pack(0, 0, address(keys), address(values), count, fd, flags, 0))
    try:
        syscall.system.bpf(command, attr)
    except OSError as error:
        done = struct.unpack_from("=I", attr, _COUNT)[0]
        # What the kernel refuses before the first element leaves ``count`` as it was.
        raise BatchError(error, 0 if done >= count else done) from error


def is_unknown(error: OSError) -> bool:
    """Whether the map, or the kernel, has no such command."""
    return error.errno in (errno.EINVAL, errno.EOPNOTSUPP, 524)
