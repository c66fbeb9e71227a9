"""Rules that need the running kernel: what the verifier did, and what maps hold at the moment."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bpfctl.advise import effects
from bpfctl.advise.code import MapDefinition
from bpfctl.advise.code_rules import HASHES, Program
from bpfctl.advise.findings import INFO, LIVE_SAMPLE, PROVED_BY_KERNEL, WARN, Finding
from bpfctl.advise.machine import Machine
from bpfctl.advise.map_rules import memory_of
from bpfctl.advise.subject import Subject
from bpfctl.errors import BpfctlError
from bpfctl.inventory.reference import MAP, open_id
from bpfctl.kernel import bpf
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapType

MOST_KEYS = 1 << 16  # that are read of one map
MOST_SECONDS = 0.5  # for one map
MOST_SECONDS_IN_ALL = 5.0
_SMALL_TRIE = 32  # entries, below which a trie is as good as a hash
_FEW_KEYS = 16
_DENSEST_KEY = 4  # bytes
_MOST_INDEXES = 1 << 20
_LOADED = 0.7  # entries a bucket
_PREFIX = 4  # bytes in front of a trie's key


class Sample(NamedTuple):
    """Keys of a map; ``whole``: all of them."""

    keys: tuple[bytes, ...]
    whole: bool


def findings(subject: Subject, machine: Machine) -> Iterator[Finding]:
    """All of them for a live subject."""
    for code, uses in zip(subject.codes, subject.uses, strict=True):
        yield from not_rewritten(Program(code, uses, subject.live))
    deleted = {
        token
        for uses in subject.uses
        for call in uses.calls
        if call.helper == effects.DELETE
        for token in call.maps
    }
    end = time.monotonic() + MOST_SECONDS_IN_ALL
    for definition in subject.maps.values():
        if definition.type not in HASHES | {MapType.LPM_TRIE} or time.monotonic() > end:
            continue
        sample = read_sample(definition)
        if sample is not None:
            yield from of_sample(definition, sample, machine, deletes=definition.token in deleted)


def not_rewritten(program: Program) -> Iterator[Finding]:
    """A1, from the instructions that the verifier left."""
    maps = {call.pc: call.maps for call in program.uses.calls}
    for pc in sorted(program.code.generic):
        names = ", ".join(sorted(map(program.name, maps.get(pc, ())))) or "several maps"
        finding = program.finding(
            "A1",
            WARN,
            [pc],
            None,
            f"the kernel could not tell which map this call is for ({names}): it goes through the helper "
            "and an indirect call, and nothing of it is inlined",
            "nothing: a call for each map does the same; compilers may merge such calls",
        )
        yield finding._replace(confidence=PROVED_BY_KERNEL)


def read_sample(definition: MapDefinition) -> Sample | None:
    """Keys of the map as it is; None if it cannot be read."""
    assert isinstance(definition.token, int)
    end = time.monotonic() + MOST_SECONDS
    keys: dict[bytes, None] = {}
    try:
        with open_id(MAP, definition.token) as fd:
            key = bpf.map_get_next_key(fd.number, None, definition.key_size)
            # Others may change it meanwhile, and start us from the front.
            for _ in range(MOST_KEYS):
                if key is None:
                    return Sample(tuple(keys), whole=True)
                keys[key] = None
                if time.monotonic() > end:
                    break
                key = bpf.map_get_next_key(fd.number, key, definition.key_size)
    except (BpfctlError, OSError):
        return None
    return Sample(tuple(keys), whole=False)


def of_sample(
    definition: MapDefinition, sample: Sample, machine: Machine, *, deletes: bool
) -> Iterator[Finding]:
    """A10, A11, A12."""
    if definition.type == MapType.LPM_TRIE:
        yield from _prefix_lengths(definition, sample)
        return
    yield from _dense_keys(definition, sample, deletes)
    yield from _bucket_load(definition, sample, machine)


def _finding(definition: MapDefinition, rule: str, message: str, change: str) -> Finding:
    return Finding(rule, INFO, LIVE_SAMPLE, None, definition.name, message, change)


def _prefix_lengths(definition: MapDefinition, sample: Sample) -> Iterator[Finding]:
    lengths = sorted({int.from_bytes(key[:_PREFIX], "little") for key in sample.keys})
    if len(sample.keys) < _SMALL_TRIE or len(lengths) > 3:
        return
    listed = ", ".join(f"/{length}" for length in lengths)
    most = (definition.key_size - _PREFIX) * 8
    if lengths == [most]:
        instead = "a hash map finds such keys"
    elif len(lengths) == 1:
        instead = "a hash map with the masked address as key finds them"
    else:
        instead = f"{len(lengths)} hash maps with masked addresses as keys, the longest first, find them"
    yield _finding(
        definition,
        "A10",
        f"all {len(sample.keys)} prefixes in it now have the length {listed}: {instead}",
        "prefixes of other lengths, which may come tomorrow, would have no place",
    )


def _dense_keys(definition: MapDefinition, sample: Sample, deletes: bool) -> Iterator[Finding]:
    count = len(sample.keys)
    if deletes or count < _FEW_KEYS or definition.key_size > _DENSEST_KEY or not sample.whole:
        return
    largest = max(int.from_bytes(key, "little") for key in sample.keys)
    if largest < 4 * count and largest < _MOST_INDEXES:
        yield _finding(
            definition,
            "A11",
            f"its {count} keys are numbers up to {largest}: an array needs no search",
            "elements of an array cannot be absent, and larger keys have no place",
        )


def _bucket_load(definition: MapDefinition, sample: Sample, machine: Machine) -> Iterator[Finding]:
    buckets = 1 << (max(definition.max_entries, 1) - 1).bit_length()
    load = len(sample.keys) / buckets
    larger = definition._replace(max_entries=2 * definition.max_entries)
    if sample.whole and load > _LOADED and memory_of(larger, machine.cpus) < machine.l2:
        yield _finding(
            definition,
            "A12",
            f"{len(sample.keys)} entries in {buckets} buckets: with max_entries {larger.max_entries} chains "
            "are half as long, and the map still fits the CPU's L2 cache",
            "it takes twice the memory, and an LRU map keeps twice the entries",
        )
