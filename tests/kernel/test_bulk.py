"""Elements in files: every format there and back, and all that can be wrong with a file."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import types_of_c
from btf_builder import BtfBuilder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_maps import create, reference

from bpfctl.btf.views import plain_codec
from bpfctl.cli.map_dump import csv_chunks, typed_chunks
from bpfctl.errors import BpfctlError
from bpfctl.inventory import batch, maptypes
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.textforms import ElementReader, Source
from bpfctl.inventory.transfer import Piece, write_all
from bpfctl.inventory.typed import Types, map_types
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import BPF_NOEXIST, MapFlag, MapType

pytestmark = pytest.mark.kernel


def make(run: Any, pin: Path, words: str) -> None:
    run("map", "create", pin, *words.split(), status=0)


def typed(kind: MapType = MapType.HASH, entries: int = 100_000) -> Fd:
    """A map of u32 -> struct { u64 packets; char name[8]; }."""
    b = BtfBuilder()
    u32, u64 = b.int("__u32", 4, signed=False), b.int("__u64", 8, signed=False)
    name = b.array(b.int("char", 1), 8)
    value = b.struct("flow", 16, [("packets", u64, 0), ("name", name, 64)])
    with Fd(bpf.btf_load(b.blob())) as types:
        btf = {"btf_fd": types.number, "btf_key_type_id": u32, "btf_value_type_id": value}
        return create(kind, 4, 16, entries, **btf)


@pytest.fixture
def flows() -> Iterator[OpenMap]:
    with typed() as fd, open_elements(reference(fd)) as target:
        yield target


def load(target: OpenMap, data: bytes, form: str, types: Types | None = None, **how: Any) -> int:
    """As `map load` does."""

    def pieces() -> Iterator[Piece]:
        reader = ElementReader(target, types or map_types(target))
        for numbered in reader.blocks(Source("x", io.BytesIO(data)), form):
            yield Piece(numbered.block, lambda number: f"x:{numbered.line(number)}")  # noqa: B023

    return write_all(target, pieces(), **how)


def content(target: OpenMap) -> dict[int, tuple[int, str]]:
    codec = map_types(target).value
    found = {}
    for element in target.elements():
        assert isinstance(element.value, bytes)
        shown = codec.decode(element.value)
        found[int.from_bytes(element.key, "little")] = (shown["packets"], shown["name"])
    return found


FORMS = [
    ("ndjson", '{"key":1,"value":{"packets":5,"name":"a"}}\n{"key": 2, "value": {"name": "b"}}'),
    ("ndjson", '\n{"key":"0x1","value":{"packets":"5","name":"a"}}\r\n\n{"key":2,"value":{"name":"b"}}\n'),
    ("json", '[{"key":1,"value":{"packets":5,"name":"a"}},{"key":2,"value":{"name":"b"}}]'),
    ("json", ' [ {"key":1,\n"value":{"packets":5,"name":"a"}}\n,\n{"key":2,"value":{"name":"b"}} ] \n'),
    ("csv", "key,value.packets,value.name\n1,5,a\n\n2,,b\n"),
    ("csv", 'value.name,key,value.packets\r\n"a",1,5\r\nb,0x2,0\r\n'),
    ("csv", 'key,value\n1,"{""packets"": 5, ""name"": ""a""}"\n2,"{""name"": ""b""}"\n'),
]


@pytest.mark.parametrize(("form", "text"), FORMS)
def test_formats(flows: OpenMap, form: str, text: str) -> None:
    assert load(flows, text.encode(), form) == 2
    assert content(flows) == {1: (5, "a"), 2: (0, "b")}


def test_what_bpftool_prints(flows: OpenMap, requires: Any) -> None:
    requires("bpftool")
    flows.update(struct.pack("=I", 1), struct.pack("=Q8s", 5, b"a"))
    words = ["bpftool", "-j", "map", "dump", "id", str(flows.id)]
    printed = subprocess.run(words, check=True, capture_output=True).stdout
    flows.delete(struct.pack("=I", 1))
    assert load(flows, printed, "json") == 1
    assert content(flows) == {1: (5, "a")}


def test_values_of_each_cpu(requires: Any) -> None:
    """In every format, and as bpftool prints them; one value is that of every CPU."""
    requires("bpftool")
    with typed(MapType.PERCPU_HASH, 9) as fd, open_elements(reference(fd)) as target:
        cpus = range(target.cpus)
        value = b"".join(struct.pack("=Q8s", 5 + cpu, b"x") for cpu in cpus)
        bpf.map_update(fd.number, struct.pack("=I", 1), value)
        words = ["bpftool", "-j", "map", "dump", "id", str(target.id)]
        printed = subprocess.run(words, check=True, capture_output=True).stdout
        shown = [{"packets": 5 + cpu, "name": "x"} for cpu in cpus]
        columns = ",".join(f"values[{cpu}].packets,values[{cpu}].name" for cpu in cpus)
        cells = ",".join(f"{5 + cpu},x" for cpu in cpus)
        for form, data in (
            ("json", printed),
            ("ndjson", json.dumps({"key": 1, "values": shown}).encode()),
            ("csv", f"key,{columns}\n1,{cells}\n".encode()),
        ):
            target.delete(struct.pack("=I", 1))
            assert load(target, data, form) == 1
            assert bpf.map_lookup(fd.number, struct.pack("=I", 1), target.value_bytes) == value
        assert load(target, b'{"key":2,"value":{"packets":3}}', "ndjson") == 1
        (found,) = set(target.lookup(struct.pack("=I", 2)).value or ())
        assert found == struct.pack("=Q8x", 3)
        with pytest.raises(BpfctlError, match=rf"x:1: values: there is no list of {target.cpus} values"):
            load(target, b'{"key":2,"values":[]}', "ndjson")


def dumped(target: OpenMap, types: Types, form: str) -> str:
    """As `map dump format` prints it."""
    if form == "csv":
        return "".join(csv_chunks(target, types))
    return "".join(typed_chunks(target, types, array=form == "json"))


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_any_type_survives_dump_and_load(data: st.DataObject) -> None:
    """Through a map of the kernel and back, in every format."""
    t = types_of_c.Types(sys.byteorder)
    type_id, size = types_of_c.anything(data.draw, t, 3)
    if not size:
        return
    kind = data.draw(st.sampled_from([MapType.HASH, MapType.ARRAY, MapType.PERCPU_HASH]))
    with create(kind, 4, size, 1) as fd, open_elements(reference(fd)) as target:
        types = Types(plain_codec(4, sys.byteorder), t.codec(type_id), True)
        width = target.value_bytes
        bpf.map_update(fd.number, bytes(4), data.draw(st.binary(min_size=width, max_size=width)))
        for form in ("json", "ndjson", "csv"):
            text = dumped(target, types, form)
            batch.clear(target)
            assert load(target, text.encode(), form, types=types) == 1
            assert dumped(target, types, form) == text


BROKEN = [
    (
        "ndjson",
        '{"key":1,"value":{"packets":1}}\n{"key":2,"value":{"packets":-1}}\n',
        "x:2: value.packets: -1 does",
    ),
    ("ndjson", "\n\n{]\n", "x:3: no JSON: "),
    ("ndjson", '{"key":1' + "0" * 5000 + "}\n", "x:1: no JSON: Exceeds the limit"),
    ("ndjson", '{"key":1' + "0" * 500 + "}\n", "x:1: key: 1000000"),
    ("csv", "key\n1" + "0" * 5000 + "\n", "x:2: key: '1000000"),
    ("ndjson", "5\n", 'x:1: an object with "key" and "value" is wanted'),
    ("ndjson", '{"value":{}}\n', 'x:1: "key" is missing'),
    ("ndjson", '{"key":1}\n', 'x:1: "value" is missing'),
    ("ndjson", '{"key":1,"values":[]}\n', 'x:1: "values" is for maps with a value for each CPU'),
    ("ndjson", '{"key":1,"value":{},"vlaue":1}\n', 'x:1: vlaue: "key" and "value" are what an element has'),
    ("ndjson", '{"key":1,"value":["0x01"]}\n', "x:1: value: ['0x01'] does not fit"),
    ("ndjson", "[" * 60_000 + "\n", "x:1: no JSON"),
    ("json", "{}", "x:1: an array is wanted"),
    ("json", "[", "x:1: no JSON"),
    ("json", '[{"key":1,"value":{}}', "x:1: the array does not end"),
    ("json", '[{"key":1,"value":{}}\n{}]', "x:2: between elements is no comma"),
    ("json", "[]x", "x:1: there is something behind the array"),
    ("json", '[\n{"key":1,"value":{"nmae":1}}]', "x:2: value.nmae: there is no such member"),
    ("json", "[" * 100_000, "x:1: its JSON is nested too deep"),
    ("csv", "key,value.nmae\n1,2\n", "x:1: value.nmae: there is no such member"),
    ("csv", "ky,value\n1,2\n", "x:1: column ky: key or value is what it begins with"),
    ("csv", "key,value.packets\n1,2\n3\n", "x:3: there are 1 cells, the header has 2"),
    ("csv", "key,value.packets\n1,many\n", "x:2: value.packets: 'many' does not fit"),
    ("csv", 'key,value.name\n1,"a\n', "x:2: unexpected end of data"),
]


@pytest.mark.parametrize(("form", "text", "message"), BROKEN)
def test_what_is_wrong_is_named_by_line(flows: OpenMap, form: str, text: str, message: str) -> None:
    with pytest.raises(BpfctlError) as caught:
        load(flows, text.encode(), form)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("form", ["ndjson", "json", "csv"])
def test_a_line_without_end_is_bounded(flows: OpenMap, form: str) -> None:
    """A gigabyte of it, in a test a hundredth."""
    head = {"ndjson": b'{"key":"', "json": b'[{"key":"', "csv": b'key,value\n1,"'}[form]
    data = head + b"a" * 10_000_000
    tracemalloc.start()
    with pytest.raises(BpfctlError, match=r"x:\d: (the line is longer than|no JSON)"):
        load(flows, data, form)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def lines(count: int) -> bytes:
    return b"".join(b'{"key":%d,"value":{"packets":%d,"name":"x"}}\n' % (n, n) for n in range(count))


def test_a_bad_line_far_in_changes_nothing_with_atomic(run: Any, bpffs: Path, tmp_path: Path) -> None:
    with typed() as fd:
        bpf.obj_pin(fd.number, str(bpffs / "m"))
        text = lines(5000) + b'{"key":1,"value":{"packets":"?"}}\n'
        (tmp_path / "f").write_bytes(text)
        done = run("map", "load", "pinned", bpffs / "m", tmp_path / "f", "--atomic", status=1)
        assert done.stderr.startswith(f"Error: {tmp_path / 'f'}:5001: value.packets: '?' does not fit")
        assert run("map", "dump", "pinned", bpffs / "m", status=0).stdout == ""
        run("map", "load", "pinned", bpffs / "m", "-", "atomic", stdin=lines(3).decode(), status=0)
        assert len(run("map", "dump", "pinned", bpffs / "m", status=0).stdout.splitlines()) == 3


FULL = [
    (MapType.HASH, 10, True),
    (MapType.HASH, 10, False),
    (MapType.ARRAY, 10, True),
    (MapType.ARRAY, 10, False),
    (MapType.HASH, 1 << 16, True),  # more than a block
]


@pytest.mark.parametrize(("kind", "entries", "atomic"), FULL)
def test_a_full_map(kind: MapType, entries: int, atomic: bool) -> None:
    with typed(kind, entries) as fd, open_elements(reference(fd)) as target:
        target.update(struct.pack("=I", 3), struct.pack("=Q8s", 99, b"old"))
        before = content(target)
        with pytest.raises(BpfctlError) as caught:
            load(target, lines(entries + 2), "ndjson", atomic=atomic)
        assert caught.value.message.startswith(f"x:{entries + 1}: cannot update ")
        assert caught.value.message.endswith("Argument list too long (E2BIG)")
        if atomic:
            assert caught.value.details == ("The map is as it was.",)
            assert content(target) == before
        else:
            assert caught.value.details == ("10 elements before it are in the map.",)
            assert content(target)[3] == (3, "x")


def test_frozen_and_noexist(flows: OpenMap) -> None:
    flows.update(struct.pack("=I", 1), bytes(16))
    with pytest.raises(BpfctlError, match=r"x:2: cannot update .*EEXIST"):
        load(flows, lines(3), "ndjson", flags=BPF_NOEXIST, atomic=True)
    assert content(flows) == {1: (0, "")}
    flows.freeze()
    with pytest.raises(BpfctlError, match=r"x:1: cannot update .*EPERM"):
        load(flows, lines(3), "ndjson")


def test_memory_does_not_grow_with_the_file(flows: OpenMap) -> None:
    peaks = []
    for count in (30_000, 60_000):
        data = lines(count)
        tracemalloc.start()
        load(flows, data, "ndjson")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3


# --- save and restore -----------------------------------------------------------------------------


def test_all_maps_of_a_program(run: Any, bpffs: Path, tmp_path: Path, testdata: Path) -> None:
    run("prog", "load", testdata / "elastic_ip.bpf.o", bpffs / "p", "set", "settings.site=x", status=0)
    ids = json.loads(run("-j", "prog", "show", "pinned", bpffs / "p", status=0).stdout)["map_ids"]
    eip = next(n for n in ids if json.loads(run("-j", "map", "show", "id", n).stdout)["name"] == "eip")
    run("map", "update", "id", eip, "key", "192.0.2.7", "value", "rate=5", "owner=me", status=0)
    run("map", "save", "prog", "pinned", bpffs / "p", tmp_path / "f", status=0)
    restored = json.loads(run("-j", "map", "restore", tmp_path / "f", "under", bpffs / "c", status=0).stdout)
    assert {record["name"]: record["elements"] for record in restored}["eip"] == 1
    assert all(record["made"] for record in restored)
    copy = ("pinned", bpffs / "c" / "eip")
    assert run("map", "dump", *copy, status=0).stdout == run("map", "dump", "id", eip, status=0).stdout
    assert json.loads(run("-j", "map", "show", "pinned", bpffs / "c" / "elastic__rodata").stdout)["frozen"]
    # once more: now they are there, and what is not in the file stays
    run("map", "update", *copy, "key", "192.0.2.8", "value", "rate=6", status=0)
    again = json.loads(run("-j", "map", "restore", tmp_path / "f", "under", bpffs / "c", status=0).stdout)
    assert not any(record["made"] for record in again)
    assert len(run("map", "dump", *copy, status=0).stdout.splitlines()) == 2


def test_all_maps_of_an_object(run: Any, bpffs: Path, tmp_path: Path, testdata: Path) -> None:
    """Those that it pins where the loader does, and with `pinmaps` the others."""
    nothing = run("map", "save", "obj", testdata / "flow_table.bpf.o", tmp_path / "f", status=1)
    assert f"looked for: {bpffs}/flows, " in nothing.stderr
    run("prog", "load", testdata / "flow_table.bpf.o", "m:one", status=0)
    run("map", "update", "pinned", bpffs / "flows", "key", "10.0.0.1", "value", "packets=7", status=0)
    before = run("map", "dump", "pinned", bpffs / "flows", status=0).stdout
    saved = run("-j", "map", "save", "obj", testdata / "flow_table.bpf.o", tmp_path / "f", status=0)
    assert {record["name"] for record in json.loads(saved.stdout)} == {"flows", "totals", "zones"}
    (bpffs / "flows").unlink()
    (bpffs / "zones").unlink()
    done = run("map", "save", "obj", testdata / "flow_table.bpf.o", tmp_path / "g", status=0)
    assert f"Warning: map zones is left out: nothing is pinned at {bpffs}/zones or " in done.stderr
    run("map", "restore", tmp_path / "f", status=0)
    assert run("map", "dump", "pinned", bpffs / "flows", status=0).stdout == before

    run("prog", "load", testdata / "elastic_ip.bpf.o", bpffs / "p", "pinmaps", bpffs / "rest", status=0)
    words = ("obj", testdata / "elastic_ip.bpf.o", "pinmaps", bpffs / "rest", tmp_path / "h")
    saved = run("-j", "map", "save", *words, status=0)
    assert len(json.loads(saved.stdout)) == 6  # those of .rodata, .data and .bss, too


U32 = (4, 4, 4, 0)  # bytes of key and value, entries, flags
SHAPES = {
    MapType.HASH: U32,
    MapType.ARRAY: U32,
    MapType.PROG_ARRAY: U32,
    MapType.PERF_EVENT_ARRAY: U32,
    MapType.PERCPU_HASH: (4, 12, 4, 0),
    MapType.PERCPU_ARRAY: (4, 8, 4, 0),
    MapType.STACK_TRACE: (4, 64, 4, 0),
    MapType.CGROUP_ARRAY: U32,
    MapType.LRU_HASH: (4, 4, 64, MapFlag.NO_COMMON_LRU),
    MapType.LRU_PERCPU_HASH: (4, 4, 64, 0),
    MapType.LPM_TRIE: (8, 4, 4, MapFlag.NO_PREALLOC),
    MapType.ARRAY_OF_MAPS: U32,
    MapType.HASH_OF_MAPS: U32,
    MapType.DEVMAP: U32,
    MapType.DEVMAP_HASH: U32,
    MapType.CPUMAP: U32,
    MapType.SOCKMAP: U32,
    MapType.SOCKHASH: (4, 8, 4, 0),
    MapType.REUSEPORT_SOCKARRAY: (4, 8, 4, 0),
    MapType.XSKMAP: U32,
    MapType.QUEUE: (0, 4, 4, 0),
    MapType.STACK: (0, 4, 4, 0),
    MapType.BLOOM_FILTER: (0, 4, 4, 0),
    MapType.RINGBUF: (0, 0, 4096, 0),
    MapType.USER_RINGBUF: (0, 0, 4096, 0),
    MapType.ARENA: (0, 0, 4, MapFlag.MMAPABLE),
}
CARRIED = {
    "hash",
    "array",
    "percpu_hash",
    "percpu_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "cpumap",
}


def test_restore_of_every_type(run: Any, bpffs: Path, tmp_path: Path) -> None:
    """Definitions, and the elements that mean something elsewhere."""
    pins = bpffs / "s"
    pins.mkdir()
    with create(MapType.ARRAY, 4, 4, 1) as inner:
        for kind, (key, value, entries, flags) in SHAPES.items():
            more = {"inner_map_fd": inner.number} if kind in maptypes.HOLDS_MAPS else {}
            with create(kind, key, value, entries, map_flags=flags, **more) as fd:
                bpf.obj_pin(fd.number, str(pins / kind.name.lower()))
                if kind.name.lower() in CARRIED or more:
                    held = inner.number if more else 64
                    content = struct.pack("=I", held).ljust(value, b"x")
                    with open_elements(reference(fd)) as target:
                        target.update(struct.pack("=II", 0, 7)[:key], content)
        saved = json.loads(run("-j", "map", "save", "under", pins, tmp_path / "f", status=0).stdout)
    dumps = {name: run("map", "dump", "pinned", pins / name, status=0).stdout for name in CARRIED}
    definitions = {pin.name: definition(pin) for pin in pins.iterdir()}
    for name in definitions:
        (pins / name).unlink()
    restored = json.loads(run("-j", "map", "restore", tmp_path / "f", status=0).stdout)
    assert all(record["made"] for record in restored)
    assert {pin.name: definition(pin) for pin in pins.iterdir()} == definitions
    carried = {record["type"] for record in saved if record.get("elements")}
    assert carried == CARRIED | {"array_of_maps", "hash_of_maps"}
    for name, shown in dumps.items():
        assert run("map", "dump", "pinned", pins / name, status=0).stdout == shown, name


def definition(pin: Path) -> tuple[int, ...]:
    with Fd(bpf.obj_get(str(pin))) as fd:
        facts = info.map_info(fd.number)
    return facts.type, facts.key_size, facts.value_size, facts.max_entries, facts.map_flags


def test_restore_into_one_map(run: Any, bpffs: Path, tmp_path: Path) -> None:
    make(run, bpffs / "a", "type hash key 4 value 4 entries 9")
    make(run, bpffs / "b", "type lru_hash key 4 value 4 entries 99")
    make(run, bpffs / "c", "type hash key 4 value 8 entries 9")
    run("map", "update", "pinned", bpffs / "a", "key", "1", "value", "2", status=0)
    run("map", "save", "pinned", bpffs / "a", tmp_path / "f", status=0)
    run("map", "restore", tmp_path / "f", "pinned", bpffs / "b", status=0)
    shown = run("map", "dump", "pinned", bpffs / "b", status=0).stdout
    assert shown == "key: 01 00 00 00 (1)  value: 02 00 00 00 (2)\n"
    refused = run("map", "restore", tmp_path / "f", "pinned", bpffs / "c", status=1)
    assert "has keys of 4 and values of 8 bytes, the saved map 4 and 4" in refused.stderr


def test_a_damaged_file_changes_nothing(run: Any, bpffs: Path, tmp_path: Path) -> None:
    make(run, bpffs / "a", "type hash key 4 value 4 entries 9")
    run("map", "update", "pinned", bpffs / "a", "key", "1", "value", "2", status=0)
    run("map", "save", "pinned", bpffs / "a", tmp_path / "f", status=0)
    run("map", "clear", "pinned", bpffs / "a", status=0)
    data = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(data[:-1])
    for words in ((), ("under", bpffs / "d"), ("pinned", bpffs / "a")):
        done = run("map", "restore", tmp_path / "f", *words, status=1)
        assert "the file is cut off" in done.stderr
    assert run("map", "dump", "pinned", bpffs / "a", status=0).stdout == ""
    assert not (bpffs / "d").exists()


def test_a_failed_restore_takes_back_what_it_made(run: Any, bpffs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        words = f"type array key 4 value 4 entries 2 name {name}".split()
        run("map", "create", bpffs / name, *words, status=0)
    run("map", "save", "under", bpffs, tmp_path / "f", status=0)
    (bpffs / "d").mkdir()
    make(run, bpffs / "d" / "b", "type array key 4 value 8 entries 2 name b")
    refused = run("map", "restore", tmp_path / "f", "under", bpffs / "d", status=1)
    assert "value size: 4 in the file, 8 there" in refused.stderr
    assert [path.name for path in (bpffs / "d").iterdir()] == ["b"]


def test_maps_of_maps_come_with_theirs(run: Any, bpffs: Path, tmp_path: Path) -> None:
    make(run, bpffs / "in", "type array key 4 value 4 entries 1 name in")
    make(
        run,
        bpffs / "out",
        f"type array_of_maps key 4 value 4 entries 2 name out inner_map pinned {bpffs / 'in'}",
    )
    run("map", "update", "pinned", bpffs / "in", "key", "0", "value", "7", status=0)
    run("map", "update", "pinned", bpffs / "out", "key", "1", "value", "pinned", bpffs / "in", status=0)
    run("map", "save", "pinned", bpffs / "out", tmp_path / "f", status=0)
    run("map", "restore", tmp_path / "f", "under", bpffs / "c", status=0)
    inner = json.loads(run("-j", "map", "show", "pinned", bpffs / "c" / "in", status=0).stdout)["id"]
    (element,) = json.loads(run("-j", "map", "dump", "pinned", bpffs / "c" / "out", status=0).stdout)
    assert element["formatted"] == {"key": 1, "value": inner}
    held = run("map", "lookup", "id", inner, "key", "0", status=0).stdout
    assert held == "key: 00 00 00 00 (0)  value: 07 00 00 00 (7)\n"
