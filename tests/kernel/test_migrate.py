"""`migrate`: a pinned map in another form, its contents kept, its program exchanged under traffic."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netlab
import pytest
from faults import trial
from netlab import TESTDATA
from pyroute2 import IPRoute

from bpfctl.cli import main
from bpfctl.kernel import bpf, info

pytestmark = pytest.mark.kernel

V1, V2 = TESTDATA / "flow_table.bpf.o", TESTDATA / "flow_table_v2.bpf.o"
FLOW = ["packets=7", "bytes=700", "zone=300", "verdict=VERDICT_DROP", "legacy_id=9", "label=abc"]
FLOW_V2 = {"bytes": 700, "packets": 7, "zone": 300, "queue": 0, "verdict": "VERDICT_DROP", "label": "abc"}
SKB_MODE = 2  # XDP_FLAGS_SKB_MODE: xdpgeneric


def values(run: Any, pin: Path) -> dict[Any, Any]:
    records = json.loads(run("map", "dump", "pinned", pin, "format", "json", status=0).stdout)
    return {json.dumps(r["key"]).strip('"'): r.get("value", r.get("values")) for r in records}


def shown(run: Any, pin: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("-j", "map", "show", "pinned", pin, status=0).stdout)
    return found


@pytest.fixture
def first(run: Any, bpffs: Path) -> Path:
    """testdata/flow_table.bpf.o, loaded, with a flow and a zone in its maps; the bpffs."""
    run("prog", "load", V1, "m:one", status=0)
    run("map", "update", "pinned", bpffs / "flows", "key", "10.0.0.1", "value", *FLOW, status=0)
    run("map", "update", "pinned", bpffs / "zones", "key", "10.0.0.0/8", "value", "packets=1", status=0)
    run("map", "update", "pinned", bpffs / "totals", "key", "2", "value", "packets=3", status=0)
    return bpffs


def pins(bpffs: Path) -> list[str]:
    return sorted(str(p.relative_to(bpffs)) for p in bpffs.rglob("*") if p.suffix != ".debug")


def test_contents_are_kept_by_name(run: Any, first: Path) -> None:
    done = run("prog", "load", V2, "m:two", "--migrate", "--lossy", status=0)
    assert [line.split()[:3] for line in done.stderr.splitlines()] == [
        ["Note:", "map", "flows:"],
        ["Note:", "map", "totals:"],
        ["Note:", "map", "zones:"],
    ]
    assert values(run, first / "flows") == {"10.0.0.1": FLOW_V2}
    assert values(run, first / "zones")["10.0.0.0/8"]["packets"] == 1
    totals = values(run, first / "totals")
    assert len(totals) == 8
    assert all(each == {"packets": 3, "errors": 0} for each in totals["2"])
    assert shown(run, first / "flows")["max_entries"] == 128
    assert pins(first) == ["flows", "ip", "tc", "tc/globals", "tc/one", "tc/two", "totals", "xdp", "zones"]
    # the second time everything fits
    again = run("prog", "load", V2, "m:three", "migrate", status=0)
    assert again.stderr == ""


def test_dry_run_changes_nothing(run: Any, first: Path) -> None:
    before = pins(first), shown(run, first / "flows")["id"]
    plans = json.loads(run("-j", "prog", "load", V2, "m:two", "dry-run", "lossy", status=0).stdout)
    assert [(p["map"], p["elements"]) for p in plans] == [("flows", 1), ("totals", 4), ("zones", 1)]
    assert plans[0]["differences"] == [{"field": "max entries", "wanted": "128", "pinned": "64"}]
    members = {(m["part"], m["field"]): m["action"] for m in plans[0]["members"]}
    assert members == {
        ("key", ""): "keep",
        ("value", "bytes"): "move",
        ("value", "packets"): "resize",
        ("value", "zone"): "check",
        ("value", "queue"): "add",
        ("value", "verdict"): "check",
        ("value", "label"): "resize",
        ("value", "legacy_id"): "drop",
    }
    text = run("prog", "load", V2, "m:two", "dry-run", status=1)
    assert "  drop    value.legacy_id  __u32 at 24         ->  -\n" in text.stdout
    assert text.stderr.startswith("Error: map flows: what is pinned at")
    assert (pins(first), shown(run, first / "flows")["id"]) == before


def test_what_would_be_lost_is_refused(run: Any, first: Path) -> None:
    before = pins(first), shown(run, first / "flows")["id"]
    done = run("prog", "load", V2, "m:two", status=1)
    assert "`migrate` at the end of the command" in done.stderr
    done = run("prog", "load", V2, "m:two", "migrate", status=1)
    assert "cannot be migrated: the object has no legacy_id" in done.stderr
    run("map", "update", "pinned", first / "flows", "key", "10.0.0.2", "value", "zone=65536", status=0)
    done = run("prog", "load", V2, "m:two", "migrate", "lossy", status=1)
    assert (
        "element with key 0a 00 00 02: value.zone: 65536 does not fit; __u16 from 0 to 65535" in done.stderr
    )
    assert (pins(first), shown(run, first / "flows")["id"]) == before
    for words in (["lossy"], ["pinmaps"]):
        run("prog", "load", V2, "m:two", *words, status=1)


def test_every_type_of_map_and_variables_are_carried_over(run: Any, bpffs: Path) -> None:
    load = ("prog", "load", TESTDATA / "kept_counts.bpf.o", "m:one", "pinmaps", bpffs / "kept")
    run(*load, status=0)
    maps = ("recent", "sources", "visitors", "slots")  # LRU, per-CPU, both, array
    for name in maps:
        run("map", "update", "pinned", bpffs / "kept" / name, "key", 2, "value", "packets=9", "flags=3")
    run("map", "globals", "prog", "pinned", "m:one", "set", "limit=50", "set", "seen=11", status=0)
    load = ("prog", "load", TESTDATA / "kept_counts_v2.bpf.o", "m:two", "pinmaps", bpffs / "kept", "migrate")
    assert run(*load, status=0).stderr.count("Note: map ") == 6
    for name in maps:
        found = values(run, bpffs / "kept" / name)["2"]
        each = found if isinstance(found, list) else [found]
        assert all(value == {"bytes": 0, "packets": 9, "flags": 3} for value in each)
    variables = json.loads(run("-j", "map", "globals", "prog", "pinned", "m:two", status=0).stdout)
    assert {v["name"]: v["value"] for v in variables} == {"limit": 50, "burst": 7, "seen": 11, "dropped": 0}


SHAPE = "type {} key 4 value {} entries {}"
# the map that is pinned where an object has a per-CPU array of 256 times 32 bytes without BTF, and the answer
WITHOUT_BTF = [
    ("percpu_array", 32, 100, None),
    ("percpu_array", 32, 300, None),
    ("percpu_array", 24, 256, "has 24 bytes there and 32 here, and the pinned map has no BTF"),
    ("array", 32, 256, "elements of type array cannot go into type percpu_array"),
    ("queue", 32, 256, "elements of type queue cannot go into type percpu_array"),
]


@pytest.mark.parametrize(("kind", "size", "entries", "refusal"), WITHOUT_BTF)
def test_without_btf_bytes_are_copied_if_sizes_agree(
    run: Any, bpffs: Path, kind: str, size: int, entries: int, refusal: str | None
) -> None:
    run("prog", "load", TESTDATA / "xdp_pass.bpf.o", "m:x", status=0)  # makes the directories
    pin = bpffs / "tc/globals/proto_counters"
    words = SHAPE.format(kind, size, entries).split()
    run(
        "map",
        "create",
        pin,
        *(["type", "queue", "value", size, "entries", entries] if kind == "queue" else words),
    )
    assert pin.exists()
    if refusal is None:
        run("map", "update", "pinned", pin, "key", 6, "value", "hex", "01" + "00" * 31, status=0)
    old = shown(run, pin)["id"]
    load = ("prog", "load", TESTDATA / "proto_counters.bpf.o", "m:y", "sec", "xdp", "migrate")
    done = run(*load, status=1 if refusal else 0)
    if refusal:
        assert refusal in done.stderr
        assert shown(run, pin)["id"] == old
        return
    assert shown(run, pin)["max_entries"] == 256
    looked = json.loads(run("-j", "map", "lookup", "pinned", pin, "key", 6, status=0).stdout)
    assert looked["values"][0]["value"][0] == "0x01"


def test_an_array_with_something_behind_its_new_end(run: Any, bpffs: Path) -> None:
    run("prog", "load", TESTDATA / "xdp_pass.bpf.o", "m:x", status=0)
    pin = bpffs / "tc/globals/proto_counters"
    run("map", "create", pin, *SHAPE.format("percpu_array", 32, 300).split(), status=0)
    run("map", "update", "pinned", pin, "key", 299, "value", "hex", "01" + "00" * 31, status=0)
    load = ("prog", "load", TESTDATA / "proto_counters.bpf.o", "m:y", "sec", "xdp", "migrate")
    assert "element 299 is not zero, and the object has no room for it" in run(*load, status=1).stderr


# --- under traffic -------------------------------------------------------------------------------


class Traffic:
    """Datagrams from ``source`` to ``target``, as fast as a thread can, until the block ends."""

    def __init__(self, source: netlab.Side, target: netlab.Side) -> None:
        self.sent = 0
        self.received = 0
        self._source, self._target = source, target
        self._stop = threading.Event()

    def __enter__(self) -> Traffic:
        self._receiver = netlab.open_udp_receiver(self._target)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def _send(self) -> None:
        with netlab.open_socket(self._source, netlab.socket.SOCK_DGRAM) as sender:
            while not self._stop.is_set() and self.sent < 60_000:
                sender.sendto(bytes(64), (self._target.address, netlab.UDP_PORT))
                self.sent += 1
                if not self.sent % 8:
                    self._stop.wait(0.001)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with self._receiver:
            self.received = netlab.drain(self._receiver, self.sent)


def attach(run: Any, lab: netlab.Lab, obj: Path, *words: object) -> Any:
    device = ("-n", lab.a.namespace, "-force", "link", "set", "dev", lab.a.device, "xdpgeneric")
    return run(*device, "obj", obj, *words, status=0)


def test_a_live_map_under_traffic_loses_no_packet_and_no_count(
    run: Any, netns: netlab.Lab, bpffs: Path
) -> None:
    attach(run, netns, V1)
    maps = bpffs / "tc/globals"
    source, target = netns.b, netns.a
    run("map", "update", "pinned", maps / "zones", "key", "10.0.0.0/8", "value", "packets=0", status=0)
    old = info_of(maps / "flows")
    before = netlab.send_udp(source, target, 100)
    seen = values(run, maps / "flows")[source.address]
    assert (before, seen["packets"]) == (100, 100)
    with Traffic(source, target) as traffic:
        done = attach(run, netns, V2, "migrate", "lossy")
    after = netlab.send_udp(source, target, 100)
    assert (traffic.received, after) == (traffic.sent, 100)
    assert traffic.sent > 100
    total = 200 + traffic.sent
    size = seen["bytes"] // 100
    flow = values(run, maps / "flows")[source.address]
    assert (flow["packets"], flow["bytes"]) == (total, total * size)
    assert values(run, maps / "zones")["10.0.0.0/8"]["packets"] == total
    assert sum(each["packets"] for each in values(run, maps / "totals")["0"]) == total
    assert info_of(maps / "flows").max_entries == 128
    # packets came between copy and swap, and were caught
    assert f"1 elements migrated from map id {old.id}, 1 of them again after the swap" in done.stderr


def info_of(pin: Path) -> info.MapInfo:
    fd = bpf.obj_get(str(pin))
    try:
        return info.map_info(fd)
    finally:
        os.close(fd)


# --- failures ------------------------------------------------------------------------------------


class Service:
    """The first version attached in a namespace and pinned; :meth:`reset` puts it back."""

    def __init__(self, run: Any, lab: netlab.Lab, bpffs: Path, directory: Path, ip: IPRoute) -> None:
        device = ["-force", "link", "set", "dev", lab.a.device, "xdpgeneric", "obj"]
        assert main.run([*device, str(V1)]) == 0
        assert main.run([*device, str(V2), "migrate", "lossy"]) == 0  # children find it imported
        for pin in (bpffs / "tc/globals").iterdir():
            pin.unlink()
        assert main.run([*device, str(V1)]) == 0
        self.maps = bpffs / "tc/globals"
        pin = self.maps / "flows"
        run("map", "update", "pinned", pin, "key", "10.0.0.1", "value", *FLOW, status=0)
        self._kept = {path.name: bpf.obj_get(str(path)) for path in self.maps.iterdir()}
        self._ip, self._lab, self._directory = ip, lab, directory
        self._index = ip.link_lookup(ifname=lab.a.device)[0]
        self.program_id = self.attached()
        self._program = bpf.get_fd_by_id(13, self.program_id)  # BPF_PROG_GET_FD_BY_ID
        self.old = self.state()

    def attached(self) -> int:
        xdp = next(iter(self._ip.get_links(self._index))).get_attr("IFLA_XDP")
        return int(xdp.get_attr("IFLA_XDP_SKB_PROG_ID"))

    def state(self) -> tuple[dict[str, int], int]:
        """Map ids by pin, and the program that is attached."""
        return {path.name: info_of(path).id for path in self.maps.iterdir()}, self.attached()

    def reset(self) -> None:
        for path in self.maps.iterdir():
            path.unlink()
        for name, fd in self._kept.items():
            bpf.obj_pin(fd, str(self.maps / name))
        attributes = [("IFLA_XDP_FD", self._program), ("IFLA_XDP_FLAGS", SKB_MODE)]
        self._ip.link("set", index=self._index, xdp={"attrs": attributes})

    def migrate(self, at: int = 0, number: int = 0) -> Any:
        device = ("-force", "link", "set", "dev", self._lab.a.device, "xdpgeneric")
        words = (*device, "obj", V2, "migrate", "lossy")
        return trial(words, self._directory, self._lab.a.namespace, at, number)

    def is_new(self) -> bool:
        """All three maps are the new ones, complete, and used by the program that is attached."""
        ids, program = self.state()
        fd = bpf.get_fd_by_id(13, program)
        used = set(info.prog_info(fd).map_ids)
        os.close(fd)
        flows = bpf.obj_get(str(self.maps / "flows"))
        value = bpf.map_lookup(flows, bytes([10, 0, 0, 1]), 40)
        os.close(flows)
        return (
            sorted(ids) == ["flows", "totals", "zones"]
            and set(ids.values()) <= used
            and not set(ids.values()) & set(self.old[0].values())
            and value[:16] == (700).to_bytes(8, "little") + (7).to_bytes(8, "little")
        )

    def close(self) -> None:
        for fd in (*self._kept.values(), self._program):
            os.close(fd)


@pytest.fixture
def service(run: Any, netns: netlab.Lab, bpffs: Path, tmp_path: Path) -> Iterator[Service]:
    with netlab.inside(netns.a.namespace), IPRoute() as ip:
        made = Service(run, netns, bpffs, tmp_path, ip)
        yield made
        made.close()


def test_each_call_fails_in_turn_and_the_old_pin_serves(service: Service) -> None:
    done = service.migrate()
    assert done.status == 0, done.stderr
    assert service.is_new()
    for at in range(1, len(done.calls) + 1):
        service.reset()
        outcome = service.migrate(at, errno.EIO)
        what = f"call {at} ({outcome.calls[at - 1]}): status {outcome.status}: {outcome.stderr}"
        assert outcome.status in (0, 1, 2), what
        assert service.is_new() if outcome.status == 0 else service.state() == service.old, what


# After these a process that dies has left something behind; in between it makes no difference when.
LASTING = ("mkdir", "symlink", "netlink_send", "rename", "unlink", "bpf <Command.OBJ_PIN")


def test_killed_after_each_change_the_next_run_converges(service: Service) -> None:
    calls = service.migrate().calls
    for at in (number + 2 for number, call in enumerate(calls[:-1]) if call.startswith(LASTING)):
        service.reset()
        killed = service.migrate(at)
        what = f"killed before call {at} ({killed.calls[at - 1]})"
        assert killed.status == -9, what
        renamed = sum(call == "rename" for call in killed.calls[: at - 1])
        ids = service.state()[0]
        kept = [name for name in ("flows", "totals", "zones") if ids[name] == service.old[0][name]]
        assert len(kept) == 3 - renamed, what
        again = service.migrate()
        assert again.status == 0, f"{what}: {again.stderr}"
        assert service.is_new(), what
