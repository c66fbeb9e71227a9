"""`map watch`, `map top` and `map events`: what happens in maps, as it happens."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bpfctl.inventory.elements import open_elements
from bpfctl.inventory.events import Events
from bpfctl.inventory.reference import Reference
from bpfctl.kernel import bpf
from bpfctl.kernel.bpf import RunInput
from bpfctl.kernel.fd import Fd

pytestmark = pytest.mark.kernel

SOURCE = "192.0.2.7"


def packet(length: int) -> bytes:
    header = struct.pack(">BBHHHBBH", 0x45, 0, length - 14, 0, 0, 64, 17, 0)
    addresses = socket.inet_aton(SOURCE) + socket.inet_aton("192.0.2.1")
    return (bytes(12) + b"\x08\x00" + header + addresses).ljust(length, b"\0")


@contextmanager
def running(*words: object, output: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """bpfctl as a process, which is gone at the end of the block."""
    out = subprocess.PIPE if output is None else output
    command = [sys.executable, "-m", "bpfctl", *map(str, words)]
    with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_while(process: subprocess.Popen[bytes], act: Any, count: int) -> list[bytes]:
    """The first ``count`` lines of a process while ``act`` is called again and again."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    end, data = time.monotonic() + 20, b""
    while data.count(b"\n") < count and time.monotonic() < end:
        act()
        time.sleep(0.02)
        data += process.stdout.read() or b""
    return data.splitlines()[:count]


# --- events --------------------------------------------------------------------------------------

FEEDS = [
    ("to_ring", "feed", {}),
    ("to_perf", "perf_feed", {"cpu": 0}),
]


@pytest.mark.parametrize(("program", "name", "more"), FEEDS)
def test_events_by_type(
    run: Any, bpffs: Path, testdata: Path, program: str, name: str, more: dict[str, int]
) -> None:
    load = ("prog", "load", testdata / "event_feed.bpf.o", bpffs / "p", "program", program)
    run(*load, "pinmaps", bpffs / "maps", status=0)
    home = os.sched_getaffinity(0)
    words = ("-j", "map", "events", "pinned", bpffs / "maps" / name, "as", "packet_event", "count", 2)
    os.sched_setaffinity(0, {0})
    try:
        with Fd(bpf.obj_get(str(bpffs / "p"))) as fd, running(*words, "duration", 20) as process:
            sizes = iter([60, 120] * 2000)
            found = lines_while(
                process, lambda: bpf.prog_test_run(fd.number, RunInput(packet(next(sizes)))), 2
            )
            assert process.wait(10) == 0
    finally:
        os.sched_setaffinity(0, home)
    events = [json.loads(line) for line in found]
    verdicts = {60: "VERDICT_PASS", 120: "VERDICT_DROP"}
    assert [event.pop("cpu", None) for event in events] == [more.get("cpu")] * 2
    lengths = sorted(event["event"]["length"] for event in events)
    assert lengths == [60, 120]
    for event in events:
        length = event["event"]["length"]
        assert event == {"event": {"source": SOURCE, "length": length, "verdict": verdicts[length]}}


BYTES = "c0 00 02 07 3c 00 00 00 00 00 00 00"
# program, its map, what is shown of a packet of 60 bytes, and what standard error tells of it
FOUND = [
    ("to_ring", "feed", '"event":', "12 bytes: shown as packet_event, the only type of that size"),
    ("to_perf", "perf_feed", '"event":', "12 bytes: shown as packet_event, the only type of that size"),
    ("to_either", "feed", '"bytes":', "8 bytes: they may be flow_hash, flow_mark: `as TYPE` chooses"),
    ("of_any_size", "feed", f'"bytes":"{BYTES}"', "no program tells their size; `as TYPE` names"),
]


@pytest.mark.parametrize(("program", "name", "shown", "told"), FOUND)
def test_the_type_of_events_is_found_by_their_size(
    run: Any, bpffs: Path, testdata: Path, program: str, name: str, shown: str, told: str
) -> None:
    load = ("prog", "load", testdata / "event_feed.bpf.o", bpffs / "p", "program", program)
    run(*load, "pinmaps", bpffs / "maps", status=0)
    words = ("-j", "map", "events", "pinned", bpffs / "maps" / name, "count", 1, "duration", 20)
    with Fd(bpf.obj_get(str(bpffs / "p"))) as fd, running(*words) as process:
        (line,) = lines_while(process, lambda: bpf.prog_test_run(fd.number, RunInput(packet(60))), 1)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert told in process.stderr.read().decode()
    assert shown in line.decode()


def test_what_does_not_fit_into_a_perf_buffer_is_counted(run: Any, bpffs: Path, testdata: Path) -> None:
    load = ("prog", "load", testdata / "event_feed.bpf.o", bpffs / "p", "program", "to_perf")
    run(*load, "pinmaps", bpffs / "maps", status=0)
    home = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(home)})
    try:
        with (
            Fd(bpf.obj_get(str(bpffs / "p"))) as fd,
            open_elements(Reference("pinned", str(bpffs / "maps/perf_feed"))) as target,
            Events(target) as events,
        ):
            bpf.prog_test_run(fd.number, RunInput(packet(60), repeat=20_000))
            read = sum(1 for _ in events.read(lambda: 0))
            # The kernel tells of a loss with the next record that fits.
            bpf.prog_test_run(fd.number, RunInput(packet(60)))
            read += sum(1 for _ in events.read(lambda: 0))
            assert 0 < events.lost == 20_001 - read
    finally:
        os.sched_setaffinity(0, home)


def test_events_end_in_time_and_mistakes(run: Any, bpffs: Path, testdata: Path) -> None:
    load = ("prog", "load", testdata / "event_feed.bpf.o", bpffs / "p", "program", "of_any_size")
    run(*load, "pinmaps", bpffs / "maps", status=0)
    with Fd(bpf.obj_get(str(bpffs / "p"))) as fd:
        bpf.prog_test_run(fd.number, RunInput(packet(60), repeat=3))
    words = ("map", "events", "pinned", bpffs / "maps/feed")
    done = run(*words, "duration", "0.1", status=0)
    assert done.stdout == f"{BYTES}\n" * 3
    assert run(*words, "duration", "0.1", status=0).stdout == ""  # read is gone
    missing = run(*words, "as", "nothing", status=1)
    assert "has a type nothing" in missing.stderr
    run("map", "create", bpffs / "h", *["type", "hash", "key", "4", "value", "4", "entries", "4"], status=0)
    assert "have no events" in run("map", "events", "pinned", bpffs / "h", status=1).stderr


# --- watch and top -------------------------------------------------------------------------------


@pytest.fixture
def counters(run: Any, bpffs: Path) -> Path:
    """A hash table of numbers with two elements."""
    pin = bpffs / "counters"
    run("map", "create", pin, *["type", "hash", "key", "4", "value", "8", "entries", "16"], status=0)
    run("map", "update", "pinned", pin, "key", 1, "value", 5, status=0)
    run("map", "update", "pinned", pin, "key", 2, "value", 5, status=0)
    return pin


def key(number: int) -> bytes:
    return struct.pack("=I", number)


def test_watch_shows_what_changed(counters: Path) -> None:
    value = 0
    with Fd(bpf.obj_get(str(counters))) as fd:

        def count() -> None:
            nonlocal value
            value += 10
            bpf.map_update(fd.number, key(1), struct.pack("=Q", value))

        words = ("-j", "map", "watch", "pinned", counters, "interval", 20, "count", 3, "duration", 20)
        with running(*words) as process:
            records = [json.loads(line) for line in lines_while(process, count, 3)]
            assert process.wait(10) == 0
    assert [(record["change"], record["key"]) for record in records] == [("changed", 1)] * 3
    assert records[1]["old"] == records[0]["new"] < records[1]["new"]
    assert records[1]["rates"][""] > 0


def test_watch_shows_what_comes_and_goes(counters: Path) -> None:
    with Fd(bpf.obj_get(str(counters))) as fd:
        there = False

        def flip() -> None:
            nonlocal there
            there = not there
            if there:
                bpf.map_update(fd.number, key(7), struct.pack("=Q", 3))
            else:
                bpf.map_delete(fd.number, key(7))
            time.sleep(0.05)

        with running("map", "watch", "pinned", counters, "interval", 10, "duration", 20) as process:
            found = lines_while(process, flip, 3)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""
    assert {line.split()[0] for line in found} == {b"+", b"-"}
    assert any(line.startswith(b"+ 7: 3") for line in found)


def test_top_is_in_the_order_of_rates(counters: Path) -> None:
    value = 0
    with Fd(bpf.obj_get(str(counters))) as fd:

        def count() -> None:
            nonlocal value
            value += 10
            bpf.map_update(fd.number, key(1), struct.pack("=Q", 5 + value))
            bpf.map_update(fd.number, key(2), struct.pack("=Q", 5 + 3 * value))

        with running("-j", "map", "top", "pinned", counters, "interval", 100, "count", 2) as process:
            tables = [json.loads(line) for line in lines_while(process, count, 2)]
            assert process.wait(10) == 0
    last = tables[-1]["elements"]
    assert [row["key"] for row in last] == [2, 1]
    assert last[0]["rates"][""] > 2 * last[1]["rates"][""] > 0


def test_top_leaves_the_terminal_as_it_was(counters: Path) -> None:
    reader, writer = pty.openpty()
    with running("map", "top", "pinned", counters, "interval", 20, output=writer) as process:
        os.close(writer)
        data = b""
        while data.count(b"nothing counts") < 2:
            data += os.read(reader, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        data += os.read(reader, 4096)
    os.close(reader)
    assert data.startswith(b"\x1b[?1049h\x1b[?25l")
    assert data.endswith(b"\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("interval 5", "at least 10 ms are wanted"),
        ("duration x", 'Illegal duration "x"'),
        ("count", "count is missing"),
        ("often", 'What is "often"?'),
    ],
)
def test_mistakes(run: Any, counters: Path, words: str, message: str) -> None:
    assert message in run("map", "watch", "pinned", counters, *words.split(), status=1).stderr
