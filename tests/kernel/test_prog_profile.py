"""``prog profile``: what the kernel counts while a program runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fixture_types import Cli
from programs import XDP_PASS, load, program_id

from bpfctl.errors import KernelError, NotFoundError, NotSupportedError
from bpfctl.inventory.profile import profile
from bpfctl.inventory.reference import Reference
from bpfctl.kernel import bpf, syscall
from bpfctl.uapi import Command, ProgramType

pytestmark = pytest.mark.kernel

RUNS = 5000


def test_runs_are_counted_while_somebody_looks() -> None:
    with load(ProgramType.XDP, XDP_PASS, "counted") as busy, load(ProgramType.XDP, XDP_PASS, "idle") as idle:

        def run() -> None:
            bpf.prog_test_run(busy.number, bpf.RunInput(data=bytes(64), repeat=RUNS))

        run()  # before: not counted
        busy_id, idle_id = program_id(busy), program_id(idle)
        (record,) = profile(Reference("id", str(busy_id)), run)
        assert (record.id, record.type, record.name) == (busy_id, "xdp", "counted")
        assert record.run_cnt == RUNS
        assert record.run_time_ns > 0
        assert record.ns_per_run == pytest.approx(record.run_time_ns / RUNS, abs=0.1)
        assert record.runs_per_second == pytest.approx(RUNS * 1e9 / record.duration, rel=0.01)
        listed = {record.id: record.run_cnt for record in profile(None, run)}
        assert listed[busy_id] == RUNS
        assert idle_id not in listed
        (idle_record,) = profile(Reference("id", str(idle_id)), run)
        assert (idle_record.run_cnt, idle_record.ns_per_run, idle_record.cpu_percent) == (0, None, 0)


def test_the_command(run: Cli, bpffs: Path, testdata: Path) -> None:
    run("prog", "load", testdata / "xdp_pass.bpf.o", "m:profiled", status=0)
    words = ("prog", "profile", "pinned", bpffs / "tc" / "profiled", "duration", "0.01")
    record = json.loads(run("-j", *words, status=0).stdout)
    assert (record["name"], record["run_cnt"]) == ("xdp_pass", 0)
    assert "ns_per_run" not in record
    assert run(*words, status=0).stdout.endswith("name xdp_pass  runs 0  runs/s 0.0  ns/run -  cpu 0.0%\n")
    assert run("prog", "profile", "duration", "nan", status=1).stderr.startswith(
        'Error: Illegal duration "nan"'
    )


def test_a_kernel_that_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(syscall.System):
        number = 22

        def bpf(self, command: int, attr: bytearray) -> int:
            if command == Command.ENABLE_STATS:
                raise OSError(self.number, os.strerror(self.number))
            return super().bpf(command, attr)

    monkeypatch.setattr(syscall, "system", Refusing())
    with pytest.raises(NotSupportedError, match="on demand"):
        profile(None, lambda: None)
    monkeypatch.setattr(Refusing, "number", 1)
    with pytest.raises(KernelError, match="cannot make the kernel count"):
        profile(None, lambda: None)


def test_nothing_to_count() -> None:
    with pytest.raises(NotFoundError, match="no program has id 4294967295"):
        profile(Reference("id", "4294967295"), lambda: None)
