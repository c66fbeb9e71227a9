"""Fault injection at the seam: the Nth call into the kernel fails, or kills the process.

:func:`trial` runs a command line in a forked child whose ``syscall.system`` counts its calls.  The
children are real processes, so that what the kernel does at their death happens too.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import netlab

from bpfctl.kernel import syscall

# Closing cannot fail in a way that matters; asking for a file system's type changes nothing.
_UNCOUNTED = {"close", "statfs_type"}


class Outcome(NamedTuple):
    """How a child ended: exit ``status`` (negative: by that signal), and the ``calls`` it made."""

    status: int
    calls: list[str]
    stderr: str


class CountingSystem(syscall.System):
    """The real kernel, but call number ``at`` (from 1) does not reach it.

    ``errno`` 0 kills the process instead.  Calls go to ``log`` as they are made.
    """

    def __init__(self, log: Path, at: int = 0, errno: int = 0) -> None:
        self._log = log
        self._at = at
        self._errno = errno
        self._count = 0

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name.startswith("_") or name in _UNCOUNTED:
            return method

        def counted(*arguments: Any) -> Any:
            self._before(name, arguments)
            return method(*arguments)

        return counted

    def _before(self, name: str, arguments: Sequence[Any]) -> None:
        self._count += 1
        what = f"{name} {arguments[0]!r}" if name == "bpf" else name
        with self._log.open("a") as log:
            log.write(what + "\n")
        if self._count == self._at:
            if not self._errno:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self._errno, os.strerror(self._errno))


def trial(words: Sequence[object], directory: Path, namespace: str, at: int = 0, errno: int = 0) -> Outcome:
    """Run ``bpfctl WORDS`` in ``namespace``; its call number ``at`` fails with ``errno`` or kills it."""
    log, stderr = directory / "calls", directory / "stderr"
    log.write_text("")
    child = os.fork()
    if child == 0:
        os._exit(_run_child([str(word) for word in words], log, stderr, namespace, at, errno))
    _, wait_status = os.waitpid(child, 0)
    calls = log.read_text().splitlines()
    return Outcome(os.waitstatus_to_exitcode(wait_status), calls, stderr.read_text())


def _run_child(words: list[str], log: Path, stderr: Path, namespace: str, at: int, errno: int) -> int:
    from bpfctl.cli import main

    output = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    try:
        with netlab.inside(namespace):
            syscall.system = CountingSystem(log, at, errno)
            status = main.run(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        return 99
    return status
