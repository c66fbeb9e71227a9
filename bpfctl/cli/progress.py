"""A line on stderr for what takes longer than a second: how far, and how fast."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_PATIENCE = 1.0  # seconds before the first line
_EVERY = 0.2
_WIDTH = 30


class Progress:
    """Counts elements, of ``total`` or 0 where nobody knows; only on a terminal, and gone at the end."""

    def __init__(self, total: int = 0, *, shown: bool = True) -> None:
        self.total = total
        self.count = 0
        self._start = time.monotonic()
        self._next = self._start + _PATIENCE
        self._shown = False
        self._on = shown and sys.stderr.isatty()

    def advance(self, count: int) -> None:
        """``count`` more are done."""
        self.count += count
        if self._on and time.monotonic() >= self._next:
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        self._next = now + _EVERY
        self._shown = True
        rate = self.count / max(now - self._start, 1e-9)
        line = f"{self.count} elements, {rate:.0f}/s"
        if self.total:
            done = min(self.count / self.total, 1.0)
            bar = "#" * int(done * _WIDTH)
            line = f"[{bar:<{_WIDTH}}] {done:4.0%}  {line}"
        sys.stderr.write(f"\r{line}\x1b[K")
        sys.stderr.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
