"""``advise`` about loaded programs: what the verifier left, what maps hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import netlab
import pytest
from fixture_types import Cli

import bpfctl
from bpfctl import EGRESS, FilterRequest
from bpfctl.advise import devices
from bpfctl.advise.advice import advise
from bpfctl.advise.code import Device
from bpfctl.advise.live import read_live
from bpfctl.advise.machine import this_machine
from bpfctl.asm import FP
from bpfctl.asm import Code as Asm
from bpfctl.inventory.reference import PROGRAM, Reference, open_id
from bpfctl.kernel import bpf, info, rtnl_link
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.netlink import NetlinkSocket
from bpfctl.uapi import MapFlag, MapType, ProgramType

pytestmark = pytest.mark.kernel
TESTDATA = Path(__file__).parents[2] / "testdata"
LOOKUP, UPDATE = 1, 2
DATA, DATA_END = 0, 4  # struct xdp_md


@pytest.fixture
def kernel() -> Iterator[ExitStack]:
    """Maps and programs that are gone when the test ends."""
    with ExitStack() as stack:
        yield stack


def made_map(kernel: ExitStack, kind: MapType, key_size: int = 4, entries: int = 64, flags: int = 0) -> int:
    wanted = MapAttributes(kind, key_size, 8, entries, map_flags=flags, name="advised")
    return kernel.enter_context(Fd(bpf.map_create(wanted))).number


def loaded(kernel: ExitStack, body: Callable[[Asm], None]) -> int:
    """Id of a program of ``body``, in which r7 is an unknown number and the key of four bytes."""
    asm = Asm()
    asm.load(4, 7, 1, DATA_END)
    asm.load(4, 2, 1, DATA)
    asm.alu("sub", 7, 2)
    asm.store(4, FP, -8, 7)
    asm.store_imm(4, FP, -4, 0)
    asm.alu("mov", 2, FP)
    asm.alu_imm("add", 2, -8)
    body(asm)
    asm.label("out")
    asm.alu_imm("mov", 0, 2)
    asm.exit()
    wanted = bpf.ProgAttributes(ProgramType.XDP, asm.build(), "GPL", name="advised")
    fd = kernel.enter_context(Fd(bpf.prog_load(wanted)))
    return info.prog_info(fd.number).id


def lookup(map_fd: int) -> Callable[[Asm], None]:
    def body(asm: Asm) -> None:
        asm.map_fd(1, map_fd)
        asm.call(LOOKUP)

    return body


def advice(run: Cli, number: int) -> dict[str, Any]:
    """Findings by rule."""
    made = json.loads(run("-j", "advise", "id", number, status=0).stdout)
    assert made["unfinished"] == []
    return {finding["rule"]: finding for finding in made["findings"]}


@pytest.mark.parametrize("several", [True, False])
def test_a_call_that_the_kernel_did_not_rewrite(run: Cli, kernel: ExitStack, several: bool) -> None:
    first = made_map(kernel, MapType.HASH)
    second = made_map(kernel, MapType.HASH) if several else first

    def body(asm: Asm) -> None:
        asm.map_fd(1, first)
        asm.jump_if("jeq", 7, 60, "call")
        asm.map_fd(1, second)
        asm.label("call")
        asm.call(LOOKUP)

    found = advice(run, loaded(kernel, body))
    assert ("A1" in found) is several
    if several:
        assert (found["A1"]["confidence"], found["A1"]["level"]) == ("kernel-proved", "warn")


def test_update_after_a_hit_in_the_kernels_own_instructions(run: Cli, kernel: ExitStack) -> None:
    target = made_map(kernel, MapType.PERCPU_HASH)

    def body(asm: Asm) -> None:
        lookup(target)(asm)
        asm.jump_if("jeq", 0, 0, "out")
        asm.store_imm(8, FP, -16, 1)
        asm.map_fd(1, target)
        asm.alu("mov", 2, FP)
        asm.alu_imm("add", 2, -8)
        asm.alu("mov", 3, FP)
        asm.alu_imm("add", 3, -16)
        asm.alu_imm("mov", 4, 0)
        asm.call(UPDATE)

    found = advice(run, loaded(kernel, body))
    assert (found["A5"]["confidence"], found["A5"]["level"]) == ("proved in program", "warn")


@pytest.mark.parametrize(("lengths", "expected"), [((24,), True), ((8, 16, 24, 32), False)])
def test_prefix_lengths(run: Cli, kernel: ExitStack, lengths: tuple[int, ...], expected: bool) -> None:
    trie = made_map(kernel, MapType.LPM_TRIE, 8, flags=MapFlag.NO_PREALLOC)
    for number in range(40):
        key = struct.pack("=I4B", lengths[number % len(lengths)], 10 + number, 0, 0, 0)
        bpf.map_update(trie, key, bytes(8), 0)
    found = advice(run, loaded(kernel, lookup(trie)))
    assert ("A10" in found) is expected
    if expected:
        assert "all 40 prefixes" in found["A10"]["message"]


@pytest.mark.parametrize(("filled", "expected"), [(60, True), (30, False)])
def test_bucket_load_and_dense_keys(run: Cli, kernel: ExitStack, filled: int, expected: bool) -> None:
    table = made_map(kernel, MapType.HASH)
    for number in range(filled):
        bpf.map_update(table, struct.pack("=I", number), bytes(8), 0)
    found = advice(run, loaded(kernel, lookup(table)))
    assert ("A12" in found) is expected
    assert found["A11"]["confidence"] == "live sample"


def test_lookups_in_maps_of_maps(run: Cli, bpffs: Path) -> None:
    run("prog", "load", TESTDATA / "map_in_map_btf.bpf.o", "m:advised", status=0)
    words = ("advise", "pinned", bpffs / "tc" / "advised")
    found = json.loads(run("-j", *words, status=0).stdout)["findings"]
    by_rule = {finding["rule"]: finding for finding in found}
    assert by_rule["A1"]["confidence"] == "kernel-proved"
    assert "those in by_hash id" in by_rule["A1"]["message"]
    assert by_rule["A1"]["source"].startswith("__u64 *value = bpf_map_lookup_elem")
    assert "A2" not in by_rule  # the second map is asked after a miss in the first


def test_all_programs(run: Cli, kernel: ExitStack) -> None:
    number = loaded(kernel, lookup(made_map(kernel, MapType.ARRAY)))
    made = json.loads(run("advise", "--live", "--format", "json", status=0).stdout)
    assert made["subject"] == "live"
    assert made["programs"] >= 1
    assert number


def test_strict_and_a_report(run: Cli, kernel: ExitStack, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    run("bench", "maps", "types", "hash,percpu_hash", "sizes", 64, "op", "count", "rounds", 1, "json",
        report, status=0)  # fmt: skip
    done = run("-j", "advise", TESTDATA / "endpoints.bpf.o", "bench", report, "strict", status=0)
    saving = json.loads(done.stdout)["findings"][0]["saving"]
    assert (saving["operation"], saving["map"], saving["instead"]) == ("count", "hash", "percpu_hash")
    assert saving["before"] > 0
    first, second = made_map(kernel, MapType.HASH), made_map(kernel, MapType.HASH)

    def body(asm: Asm) -> None:
        lookup(first)(asm)
        asm.alu("mov", 2, FP)
        asm.alu_imm("add", 2, -8)
        lookup(second)(asm)

    done = run("advise", "id", loaded(kernel, body), "strict", status=1)
    assert "A2 warn (proved in program)" in done.stdout
    assert "1 finding of level warn" in done.stderr


def test_the_node_of_the_device_that_a_program_is_attached_to(
    netns: netlab.Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Devices here have no node, so the files that tell it are made up."""
    near = netns.a.device
    node = tmp_path / near / "device" / "numa_node"
    node.parent.mkdir(parents=True)
    node.write_text("1\n")
    monkeypatch.setattr(devices, "SYSFS", str(tmp_path))
    with netlab.inside(netns.a.namespace), ExitStack() as stack:
        table = made_map(stack, MapType.HASH)
        number = loaded(stack, lookup(table))
        with open_id(PROGRAM, number) as fd, NetlinkSocket() as netlink:
            assert devices.attached() == {}
            rtnl_link.set_xdp(netlink, rtnl_link.find_index(netlink, near), fd.number, 0)
        request = FilterRequest(near, EGRESS, direct_action=True)
        bpfctl.add_qdisc(near)
        source = bpfctl.ObjectSource(TESTDATA / "mixed_maps.bpf.o", section="tc")
        bpfctl.attach_filter(request, source)
        found = devices.attached()
        assert list(found.values()) == [[Device(near, 1)]] * 2  # the one at XDP, the one at egress
        subject = read_live(Reference("id", str(number)), devices.attached())
        machine = this_machine()._replace(nodes=2)
        messages = [finding.message for finding in advise(subject, machine).findings if finding.rule == "A16"]
        assert f"used for {near} on node 1" in messages[0]
        node.write_text("-1\n")
        assert devices.attached() == {}
        assert subject.maps[info.map_info(table).id].counted > 64 * 8
