"""How often and how long a command goes on that shows what happens, and how it leaves the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from bpfctl.cli.app import App
from bpfctl.cli.grammar.tokens import Tokens, shown
from bpfctl.cli.output import to_json
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_MAX_SECONDS = 86400.0
_MIN_INTERVAL, _MAX_INTERVAL = 10, 3_600_000  # ms
_MAX_COUNT = 0xFFFFFFFF


class Pace:
    """``interval`` and ``duration`` in seconds (0: for ever), ``count`` of what is printed (0: no limit)."""

    def __init__(self, interval: float = 1.0, count: int = 0, duration: float = 0.0) -> None:
        self.interval = interval
        self.count = count
        self.end = time.monotonic() + duration if duration else float("inf")
        self._printed = 0

    @classmethod
    def parse(cls, tokens: Tokens, *, with_interval: bool = True) -> Pace:
        """``[ interval MS ] [ count N ] [ duration SECONDS ]``, the end of the line."""
        interval, count, duration = 1.0, 0, 0.0
        while tokens:
            if with_interval and tokens.take("interval"):
                number = tokens.number("interval", _MAX_INTERVAL)
                if number < _MIN_INTERVAL:
                    raise UsageError(f"Illegal interval {number}: at least {_MIN_INTERVAL} ms are wanted")
                interval = number / 1000
            elif tokens.take("count", "--count"):
                count = tokens.number("count", _MAX_COUNT)
            elif tokens.take("duration", "--duration"):
                duration = parse_seconds(tokens)
            else:
                tokens.end("interval, count, duration" if with_interval else "as, count, duration")
        return cls(interval, count, duration)

    def looks(self) -> Iterator[None]:
        """One after each interval, until the time is over; every wait ends at the same beat."""
        beat = time.monotonic()
        while beat < self.end:
            beat = min(beat + self.interval, self.end)
            time.sleep(max(0.0, beat - time.monotonic()))
            yield

    def left(self) -> float:
        """Seconds until the end."""
        return max(0.0, self.end - time.monotonic())

    def is_last(self) -> bool:
        """Count one more that was printed: whether that was the last one."""
        self._printed += 1
        return self._printed == self.count


def parse_seconds(tokens: Tokens) -> float:
    """The next word as a duration; UsageError for what is none."""
    word = tokens.value("duration")
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise UsageError(f"Illegal duration {shown(word)}: seconds, up to {_MAX_SECONDS:.0f}, are wanted")
    return seconds


def emit(app: App, record: dict[str, Any], render: Callable[[dict[str, Any]], str]) -> None:
    """One record as a line of JSON or as text, for the reader to see now."""
    if app.output.json and not app.output.pretty:
        app.output.text(to_json(record))
    else:
        app.output.record(record, render)
    sys.stdout.flush()


class Screen:
    """A terminal that is drawn anew each time, and as it was before at the end; elsewhere nothing at all."""

    def __init__(self, *, on: bool) -> None:
        self._on = on and sys.stdout.isatty()
        self.rows = 0  # that fit; 0: no limit

    def begin(self) -> None:
        """From the top."""
        if self._on:
            sys.stdout.write("\x1b[H\x1b[J")

    def __enter__(self) -> Screen:
        if self._on:
            import os

            self.rows = max(1, os.get_terminal_size(sys.stdout.fileno()).lines - 2)
            sys.stdout.write("\x1b[?1049h\x1b[?25l")  # another screen, without a cursor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on:
            sys.stdout.write("\x1b[?25h\x1b[?1049l")
            sys.stdout.flush()
