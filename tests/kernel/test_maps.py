"""Maps by their types: what the commands show and take; bpftool is the judge of the bytes."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import programs
import pytest
from netlab import TESTDATA

from bpfctl.inventory import batch
from bpfctl.inventory.batch import Bulk
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.reference import Reference
from bpfctl.kernel import bpf, info
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import MapFlag, MapType, ProgramType

pytestmark = pytest.mark.kernel

NAME = f"maps{os.getpid()}"[:15]


def create(kind: MapType, key: int = 4, value: int = 8, entries: int = 4, **more: Any) -> Fd:
    return Fd(bpf.map_create(MapAttributes(kind, key, value, entries, name=NAME, **more)))


def reference(fd: Fd) -> Reference:
    return Reference("id", str(info.map_info(fd.number).id))


def bpftool(*words: object) -> Any:
    done = subprocess.run(["bpftool", "-j", *map(str, words)], check=False, capture_output=True)
    return json.loads(done.stdout)


@pytest.fixture
def eip(run: Any, bpffs: Path) -> Callable[[str], Path]:
    """Pins of the maps of testdata/elastic_ip.bpf.o, by name."""
    run("prog", "load", TESTDATA / "elastic_ip.bpf.o", bpffs / "p", status=0)
    ids = json.loads(run("-j", "prog", "show", "pinned", bpffs / "p", status=0).stdout)["map_ids"]
    for number in ids:
        name = json.loads(run("-j", "map", "show", "id", number, status=0).stdout)["name"]
        run("map", "pin", "id", number, bpffs / name.replace(".", "_"), status=0)
    return lambda name: bpffs / name


# --- typed, both ways -----------------------------------------------------------------------------


def test_values_in_the_types_of_the_program(run: Any, eip: Callable[[str], Path]) -> None:
    pinned = ("pinned", eip("eip"))
    value = '{"rate": 1000, "mac": "02:00:00:00:00:01", "policy": "POLICY_LIMIT"}'
    run("map", "update", *pinned, "key", "192.0.2.7", "value", value, status=0)
    run(
        "map",
        "update",
        *pinned,
        "key",
        "hex",
        "c0000208",
        "value",
        "rate=5",
        "class=9",
        "port=8080",
        status=0,
    )
    first = json.loads(run("-j", "map", "lookup", *pinned, "key", "192.0.2.7", status=0).stdout)
    assert first["formatted"]["key"] == {"address": "192.0.2.7"}
    assert first["formatted"]["value"]["policy"] == "POLICY_LIMIT"
    assert first["value"][:12] == [
        "0xe8",
        "0x03",
        "0x00",
        "0x00",
        "0x00",
        "0x00",
        "0x02",
        "0x00",
        "0x00",
        "0x00",
        "0x00",
        "0x01",
    ]
    words = ("key", "192.0.2.8", "value", "as", "mac=mac,owner=hex")
    shown = run("map", "lookup", *pinned, *words, status=0).stdout
    assert shown == (
        'key: {"address":"192.0.2.8"}  value: {"rate":5,"vlan":0,"mac":"00:00:00:00:00:00",'
        '"policy":"POLICY_DENY","gateway":"0.0.0.0","mirrored":0,"class":9,'
        f'"owner":"{" ".join(["00"] * 16)}","port":8080}}\n'
    )
    lines = run("map", "dump", *pinned, "format", "ndjson", status=0).stdout.splitlines()
    assert {json.loads(line)["key"]["address"] for line in lines} == {"192.0.2.7", "192.0.2.8"}
    assert json.loads(run("map", "dump", *pinned, "format", "json", status=0).stdout) == [
        json.loads(line) for line in lines
    ]


def test_prefixes(run: Any, eip: Callable[[str], Path]) -> None:
    pinned = ("pinned", eip("blocked"))
    run("map", "update", *pinned, "key", "10.0.0.0/8", "value", "POLICY_ALLOW", status=0)
    assert run("map", "dump", *pinned, status=0).stdout == "key: 10.0.0.0/8  value: POLICY_ALLOW\n"
    run("map", "delete", *pinned, "key", "10.0.0.0/8", status=0)
    assert run("map", "dump", *pinned, status=0).stdout == ""


def test_cpus_and_their_total(run: Any, eip: Callable[[str], Path]) -> None:
    pinned = ("pinned", eip("eip_traffic"))
    run("map", "update", *pinned, "key", "1", "value", "packets=2", "bytes=100", status=0)
    record = json.loads(run("-j", "map", "lookup", *pinned, "key", "1", status=0).stdout)
    cpus = len(record["values"])
    assert record["formatted"]["total"] == {"packets": 2 * cpus, "bytes": 100 * cpus}
    text = run("map", "lookup", *pinned, "key", "1", status=0).stdout
    assert text.splitlines()[-1] == f'\ttotal: {{"packets":{2 * cpus},"bytes":{100 * cpus}}}'


REFUSED = [
    ("key 192.0.2.300 value rate=1", "key.address: '192.0.2.300' does not fit; __be32, an IPv4 address is"),
    ("key 192.0.2.7 value rate=-1", "value.rate: '-1' does not fit; __u32 from 0 to 4294967295 is wanted"),
    ("key 192.0.2.7 value vlan=65536", "value.vlan: '65536' does not fit; __u16 from 0 to 65535 is wanted"),
    ("key 192.0.2.7 value mac=1", "value.mac: '1' does not fit; __u8[6] is wanted"),
    ("key 1 2 3 value rate=1", "The key has 4 bytes, not 3"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_nothing_is_written_when_a_word_does_not_fit(
    run: Any, eip: Callable[[str], Path], line: str, message: str
) -> None:
    done = run("map", "update", "pinned", eip("eip"), *line.split(), status=1)
    assert done.stderr.startswith(f"Error: {message}")
    assert run("map", "dump", "pinned", eip("eip"), status=0).stdout == ""


# --- every type as bpftool has it -----------------------------------------------------------------

TYPES = [
    (MapType.HASH, 4, 8, {}),
    (MapType.ARRAY, 4, 8, {}),
    (MapType.PERCPU_HASH, 4, 4, {}),
    (MapType.PERCPU_ARRAY, 4, 8, {}),
    (MapType.LRU_HASH, 4, 8, {}),
    (MapType.LRU_PERCPU_HASH, 4, 12, {}),
    (MapType.LPM_TRIE, 8, 8, {"map_flags": MapFlag.NO_PREALLOC}),
    (MapType.HASH, 6, 3, {}),
]


def same_as_bpftool(run: Any, fd: Fd) -> list[Any]:
    """The dump of a map, which is bpftool's but for empty slots; it prints those as errors."""
    ours: list[Any] = json.loads(run("-j", "map", "dump", *reference(fd), status=0).stdout)
    theirs = bpftool("map", "dump", *reference(fd))
    for element in (*ours, *theirs):
        element.pop("formatted", None)
    missing = {"error": "No such file or directory"}
    assert ours == [element for element in theirs if element.get("value") != missing]
    return ours


HOLDERS = [
    (MapType.PROG_ARRAY, 4, "program"),
    (MapType.ARRAY_OF_MAPS, 4, "map"),
    (MapType.HASH_OF_MAPS, 4, "map"),
    (MapType.DEVMAP, 4, "device"),
    (MapType.DEVMAP_HASH, 8, "device"),
    (MapType.CPUMAP, 8, "queue"),
    (MapType.SOCKMAP, 8, "socket"),
    (MapType.SOCKHASH, 8, "socket"),
    (MapType.REUSEPORT_SOCKARRAY, 8, "socket"),
]


@pytest.mark.parametrize(("kind", "size", "holds"), HOLDERS)
def test_dump_of_what_stands_for_something_else(
    run: Any, requires: Any, kind: MapType, size: int, holds: str
) -> None:
    requires("bpftool")
    with ExitStack() as stack:
        inner = stack.enter_context(create(MapType.ARRAY, 4, 4, 1))
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        values = {"map": inner.number, "device": 1, "queue": 64, "socket": listener.fileno()}
        if holds == "program":
            values["program"] = stack.enter_context(programs.load(ProgramType.XDP, programs.XDP_PASS)).number
        more = {"inner_map_fd": inner.number} if holds == "map" else {}
        fd = stack.enter_context(create(kind, 4, size, 2, **more))
        bpf.map_update(fd.number, bytes(4), values[holds].to_bytes(size, sys.byteorder))
        (element,) = same_as_bpftool(run, fd)
    assert element["key"] == ["0x00"] * 4
    assert "error" not in element["value"]


@pytest.mark.parametrize(("kind", "key", "value", "more"), TYPES)
def test_dump_as_bpftool(run: Any, requires: Any, kind: MapType, key: int, value: int, more: Any) -> None:
    requires("bpftool")
    with create(kind, key, value, 4, **more) as fd, open_elements(reference(fd)) as target:
        for n in range(1, 4):
            raw = struct.pack("=II", n, n << 24) if kind == MapType.LPM_TRIE else n.to_bytes(key, "little")
            target.update(raw, bytes([n] * value))
        assert len(same_as_bpftool(run, fd)) >= 3


@pytest.mark.parametrize(
    "kind",
    [MapType.PERF_EVENT_ARRAY, MapType.CGROUP_ARRAY, MapType.PROG_ARRAY, MapType.DEVMAP, MapType.SOCKMAP],
)
def test_types_whose_values_are_not_for_user_space(run: Any, kind: MapType) -> None:
    with create(kind, 4, 4, 2) as fd:
        records = json.loads(run("-j", "map", "dump", *reference(fd), status=0).stdout)
        assert all("error" in record["value"] for record in records)


@pytest.mark.parametrize(
    ("kind", "key", "value", "entries", "message"),
    [
        (MapType.QUEUE, 0, 4, 4, "has no keys to go by"),
        (MapType.BLOOM_FILTER, 0, 4, 4, "has no keys to go by"),
        (MapType.RINGBUF, 0, 0, 4096, "has no elements"),
    ],
)
def test_types_without_a_walk(
    run: Any, kind: MapType, key: int, value: int, entries: int, message: str
) -> None:
    with create(kind, key, value, entries) as fd:
        done = run("map", "dump", *reference(fd), status=1)
        assert done.stderr.splitlines()[0].endswith(f"({NAME}) {message}")


# --- blocks ---------------------------------------------------------------------------------------


def fill(target: OpenMap, count: int) -> None:
    for n in range(count):
        lpm = target.map_type == MapType.LPM_TRIE
        target.update(
            struct.pack("=I4s", 32, struct.pack(">I", n)) if lpm else struct.pack("=I", n), bytes(8)
        )


WALKED = [
    (MapType.HASH, 4, {}),
    (MapType.LPM_TRIE, 8, {"map_flags": MapFlag.NO_PREALLOC}),
    (MapType.DEVMAP_HASH, 4, {}),
]


@pytest.fixture(params=[True, False], ids=["batch", "one-by-one"])
def _batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's batch commands, and as on a kernel without."""
    if not request.param:

        def unknown(*_: object) -> None:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(batch.map_batch, "lookup", unknown)


@pytest.mark.usefixtures("_batches")
@pytest.mark.parametrize(("kind", "key", "more"), WALKED[:2])
def test_a_walk_loses_nothing_when_others_delete(kind: MapType, key: int, more: Any) -> None:
    """Behind its back the last key of each block goes, with those before it: the worst that can happen."""
    with create(kind, key, 8, 300, **more) as fd, open_elements(reference(fd)) as target:
        fill(target, 300)
        gone: set[bytes] = set()
        seen: list[bytes] = []
        for block in Bulk(target, entries=16).blocks():
            keys = [block.keys[at : at + key] for at in range(0, len(block.keys), key)]
            seen += keys
            for victim in keys[-2:]:
                target.delete(victim)
                gone.add(victim)
        left = {element.key for element in target.elements()}
    assert left | gone == set(seen)
    assert len(seen) == 300  # and none came twice


@pytest.mark.usefixtures("_batches")
@pytest.mark.parametrize(("kind", "key", "more"), WALKED[:2])
def test_a_walk_ends_when_all_is_deleted(kind: MapType, key: int, more: Any) -> None:
    with create(kind, key, 8, 100, **more) as fd, open_elements(reference(fd)) as target:
        fill(target, 100)
        blocks = Bulk(target, entries=8).blocks()
        next(blocks)
        batch.clear(target)
        assert sum(block.count for block in blocks) <= 8


def test_a_bucket_larger_than_a_block() -> None:
    """The kernel refuses to give a part of a bucket: the block grows."""
    with create(MapType.HASH, 4, 8, 4096, map_flags=MapFlag.NO_PREALLOC) as fd:
        with open_elements(reference(fd)) as target:
            fill(target, 2000)
            blocks = list(Bulk(target, entries=1).blocks())
        assert sum(block.count for block in blocks) == 2000


@pytest.mark.parametrize(("kind", "deleted"), [("hash", 3), ("array", 4), ("queue", 3), ("percpu_array", 4)])
def test_clear(run: Any, bpffs: Path, kind: str, deleted: int) -> None:
    key = () if kind == "queue" else ("key", "4")
    run("map", "create", bpffs / "m", "type", kind, *key, "value", "4", "entries", "4", status=0)
    for n in range(3):
        words = (
            ("push", "pinned", bpffs / "m")
            if kind == "queue"
            else ("update", "pinned", bpffs / "m", "key", n)
        )
        run("map", *words, "value", n + 1, status=0)
    done = run("-j", "map", "clear", "pinned", bpffs / "m", status=0)
    assert json.loads(done.stdout) == {"deleted": deleted}
    if kind in ("hash", "array"):
        left = json.loads(run("-j", "map", "dump", "pinned", bpffs / "m", status=0).stdout)
        assert [element["formatted"]["value"] for element in left] == ([0] * 4 if kind == "array" else [])


# --- other commands -------------------------------------------------------------------------------


def test_queue_and_stack(run: Any, bpffs: Path) -> None:
    for kind, order in (("queue", [1, 2]), ("stack", [2, 1])):
        pin = bpffs / kind
        run("map", "create", pin, "type", kind, "value", "4", "entries", "2", status=0)
        run("map", "push", "pinned", pin, "value", "1", status=0)
        run("map", "enqueue", "pinned", pin, "value", "hex", "02", "00", "00", "00", status=0)
        full = run("map", "push", "pinned", pin, "value", "3", status=2)
        assert "E2BIG" in full.stderr
        peeked = json.loads(run("-j", "map", "peek", "pinned", pin, status=0).stdout)
        taken = [
            json.loads(run("-j", "map", word, "pinned", pin, status=0).stdout) for word in ("pop", "dequeue")
        ]
        assert peeked == taken[0]
        assert [element["formatted"]["value"] for element in taken] == order
        assert run("map", "pop", "pinned", pin, status=1).stderr.endswith("has no such element\n")


def test_bloom_filter(run: Any, bpffs: Path) -> None:
    run("map", "create", bpffs / "b", "type", "bloom_filter", "value", "4", "entries", "10", status=0)
    run("map", "push", "pinned", bpffs / "b", "value", "5", status=0)
    assert run("map", "peek", "pinned", bpffs / "b", "value", "5", status=0).stdout == "may be there\n"
    found = run("-j", "map", "peek", "pinned", bpffs / "b", "value", "6", status=0).stdout
    assert json.loads(found) == {"found": False}


def test_next_and_freeze(run: Any, bpffs: Path) -> None:
    words = ["type", "hash", "key", "2", "value", "4", "entries", "4", "name", "x", "flags", "no_prealloc"]
    made = json.loads(run("-j", "map", "create", bpffs / "m", *words, status=0).stdout)
    assert (made["type"], made["name"], made["flag_names"]) == ("hash", "x", ["no_prealloc"])
    pinned = ("pinned", bpffs / "m")
    run("map", "update", *pinned, "key", "7", "value", "1", status=0)
    assert run("map", "next", *pinned, status=0).stdout == "next key: 7\n"
    assert run("map", "next", *pinned, "key", "7", status=1).stderr.endswith(
        "has no element after that one\n"
    )
    run("map", "freeze", *pinned, status=0)
    refused = run("map", "update", *pinned, "key", "8", "value", "1", status=2)
    assert "EPERM" in refused.stderr
    assert json.loads(run("-j", "map", "show", *pinned, status=0).stdout)["frozen"] is True


def test_maps_in_maps(run: Any, bpffs: Path) -> None:
    run("map", "create", bpffs / "in", *["type", "array", "key", "4", "value", "4", "entries", "1"], status=0)
    words = ["type", "hash_of_maps", "key", "4", "value", "4", "entries", "4", "inner_map", "pinned"]
    run("map", "create", bpffs / "out", *words, bpffs / "in", status=0)
    run("map", "update", "pinned", bpffs / "out", "key", "1", "value", "pinned", bpffs / "in", status=0)
    inner = json.loads(run("-j", "map", "show", "pinned", bpffs / "in", status=0).stdout)["id"]
    (element,) = json.loads(run("-j", "map", "dump", "pinned", bpffs / "out", status=0).stdout)
    assert element["formatted"] == {"key": 1, "value": inner}


TYPED = [
    ("hash key eip_key value traffic", "192.0.2.7", "packets=1", '{"packets":1,"bytes":0}'),
    ("lpm_trie flags no_prealloc key prefix value policy", "10.0.0.0/8", "POLICY_ALLOW", '"POLICY_ALLOW"'),
    ("array key 4 value traffic", "1", "bytes=2", '{"packets":0,"bytes":2}'),
    ("hash key 7 value policy", "[1,2,3,4,5,6,7]", "POLICY_DENY", '"POLICY_DENY"'),
    ("hash key eip_key value 8", "192.0.2.7", "5", "5"),
]


@pytest.mark.parametrize(("words", "key", "value", "shown"), TYPED)
def test_a_map_with_types_of_an_object(
    run: Any, bpffs: Path, words: str, key: str, value: str, shown: str
) -> None:
    source = ("btf", "file", TESTDATA / "elastic_ip.bpf.o")
    run("map", "create", bpffs / "m", "type", *words.split(), "entries", 4, *source, status=0)
    run("map", "update", "pinned", bpffs / "m", "key", key, "value", value, status=0)
    found = run("map", "dump", "pinned", bpffs / "m", "format", "ndjson", status=0).stdout.splitlines()
    (line,) = (line for line in found if line.endswith(f'"value":{shown}}}'))
    assert key.strip("[]").split(",")[0] in line


MISTAKES = [
    ("type hash value 4 entries 4 key 4 flags no_such", 1, 'What is "no_such"?'),
    ("type cache", 1, 'What is "cache"?'),
    ("key 4", 1, "Command line is not complete: type is missing"),
    ("type hash key 4 value 0 entries 0", 2, "cannot create a map (hash, key 4, value 0"),
    ("type hash key u8 value 1", 1, 'Illegal key "u8": a number of bytes is wanted'),
    ("type hash key 4 value 4 btf kernel", 1, "btf: neither key nor value is the name of a type"),
    ("type hash key 4 value no_such_type btf kernel", 1, "no type is called no_such_type"),
    ("type hash key 4 value tcp_v4_rcv btf kernel", 1, "no type with values is called tcp_v4_rcv"),
    ("type queue value iphdr entries 1 btf kernel", 2, "cannot create a map (queue, key 0"),
]


@pytest.mark.parametrize(("line", "status", "message"), MISTAKES)
def test_a_map_that_cannot_be(run: Any, bpffs: Path, line: str, status: int, message: str) -> None:
    done = run("map", "create", bpffs / "m", *line.split(), status=status)
    assert done.stderr.startswith(f"Error: {message}")
    assert not (bpffs / "m").exists()
