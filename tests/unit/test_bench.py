"""The benchmark's figures, words and programs; tests/kernel/test_bench_maps.py measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bpfctl import insn
from bpfctl.asm import Code
from bpfctl.bench import programs
from bpfctl.bench.compare import changes, read_report
from bpfctl.bench.figures import Interval, interval, kendall_tau, median, ranks, variation
from bpfctl.bench.host import Host
from bpfctl.bench.like import Model, shapes_like
from bpfctl.bench.maps import Report, Row
from bpfctl.bench.network import udp_packet
from bpfctl.bench.paths import PathRow
from bpfctl.bench.programs import RING, XDP_DROP, Target
from bpfctl.bench.shapes import SHAPES, Shape, by_size
from bpfctl.cli import bench_maps
from bpfctl.cli.grammar.bench import BenchCommand, parse_bench
from bpfctl.errors import BpfctlError, UsageError
from bpfctl.inventory.reference import Reference
from bpfctl.uapi import MapFlag, MapType

# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "middle"), [([3], 3), ([1, 9, 2], 2), ([4, 1, 3, 2], 2.5)])
def test_median(values: list[float], middle: float) -> None:
    assert median(values) == middle


def test_median_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        median([])


def test_interval_spans_the_rounds() -> None:
    assert interval([5, 1, 3]) == Interval(3, 1, 5)


@pytest.mark.parametrize(
    ("figures", "places"),
    [
        ({}, {}),
        ({"a": (1, 1, 1), "b": (2, 2, 2)}, {"a": 1, "b": 2}),
        ({"b": (2, 2, 2), "a": (1, 1, 2)}, {"a": 1, "b": 1}),
        # c overlaps with b only: it is told apart from the first of the place
        ({"a": (1, 1, 3), "b": (3, 2, 5), "c": (5, 4, 6), "d": (9, 9, 9)}, {"a": 1, "b": 1, "c": 3, "d": 4}),
    ],
)
def test_ranks_tie_what_overlaps(
    figures: dict[str, tuple[float, float, float]], places: dict[str, int]
) -> None:
    assert ranks({name: Interval(*figure) for name, figure in figures.items()}) == places


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}, 1),
        ({"a": 1, "b": 2, "c": 3}, {"a": 3, "b": 2, "c": 1}, -1),
        ({"a": 1, "b": 2, "c": 2}, {"a": 1, "b": 3, "c": 2}, 1),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}, -1),
        ({"a": 1}, {"a": 1}, 1),
    ],
)
def test_kendall_tau_counts_ties_as_agreement(
    first: dict[str, int], second: dict[str, int], tau: float
) -> None:
    assert kendall_tau(first, second) == tau


def test_variation() -> None:
    assert variation([5]) == 0
    assert variation([1, 2, 3]) == pytest.approx(0.5)


# --- programs ------------------------------------------------------------------------------------


def test_labels_become_distances() -> None:
    code = Code()
    code.label("start")
    code.alu_imm("mov", 0, 1)
    code.imm64(1, -1)
    code.jump_if("jeq", 0, 1, "end")
    code.jump("start")
    code.label("end")
    code.exit()
    assert insn.disassemble(code.build()) == [
        "r0 = 1", "r1 = 0xffffffffffffffff", "", "if r0 == 0x1 goto pc+1", "goto pc-5", "exit",
    ]  # fmt: skip


@pytest.mark.parametrize("value_size", [1, 2, 4, 8, 12, 64])
def test_stored_values_begin_with_one(value_size: int) -> None:
    shape = Shape("x", MapType.HASH, value_size=value_size)
    value = programs.one(shape)
    assert len(value) % 8 == 0
    assert len(value) >= value_size
    field = max(size for size in (1, 2, 4, 8) if size <= value_size)
    assert int.from_bytes(value[:field], "little") == 1


def test_ring_gives_the_last_chunks_and_leaves_spoiled_ones_out() -> None:
    shape = SHAPES["hash"]
    data = bytearray(programs.fresh_state(shape, 1))
    chunks = RING + 3
    data[8:16] = (7).to_bytes(8, "little")
    data[16:24] = chunks.to_bytes(8, "little")
    for number in range(chunks):
        at = programs.RING_AT + number % RING * 8
        data[at : at + 8] = (0 if number == chunks - 2 else number).to_bytes(8, "little")
    state = programs.read_state(bytes(data), 4)
    assert (state.total, state.chunks) == (7, chunks)
    assert state.times == (chunks - 4, chunks - 3, chunks - 1)


def test_baseline_differs_in_the_map_only() -> None:
    target = Target(5, SHAPES["hash"], 100)
    calls = [
        sum(line.startswith("call") for line in insn.disassemble(make("lookup", target, 6)))
        for make in (programs.measured_program, programs.baseline_program)
    ]
    assert calls == [6, 2]  # four lookups, and the time twice


@pytest.mark.parametrize(
    ("operation", "name", "waits"),
    [("lookup", "hash", True), ("count", "hash", False), ("miss", "hash", False), ("lookup", "queue", False)],
)
def test_only_lookups_of_values_can_wait_for_the_one_before(operation: str, name: str, waits: bool) -> None:
    """And the baseline waits where they do, or the difference would be of two things."""
    target = Target(5, SHAPES[name], 100)
    for make in (programs.measured_program, programs.baseline_program):
        same = make(operation, target, 6, dependent=True) == make(operation, target, 6, dependent=False)
        assert same is not waits


def test_maps_are_compared_at_the_size_that_they_have() -> None:
    shapes = [SHAPES[name] for name in ("array", "array_of_maps")]
    assert by_size(shapes, (1024, 16)) == {1024: shapes[:1], 16: shapes, 32: shapes[1:]}
    assert by_size(shapes, (32, 1024)) == {32: shapes, 1024: shapes[:1]}


def test_bars_of_figures_that_are_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines = list(bench_maps._lines(report(row("none", 0, -1, 0), row("below", -3, -4, -2))))
    assert not any("█" in line or "▉" in line for line in lines)


@pytest.mark.parametrize(
    ("redirect_to", "baseline", "calls"),
    [(0, False, ["map_lookup_elem", "ktime_get_ns"]), (0, True, ["ktime_get_ns"]),
     (7, False, ["map_lookup_elem", "ktime_get_ns", "redirect"])],
)  # fmt: skip
def test_a_packet_meets_one_lookup_and_its_verdict(
    redirect_to: int, baseline: bool, calls: list[str]
) -> None:
    names = {1: "map_lookup_elem", 5: "ktime_get_ns", 23: "redirect"}
    target = Target(5, SHAPES["lpm_trie"], 100)
    code = programs.packet_program(target, 6, XDP_DROP, redirect_to, baseline=baseline)
    slots = [code[at : at + 8] for at in range(0, len(code), 8)]
    assert [names[int.from_bytes(slot[4:], "little")] for slot in slots if slot[0] == 0x85] == calls
    assert (bytes.fromhex("b700000001000000") in slots) is (not redirect_to)


def test_packet_is_sound_udp() -> None:
    packet = udp_packet()
    assert len(packet) == 60
    words = [int.from_bytes(packet[at : at + 2], "big") for at in range(14, 34, 2)]
    total = sum(words)
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF  # RFC 1071
    assert (words[1], int.from_bytes(packet[38:40], "big")) == (46, 26)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("", BenchCommand()),
        ("types hash,array,hash", BenchCommand(types=("hash", "array"))),
        ("sizes 1,1k,2M", BenchCommand(sizes=(1, 1024, 2 << 20))),
        ("--op insert+delete --keys cold --rounds 3",
         BenchCommand(operations=("insert+delete",), keys="cold", rounds=3)),
        ("cpus 0,1 json x", BenchCommand(cpus=(0, 1), json="x")),
        ("like id 7 compare old", BenchCommand(like=Reference("id", "7"), compare="old")),
        ("like a:b.o:m", BenchCommand(like=("a:b.o", "m"))),
        ("plot a.b/x.svg", BenchCommand(plot="a.b/x.svg")),
        ("--path drop,tc cpus 1", BenchCommand(paths=("drop", "tc"), cpus=(1,))),
    ],
)  # fmt: skip
def test_words(words: str, command: BenchCommand) -> None:
    assert parse_bench(words.split()) == command


@pytest.mark.parametrize(
    "words",
    ["types", "types hsh", "types ,", "sizes 0", "sizes 5M", "sizes 1x", "keys warm", "cpus a", "cpus 0,1,2",
     "like x.o", "like :m", "rounds -1", "speed", "path xdp", "path drop op update",
     "path drop keys cold", "path tc cpus 0,1", "plot x.pdf"],
)  # fmt: skip
def test_mistakes(words: str) -> None:
    with pytest.raises(UsageError):
        parse_bench(words.split())


# --- like ----------------------------------------------------------------------------------------


def like(map_type: MapType, key_size: int, flags: int = 0) -> list[tuple[str, MapType, int]]:
    shapes = shapes_like(Model("mine", map_type, key_size, 40, 1000, flags))
    assert {shape.value_size for shape in shapes} == {40}
    return [(shape.name, shape.map_type, int(shape.flags)) for shape in shapes]


def test_like_a_hash() -> None:
    assert like(MapType.LRU_HASH, 40, MapFlag.NO_COMMON_LRU)[0] == ("mine", MapType.LRU_HASH, 2)
    assert [name for name, *_ in like(MapType.LRU_HASH, 40, MapFlag.NO_COMMON_LRU)] == [
        "mine", "hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "hash_no_prealloc",
    ]  # fmt: skip


def test_short_keys_might_index_an_array() -> None:
    assert {"array", "percpu_array"} <= {name for name, *_ in like(MapType.HASH, 4)}
    shapes = shapes_like(Model("mine", MapType.HASH, 1, 40, 100, 0))
    assert [shape.key_size for shape in shapes if shape.is_array] == [4, 4]  # the kernel takes no other


def test_like_an_array_or_a_trie() -> None:
    assert [name for name, *_ in like(MapType.ARRAY, 4)] == ["mine", "percpu_array", "hash"]
    assert [name for name, *_ in like(MapType.LPM_TRIE, 8)] == ["mine", "hash"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model("m", MapType.RINGBUF, 0, 0, 4096, 0), "ringbuf"),
        (Model("m", MapType.HASH, 300, 8, 10, 0), "keys of 300 bytes"),
        (Model("m", MapType.HASH, 4, 8, 1 << 30, 0), "entries"),
    ],
)
def test_what_has_no_like(model: Model, reason: str) -> None:
    with pytest.raises(BpfctlError, match=reason):
        shapes_like(model)


# --- comparison ----------------------------------------------------------------------------------

HOST = Host("6.1", "x86_64", None, 2, (), {}, True, None, None, 0.1, 0.2)


def row(name: str, ns: float, low: float, high: float) -> Row:
    return Row("lookup", 1024, name, 1, False, ns, low, high, 1.0, 0.0, (ns,))


def report(*rows: Row, keys: str = "dependent") -> Report:
    return Report(1, True, 1.0, keys, HOST, rows, (), ())


def written(path: Path, value: Report) -> str:
    from bpfctl.cli.output import to_json

    path.write_text(to_json(value))
    return str(path)


def test_changes_beyond_the_intervals(tmp_path: Path) -> None:
    old = written(tmp_path / "old", report(row("a", 10, 9, 11), row("b", 10, 9, 11), row("c", 10, 9, 11)))
    new = report(row("a", 20, 19, 21), row("b", 5, 4, 6), row("c", 11, 10, 12), row("d", 1, 1, 1))
    found = [(c.map, c.old, c.new, c.percent, c.verdict) for c in changes(read_report(old), new)]
    assert found == [("a", 10, 20, 100, "slower"), ("b", 10, 5, -50, "faster"), ("c", 10, 11, 10, "same")]


def test_changes_of_paths(tmp_path: Path) -> None:
    def of(path: str, ns: float) -> PathRow:
        return PathRow(path, 1024, "hash", 1, False, 24.0, ns, ns, ns, 0.4, 1.0, 0.0, (ns,))

    old = written(tmp_path / "old", report()._replace(paths=(of("drop", 16), of("tc", 20))))
    new = report()._replace(paths=(of("tc", 30), of("veth", 1)))
    found = [(c.operation, c.map, c.percent, c.verdict) for c in changes(read_report(old), new)]
    assert found == [("path tc", "hash", 50, "slower")]


def test_reports_of_different_keys_are_not_compared(tmp_path: Path) -> None:
    old = read_report(written(tmp_path / "old", report(keys="cold")))
    with pytest.raises(BpfctlError, match="cold keys"):
        list(changes(old, report()))


def _with_figure(ns: str, entries: str) -> str:
    row = f'{{"operation": "lookup", "entries": {entries}, "map": "hash", "ns": {ns}, "low": 1, "high": 1}}'
    return f'{{"schema": 1, "keys": "cold", "host": {{"kernel": "6.1"}}, "rows": [{row}]}}'


def test_a_kernel_name_that_would_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text(_with_figure("1", "1").replace("6.1", "6.1\\u001b[31m"))
    assert "\x1b" not in read_report(str(path)).kernel


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "{}",
        '{"schema": 2}',
        '{"schema": 1}',
        "[" * 100_000,
        json.dumps({"schema": 1, "rows": [7]}),
        json.dumps({"schema": 1, "rows": [], "paths": [7]}),
        '{"schema": 1, "rows": [], "keys": "cold", "host": {"kernel": "\\ud800"}, "paths": 7}',
        *(
            _with_figure(*figures)
            for figures in (("1e999", "1"), ("NaN", "1"), ("-1e300", "1"), ('"x"', "1"))
        ),
        *(_with_figure("1", entries) for entries in ("Infinity", "NaN", "null", "9" * 5000)),
        "\0" * ((16 << 20) + 1),
    ],
    ids=range(19),
)
def test_what_is_no_report(tmp_path: Path, text: str) -> None:
    path = tmp_path / "old"
    path.write_text(text)
    with pytest.raises(BpfctlError, match="old"):
        read_report(str(path))
    with pytest.raises(BpfctlError, match="No such file"):
        read_report(str(path) + ".gone")
