"""``prog profile``: what the kernel counts while a program runs."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import pytest
from fixture_types import Cli, Requires
from programs import XDP_PASS, load, program_id

from bpfctl.errors import BpfctlError, KernelError, NotFoundError, NotSupportedError
from bpfctl.inventory.counters import counting
from bpfctl.inventory.profile import profile
from bpfctl.inventory.reference import Reference
from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.fd import Fd
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


@pytest.mark.kernels
def test_counters_read_at_entry_and_exit(run: Cli, bpffs: Path, testdata: Path, requires: Requires) -> None:
    """By the clock of the CPU, which needs no hardware and takes the way of all counters."""
    requires("fentry")
    run("prog", "load", testdata / "xdp_pass.bpf.o", bpffs / "counted", status=0)
    with Fd(bpf.obj_get(str(bpffs / "counted"))) as program:
        before = list(bpf.iter_ids(Command.LINK_GET_NEXT_ID))

        def work() -> None:
            bpf.prog_test_run(program.number, bpf.RunInput(data=bytes(64), repeat=RUNS))

        work()  # before: not counted
        (record,) = profile(Reference("pinned", str(bpffs / "counted")), work, ["cpu_clock"])
        assert record.run_cnt == RUNS
        assert record.counters is not None
        (counter,) = record.counters
        assert (counter.name, counter.runs, counter.percent) == ("cpu_clock", RUNS, 100)
        assert counter.per_run == pytest.approx(counter.value / RUNS, abs=0.1)
        assert 0 < counter.value < record.duration
        assert list(bpf.iter_ids(Command.LINK_GET_NEXT_ID)) == before, "nothing stays attached"
    words = ("pinned", bpffs / "counted", "duration", "0.01", "cpu_clock")
    text = run("prog", "profile", *words, status=0).stdout
    assert text.endswith("\n    cpu_clock 0  runs 0  per run -\n")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENODEV])
def test_counters_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    class Machine(syscall.System):
        def perf_event_open(self, attr: bytearray, pid: int, cpu: int) -> int:
            assert (pid, *struct.unpack_from("=2IQ", attr)) == (-1, 3, 72, 0x10004)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(syscall, "system", Machine())
    with (
        load(ProgramType.XDP, XDP_PASS) as program,
        pytest.raises(BpfctlError) as refused,
        counting(program.number, ["itlb_misses"]),
    ):
        pass
    assert isinstance(refused.value, NotSupportedError) == (number != errno.EACCES)
    said = "this machine has no hardware counter of misses of the instruction TLB (itlb_misses)"
    if number == errno.EACCES:
        said = "cannot ask for the counter of misses of the instruction TLB"
    assert refused.value.message.startswith(said)


def test_counters_are_of_one_program_that_has_types(run: Cli) -> None:
    with load(ProgramType.XDP, XDP_PASS, "untyped") as program:
        words = ("id", program_id(program), "duration", "1", "cpu_clock")
        done = run("prog", "profile", *words, status=1)
        assert "program untyped" in done.stderr
        assert done.stderr.endswith("was loaded without types, so that no counter can be read at its entry\n")
    assert run("prog", "profile", "cycles", status=1).stderr.startswith(
        "Error: counters are of one program\n"
    )
    unknown = run("prog", "profile", "cycles", "warps", status=1).stderr
    assert unknown.startswith(
        'Error: What is "warps"?\nHint: known here: id, pinned, name, tag, duration; the counters '
    )


def test_nothing_to_count() -> None:
    with pytest.raises(NotFoundError, match="no program has id 4294967295"):
        profile(Reference("id", "4294967295"), lambda: None)
