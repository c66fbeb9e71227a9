"""Benchmarks on the real kernel: what holds by a wide margin, on any machine, however busy."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Cli

from bpfctl.bench import maps as bench
from bpfctl.bench.cell import COLD, Cell, CellKey, load, state_map, write_state
from bpfctl.bench.like import model_of_map
from bpfctl.bench.maps import Request
from bpfctl.bench.network import PATHS, SOCKET, TC, VETH, Road, road
from bpfctl.bench.paths import PathTable
from bpfctl.bench.programs import Target, fresh_state, packet_program
from bpfctl.bench.shapes import COUNT, EVICT, LOOKUP, MISS, OPERATIONS, REINSERT, SHAPES, UPDATE
from bpfctl.cli.main import INTERRUPTED
from bpfctl.errors import KernelError
from bpfctl.kernel import bpf, info, syscall
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import Command, MapType

pytestmark = pytest.mark.kernel
TESTDATA = Path(__file__).parents[2] / "testdata"


@pytest.fixture(autouse=True)
def _on_one_cpu() -> Iterator[None]:
    with bench.pinned(()):
        yield


def ns(name: str, entries: int = 1024, keys: str = "dependent", rounds: int = 1) -> float:
    """Of a lookup: the best of ``rounds``, one where the figures are many times apart."""
    with Cell(CellKey(SHAPES[name], entries, LOOKUP, keys)) as cell:
        return min(cell.sample(round_).ns - cell.baseline(round_) for round_ in range(1, rounds + 1))


def test_array_is_under_a_third_of_hash() -> None:
    assert ns("array", rounds=3) < ns("hash", rounds=3) / 3


def test_a_large_trie_is_far_behind_a_large_hash() -> None:
    assert ns("lpm_trie", 65536, "independent") > 1.5 * ns("hash", 65536, "independent", rounds=2)


def test_cold_is_slower_than_warm() -> None:
    assert ns("hash", keys=COLD) > ns("hash", keys="independent", rounds=2)


@pytest.mark.parametrize("name", SHAPES)
def test_every_operation_meets_what_it_should(name: str) -> None:
    shape = SHAPES[name]
    for operation in OPERATIONS:
        if shape.supports(operation):
            with Cell(CellKey(shape, 64, operation, "independent")) as cell:
                hits = cell.sample(1).hits
            if operation == MISS:
                assert hits == 0
            elif shape.is_lru and operation in (LOOKUP, COUNT):
                assert hits > 0.4  # an LRU list need not hold all that it has room for
            else:
                assert hits == 1, operation


def test_what_a_type_cannot_do_is_not_measured() -> None:
    assert not SHAPES["array"].supports(REINSERT)
    assert not SHAPES["hash"].supports(EVICT)
    assert not SHAPES["queue"].supports(UPDATE)


@pytest.mark.skipif(not {0, 1} <= os.sched_getaffinity(0), reason="needs CPUs 0 and 1")
def test_a_shared_counter_suffers_from_a_second_cpu_and_its_own_does_not() -> None:
    cpus = (0, 1)
    shapes = tuple(SHAPES[name] for name in ("array", "percpu_array"))
    report = bench.run(Request(shapes, (1,), (COUNT,), "independent", 1, cpus))
    rows = {row.map: row for row in report.rows}
    if any(row.contended is None for row in rows.values()):
        assert report.skipped  # the other CPU had no time for us
        return
    assert rows["array"].contended > 2 * rows["array"].ns  # type: ignore[operator]
    assert rows["array"].contended > rows["percpu_array"].contended  # type: ignore[operator]


def test_report_of_the_command(run: Cli, tmp_path: Path) -> None:
    words = ("types", "array,hash", "sizes", "16,1k", "rounds", 1, "json", tmp_path / "report")
    text = run("bench", "maps", *words, status=0).stdout
    report = json.loads((tmp_path / "report").read_text())
    assert report["complete"] is True
    assert [(row["entries"], row["map"]) for row in report["rows"]] == [
        (16, "array"), (16, "hash"), (1024, "array"), (1024, "hash"),
    ]  # fmt: skip
    assert {row["hits"] for row in report["rows"]} == {1.0}
    assert report["host"]["kernel"] == os.uname().release
    assert "lookup, 1024 entries, ns an operation\n  rank  map    ns" in text


def test_comparison_with_an_earlier_report(run: Cli, tmp_path: Path) -> None:
    words = ("types", "array", "sizes", 16, "rounds", 1)
    run("bench", "maps", *words, "json", tmp_path / "old", status=0)
    changes = json.loads(run("-j", "bench", "maps", *words, "compare", tmp_path / "old", status=0).stdout)
    assert [(change["map"], change["entries"]) for change in changes] == [("array", 16)]


def test_like_a_map_of_an_object(run: Cli) -> None:
    target = f"{TESTDATA / 'endpoints.bpf.o'}:no_such_map"
    assert "maps there are" in run("bench", "maps", "like", target, status=1).stderr
    listed = json.loads(run("-j", "obj", "show", TESTDATA / "lpm_blocklist.bpf.o", status=0).stdout)["maps"]
    name = next(spec["name"] for spec in listed if spec["type"] == "lpm_trie")
    done = run("-j", "bench", "maps", "like", f"{TESTDATA / 'lpm_blocklist.bpf.o'}:{name}", "sizes", 64,
               "rounds", 1, status=0)  # fmt: skip
    assert {row["map"] for row in json.loads(done.stdout)["rows"]} == {name, "hash"}


def test_like_a_live_map(run: Cli) -> None:
    made = MapAttributes(MapType.HASH, 1, 8, 10, name="mine")
    with Fd(bpf.map_create(made)) as fd:
        bpf.map_update(fd.number, b"a", bytes(8))
        assert model_of_map(fd.number).fill == 0.1
        words = ("like", "id", info.map_info(fd.number).id, "rounds", 1)
        report = json.loads(run("-j", "bench", "maps", *words, status=0).stdout)
        assert {"mine", "array", "lru_hash_no_common"} <= {row["map"] for row in report["rows"]}
        assert report["skipped"] == []
    with Fd(bpf.map_create(MapAttributes(MapType.RINGBUF, 0, 0, 4096))) as fd:  # which has no keys to count
        words = ("like", "id", info.map_info(fd.number).id)
        assert "nothing is compared with" in run("bench", "maps", *words, status=1).stderr


def interrupted(seconds: float) -> dict[str, Any]:
    """The report of an endless run that got SIGINT after so long."""
    words = ["bench", "maps", "types", "array,hash", "sizes", "1,64", "rounds", "1000"]
    command = [sys.executable, "-m", "bpfctl", "-j", *words]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    if child.returncode == INTERRUPTED:  # before it had begun
        return {"complete": False, "rows": []}
    assert (child.returncode, err) == (0, "")
    report = json.loads(out)
    assert isinstance(report, dict)
    return report


def test_interrupt_shows_what_there_is() -> None:
    for seconds in (1, 3, 9, 27):  # a busy machine may not have come far
        report = interrupted(seconds)
        assert report["complete"] is False
        if report["rows"]:
            return
    pytest.fail("no row in half a minute")


def test_bars_and_progress_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    words = ["bench", "maps", "types", "array,hash", "sizes", "16", "rounds", "2"]
    with open(ours, "rb", buffering=0) as terminal:
        child = subprocess.Popen([sys.executable, "-m", "bpfctl", *words], stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: the other side is closed
            while data := terminal.read(4096):
                shown += data
    assert child.wait() == 0
    progress, _, table = shown.decode().rpartition("\r\033[K")
    assert progress.split("\r")[-1] == "measuring: 4 of 4"
    bars = {line.split()[1]: line.count("█") for line in table.splitlines() if "%" in line}
    assert bars["hash"] == 24
    assert bars["array"] < 8


def test_a_cpu_that_is_not_ours(run: Cli) -> None:
    assert "CPU 4000 is not one" in run("bench", "maps", "cpus", 4000, status=1).stderr


# --- packets ---


def output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def namespace() -> int:
    return os.stat("/proc/thread-self/ns/net").st_ino


def send(way: Road, count: int) -> None:
    shape = SHAPES["array"]
    with state_map(shape) as state, state_map(shape) as table:
        write_state(state.number, fresh_state(shape, 1))
        code = packet_program(Target(table.number, shape, 1), state.number, way.verdict, way.redirect_to)
        with load(code) as program:
            bpf.prog_test_run(program.number, way.run._replace(repeat=count))


def far_end() -> int:
    return int(json.loads(output("ip", "-j", "-s", "link", "show", "far"))[0]["stats64"]["rx"]["packets"])


def dropped_at_ingress() -> int:
    return next(
        int(q["drops"]) for q in json.loads(output("tc", "-j", "-s", "qdisc")) if q["kind"] == "clsact"
    )


def met_a_full_socket() -> int:
    lines = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
    counters = {
        protocol + name: int(figure)
        for (protocol, *names), (_, *figures) in zip(lines[::2], lines[1::2], strict=True)
        for name, figure in zip(names, figures, strict=True)
    }
    assert (counters["Udp:NoPorts"], counters["Ip:InHdrErrors"]) == (0, 0)
    assert counters["Udp:RcvbufErrors"] > 0
    return counters["Ip:InDelivers"]


ARRIVED = {VETH: far_end, TC: dropped_at_ingress, SOCKET: met_a_full_socket}


@pytest.mark.parametrize("path", ARRIVED)
def test_packets_go_all_the_way(path: str) -> None:
    home = namespace()
    before = output("ip", "-j", "link")
    with road(path) as way:
        assert namespace() != home
        send(way, 640)
        end = time.monotonic() + 5  # a veth's queue may be left to a thread of the kernel
        while (arrived := ARRIVED[path]()) < 640 and time.monotonic() < end:
            time.sleep(0.01)
    assert 0 <= arrived - 640 < 10  # a new device announces itself, too
    assert namespace() == home
    assert output("ip", "-j", "link") == before


def programs_of(pid: int) -> set[int]:
    """Ids of the programs that the process has open."""
    texts = []
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            texts.append(entry.read_text())
    return {int(number) for text in texts for number in re.findall(r"^prog_id:\s*(\d+)", text, re.MULTILINE)}


def is_loaded(number: int) -> bool:
    try:
        os.close(bpf.get_fd_by_id(Command.PROG_GET_FD_BY_ID, number))
    except FileNotFoundError:
        return False
    return True


def test_killed_it_leaves_nothing() -> None:
    """Not even the programs that are attached: the namespace goes with the process."""
    words = ["bench", "maps", "path", "tc", "types", "array", "sizes", "1", "rounds", "1000"]
    child = subprocess.Popen([sys.executable, "-m", "bpfctl", *words], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while len(programs := programs_of(child.pid)) < 5:  # two measured ones, three on the way
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
    while any(map(is_loaded, programs)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_share_of_a_packet(run: Cli) -> None:
    words = ("path", "drop,socket", "types", "array,lpm_trie", "sizes", "1k", "rounds", 2)
    report = json.loads(run("-j", "bench", "maps", *words, status=0).stdout)
    assert report["rows"] == report["skipped"] == []
    rows = {(row["path"], row["map"]): row for row in report["paths"]}
    assert len(rows) == 4
    for row in rows.values():
        assert row["hits"] == 1
        assert row["base"] > 0
    assert rows["drop", "lpm_trie"]["share"] > rows["drop", "array"]["share"]
    assert rows["drop", "lpm_trie"]["share"] > 0.2
    assert rows["socket", "array"]["base"] > 2 * rows["drop", "array"]["base"]


def test_a_path_that_cannot_be_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from bpfctl.kernel import rtnl_tc

    def refuse(*_: object) -> None:
        raise OSError(errno.ENODEV, "")

    monkeypatch.setattr(rtnl_tc, "add_qdisc", refuse)
    request = Request((SHAPES["array"],), (1,), rounds=1, paths=PATHS)
    table = PathTable(request, lambda done, total: None)
    table.fill()
    assert table.complete
    assert {row.path for row in table.rows()} == set(PATHS) - {TC}
    assert table.skipped == ["path tc: No such device (ENODEV)"]


@pytest.mark.parametrize(("number", "hint"), [(errno.EPERM, "CAP_SYS_ADMIN"), (errno.EINVAL, "None")])
def test_nothing_could_be_measured(number: int, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object, __: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(syscall.System, "unshare", refuse)
    with pytest.raises(KernelError, match="nothing could be measured") as raised:
        bench.run(Request((SHAPES["array"],), (1,), rounds=1, paths=("drop",)))
    assert hint in str(raised.value.hint)
    assert ("Linux 5.18" in raised.value.details[0]) is (number == errno.EINVAL)
