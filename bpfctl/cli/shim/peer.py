"""The real tool at work on its lines of a batch.

One process gets all of them, as they come, by a pipe: starting one costs more than most lines do.  Before
a line of ours is done, it must have done all that came before.  It reads again only then, and that can be
seen: in a pipe of packets (pipe(7), O_DIRECT) that has room for one, there is room for another as soon as
the last was read.  So the empty line that stands for one of ours is sent as a packet of its own.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
from collections.abc import Sequence

from bpfctl.cli.shim.work import Tool

_PACKET = 4096  # bytes, PIPE_BUF
_ERRORS = 65536
_HEAD = b"Command failed -:"


class Peer:
    """``tc -batch -``, started when there is something to do.  ``name``: how it is to call the batch."""

    def __init__(self, tool: Tool, name: str) -> None:
        self._tool = tool
        self._name = name
        self._lines = 0  # that it has been given, or will be
        self._pending: list[bytes] = []
        self._pid = 0
        self._stdin = self._stderr = -1
        self._watched = select.poll()
        self._errors = b""
        self._status = 0

    def feed(self, lines: Sequence[bytes]) -> None:
        """Lines for it to do, without their newlines; sent by ``flush``.  Lost on one that gave up."""
        if not self._pid and not self._status:
            self._start()
        self._lines += len(lines)
        self._pending += [line + b"\n" for line in lines]

    def skip(self, lines: int) -> None:
        """Lines that are not its own: it gets empty ones, so that it counts as the user does."""
        self._lines += lines
        if self._pid:
            self._pending.append(b"\n" * lines)

    def skip_when_done(self, lines: int) -> bool:
        """As ``skip``, once it has done all that it was fed; False when it gave up at an error."""
        self.flush()
        self.skip(lines)
        self.flush()
        if self._pid and not self._wait_for_room():
            self.finish()
        return not self._status

    def flush(self) -> None:
        """Send what is pending."""
        data = memoryview(b"".join(self._pending))
        self._pending = []
        while data and self._pid:
            try:
                data = data[os.write(self._stdin, data[:_PACKET]) :]
            except BlockingIOError:
                if not self._wait_for_room():
                    self.finish()
            except BrokenPipeError:  # it gave up
                self.finish()

    def finish(self) -> int:
        """Let it come to its end: its exit status, 0 if it was never started."""
        if self._pid:
            self.flush()
        if self._pid:
            os.close(self._stdin)
            while self._stderr >= 0:
                self._forward_errors()
            pid, self._pid = self._pid, 0
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self._status = status if status >= 0 else 128 - status
        return self._status

    def _start(self) -> None:
        sys.stdout.flush()
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        fcntl.fcntl(self._stdin, fcntl.F_SETPIPE_SZ, _PACKET)
        os.set_blocking(self._stdin, False)
        self._watched.register(self._stdin, select.POLLOUT)
        redirections = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
        stderr = -1
        if self._name != "-":
            self._stderr, stderr = os.pipe2(os.O_CLOEXEC)
            redirections.append((os.POSIX_SPAWN_DUP2, stderr, 2))
        # The second -batch takes the place of the one among the options.
        self._pid = self._tool.spawn([*self._tool.options, "-batch", "-"], redirections)
        os.close(stdin)
        if stderr >= 0:
            os.close(stderr)
            self._watched.register(self._stderr, select.POLLIN)
        self._pending = [b"\n" * self._lines]

    def _wait_for_room(self) -> bool:
        """Wait until the last packet was read, passing its errors on; False when nobody reads any more."""
        while True:
            events = dict(self._watched.poll())
            if self._stderr in events:
                self._forward_errors()
                if self._stderr < 0:
                    return False
            if self._stdin in events:
                return not events[self._stdin] & select.POLLERR

    def _forward_errors(self) -> None:
        """Pass on what it says on stderr, line by line, with the name of the batch."""
        data = os.read(self._stderr, _ERRORS)
        *lines, self._errors = (self._errors + data).split(b"\n")
        text = b"".join(self._named(line) + b"\n" for line in lines)
        if not data:
            self._watched.unregister(self._stderr)
            os.close(self._stderr)
            self._stderr = -1
            text, self._errors = text + self._errors, b""
        os.write(sys.stderr.fileno(), text)

    def _named(self, line: bytes) -> bytes:
        if not line.startswith(_HEAD):
            return line
        return _HEAD[:-2] + os.fsencode(self._name) + line[len(_HEAD) - 1 :]
