"""``obj check`` on the kernel that runs, judged by loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixture_types import Cli, Requires
from test_older_kernels import loaded

from bpfctl.loader.check import check
from bpfctl.objfile import read_object

TESTDATA = Path(__file__).parents[2] / "testdata"


@pytest.mark.kernels
@pytest.mark.parametrize(
    "name", ["xdp_pass", "proto_counters", "mixed_maps", "core_user", "lwt", "map_types"]
)
def test_what_fits_loads_and_what_does_not_is_named(name: str, bpffs: Path) -> None:
    fit = check(read_object(str(TESTDATA / f"{name}.bpf.o")))
    if fit.fits:
        loaded(name).close()
    else:
        assert [finding.kind for finding in fit.findings if finding.required] == ["map_type"] * 2


@pytest.mark.kernels
def test_functions_and_tracepoints_that_no_load_asks_for(tmp_path: Path, requires: Requires) -> None:
    """Judged by the kernel's own lists, which attachments go by."""
    requires("kprobes")
    data, moved = (TESTDATA / "hooks.bpf.o").read_bytes(), tmp_path / "moved.bpf.o"
    for old, new in ((b"kprobe/do_", b"kprobe/no_"), (b"/sched_switch", b"/sched_glitch")):
        data = data.replace(old, new)
    moved.write_bytes(data)
    probed = {"on_call", "on_tracepoint", "on_raw_tracepoint"}
    for path, expected in ((TESTDATA / "hooks.bpf.o", set()), (moved, probed)):
        findings = [f for f in check(read_object(str(path))).findings if f.kind == "target"]
        assert {f.program for f in findings if f.program in probed} == expected
        assert all(f.status == "missing" for f in findings if f.program in probed)


def test_json_and_exit_status(run: Cli) -> None:
    done = run("-j", "obj", "check", TESTDATA / "core_missing.bpf.o", status=2)
    record = json.loads(done.stdout)
    assert (record["fits"], len(record["findings"])) == (False, 2)
    required, guarded = record["findings"]
    assert (required["kind"], required["required"], required["program"]) == ("core", True, "reads_it")
    assert (guarded["required"], guarded["program"]) == (False, "asks_first")
    assert done.stderr.startswith("Error: ")
    assert "does not fit the kernel: 1 missing" in done.stderr
    record = json.loads(run("-j", "obj", "check", TESTDATA / "xdp_pass.bpf.o", status=0).stdout)
    assert (record["fits"], record["findings"]) == (True, [])


def test_text(run: Cli) -> None:
    lines = run("obj", "check", TESTDATA / "core_missing.bpf.o", status=2).stdout.splitlines()
    assert lines[0].startswith(f"{TESTDATA}/core_missing.bpf.o: does not fit ")
    assert lines[1].startswith("  missing  required  core ")
    assert lines[3].startswith("    in reads_it, instruction ")
