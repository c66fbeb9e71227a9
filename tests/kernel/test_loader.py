"""The loader against the running kernel: sharing by pins, races, program arrays, refusals."""

from __future__ import annotations

import errno
import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import netlab
import pytest
from fixture_types import Cli
from netlab import TESTDATA

from bpfctl.errors import KernelError, PinMismatchError, VerifierError
from bpfctl.kernel import bpf, info, syscall
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.loader import LoadedObject, LoadRequest, Session, Transaction, load
from bpfctl.objfile import read_object
from bpfctl.uapi import Command, MapType, ProgramType

pytestmark = pytest.mark.kernel


def load_testdata(name: str, *programs: str, transaction: Transaction | None = None) -> LoadedObject:
    obj = read_object(str(TESTDATA / f"{name}.bpf.o"))
    if transaction:
        return load(obj, LoadRequest(programs), transaction)
    with Transaction() as own:
        return load(obj, LoadRequest(programs), own)


def map_id(fd: Fd) -> int:
    return info.map_info(fd.number).id


def pinned_id(path: Path) -> int:
    with Fd(bpf.obj_get(str(path))) as fd:
        return map_id(fd)


def test_both_generations_share_one_pinned_map(bpffs: Path) -> None:
    with (
        load_testdata("proto_counters", "count_protocols") as old,
        load_testdata("proto_report", "report_protocols") as new,
    ):
        assert map_id(old.maps["proto_counters"].fd) == map_id(new.maps["proto_counters"].fd)
        assert new.maps["proto_counters"].reused


def test_layout_is_iproute2s(bpffs: Path) -> None:
    load_testdata("proto_counters", "count_protocols").close()
    assert (bpffs / "tc/globals/proto_counters").exists()
    assert (bpffs / "xdp").readlink() == Path("tc")
    assert (bpffs / "ip/globals/proto_counters").exists()


def test_object_namespace_is_the_sha1_of_the_file(bpffs: Path) -> None:
    import hashlib

    obj = read_object(str(TESTDATA / "pin_object_ns.bpf.o"))
    with Transaction() as transaction:
        load(obj, LoadRequest(("count_ingress",), ProgramType.SCHED_CLS), transaction).close()
    digest = hashlib.sha1((TESTDATA / "pin_object_ns.bpf.o").read_bytes()).hexdigest()
    assert (bpffs / "tc" / digest / "shared").exists()


def test_real_directory_named_xdp_does_not_split_sharing(bpffs: Path) -> None:
    (bpffs / "xdp").mkdir()
    load_testdata("proto_counters", "count_protocols").close()
    assert (bpffs / "tc/globals/proto_counters").exists()
    assert list((bpffs / "xdp").iterdir()) == []


class Interloper(syscall.System):
    """The real kernel, with something happening just before the first BPF_OBJ_PIN."""

    def __init__(self, happening: Callable[[], None]) -> None:
        self._happening: Callable[[], None] | None = happening

    def bpf(self, command: int, attr: bytearray) -> int:
        if command == Command.OBJ_PIN and self._happening:
            happening, self._happening = self._happening, None
            happening()
        return super().bpf(command, attr)


def test_lost_race_for_a_pin_ends_with_the_winners_map(bpffs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rival = lambda: load_testdata("proto_report", "report_protocols").close()  # noqa: E731
    monkeypatch.setattr(syscall, "system", Interloper(rival))
    with load_testdata("proto_counters", "count_protocols") as loaded:
        ours = loaded.maps["proto_counters"]
        assert ours.reused
        assert map_id(ours.fd) == pinned_id(bpffs / "tc/globals/proto_counters")
        used = info.prog_info(loaded.program("count_protocols").fd.number).map_ids
        assert map_id(ours.fd) in used


def test_commands_at_the_same_time_end_with_one_map(bpffs: Path, netns: netlab.Lab, run: Cli) -> None:
    words = ["-n", netns.a.namespace, "filter", "replace", "dev", "v0", "ingress", "bpf", "da"]
    run(*words[:2], "qdisc", "add", "dev", "v0", "clsact", status=0)
    source = ["obj", str(TESTDATA / "proto_report.bpf.o"), "sec", "tc"]
    command = [sys.executable, "-m", "bpfctl", *words]
    racers = [
        subprocess.Popen([*command[:-2], "pref", str(n), "bpf", "da", *source], stderr=subprocess.PIPE)
        for n in range(1, 9)
    ]
    results = [(racer.communicate()[1], racer.returncode) for racer in racers]
    assert [status for _, status in results] == [0] * len(racers), results
    shown = run("-d", "-j", *words[:2], "filter", "show", "dev", "v0", "ingress", status=0)
    programs = [row["options"]["prog"] for row in json.loads(shown.stdout) if "options" in row]
    assert len(programs) == len(racers)
    assert {tuple(program["map_ids"]) for program in programs} == {
        (pinned_id(bpffs / "tc/globals/proto_counters"),)
    }


def test_mismatch_is_a_table_and_the_pin_stays(bpffs: Path) -> None:
    with load_testdata("proto_counters", "count_protocols") as loaded:
        spec = loaded.maps["proto_counters"].spec
    path = bpffs / "tc/globals/proto_counters"
    path.unlink()
    other = MapAttributes(MapType.HASH, spec.key_size, 16, spec.max_entries + 1, name="proto_counters")
    with Fd(bpf.map_create(other)) as fd:
        bpf.obj_pin(fd.number, str(path))
        with pytest.raises(PinMismatchError) as caught:
            load_testdata("proto_counters", "count_protocols")
        assert pinned_id(path) == map_id(fd)
    fields = [line.split("  ")[0] for line in caught.value.details]
    assert fields == ["field", "type", "value size", "max entries"]
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH])
def test_flags_that_the_kernel_adds_do_not_count(bpffs: Path, kind: MapType) -> None:
    from bpfctl.loader.reuse import open_pinned_map

    wanted = MapAttributes(kind, 4, 4, 8, name="ports")
    with Fd(bpf.map_create(wanted)) as fd:
        bpf.obj_pin(fd.number, str(bpffs / "ports"))
    found = open_pinned_map(str(bpffs / "ports"), wanted, "ports")
    assert found is not None
    found[0].close()


def test_lru_rounded_to_the_cpus_is_reused(bpffs: Path) -> None:
    from bpfctl.loader.reuse import open_pinned_map

    wanted = MapAttributes(MapType.LRU_HASH, 4, 4, 1001, map_flags=2, name="flows")
    with Fd(bpf.map_create(wanted)) as fd:
        bpf.obj_pin(fd.number, str(bpffs / "flows"))
    found = open_pinned_map(str(bpffs / "flows"), wanted, "flows")
    assert found is not None
    found[0].close()


def test_pinned_program_where_a_map_belongs(bpffs: Path) -> None:
    (bpffs / "tc/globals").mkdir(parents=True)
    with load_testdata("tc_pass", "tc_pass") as loaded:
        bpf.obj_pin(loaded.program("tc_pass").fd.number, str(bpffs / "tc/globals/proto_counters"))
    with pytest.raises(Exception, match="not a map"):
        load_testdata("proto_counters", "count_protocols")


def test_failure_after_the_load_puts_array_slots_back(bpffs: Path) -> None:
    (bpffs / "tc/globals").mkdir(parents=True)
    with load_testdata("xdp_root", "xdp_root") as first:
        array = next(m for m in first.maps.values() if m.spec.map_type == MapType.PROG_ARRAY)
        path = bpffs / "tc/globals" / array.spec.name
        assert array.pin_path == str(path)
    with Fd(bpf.obj_get(str(path))) as fd:
        before = [slot(fd, key) for key in range(4)]
        with (
            pytest.raises(RuntimeError),
            Transaction() as transaction,
            load_testdata("xdp_root", "xdp_root", transaction=transaction),
        ):
            changed = [slot(fd, key) for key in range(4)]
            assert changed != before
            raise RuntimeError
        assert [slot(fd, key) for key in range(4)] == before


def slot(array: Fd, key: int) -> int | None:
    try:
        return int(struct.unpack("=I", bpf.map_lookup(array.number, struct.pack("=I", key), 4))[0])
    except FileNotFoundError:
        return None


def test_array_of_another_program_type_is_explained(bpffs: Path) -> None:
    load_testdata("xdp_root", "xdp_root").close()
    obj = read_object(str(TESTDATA / "xdp_root.bpf.o"))
    request = LoadRequest(("xdp_root",), program_type=ProgramType.SCHED_CLS)
    with pytest.raises(KernelError, match="holds programs of type xdp"), Transaction() as transaction:
        load(obj, request, transaction)


def test_verifier_refusal_names_source_and_reason() -> None:
    with pytest.raises(VerifierError) as caught:
        load_testdata("verifier_reject", "reads_too_far")
    error = caught.value
    assert error.errno == errno.EACCES
    assert error.source is not None
    assert "verifier_reject.bpf.c:9" in error.source
    assert "R1 offset is outside of the packet" in error.details[-1]
    assert error.exit_status == 2


def test_verbose_gives_the_whole_log() -> None:
    obj = read_object(str(TESTDATA / "verifier_reject.bpf.o"))
    with pytest.raises(VerifierError) as caught, Transaction() as transaction:
        load(obj, LoadRequest(("reads_too_far",), verbose=True), transaction)
    assert any(line.strip().startswith("processed ") for line in caught.value.details)


def test_verbose_load_succeeds_whatever_the_size_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    obj = read_object(str(TESTDATA / "subprogs.bpf.o"))
    with Transaction() as transaction, load(obj, LoadRequest(("sum_up",), verbose=True), transaction):
        pass
    assert "Verifier analysis of sum_up" in capsys.readouterr().err


def test_session_shares_what_a_fresh_load_would_share(bpffs: Path) -> None:
    with Session() as session, Transaction() as transaction:
        obj = session.read(str(TESTDATA / "proto_counters.bpf.o"))
        assert session.read(obj.path) is obj
        request = LoadRequest(("count_protocols",))
        first = session.load(obj, request, transaction)
        assert session.load(obj, request, transaction) is first
        (bpffs / "tc/globals/proto_counters").unlink()
        assert session.load(obj, request, transaction) is not first


def test_session_does_not_share_private_maps() -> None:
    with Session() as session, Transaction() as transaction:
        obj = session.read(str(TESTDATA / "map_types.bpf.o"))
        request = LoadRequest(tuple(obj.programs))
        ids = [map_id(m.fd) for m in session.load(obj, request, transaction).maps.values()]
        assert ids != [map_id(m.fd) for m in session.load(obj, request, transaction).maps.values()]
