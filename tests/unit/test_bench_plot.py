"""Drawn reports: what is on them, read from the SVG."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bpfctl.bench import plot
from bpfctl.bench.host import Host
from bpfctl.bench.maps import Report, Row
from bpfctl.bench.paths import PathRow
from bpfctl.errors import BpfctlError

HOST = Host("6.1", "x86_64", "A $CPU", 2, (), {}, True, None, None, 0.1, 0.2)


def row(name: str, entries: int, ns: float, contended: float | None = None) -> Row:
    return Row("lookup", entries, name, 1, name == "hash", ns, ns - 1, ns + 2, 1.0, 0.0, (ns,), contended)


def share(path: str, name: str, ns: float) -> PathRow:
    share_ = max(ns, 0) / (24 + max(ns, 0))
    return PathRow(path, 1024, name, 1, False, 24.0, ns, ns, ns, share_, 1.0, 0.0, (ns,))


def report(rows: tuple[Row, ...] = (), paths: tuple[PathRow, ...] = ()) -> Report:
    return Report(1, True, 1.0, "dependent", HOST, rows, (), (), paths)


SIZES = (row("array", 1, 0.5), row("hash", 1, 5), row("array", 1024, -0.5), row("hash", 1024, 20))
CASES = {
    "sizes": (report(SIZES), ["lookup, dependent keys", "entries", "1k", "array", "hash"]),
    "ranking": (report(SIZES[2:]), ["lookup, dependent keys, 1k entries", "hash  1=", "array  1 ", "20"]),
    "contended": (
        report((row("hash", 1, 10, 73), row("percpu_hash", 1, 8, 8))),
        ["alone", "contended", "73  hash  x7.3", "8  percpu_hash  x1"],
    ),
    "paths": (
        report(paths=(share("drop", "hash", 16), share("drop", "array", -1), share("tc", "hash", 24))),
        ["drop", "tc", "40%", "0.0%", "50%", "ns a packet"],
    ),
}


@pytest.fixture
def _library() -> Iterator[None]:
    """Skips without matplotlib, and closes the fonts that it keeps open."""
    fonts = pytest.importorskip("matplotlib.font_manager")
    yield
    fonts._get_font.cache_clear()
    gc.collect()


def texts(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn(case: str, tmp_path: Path) -> None:
    drawn, expected = CASES[case]
    target = tmp_path / "x.svg"
    plot.write(drawn, str(target))
    assert set(expected) <= set(texts(target))
    assert "Linux 6.1, A $CPU, 2 CPUs, load 0.1 to 0.2" in texts(target)


@pytest.mark.usefixtures("_library")
def test_the_same_report_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plot.write(CASES["ranking"][0], str(tmp_path / name))
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.usefixtures("_library")
def test_png(tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    plot.write(report(SIZES), str(target))
    head = target.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20], "big") == 1350  # pixels: 9 inches of 150 dots


@pytest.mark.usefixtures("_library")
def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BpfctlError, match="nothing was measured"):
        plot.write(report(), str(tmp_path / "x.svg"))
    with pytest.raises(BpfctlError, match="No such file"):
        plot.write(report(SIZES), str(tmp_path / "gone" / "x.svg"))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BpfctlError, match="not installed") as raised:
        plot.require()
    assert "bpfctl[plot]" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("places", "spread"),
    [
        ({}, {}),
        ({"a": 5.0}, {"a": 5.0}),
        ({"a": 0.0, "b": 3.0}, {"a": 0.0, "b": 3.0}),
        ({"b": 1.0, "a": 0.0, "c": 9.0}, {"a": -0.5, "b": 1.5, "c": 9.0}),
        ({"a": 0.0, "b": 0.0, "c": 1.5}, {"a": -1.5, "b": 0.5, "c": 2.5}),
    ],
)
def test_labels_keep_their_distance(places: dict[str, float], spread: dict[str, float]) -> None:
    assert plot.spread(places, 2) == spread
