"""A batch of ``ip`` or ``tc`` with lines of both kinds, in order.

Ours are done in this process, the others by the real tool: all of them, by one process as a rule (see
``peer.py``).  A batch without a line of ours is the real tool's from the start.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
from collections.abc import Iterator

from bpfctl.attach.session import shared_socket
from bpfctl.cli.app import App
from bpfctl.cli.batch import split_line
from bpfctl.cli.errors import report
from bpfctl.cli.shim import handover, lines
from bpfctl.cli.shim.peer import Peer
from bpfctl.cli.shim.work import LOAD_FAILED, Tool
from bpfctl.errors import BpfctlError

_MARKS = {"ip": (b"xdp", b"bpf", b"End.BPF"), "tc": (b"bpf",)}
_CHUNK = 65536
_LINE_FAILED = 1


def run(app: App, tool: Tool, path: str) -> int:
    """The exit status of a batch: that of iproute2's, 1 after a line that failed."""
    fd = _open(path)
    try:
        if tool.path and _has_no_mark(fd, _MARKS[tool.name]):
            handover.become(tool.path, tool.name, tool.options)
        lines.enter_namespace(app)
        gc.enable()  # exceptions hold cycles: a long batch would pile them up
        with shared_socket():
            return _Batch(app, tool, path).run(fd)
    finally:
        if fd:
            os.close(fd)


def _open(path: str) -> int:
    """A descriptor of the batch file; stdin for ``-``."""
    if path == "-":
        return 0
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BpfctlError(f"cannot open the batch file {path}: {error.strerror}") from error


def _has_no_mark(fd: int, marks: tuple[bytes, ...]) -> bool:
    """Whether a regular file, read to its end and wound back, has no line that could be ours."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    start = os.lseek(fd, 0, os.SEEK_CUR)
    tail, found = b"", False
    while not found and (data := os.read(fd, _CHUNK)):
        found = any(mark in tail + data for mark in marks)
        tail = data[-8:]
    os.lseek(fd, start, os.SEEK_SET)
    return not found


class _Batch:
    """One run through the lines."""

    def __init__(self, app: App, tool: Tool, path: str) -> None:
        self._app = app
        self._tool = tool
        self._path = path
        self._marks = _MARKS[tool.name]
        self._peer = Peer(tool, path) if tool.path else None
        self._status = 0

    def run(self, fd: int) -> int:
        number = 0
        for commands in _commands(fd):
            for physical in commands:
                number += len(physical)
                if not self._do(physical, number):
                    return self._end()
            if self._peer:
                self._peer.flush()  # whoever writes the batch may wait for what it does
        return self._end()

    def _end(self) -> int:
        theirs = self._peer.finish() if self._peer else 0
        return self._status or theirs

    def _do(self, physical: list[bytes], number: int) -> bool:
        """One command, of one line or several; False when the batch is over."""
        if self._peer and not any(mark in line for line in physical for mark in self._marks):
            is_empty = len(physical) == 1 and physical[0].lstrip()[:1] in (b"", b"#")
            self._peer.skip(1) if is_empty else self._peer.feed(physical)
            return True
        if self._peer:
            self._peer.flush()  # it works on its lines while ours is read
        self._app.position = f"{self._path}:{number}"
        try:
            words = _words(physical)
            work = lines.find_work(self._tool, words)
        except BpfctlError as error:
            return self._went(report(error, self._app.position), number)
        if self._peer:
            if work is None:
                self._peer.feed(physical)
                return True
            if not self._peer.skip_when_done(len(physical)):
                return False
        if not words:
            return True
        return self._went(work.run(self._app) if work else handover.no_tool(self._tool.name), number)

    def _went(self, status: int, number: int) -> bool:
        """Note how a line of ours went; False when that ends the batch."""
        sys.stdout.flush()
        if not status:
            return True
        print(f"Command failed {self._path}:{number}", file=sys.stderr)
        self._status = self._status or (status if status == LOAD_FAILED["ip"] else _LINE_FAILED)
        return self._app.options.force


def _words(physical: list[bytes]) -> list[str]:
    """The words of a command, as iproute2's lib/utils.c splits it: ``#`` cuts a line wherever it stands."""
    parts = [line.partition(b"#")[0].removesuffix(b"\\") for line in physical]
    return split_line(os.fsdecode(b" ".join(parts)))


def _commands(fd: int) -> Iterator[list[list[bytes]]]:
    """Commands as lists of physical lines, several for one that a backslash continues, as they come in."""
    pending = b""
    joined: list[bytes] = []
    while data := os.read(fd, _CHUNK):
        *complete, pending = (pending + data).split(b"\n")
        commands = []
        for line in complete:
            joined.append(line)
            if not line.endswith(b"\\"):
                commands.append(joined)
                joined = []
        yield commands
    if pending:
        joined.append(pending)
    if joined:
        yield [joined]
