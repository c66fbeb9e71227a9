"""Rules over the maps of a subject: how they are made, and what all programs together do with them."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.advise import effects
from bpfctl.advise.code import MapDefinition
from bpfctl.advise.code_rules import HASHES, PER_CPU
from bpfctl.advise.findings import (
    HINT,
    INFO,
    LIKELY,
    LIVE_SAMPLE,
    PROVED_IN_OBJECT,
    PROVED_IN_PROGRAM,
    WARN,
    Finding,
)
from bpfctl.advise.machine import Machine
from bpfctl.advise.sites import ATOMIC, STORE
from bpfctl.advise.subject import Subject
from bpfctl.advise.values import MapToken, is_inner
from bpfctl.uapi import BPF_EXIST, BPF_NOEXIST, MapFlag, MapType, ProgramType

_LARGE_SHARE = 0.05  # of the machine's memory
_SMALLEST_SHARE = 128  # entries for each CPU, what the common list hands out at once (bpf_lru_list.c)
_SHORT_KEY = 16  # bytes: below, padding gains nothing
_LRU = (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
_USED_BY_OTHERS = (
    MapType.PROG_ARRAY,
    MapType.STRUCT_OPS,
    MapType.ARENA,
    MapType.SOCKMAP,
    MapType.SOCKHASH,
)
_FILLED_BY_LOADERS = ("__bpf_usdt_specs", "__bpf_usdt_ip_to_spec_id")  # which need them to attach anything
_STATE = HASHES | {MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.LPM_TRIE}
# Those that the commands of this program replace by a new load.
_REPLACED = (ProgramType.XDP, ProgramType.SCHED_CLS, ProgramType.SCHED_ACT)
_DATA_PATH = (*_REPLACED, ProgramType.CGROUP_SKB, ProgramType.SOCKET_FILTER, ProgramType.LWT_XMIT)


def findings(subject: Subject, machine: Machine) -> Iterator[Finding]:
    """All rules for each map, in the order of the maps."""
    usage = _Usage(subject)
    for definition in subject.maps.values():
        if definition.data or is_inner(definition.token):
            continue
        yield from _of_updates(subject, usage, definition, machine)
        yield from _of_keys(subject, usage, definition)
        yield from _of_shape(definition, machine)
        yield from _of_life(subject, usage, definition)
    yield from _of_limit(subject, machine)


class _Usage:
    """What all programs of a subject do with each map."""

    def __init__(self, subject: Subject) -> None:
        self.updated: dict[MapToken, list[tuple[str, int]]] = {}  # (program, instruction)
        self.data_path: set[MapToken] = set()
        self.written: set[MapToken] = set()
        self.replaced: set[MapToken] = set()
        self.keys: dict[MapToken, set[int | None]] = {}
        self.absent: set[MapToken] = set()  # whether an element is there means something
        self.referred: set[MapToken] = set()
        self.any_map = False
        for code, uses in zip(subject.codes, subject.uses, strict=True):
            self.referred |= uses.maps
            for call in uses.calls:
                if call.helper in effects.KEYED and not call.maps:
                    self.any_map = True
                for token in call.maps:
                    if call.helper in effects.KEYED:
                        self.keys.setdefault(token, set()).add(call.key)
                    if call.helper == effects.DELETE or (
                        call.helper == effects.UPDATE and call.flags in (BPF_NOEXIST, BPF_EXIST, None)
                    ):
                        self.absent.add(token)
                    if call.helper == effects.UPDATE:
                        self.updated.setdefault(token, []).append((code.name, call.pc))
                        self.written.add(token)
                        if code.type in _DATA_PATH:
                            self.data_path.add(token)
            for access in uses.accesses:
                if access.kind in (STORE, ATOMIC):
                    self.written |= access.maps
            if code.type in _REPLACED:
                self.replaced |= uses.maps


def _finding(
    subject: Subject, definition: MapDefinition, rule: str, level: str, message: str, change: str
) -> Finding:
    confidence = PROVED_IN_PROGRAM if subject.live else PROVED_IN_OBJECT
    return Finding(rule, level, confidence, None, definition.name, message, change)


def _at_update(subject: Subject, usage: _Usage, definition: MapDefinition, finding: Finding) -> Finding:
    """``finding`` with the first update of the map as its place."""
    sites = usage.updated[definition.token]
    name, pc = sites[0]
    code = next(code for code in subject.codes if code.name == name)
    source = code.source(pc)
    return finding._replace(
        program=name,
        sites=len(sites),
        instruction=pc,
        file=source.file if source else None,
        line=source.line if source else None,
        source=source.text if source else None,
    )


def _of_updates(
    subject: Subject, usage: _Usage, definition: MapDefinition, machine: Machine
) -> Iterator[Finding]:
    """A9 and A15: what insertion costs."""
    if definition.token not in usage.updated:
        return
    flags = definition.flags
    shared = definition.type in _LRU and not flags & MapFlag.NO_COMMON_LRU and machine.cpus > 1
    if shared and definition.max_entries >= machine.cpus * _SMALLEST_SHARE:
        found = _finding(
            subject,
            definition,
            "A9",
            INFO,
            "all CPUs share one LRU list; with BPF_F_NO_COMMON_LRU each has its own, which inserts faster "
            "when several CPUs do",
            f"each CPU then has a share of 1/{machine.cpus} of max_entries, so that has to grow as much; "
            "keys that move between CPUs are evicted too early",
        )
        yield _at_update(subject, usage, definition, found)
    if (
        definition.type in HASHES
        and definition.flags & MapFlag.NO_PREALLOC
        and definition.token in usage.data_path
    ):
        found = _finding(
            subject,
            definition,
            "A15",
            INFO,
            "BPF_F_NO_PREALLOC in the path of packets: every insertion allocates memory",
            "without the flag all max_entries take memory from the start",
        )
        yield _at_update(subject, usage, definition, found)


def _of_keys(subject: Subject, usage: _Usage, definition: MapDefinition) -> Iterator[Finding]:
    """A11 as far as instructions tell, and A13."""
    if definition.type not in HASHES:
        return
    keys = usage.keys.get(definition.token, set())
    known = {key for key in keys if key is not None}
    others = definition.placed or definition.pinned or usage.any_map or subject.live
    if keys and keys == known and subject.complete and not others and definition.token not in usage.absent:
        numbers = ", ".join(map(hex, sorted(known)[:4])) + (", ..." if len(known) > 4 else "")
        yield _finding(
            subject,
            definition,
            "A11",
            INFO,
            f"every key that programs use is a constant ({numbers}): an array, or global variables, "
            "need no search",
            "elements of an array cannot be absent; user space must use the index as key",
        )
    if definition.key_size > _SHORT_KEY and definition.key_size % 8:
        padded = -(-definition.key_size // 8) * 8
        yield _finding(
            subject,
            definition,
            "A13",
            HINT,
            f"keys of {definition.key_size} bytes; {padded} bytes, a multiple of 8, may be found faster",
            "the padding is part of the key and must be zero everywhere",
        )._replace(confidence=LIKELY)


def _of_shape(definition: MapDefinition, machine: Machine) -> Iterator[Finding]:
    """A14 and A16: memory and where it is."""
    size = memory_of(definition, machine.cpus)
    if machine.memory and max(size, definition.counted) > machine.memory * _LARGE_SHARE:
        share = max(size, definition.counted) / machine.memory
        now = f"; {definition.counted >> 20} MiB now, as the kernel counts" if definition.counted else ""
        yield Finding(
            "A14",
            WARN,
            LIKELY,
            None,
            definition.name,
            f"takes about {size >> 20} MiB when full on this machine ({machine.cpus} possible CPUs){now}: "
            f"{share:.0%} of its memory",
            "fewer entries: insertions fail earlier, or LRU maps evict more",
        )
    if machine.nodes > 1 and _takes_node(definition) and definition.numa_node is None:
        yield _of_nodes(definition, machine)


def _takes_node(definition: MapDefinition) -> bool:
    """What belongs to one CPU is on its node already, and the kernel refuses the flag."""
    own = definition.type in PER_CPU or definition.flags & MapFlag.NO_COMMON_LRU
    return definition.type in _STATE and not own


def _of_nodes(definition: MapDefinition, machine: Machine) -> Finding:
    """A16; the kernel tells whether a loaded map has a node, and not which."""
    listed = ", ".join(f"{device.name} on node {device.node}" for device in definition.devices)
    nodes = {device.node for device in definition.devices}
    confidence, change = LIVE_SAMPLE, "nothing, as long as the programs stay with the device"
    if not nodes:
        confidence, change = LIKELY, "nothing"
        message = (
            f"this machine has {machine.nodes} NUMA nodes and the map is bound to none: BPF_F_NUMA_NODE can "
            "put it next to the device"
        )
    elif len(nodes) == 1:
        message = f"the map is bound to no NUMA node, and used for {listed}: BPF_F_NUMA_NODE can put it there"
    else:
        message = f"one map for devices of several NUMA nodes ({listed}): a map for each is near to all"
        change = "each map then has a part of the entries"
    return Finding("A16", HINT, confidence, None, definition.name, message, change)


def _of_limit(subject: Subject, machine: Machine) -> Iterator[Finding]:
    """A14 of an object, where maps are counted against a limit of the process that makes them."""
    size = sum(memory_of(definition, machine.cpus) for definition in subject.maps.values())
    if machine.memlock is not None and size > machine.memlock and not subject.live:
        yield Finding(
            "A14",
            INFO,
            LIKELY,
            None,
            None,
            f"the maps take about {size >> 10} KiB, which this kernel counts against RLIMIT_MEMLOCK, "
            f"{machine.memlock >> 10} KiB here: whoever loads them must raise it",
            "nothing; bpfctl raises it where CAP_SYS_RESOURCE allows it",
        )


def memory_of(definition: MapDefinition, cpus: int) -> int:
    """Bytes of a full map, about: elements with their headers, buckets, each CPU's values."""
    entries = max(definition.max_entries, 1)
    key, value = -(-definition.key_size // 8) * 8, -(-definition.value_size // 8) * 8
    values = value * cpus if definition.type in PER_CPU else value
    if definition.type in (MapType.ARRAY, MapType.PERCPU_ARRAY):
        return entries * (values + (8 if definition.type == MapType.PERCPU_ARRAY else 0))
    if definition.type in HASHES:
        buckets = 1 << (entries - 1).bit_length()
        return entries * (48 + key + values + (8 if definition.type in PER_CPU else 0)) + buckets * 16
    if definition.type == MapType.LPM_TRIE:
        return 2 * entries * (24 + definition.key_size) + entries * definition.value_size
    if definition.type in (MapType.RINGBUF, MapType.USER_RINGBUF):
        return entries
    return entries * (key + values)


def _of_life(subject: Subject, usage: _Usage, definition: MapDefinition) -> Iterator[Finding]:
    """A17 and A18: what a reload loses, what nobody uses; of object files only."""
    if subject.live:
        return
    token = definition.token
    unused = subject.codes and subject.complete and token not in usage.referred
    if unused and not _used_otherwise(definition):
        yield _finding(
            subject,
            definition,
            "A18",
            INFO,
            "no program of the object refers to the map",
            "nothing for the programs; user space may use it for itself",
        )
    elif (
        token in usage.written
        and token in usage.replaced
        and not definition.pinned
        and definition.type in _STATE
    ):
        yield _finding(
            subject,
            definition,
            "A17",
            INFO,
            "programs keep state in the map and it is not pinned: a reload starts with an empty one",
            "pinning by name keeps it, as long as type and sizes stay",
        )


def _used_otherwise(definition: MapDefinition) -> bool:
    """Maps that user space, other objects, tail calls, attached programs or the kernel use by themselves."""
    return (
        definition.placed
        or definition.pinned
        or definition.type in _USED_BY_OTHERS
        or definition.name in _FILLED_BY_LOADERS
    )
