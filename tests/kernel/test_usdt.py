"""USDT probes by ``autoattach``: what the program sees at each of them, in processes that start later."""

from __future__ import annotations

import json
import platform
import struct
import subprocess
import time
from pathlib import Path

import probed
import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA

from bpfctl.api.loading import LoadOptions, load_program
from bpfctl.api.sources import ObjectSource
from bpfctl.errors import NotSupportedError
from bpfctl.kernel import probe

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernels,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the probed program is of x86-64"),
]
OBJECT = TESTDATA / "usdt.bpf.o"
COUNT, HITS = 12, 13  # slots of the map usdt_seen behind the arguments


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program with the probes, in $PATH."""
    path = probed.write(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return path


def seen(run: Cli, bpffs: Path) -> list[int]:
    rows = json.loads(run("-j", "map", "dump", "pinned", bpffs / "usdt_seen", status=0).stdout)
    return [struct.unpack("<q", bytes(int(byte, 16) for byte in row["value"]))[0] for row in rows]


def execute(target: Path) -> int:
    return subprocess.run([target], check=False).returncode


def detached(target: Path) -> bool:
    """Whether the semaphore is back at zero: the kernel lets go of a link some time after its last pin."""
    deadline = time.monotonic() + 5
    while execute(target) and time.monotonic() < deadline:
        time.sleep(0.02)
    return execute(target) == 0


def load(run: Cli, program: str, pin: Path, *, status: int = 0) -> str:
    done = run("prog", "load", OBJECT, pin, "program", program, "autoattach", status=status)
    return done.stderr


def test_arguments_at_every_place(bpffs: Path, run: Cli, requires: Requires, target: Path) -> None:
    requires("uprobe_multi")
    load(run, "on_work", bpffs / "link")
    assert seen(run, bpffs)[HITS] == 0
    assert execute(target) == 0
    found = seen(run, bpffs)
    assert tuple(found[:4]) == probed.VALUES
    assert (found[COUNT], found[HITS]) == (4, 2)


def test_a_semaphore_counts_who_listens(bpffs: Path, run: Cli, requires: Requires, target: Path) -> None:
    requires("perf_link")
    assert execute(target) == 0
    load(run, "on_idle", bpffs / "link")
    assert execute(target) == 1
    found = seen(run, bpffs)
    assert (found[COUNT], found[HITS]) == (0, 1)
    (bpffs / "link").unlink()
    assert detached(target)
    gone = seen(run, bpffs)
    execute(target)
    assert seen(run, bpffs) == gone


def test_records_are_shared(bpffs: Path, run: Cli, requires: Requires, target: Path) -> None:
    """Two loads with one map of records: equal arguments have one record, others follow."""
    requires("uprobe_multi")
    for pin, program in (("a", "on_work"), ("b", "on_idle"), ("c", "on_work")):
        words = ("program", program, "pinmaps", bpffs / "maps", "autoattach")
        run("prog", "load", OBJECT, bpffs / pin, *words, status=0)
    dumped = run("-j", "map", "dump", "pinned", bpffs / "maps" / "__bpf_usdt_specs", status=0).stdout
    used = [any(int(byte, 16) for byte in row["value"]) for row in json.loads(dumped)]
    assert used == [True, True, False, False]
    assert execute(target) == 1
    assert seen(run, bpffs)[HITS] == 5


def test_a_kernel_without_links_to_many(
    bpffs: Path, requires: Requires, target: Path, run: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    requires("perf_link")
    monkeypatch.setattr(probe.UPROBE_MULTI, "available", lambda: False)
    monkeypatch.setattr(probe.UPROBE_MULTI, "missing", lambda: True)
    options = LoadOptions(autoattach=True)
    load_program(ObjectSource(str(OBJECT), program="on_idle"), str(bpffs / "idle"), options=options)
    assert execute(target) == 1
    assert seen(run, bpffs)[HITS] == 1
    with pytest.raises(NotSupportedError) as refused:
        load_program(ObjectSource(str(OBJECT), program="on_work"), str(bpffs / "work"), options=options)
    assert refused.value.feature == "uprobe_multi"
    assert not (bpffs / "work").exists()


def test_a_probe_that_is_not_there(bpffs: Path, run: Cli, target: Path, requires: Requires) -> None:
    requires("perf_link")  # and with it the helper that the program calls
    assert load(run, "on_nothing", bpffs / "link", status=1) == (
        f"Error: {target}: no USDT probe bpfctl:nowhere\nHint: it has bpfctl:idle, bpfctl:work\n"
    )
    assert not (bpffs / "link").exists()


def test_a_program_that_is_not_there(bpffs: Path, run: Cli, requires: Requires) -> None:
    requires("perf_link")  # and with it the helper that the program calls
    assert load(run, "on_work", bpffs / "link", status=1).startswith("Error: no file bpfctl-probed in ")


def test_broken_notes(bpffs: Path, run: Cli, target: Path, requires: Requires) -> None:
    requires("perf_link")  # and with it the helper that the program calls
    target.write_bytes(probed.executable(probed.note(probed.CODE, "work", "4@%eax 16@%xmm0")))
    assert load(run, "on_work", bpffs / "link", status=1) == (
        f"Error: {target}, section .note.stapsdt, offset 0x0: argument 2 is not understood: 16@%xmm0\n"
    )
    assert not (bpffs / "link").exists()
