"""A second CPU at work: a child process that runs a program there, over and over."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bpfctl.kernel import bpf

_LONG = 1 << 14  # runs in one system call
_PACKET = bytes(64)


class Neighbour:
    """Runs the program ``fd`` on ``cpu`` while its ``working`` block is open."""

    def __init__(self, fd: int, cpu: int) -> None:
        self._fd = fd
        self._cpu = cpu

    @contextmanager
    def working(self) -> Iterator[None]:
        """The child is there inside of the block; it never outlives this process."""
        child = os.fork()
        if not child:
            self._work()
        try:
            yield
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _work(self) -> None:
        """The child's whole life."""
        parent = os.getppid()
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
            os.sched_setaffinity(0, {self._cpu})
            while os.getppid() == parent:
                with suppress(InterruptedError):
                    bpf.prog_test_run(self._fd, bpf.RunInput(_PACKET, repeat=_LONG))
        finally:
            os._exit(0)
