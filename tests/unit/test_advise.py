"""Rules of ``advise`` on small programs made by hand: what each is about, and what it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from btf_builder import BtfBuilder

from bpfctl.advise import interpret as interpreter
from bpfctl.advise import live_rules, sarif
from bpfctl.advise.advice import advise
from bpfctl.advise.code import Code, Device, MapDefinition, map_loads
from bpfctl.advise.findings import Advice, Finding
from bpfctl.advise.interpret import interpret
from bpfctl.advise.live_rules import Sample
from bpfctl.advise.machine import Machine
from bpfctl.advise.objects import is_deferred, read_subject
from bpfctl.advise.subject import Subject
from bpfctl.advise.values import (
    ANYTHING,
    UNKNOWN,
    Constant,
    MapPointer,
    StackPointer,
    ValuePointer,
    inner,
    join,
)
from bpfctl.asm import FP
from bpfctl.asm import Code as Asm
from bpfctl.bench.compare import OldReport
from bpfctl.bench.figures import Interval
from bpfctl.btf.kinds import Kind
from bpfctl.errors import UnsupportedObjectError
from bpfctl.insn import LD_IMM64, Instruction, decode
from bpfctl.uapi import BPF_NOEXIST, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, MapFlag, MapType, ProgramType

TESTDATA = Path(__file__).parents[2] / "testdata"
MACHINE = Machine(memory=16 << 30, cpus=2, nodes=1, l2=2 << 20)
LOOKUP, UPDATE, DELETE, GET_CPU, LOAD_BYTES, LOOP = 1, 2, 3, 8, 26, 181
HASH, OTHER, ARRAY, PERCPU, LRU, LPM = 1, 2, 3, 4, 5, 6
TYPES = {
    HASH: MapType.HASH,
    OTHER: MapType.HASH,
    ARRAY: MapType.ARRAY,
    PERCPU: MapType.PERCPU_HASH,
    LRU: MapType.LRU_HASH,
    LPM: MapType.LPM_TRIE,
}


def definition(token: int, **changes: object) -> MapDefinition:
    made = MapDefinition(token, f"map{token}", TYPES.get(token, MapType.HASH), 4, 8, 1024)
    return made._replace(**changes)  # type: ignore[arg-type]


MAPS = {token: definition(token, pinned=True) for token in TYPES}


def program(body: Callable[[Asm], None]) -> Code:
    """A packet's program: ``body``, and its end."""
    asm = Asm()
    asm.alu("mov", 6, 1)
    body(asm)
    asm.label("out")
    asm.alu_imm("mov", 0, 0)
    asm.exit()
    slots = decode(asm.build())
    return Code("made", ProgramType.XDP, slots, dict(MAPS), dict(map_loads(slots)))


def subject(*codes: Code, maps: dict[int | str, MapDefinition] | None = None) -> Subject:
    for code in codes:
        code.maps |= maps or {}
    used = {load.token for code in codes for load in code.loads.values()}
    known = {**MAPS, **(maps or {})}
    return Subject("made.o", False, list(codes), {token: known[token] for token in known if token in used})


def found(body: Callable[[Asm], None], **maps: MapDefinition) -> dict[str, Finding]:
    """Findings by rule."""
    changed: dict[int | str, MapDefinition] = {each.token: each for each in maps.values()}
    advice = advise(subject(program(body), maps=changed), MACHINE, pedantic=True)
    assert advice.unfinished == ()
    return {finding.rule: finding for finding in advice.findings}


def key(asm: Asm, offset: int = -4) -> None:
    """A key that nobody knows, from the context."""
    asm.load(4, 7, 6, 0)
    asm.store(4, FP, offset, 7)


def call(asm: Asm, helper: int, token: int, offset: int = -4, flags: int = 0) -> None:
    """A map helper with the key at ``offset`` of the stack, the value at -16."""
    asm.map_fd(1, token)
    asm.alu("mov", 2, FP)
    asm.alu_imm("add", 2, offset)
    if helper == UPDATE:
        asm.store_imm(8, FP, -16, 1)
        asm.alu("mov", 3, FP)
        asm.alu_imm("add", 3, -16)
        asm.alu_imm("mov", 4, flags)
    asm.call(helper)


def looked_up(asm: Asm, token: int, offset: int = -4) -> None:
    """A lookup; on from here only with what it found."""
    call(asm, LOOKUP, token, offset)
    asm.jump_if("jeq", 0, 0, "out")


# --- A1 to A5 ------------------------------------------------------------------------------------


def _either_map(asm: Asm, second: int) -> None:
    key(asm)
    asm.alu("mov", 2, FP)
    asm.alu_imm("add", 2, -4)
    asm.map_fd(1, HASH)
    asm.jump_if("jeq", 7, 0, "call")
    asm.map_fd(1, second)
    asm.label("call")
    asm.call(LOOKUP)


def test_one_call_for_two_maps() -> None:
    finding = found(lambda asm: _either_map(asm, OTHER))["A1"]
    assert (finding.confidence, finding.level) == ("hint", "info")
    assert "(map1, map2)" in finding.message
    assert "A1" not in found(lambda asm: _either_map(asm, HASH))


def _key_changed(asm: Asm) -> None:
    asm.store_imm(1, FP, -3, 7)  # one byte inside of it


def _key_loaded(asm: Asm) -> None:
    """A helper writes where the key is."""
    asm.alu("mov", 1, 6)
    asm.alu_imm("mov", 2, 0)
    asm.alu("mov", 3, FP)
    asm.alu_imm("add", 3, -8)
    asm.alu_imm("mov", 4, 8)
    asm.call(LOAD_BYTES)


def _neighbour_loaded(asm: Asm) -> None:
    """A helper writes right below it."""
    asm.alu("mov", 1, 6)
    asm.alu_imm("mov", 2, 0)
    asm.alu("mov", 3, FP)
    asm.alu_imm("add", 3, -24)
    asm.alu_imm("mov", 4, 20)
    asm.call(LOAD_BYTES)


def _somewhere_written(asm: Asm) -> None:
    """Through a pointer into the stack that is known no better."""
    asm.load(4, 7, 6, 4)
    asm.alu("mov", 3, FP)
    asm.alu("add", 3, 7)
    asm.store_imm(1, 3, 0, 0)


@pytest.mark.parametrize(
    ("between", "is_same"),
    [
        (lambda asm: None, True),
        (_neighbour_loaded, True),
        (_key_changed, False),
        (_key_loaded, False),
        (_somewhere_written, False),
    ],
)
def test_two_maps_with_one_key(between: Callable[[Asm], None], is_same: bool) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        between(asm)
        call(asm, LOOKUP, OTHER)

    rules = found(body)
    assert ("A2" in rules) is is_same
    if is_same:
        assert (rules["A2"].level, rules["A2"].map) == ("warn", "map2")
        assert rules["A2"].confidence == "proved in object"


def test_a_second_map_that_is_asked_after_a_miss_is_no_second_lookup() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)
        asm.jump_if("jne", 0, 0, "out")
        call(asm, LOOKUP, OTHER)

    assert "A2" not in found(body)


def test_arrays_and_other_key_sizes_are_no_second_lookup() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        call(asm, LOOKUP, ARRAY)
        call(asm, LOOKUP, OTHER)

    assert "A2" not in found(body, other=definition(OTHER, key_size=2))


@pytest.mark.parametrize(
    ("first", "second", "could_be_one"),
    [
        (MapType.HASH, MapType.LRU_HASH, True),
        (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, True),
        (MapType.LPM_TRIE, MapType.LPM_TRIE, True),
        (MapType.HASH, MapType.PERCPU_HASH, False),
        (MapType.HASH, MapType.LPM_TRIE, False),
        (MapType.HASH_OF_MAPS, MapType.HASH, False),
    ],
)
def test_only_maps_that_one_could_replace_share_a_lookup(
    first: MapType, second: MapType, could_be_one: bool
) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        call(asm, LOOKUP, OTHER)

    made = found(body, one=definition(HASH, type=first), other=definition(OTHER, type=second))
    assert ("A2" in made) is could_be_one


@pytest.mark.parametrize("through", [True, False])
def test_a_map_found_by_the_key_is_another_search(through: bool) -> None:
    """In a map of maps: which inner map is asked depends on the key."""

    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        if through:
            asm.alu("mov", 1, 0)
        else:
            asm.map_fd(1, OTHER)
        asm.alu("mov", 2, FP)
        asm.alu_imm("add", 2, -4)
        asm.call(LOOKUP)

    outer = definition(HASH, type=MapType.HASH_OF_MAPS if through else MapType.HASH)
    assert ("A2" in found(body, outer=outer, inner=definition(inner(HASH)))) is not through


@pytest.mark.parametrize(
    ("between", "again"),
    [
        (lambda asm: None, True),
        (lambda asm: call(asm, LOOKUP, OTHER), True),
        (lambda asm: call(asm, UPDATE, OTHER), True),
        (lambda asm: call(asm, UPDATE, HASH), False),
        (lambda asm: call(asm, DELETE, HASH), False),
        (_key_changed, False),
    ],
)
def test_the_same_lookup_again(between: Callable[[Asm], None], again: bool) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)
        between(asm)
        call(asm, LOOKUP, HASH)

    assert ("A3" in found(body)) is again


def test_a_lookup_on_one_path_only_is_not_repeated() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        asm.jump_if("jeq", 7, 3, "second")
        call(asm, LOOKUP, HASH)
        asm.label("second")
        call(asm, LOOKUP, HASH)

    assert "A3" not in found(body)


def test_a_key_that_a_loop_changes_is_another_key() -> None:
    def body(asm: Asm, changes: bool) -> None:
        key(asm)
        asm.alu_imm("mov", 8, 0)
        asm.label("again")
        call(asm, LOOKUP, HASH)
        if changes:
            asm.store(4, FP, -4, 8)
        asm.alu_imm("add", 8, 1)
        asm.jump_if("jne", 8, 9, "again")

    assert "A3" not in found(lambda asm: body(asm, True))
    assert "A3" not in found(lambda asm: body(asm, False))  # the first round repeats nothing


@pytest.mark.parametrize(
    ("token", "flags", "rule"),
    [(HASH, 0, "A4"), (HASH, 2, "A4"), (ARRAY, 0, "A4"), (PERCPU, 0, "A5"), (HASH, 1, None), (LPM, 0, None)],
)
def test_update_helper_after_a_hit(token: int, flags: int, rule: str | None) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, token)
        call(asm, UPDATE, token, flags=flags)

    assert {"A4", "A5"} & set(found(body)) == ({rule} if rule else set())


def test_update_helper_after_a_miss_or_of_another_key_is_right() -> None:
    def inserts(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)
        asm.jump_if("jne", 0, 0, "out")
        call(asm, UPDATE, HASH)

    def unknown(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)
        call(asm, UPDATE, HASH)

    def other_key(asm: Asm) -> None:
        key(asm)
        key(asm, -8)
        looked_up(asm, HASH)
        call(asm, UPDATE, HASH, -8)

    for body in (inserts, unknown, other_key):
        assert not {"A4", "A5"} & set(found(body))


# --- values in place -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "fetch", "shared"),
    [(HASH, 0, True), (ARRAY, 0, True), (PERCPU, 0, False), (HASH, 1, False)],
)
def test_atomic_counter(token: int, fetch: int, shared: bool) -> None:
    """One that is asked for its old value hands out numbers."""

    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, token)
        asm.alu_imm("mov", 1, 1)
        asm.atomic_add(8, 0, 0, 1, fetch=fetch)

    assert ("A7" in found(body)) is shared


@pytest.mark.parametrize("own", [False, True])
def test_plain_modification(own: bool) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        if own:
            asm.call(GET_CPU)
            asm.store(4, FP, -4, 0)
        looked_up(asm, HASH)
        asm.load(8, 1, 0, 0)
        asm.alu_imm("add", 1, 1)
        asm.store(8, 0, 0, 1)

    assert ("A8" in found(body)) is not own


@pytest.mark.parametrize("own", [False, True])
def test_counters_in_an_array_of_one_for_each_cpu(own: bool) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        if own:
            asm.call(GET_CPU)
            asm.alu("mov", 7, 0)
        asm.alu_imm("lsh", 7, 3)
        asm.map_value(8, ARRAY, 0)
        asm.alu("add", 8, 7)
        asm.alu_imm("mov", 1, 1)
        asm.atomic_add(8, 8, 0, 1)

    assert ("A7" in found(body)) is not own


def test_storing_what_was_loaded_elsewhere_is_no_modification() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        asm.load(4, 1, 0, 4)
        asm.store(4, 0, 0, 1)

    assert "A8" not in found(body)


@pytest.mark.parametrize(
    ("changes", "only"),
    [
        ({"max_entries": 1}, True),
        ({"max_entries": 2}, False),
        ({"max_entries": 1, "pinned": True}, False),
        ({"max_entries": 1, "placed": True}, False),
        ({"max_entries": 1, "deferred": True}, False),
    ],
)
def test_array_of_one_element(changes: dict[str, object], only: bool) -> None:
    def body(asm: Asm) -> None:
        asm.store_imm(4, FP, -4, 0)
        call(asm, LOOKUP, ARRAY)

    assert ("A19" in found(body, array=definition(ARRAY, **changes))) is only


@pytest.mark.parametrize(("name", "deferred"), [("bpf_timer", True), ("my_timer", False)])
def test_values_with_a_timer(name: str, deferred: bool) -> None:
    b = BtfBuilder()
    timer = b.struct(name, 16, [("a", b.int("u64", 8), 0)])
    several = b.array(b.add(Kind.TYPEDEF, "timer_t", timer), 2)
    value = b.struct("value", 40, [("itself", b.ptr(b.next_id + 1), 0), ("timers", several, 64)])
    assert is_deferred(b.btf("test.o"), value) is deferred
    assert not is_deferred(b.btf("test.o"), 99)


def test_pedantic_rules_are_off_by_default() -> None:
    def body(asm: Asm) -> None:
        asm.store_imm(4, FP, -4, 0)
        call(asm, LOOKUP, ARRAY)

    made = subject(program(body), maps={ARRAY: definition(ARRAY, max_entries=1)})
    assert advise(made, MACHINE).findings == ()


# --- maps ----------------------------------------------------------------------------------------


def test_common_lru_list() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, UPDATE, LRU)

    assert "1/2 of max_entries" in found(body)["A9"].change
    assert found(body)["A9"].instruction is not None
    assert "A9" not in found(body, lru=definition(LRU, flags=MapFlag.NO_COMMON_LRU))
    assert "A9" in found(body, lru=definition(LRU, max_entries=256))
    assert "A9" not in found(body, lru=definition(LRU, max_entries=255))  # no share worth having
    made = subject(program(body))
    assert "A9" not in {f.rule for f in advise(made, MACHINE._replace(cpus=1)).findings}
    assert "A9" not in found(lambda asm: (key(asm), call(asm, LOOKUP, LRU))[1])  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("more", "changes", "constant"),
    [
        (lambda asm: None, {}, True),
        (lambda asm: call(asm, UPDATE, HASH), {}, True),
        (lambda asm: (key(asm), call(asm, LOOKUP, HASH)), {}, False),
        (lambda asm: call(asm, DELETE, HASH), {}, False),  # that it is absent means something
        (lambda asm: call(asm, UPDATE, HASH, flags=BPF_NOEXIST), {}, False),
        (lambda asm: None, {"pinned": True}, False),  # other objects may use other keys
        (lambda asm: None, {"placed": True}, False),
    ],
)
def test_constant_keys(more: Callable[[Asm], object], changes: dict[str, object], constant: bool) -> None:
    def body(asm: Asm) -> None:
        asm.store_imm(4, FP, -4, 5)
        call(asm, LOOKUP, HASH)
        asm.store_imm(1, FP, -4, 6)
        call(asm, LOOKUP, HASH)
        more(asm)

    rules = found(body, made=definition(HASH, **changes))
    assert ("A11" in rules) is constant
    if constant:
        assert "(0x5, 0x6)" in rules["A11"].message


def test_allocation_in_the_path_of_packets() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, UPDATE, HASH)

    assert "A15" in found(body, made=definition(HASH, flags=MapFlag.NO_PREALLOC))
    assert "A15" not in found(body)


@pytest.mark.parametrize(
    ("changes", "rule", "expected"),
    [
        ({"key_size": 20}, "A13", True),
        ({"key_size": 24}, "A13", False),
        ({"key_size": 12}, "A13", False),
        ({"max_entries": 1 << 24}, "A14", True),
        ({"max_entries": 1 << 16}, "A14", False),
        ({"pinned": False}, "A17", True),
        ({"pinned": True}, "A17", False),
    ],
)
def test_shape_and_life(changes: dict[str, object], rule: str, expected: bool) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, UPDATE, HASH)

    assert (rule in found(body, made=definition(HASH, **changes))) is expected


@pytest.mark.parametrize(
    ("nodes", "changes", "says"),
    [
        (1, {}, None),
        (2, {}, "bound to none"),
        (2, {"numa_node": 0}, None),
        (2, {"type": MapType.PERCPU_HASH}, None),  # the kernel refuses the flag
        (2, {"type": MapType.LRU_HASH, "flags": MapFlag.NO_COMMON_LRU}, None),
        (2, {"devices": (Device("eth1", 1),)}, "used for eth1 on node 1"),
        (2, {"devices": (Device("eth0", 0), Device("eth1", 1))}, "a map for each"),
    ],
)
def test_numa_nodes(nodes: int, changes: dict[str, object], says: str | None) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)

    made = subject(program(body), maps={HASH: definition(HASH, pinned=True, **changes)})
    messages = [f.message for f in advise(made, MACHINE._replace(nodes=nodes)).findings if f.rule == "A16"]
    assert [says in message for message in messages] == [True] * (says is not None)  # type: ignore[operator]


def test_memory() -> None:
    def levels(memlock: int | None = None, *, live: bool = False, counted: int = 0) -> dict[str, str]:
        made = subject(program(lambda asm: call(asm, DELETE, HASH)))
        made.maps[HASH] = definition(HASH, pinned=True, counted=counted)  # some 88 KiB
        made.live = live
        advice = advise(made, MACHINE._replace(memlock=memlock))
        return {f.level: f.message for f in advice.findings if f.rule == "A14"}

    assert levels() == {}
    assert "64 KiB here" in levels(64 << 10)["info"]
    assert levels(1 << 20) == levels(64 << 10, live=True) == {}
    assert "1024 MiB now, as the kernel counts: 6% of" in levels(live=True, counted=1 << 30)["warn"]


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        ({}, True),
        ({"placed": True}, False),
        ({"pinned": True}, False),
        ({"type": MapType.SOCKMAP}, False),
        ({"name": "__bpf_usdt_specs"}, False),
    ],
)
def test_map_that_nobody_uses(changes: dict[str, object], unused: bool) -> None:
    made = subject(program(lambda asm: None))
    made.maps[HASH] = definition(HASH, **changes)
    assert [f.rule for f in advise(made, MACHINE).findings] == ["A18"] * unused


def test_an_object_without_programs_has_its_maps_for_others() -> None:
    made = subject()
    made.maps[HASH] = definition(HASH)
    assert advise(made, MACHINE).findings == ()


def test_a_program_left_out_silences_what_says_never() -> None:
    def body(asm: Asm) -> None:
        asm.store_imm(4, FP, -4, 5)
        call(asm, LOOKUP, HASH)

    made = subject(program(body), maps={HASH: definition(HASH)})
    made.skipped.append("program other: cannot be linked")
    made.maps[OTHER] = definition(OTHER)
    advice = advise(made, MACHINE)
    assert not {"A11", "A18"} & {finding.rule for finding in advice.findings}
    assert advice.unfinished == ("program other: cannot be linked",)


# --- samples of live maps ------------------------------------------------------------------------


def _prefixes(*lengths: int) -> Sample:
    count = 64
    keys = (lengths[n % len(lengths)].to_bytes(4, "little") + n.to_bytes(4, "big") for n in range(count))
    return Sample(tuple(keys), whole=True)


def _numbers(numbers: range) -> Sample:
    return Sample(tuple(number.to_bytes(4, "little") for number in numbers), whole=True)


@pytest.mark.parametrize(
    ("token", "sample", "rules"),
    [
        (LPM, _prefixes(32), ["A10"]),
        (LPM, _prefixes(24), ["A10"]),
        (LPM, _prefixes(8, 16, 24), ["A10"]),
        (LPM, _prefixes(8, 16, 24, 32), []),
        (LPM, Sample(_prefixes(32).keys[:31], whole=True), []),
        (HASH, _numbers(range(100)), ["A11"]),
        (HASH, _numbers(range(0, 100000, 1000)), []),
        (HASH, _numbers(range(1024)), ["A11", "A12"]),
        (HASH, _numbers(range(0, 1024000, 1000)), ["A12"]),
        (HASH, Sample(_numbers(range(1024)).keys, whole=False), []),
    ],
)
def test_sample_of_a_live_map(token: int, sample: Sample, rules: list[str]) -> None:
    made = definition(token, key_size=8 if token == LPM else 4)
    sampled = live_rules.of_sample(made, sample, MACHINE, deletes=False)
    assert [finding.rule for finding in sampled] == rules


def test_what_programs_delete_is_not_dense_and_large_maps_do_not_grow() -> None:
    sample = _numbers(range(1024))
    deleting = live_rules.of_sample(definition(HASH), sample, MACHINE, deletes=True)
    assert [finding.rule for finding in deleting] == ["A12"]
    small = MACHINE._replace(l2=64 << 10)
    assert [f.rule for f in live_rules.of_sample(definition(HASH), sample, small, deletes=True)] == []


# --- functions and callbacks ---------------------------------------------------------------------


def _with_function(body: Callable[[Asm], None], function: Callable[[Asm], None], how: str) -> Code:
    """A program whose r9 call (a call of helper 999) is one of ``function``, which stands at its end."""
    asm = Asm()
    asm.alu("mov", 6, 1)
    body(asm)
    asm.label("out")
    asm.exit()
    start = len(decode(asm.build()))
    function(asm)
    asm.exit()
    slots = decode(asm.build())
    calls, loads = {}, {}
    for pc, slot in enumerate(slots):
        if slot.imm == 999 and how == "call":
            slots[pc] = slot._replace(src=BPF_PSEUDO_CALL, imm=start - pc - 1)
        elif slot.code == LD_IMM64 and slot.imm == 999:
            slots[pc] = slot._replace(src=BPF_PSEUDO_FUNC, imm=start - pc - 1)
    loads = dict(map_loads(slots))
    return Code("made", ProgramType.XDP, slots, dict(MAPS), loads, calls=calls)


def _call_function(asm: Asm) -> None:
    """With the key's address in r1."""
    asm.alu("mov", 1, FP)
    asm.alu_imm("add", 1, -4)
    asm.call(999)


def _twice_around(asm: Asm) -> None:
    key(asm)
    call(asm, LOOKUP, HASH)
    _call_function(asm)
    call(asm, LOOKUP, HASH)


@pytest.mark.parametrize(
    ("function", "again"),
    [
        (lambda asm: asm.alu_imm("mov", 0, 0), True),
        (lambda asm: asm.store_imm(4, FP, -4, 1), True),  # its own frame
        (lambda asm: asm.store_imm(4, 1, 0, 1), False),  # its caller's
        (lambda asm: asm.store_imm(4, 1, 4, 1), True),  # beside the key
        (lambda asm: (key(asm), call(asm, DELETE, HASH)), False),
        (lambda asm: (key(asm), call(asm, DELETE, OTHER)), True),
    ],
)
def test_what_a_function_does_to_its_caller(function: Callable[[Asm], None], again: bool) -> None:
    def whole(asm: Asm) -> None:
        function(asm)
        asm.alu_imm("mov", 0, 0)

    made = subject(_with_function(_twice_around, whole, "call"))
    assert ("A3" in {f.rule for f in advise(made, MACHINE).findings}) is again


def test_a_function_that_looks_up_with_its_callers_key() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        _call_function(asm)

    def function(asm: Asm) -> None:
        asm.alu("mov", 2, 1)
        asm.map_fd(1, OTHER)
        asm.call(LOOKUP)
        asm.alu_imm("mov", 0, 0)

    made = subject(_with_function(body, function, "call"))
    assert "A2" in {f.rule for f in advise(made, MACHINE).findings}


@pytest.mark.parametrize("writes", [True, False])
def test_a_callback_may_write_to_what_it_is_given(writes: bool) -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)
        asm.alu_imm("mov", 1, 10)
        asm.imm64(2, 999)
        asm.alu("mov", 3, FP)
        asm.alu_imm("add", 3, -4)
        asm.alu_imm("mov", 4, 0)
        asm.call(LOOP)
        call(asm, LOOKUP, HASH)

    def function(asm: Asm) -> None:
        if writes:
            asm.store_imm(4, 2, 0, 1)
        asm.alu_imm("mov", 0, 0)

    made = subject(_with_function(body, function, "address"))
    assert ("A3" in {f.rule for f in advise(made, MACHINE).findings}) is not writes


def test_a_pointer_through_the_stack_is_still_known() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        call(asm, LOOKUP, HASH)
        asm.store(8, FP, -24, 0)
        asm.jump_if("jeq", 0, 0, "out")
        asm.load(8, 8, FP, -24)
        asm.alu_imm("mov", 1, 1)
        asm.atomic_add(8, 8, 0, 1)
        call(asm, UPDATE, HASH)

    assert {"A4", "A7"} <= set(found(body))


# --- limits --------------------------------------------------------------------------------------


def test_maps_of_one_pointer_are_capped() -> None:
    few = MapPointer(frozenset(range(8)))
    assert join(few, MapPointer(frozenset({3}))) == few
    assert join(few, MapPointer(frozenset({9}))) is ANYTHING


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Constant(1), Constant(2), UNKNOWN),
        (StackPointer(0, -8), StackPointer(0, -16), StackPointer(0, None)),
        (StackPointer(0, -8), StackPointer(4, -8), ANYTHING),
        (ValuePointer(frozenset({1}), 5), Constant(0), ValuePointer(frozenset({1}), nullable=True)),
        (ValuePointer(frozenset({1}), 5), Constant(1), ANYTHING),
        (StackPointer(0, -8), UNKNOWN, ANYTHING),
    ],
)
def test_what_covers_both(one: ValuePointer, other: ValuePointer, both: ValuePointer) -> None:
    assert join(one, other) == join(other, one) == both


def _paths(asm: Asm) -> None:
    for number in range(200):
        key(asm, -4 * (number % 100 + 1))
        asm.jump_if("jeq", 7, number, f"next{number}")
        asm.store_imm(8, FP, -8, number)
        asm.label(f"next{number}")
    asm.store_imm(4, FP, -4, 5)
    call(asm, LOOKUP, HASH)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MOST_STEPS", 50, "it has too many paths"),
        ("MOST_SLOTS", 50, "its states take too much memory"),
        ("MOST_SECONDS", 0.0, "it took too long"),
    ],
)
def test_a_program_beyond_a_limit_is_reported_and_not_judged(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: float, reason: str
) -> None:
    maps = {HASH: definition(HASH)}
    assert "A11" in {f.rule for f in advise(subject(program(_paths), maps=maps), MACHINE).findings}
    monkeypatch.setattr(interpreter, limit, value)
    monkeypatch.setattr("bpfctl.advise.subject.MOST_SECONDS", interpreter.MOST_SECONDS)
    made = subject(program(_paths), maps=maps)
    made.maps[OTHER] = definition(OTHER)  # which nobody refers to
    advice = advise(made, MACHINE)
    assert advice.unfinished == (f"program made: {reason}",)
    assert advice.findings == ()


@pytest.mark.parametrize(
    "slots",
    [
        [],
        [Instruction(0x05, 0, 0, 5, 0)],
        [Instruction(0x05, 0, 0, -7, 0)],
        [Instruction(0x85, 0, 1, 0, 1000)],
        [Instruction(0x85, 0, 1, 0, -1)],
        [Instruction(0x18, 1, 4, 0, 77), Instruction(0, 0, 0, 0, 0)],
        [Instruction(0x0D, 1, 0, 0, 0)],
        [Instruction(0x18, 1, 0, 0, 7)],
        [Instruction(0x7B, 15, 15, 0, 7), Instruction(0xB7, 10, 0, 0, 0), Instruction(0x95, 0, 0, 0, 0)],
    ],
)
def test_broken_code_is_given_up(slots: list[Instruction]) -> None:
    uses = interpret(Code("broken", None, slots, {}, {}))
    assert uses.unfinished is not None
    assert uses.calls == uses.accesses == ()


def test_facts_of_one_place_are_capped() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        for _ in range(400):
            call(asm, LOOKUP, HASH)

    assert found(body)["A3"].sites == 399


def test_instructions_of_an_object_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bpfctl.advise.objects.MOST_INSTRUCTIONS", 1)
    made = read_subject(str(TESTDATA / "subprogs.bpf.o"))
    assert len(made.codes) == 1
    assert all(reason.endswith(": the object is too large") for reason in made.skipped)
    assert not made.complete


def test_objects_of_the_other_byte_order_are_refused() -> None:
    with pytest.raises(UnsupportedObjectError, match="big-endian"):
        read_subject(str(TESTDATA / "subprogs_bigendian.bpf.o"))


@pytest.mark.parametrize("name", ["elastic_ip", "jump_table", "map_in_map_btf", "steady_window", "subprogs"])
def test_objects_are_analysed_to_the_end(name: str) -> None:
    assert advise(read_subject(str(TESTDATA / f"{name}.bpf.o")), MACHINE, pedantic=True).unfinished == ()


# --- savings and SARIF ---------------------------------------------------------------------------


def _counter() -> Advice:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        asm.alu_imm("mov", 1, 1)
        asm.atomic_add(8, 0, 0, 1)

    figures = {
        ("count", entries, name): Interval(ns, ns, ns)
        for entries, name, ns in [(1024, "hash", 20.0), (1024, "percpu_hash", 18.0), (65536, "hash", 40.0)]
    }
    report = OldReport("6.0", "dependent", figures, {("count", 1024, "hash"): 90.0})
    return advise(subject(program(body)), MACHINE, report)


def test_savings_come_from_the_nearest_measured_size() -> None:
    saving = next(f for f in _counter().findings if f.rule == "A7").saving
    assert saving is not None
    assert (saving.operation, saving.entries, saving.map, saving.instead) == (
        "count",
        1024,
        "hash",
        "percpu_hash",
    )
    assert (saving.before, saving.after) == (20.0, 18.0)
    assert (saving.contended_before, saving.contended_after, saving.kernel) == (90.0, None, "6.0")


def test_what_was_not_measured_has_no_saving() -> None:
    def body(asm: Asm) -> None:
        key(asm)
        looked_up(asm, HASH)
        call(asm, LOOKUP, OTHER)

    assert found(body)["A2"].saving is None


def test_sarif_has_what_the_standard_asks_for() -> None:
    advice = advise(read_subject(str(TESTDATA / "endpoints.bpf.o")), MACHINE)
    made = json.loads(json.dumps(sarif.document([advice])))
    assert made["version"] == "2.1.0"
    (run,) = made["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert run["results"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "testdata/endpoints.bpf.c"
        assert place["region"]["startLine"] > 0
