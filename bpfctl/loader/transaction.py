"""All or nothing: what a command makes is undone when a later step fails."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without enum, see record.py
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from bpfctl.errors import BpfctlError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Protocol, TypeVar

    class _Closable(Protocol):
        def close(self) -> None: ...

    _Held = TypeVar("_Held", bound=_Closable)


_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Step(NamedTuple):
    description: str
    undo: Callable[[], None]


class Transaction:
    """A stack of undo steps, run in reverse when the ``with`` block is left by any exception.

    Leaving it normally keeps everything.  An undo step that fails does not stop the others; it is
    named in the details of the error that caused the rollback.
    """

    def __init__(self) -> None:
        self._steps: list[_Step] = []
        self._held: list[_Closable] = []
        self._last: list[Callable[[], None]] = []
        self.staged: dict[str, str] = {}  # a pin that will change -> that of what it will lead to

    def undo(self, description: str, step: Callable[[], None]) -> None:
        """Remember how to take back what was just done; ``description`` completes "could not ..."."""
        self._steps.append(_Step(description, step))

    def then(self, step: Callable[[], None]) -> None:
        """Remember what is to be done when the block has been left normally; if it fails, all is undone."""
        self._last.append(step)

    def keep(self) -> None:
        """What was done so far stays, whatever comes: for a last step that nothing can take back."""
        self._steps.clear()

    @contextmanager
    def step(self) -> Iterator[None]:
        """A block that a signal cannot cut in two: it does one thing and registers how to undo it.

        SIGINT, SIGTERM and SIGHUP wait for its end; there they interrupt, and the rollback is complete.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def hold(self, held: _Held) -> _Held:
        """Keep a descriptor, or what else has ``close``, open until the end, for a step that needs it."""
        self._held.append(held)
        return held

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._fail(error)
                return
            try:
                for step in self._last:
                    step()
            except BaseException as failure:
                self._fail(failure)
                raise
        finally:
            for held in self._held:
                held.close()

    def _fail(self, error: BaseException) -> None:
        failures = self._roll_back()
        if failures and isinstance(error, BpfctlError):
            error.details += tuple(failures)

    def _roll_back(self) -> list[str]:
        """Run the steps; what could not be undone, in words."""
        failures = []
        while self._steps:
            step = self._steps.pop()
            try:
                step.undo()
            except OSError as failure:
                failures.append(f"could not {step.description}: {failure.strerror}")
        return failures
