"""What one invocation of the command line shares: options, output, and what stays open in a batch."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import cached_property

from bpfctl.cli.output import Output
from bpfctl.errors import Note, printable
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.loader import Session


class Options(NamedTuple):
    """The global options, as given before the object."""

    json: bool = False
    pretty: bool = False
    details: bool = False
    stats: bool = False
    force: bool = False
    batch: str | None = None
    netns: str | None = None
    ipv4: bool = False
    ipv6: bool = False

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6 if one of them was asked for, else 0."""
        return 10 if self.ipv6 else 2 if self.ipv4 else 0


class App:
    """Handed to every command."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.output = Output(options.json, options.pretty)
        self.position = ""  # FILE:LINE of the command in a batch
        self._stack = ExitStack()
        self._warned: set[str] = set()

    @cached_property
    def session(self) -> Session:
        """Objects read and sockets opened, for the next commands of a batch."""
        from bpfctl.loader import Session

        return self._stack.enter_context(Session())

    def close(self) -> None:
        """Let go of what a session keeps open."""
        self._stack.close()

    def warn(self, text: str) -> None:
        """One line on stderr, with the place in the batch; the same text is shown once only."""
        if text in self._warned:
            return
        self._warned.add(text)
        where = f"{self.position}: " if self.position else ""
        kind = "Note" if isinstance(text, Note) else "Warning"
        print(f"{kind}: {where}{printable(text, 4096)}", file=sys.stderr)
