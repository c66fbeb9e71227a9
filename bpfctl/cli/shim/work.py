"""A command of ours under the name of a tool, and the real tool beside it."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without enum, see record.py
import os
import sys
from collections.abc import Callable, Collection, Sequence

from bpfctl.cli.app import App
from bpfctl.cli.errors import report
from bpfctl.cli.shim import handover
from bpfctl.errors import EXIT_KERNEL, BpfctlError, NoInterfaceError, UsageError
from bpfctl.record import NamedTuple

# Exit status for a spec, an object file or a program that is refused; and for a refusal by the kernel
LOAD_FAILED = {"ip": 255, "tc": 1}
FAILED = 255  # any failure of actions and exec


class Work:
    """A command of ours.  ``function(app, loaded)`` does it and calls ``loaded`` before it attaches.

    ``always``: the exit status of any failure, where there is but one.  ``tool`` is "" for a command whose
    failures have no last line.
    """

    def __init__(
        self,
        tool: str,
        function: Callable[[App, Callable[[], None]], object],
        *,
        loads: bool = True,
        always: int = 0,
    ) -> None:
        self._tool = tool
        self._function = function
        self._is_loaded = not loads
        self._always = always

    def run(self, app: App) -> int:
        """The exit status, which is iproute2's; an error is on stderr."""
        try:
            self._function(app, self._loaded)
        except BpfctlError as error:
            if not isinstance(error, ToolRefusedError):
                report(error, app.position)
            return self._status(error)
        return 0

    def _loaded(self) -> None:
        self._is_loaded = True

    def _status(self, error: BpfctlError) -> int:
        if not self._is_loaded or not self._tool:
            return self._always or LOAD_FAILED[self._tool]
        if isinstance(error, NoInterfaceError | UsageError | ToolRefusedError | RestRefusedError):
            return error.exit_status
        if self._tool == "tc":
            print("We have an error talking to the kernel", file=sys.stderr)
        return self._always or EXIT_KERNEL


class ToolRefusedError(BpfctlError):
    """The real tool refused a line whose program is ours, and said why; ``exit_status`` is its."""

    def __init__(self, status: int) -> None:
        super().__init__("the real tool refused the line")
        self.exit_status = status


class RestRefusedError(BpfctlError):
    """The real tool refused the words of a line that are not ours; ``exit_status`` is its."""

    def __init__(self, device: str, status: int) -> None:
        super().__init__(f"{device}: nothing is attached, since the rest of the line was refused")
        self.exit_status = status


class Loan(NamedTuple):
    """What a tool gets to attach a program of ours: descriptors, and the signals that are blocked in it."""

    fds: Sequence[int]
    mask: Collection[int]


class Tool(NamedTuple):
    """The tool that we stand for: its name, the path of the real one or "", the global options as given.

    ``line_options``: those that a single line has to have as well.
    """

    name: str
    path: str
    options: list[str]
    line_options: list[str]

    def call(self, words: Sequence[str], loan: Loan | None = None) -> int:
        """Run the real tool in our network namespace, as a child: its exit status."""
        sys.stdout.flush()
        redirections = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in loan.fds] if loan else []
        child = self.spawn(words, redirections, loan)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def spawn(
        self,
        words: Sequence[str],
        redirections: Sequence[tuple[int, int, int]] = (),
        loan: Loan | None = None,
    ) -> int:
        """Start the real tool as it would start without us: its process id."""
        environment = handover.environment()
        if loan:
            environment.pop("TC_BPF_UDS", None)  # the maps are ours to export
        return os.posix_spawn(
            self.path,
            [self.name, *words],
            environment,
            file_actions=redirections,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            setsigmask=loan.mask if loan else blocked_signals(),
        )


def blocked_signals() -> set[int]:
    """The signals that are blocked now."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())  # type: ignore[no-any-return]
