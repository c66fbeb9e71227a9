"""Unix sockets of datagrams that carry descriptors: what the seam's methods of the same names do.

On plain descriptors, with the C half of the socket module: the other half costs 10 ms to import.
"""

from __future__ import annotations

import _socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def bind(path: str) -> int:
    return _make(lambda made: made.bind(path))


def connect(path: str, patience: int) -> int:
    def reach(made: _socket.socket) -> None:
        made.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("@ll", patience, 0))
        made.connect(path)

    return _make(reach)


def send(fd: int, data: bytes, descriptors: Sequence[int]) -> None:
    rights = struct.pack(f"@{len(descriptors)}i", *descriptors)
    with _borrowed(fd) as socket:
        socket.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def receive(fd: int, size: int, count: int) -> tuple[bytes, list[int], bool]:
    room = _socket.CMSG_SPACE(4 * count)
    with _borrowed(fd) as socket:
        data, ancillary, flags, _ = socket.recvmsg(size, room, _socket.MSG_CMSG_CLOEXEC)
    found: list[int] = []
    for level, kind, rights in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            found += struct.unpack_from(f"@{len(rights) // 4}i", rights)
    return data, found, not flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC)


def _make(prepare: Callable[[_socket.socket], object]) -> int:
    made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        prepare(made)
    except BaseException:
        made.close()
        raise
    return made.detach()


@contextmanager
def _borrowed(fd: int) -> Iterator[_socket.socket]:
    """``fd`` as a socket object, which does not close it."""
    borrowed = _socket.socket(fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()
