"""The rtnetlink socket that the verbs talk through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from bpfctl.attach import refusals
from bpfctl.kernel.netlink import NetlinkSocket

_shared: NetlinkSocket | None = None


@contextmanager
def shared_socket() -> Iterator[None]:
    """Verbs inside the block use one socket, for as long as a batch lasts.

    It belongs to the network namespace that the thread is in now: enter another one before, not inside.
    """
    global _shared
    with _open("rtnetlink") as _shared:
        try:
            yield
        finally:
            _shared = None


class Rtnetlink:
    """``with Rtnetlink(subject) as netlink``: the shared socket, or one for this block.

    An ``OSError`` that leaves the block becomes an error about ``str(subject)``.
    """

    __slots__ = ("_own", "_subject")

    def __init__(self, subject: object) -> None:
        self._subject = subject
        self._own: NetlinkSocket | None = None

    def __enter__(self) -> NetlinkSocket:
        if _shared is not None:
            return _shared
        self._own = _open(self._subject)
        return self._own

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            self._own.close()
        if isinstance(error, OSError):
            raise refusals.general(str(self._subject), error) from error


def _open(subject: object) -> NetlinkSocket:
    try:
        return NetlinkSocket()
    except OSError as error:
        raise refusals.general(f"{subject}: cannot open a netlink socket", error) from error
