"""``prog profile``: what the kernel counts while a program runs."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import pytest
from fixture_types import Cli
from programs import XDP_PASS, load, program_id

from bpfctl.errors import BpfctlError, KernelError, NotFoundError, NotSupportedError
from bpfctl.inventory.counters import refuse
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


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, 0])
def test_counters_of_the_hardware(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    class Machine(syscall.System):
        def perf_event_open(self, attr: bytearray, pid: int, cpu: int) -> int:
            assert (pid, cpu, *struct.unpack_from("=2IQ", attr)) == (-1, 0, 3, 72, 0x10004)
            if number:
                raise OSError(number, os.strerror(number))
            return os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(syscall, "system", Machine())
    with pytest.raises(BpfctlError) as refused:
        refuse(["itlb_misses"])
    assert isinstance(refused.value, NotSupportedError) == (number != errno.EACCES)
    said = {
        errno.ENOENT: "this machine has no hardware counter of misses of the instruction TLB (itlb_misses)",
        errno.EACCES: "cannot ask for the hardware counter of misses of the instruction TLB",
        0: "hardware counters of programs (itlb_misses) are not read by bpfctl",
    }
    assert refused.value.message.startswith(said[number])


def test_counters_are_refused(run: Cli) -> None:
    done = run("prog", "profile", "duration", "1", "cycles", "llc_misses", status=2)
    assert "hardware counter" in done.stderr
    unknown = run("prog", "profile", "cycles", "warps", status=1).stderr
    assert unknown.startswith(
        'Error: What is "warps"?\nHint: known here: id, pinned, name, tag, duration; the counters '
    )


def test_nothing_to_count() -> None:
    with pytest.raises(NotFoundError, match="no program has id 4294967295"):
        profile(Reference("id", "4294967295"), lambda: None)
