"""The progress line: on a terminal only, after a second only, and gone at the end."""

from __future__ import annotations

import io

import pytest

from bpfctl.cli import progress
from bpfctl.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_bar_with_rate_after_a_second(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys, "stderr", Terminal())
    with Progress(1000) as shown:
        shown.advance(100)
        assert progress.sys.stderr.getvalue() == ""
        clock[0] += 2
        shown.advance(400)
        line = progress.sys.stderr.getvalue()
        assert line == f"\r[{'#' * 15}{' ' * 15}]  50%  500 elements, 250/s\x1b[K"
        shown.advance(1)  # not again so soon
        assert progress.sys.stderr.getvalue() == line
    assert progress.sys.stderr.getvalue() == line + "\r\x1b[K"


@pytest.mark.parametrize(("stream", "wanted"), [(Terminal, False), (io.StringIO, True)])
def test_nothing_where_nobody_looks(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], wanted: bool
) -> None:
    monkeypatch.setattr(progress.sys, "stderr", stream())
    with Progress(shown=wanted) as shown:
        clock[0] += 5
        shown.advance(1)
    assert progress.sys.stderr.getvalue() == ""
