"""Taking over the maps of an object that another process loads: the other end of ``export``."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress

from bpfctl.errors import AlreadyAttachedError, BpfctlError, KernelError, UsageError, printable
from bpfctl.inventory.reference import kind_of
from bpfctl.kernel import syscall
from bpfctl.kernel.fd import Fd
from bpfctl.objfile.export import (
    LARGEST_MESSAGE,
    MAPS_PER_MESSAGE,
    ExportedMap,
    ExportMessage,
    parse_export,
)
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import NoReturn

_LONGEST_SOCKET = 107  # bytes, sun_path of struct sockaddr_un less its NUL
_NOTICE_AFTER = 1.0  # seconds
_PATIENCE = 10.0  # seconds between two datagrams of one exporter


def check_socket(path: str) -> None:
    """UsageError for what cannot be the path of a socket."""
    if not path or len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise UsageError(
            f'Illegal socket "{printable(path)}": a path of 1 to {_LONGEST_SOCKET} bytes is wanted'
        )


class Imported(NamedTuple):
    """A map that came, and its definition."""

    definition: ExportedMap
    fd: Fd


def receive(
    path: str, stack: ExitStack, *, timeout: float | None = None, notice: Callable[[], object] = bool
) -> list[Imported]:
    """Wait at ``path`` until somebody exports maps there; they are open as long as ``stack``.

    The socket is made and removed here.  ``timeout``: seconds until the first datagram, None for ever;
    ``notice`` is called once when nothing came for a second.  Raises UsageError, AlreadyAttachedError
    (there is something at ``path``), KernelError, BpfctlError for a datagram that is not right.
    """
    check_socket(path)
    try:
        socket = stack.enter_context(Fd(syscall.system.unix_bind(path)))
    except OSError as error:
        raise _cannot_bind(path, error) from error
    try:
        return _receive_all(_Socket(path, socket), stack, timeout, notice)
    finally:
        with suppress(FileNotFoundError):
            syscall.system.unlink(path)


class _Socket(NamedTuple):
    path: str
    fd: Fd

    def wait(self, seconds: float | None) -> bool:
        return syscall.system.wait_readable(self.fd.number, seconds)

    def wrong(self, what: str) -> BpfctlError:
        return BpfctlError(f"import at {printable(self.path)}: what came is no export: {what}")


def _receive_all(
    socket: _Socket, stack: ExitStack, timeout: float | None, notice: Callable[[], object]
) -> list[Imported]:
    if not _wait_for_first(socket, timeout, notice):
        raise BpfctlError(f"import at {printable(socket.path)}: nothing came in {timeout:g} s")
    found: list[Imported] = []
    first: ExportMessage | None = None
    while first is None or len(found) < first.total:
        if not socket.wait(_PATIENCE):
            announced = first.total if first else 0
            raise socket.wrong(f"{len(found)} of {announced} maps, and no more for {_PATIENCE:g} s")
        message, fds = _receive_one(socket, stack)
        first = first or message
        if message[:4] != first[:4]:
            raise socket.wrong("two objects at once")
        found += map(Imported, message.maps, fds)
        if len(found) > first.total:
            raise socket.wrong(f"{len(found)} maps, where {first.total} are announced")
    return found


def _wait_for_first(socket: _Socket, timeout: float | None, notice: Callable[[], object]) -> bool:
    if timeout is not None and timeout <= _NOTICE_AFTER:
        return socket.wait(timeout)
    if socket.wait(_NOTICE_AFTER):
        return True
    notice()
    return socket.wait(None if timeout is None else timeout - _NOTICE_AFTER)


def _receive_one(socket: _Socket, stack: ExitStack) -> tuple[ExportMessage, list[Fd]]:
    """One datagram; every descriptor that came with it is in ``stack``, wanted or not."""
    try:
        data, numbers, whole = syscall.system.receive_descriptors(
            socket.fd.number, LARGEST_MESSAGE + 1, MAPS_PER_MESSAGE
        )
    except OSError as error:
        what = f"import at {printable(socket.path)}"
        raise KernelError(what, call="recvmsg", errno=error.errno or 0) from error
    fds = [stack.enter_context(Fd(number)) for number in numbers]
    try:
        message = parse_export(data)
    except ValueError as error:
        raise socket.wrong(str(error)) from error
    if len(fds) != len(message.maps) or not whole:
        more = " or more" if not whole else ""
        raise socket.wrong(f"{len(message.maps)} maps with {len(fds)}{more} descriptors")
    for at, fd in enumerate(fds):
        kind = kind_of(fd.number)
        if kind != "map":
            raise socket.wrong(f"descriptor {at} is no map")
    return message, fds


def _cannot_bind(path: str, error: OSError) -> BpfctlError:
    shown = printable(path, 4096)
    if error.errno != errno.EADDRINUSE:
        return KernelError(f"cannot make the socket {shown}", call="bind", errno=error.errno or 0)
    hint = f"another import waits there, or one was killed: `rm {shown}` if it was"
    if not _is_socket(path):
        hint = "that is no socket"
    return AlreadyAttachedError(f"cannot make the socket {shown}", errno=errno.EEXIST, hint=hint)


def _is_socket(path: str) -> bool:
    import stat

    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def become(command: Sequence[str], environment: Mapping[str, str], maps: Sequence[Imported]) -> NoReturn:
    """Run ``command`` in the place of this process, with the maps' descriptors; ``OSError`` if it fails."""
    for one in maps:
        os.set_inheritable(one.fd.number, True)
    syscall.system.execute(command, environment)
