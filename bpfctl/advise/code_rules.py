"""Rules over the instructions of one program: what it does to maps, and what would cost less.

Every rule yields findings without a saving; ``savings.py`` fills that in.  Letters and numbers are those of
bpfctl-advise(8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bpfctl.advise import effects
from bpfctl.advise.code import Code, MapDefinition
from bpfctl.advise.findings import (
    INFO,
    LIKELY,
    PROVED_IN_OBJECT,
    PROVED_IN_PROGRAM,
    WARN,
    Finding,
)
from bpfctl.advise.sites import ATOMIC, STORE, Access, MapCall, Uses
from bpfctl.advise.state import CURRENT, HIT, LOOKED, MISS, Fact
from bpfctl.advise.values import MapToken, inner, is_inner
from bpfctl.uapi import BPF_ANY, BPF_EXIST, MapType

HASHES = frozenset({MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH})
ARRAYS = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
PER_CPU = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})
_UPDATED_IN_PLACE = HASHES | ARRAYS
_VERBS = {effects.LOOKUP: "lookup", effects.UPDATE: "update", effects.DELETE: "delete"}


@dataclass(frozen=True, slots=True)
class Program:
    """One program and what was found in it; ``live``: the kernel's rewritten instructions."""

    code: Code
    uses: Uses
    live: bool

    @property
    def proof(self) -> str:
        """How sure a finding of its instructions is."""
        return PROVED_IN_PROGRAM if self.live else PROVED_IN_OBJECT

    def definition(self, token: MapToken | None) -> MapDefinition | None:
        """The map, if there is one and it is known."""
        return None if token is None else self.code.maps.get(token)

    def name(self, token: MapToken) -> str:
        """The map's name for people."""
        for outer, definition in self.code.maps.items():
            if token == inner(outer):
                return f"those in {definition.name}"
        found = self.code.maps.get(token)
        return str(token) if found is None else found.name

    def looked_before(self, call: MapCall, kind: str) -> Iterator[Fact]:
        """What was looked up with the key of ``call`` on every path, the earliest instruction first."""
        if call.place is not None:
            yield from (
                fact
                for fact in sorted(call.facts, key=lambda fact: fact.pc)
                if fact.kind == kind and (fact.frame, fact.offset) == call.place
            )

    def finding(
        self, rule: str, level: str, pcs: Iterable[int], token: MapToken | None, message: str, change: str
    ) -> Finding:
        """About the instructions ``pcs``, of which the first is shown."""
        lines = sorted(set(pcs))
        source = self.code.source(lines[0])
        return Finding(
            rule,
            level,
            self.proof,
            self.code.name,
            None if token is None else self.name(token),
            message,
            change,
            len(lines),
            lines[0],
            source.file if source else None,
            source.line if source else None,
            source.text if source else None,
        )


def findings(program: Program, *, pedantic: bool) -> Iterator[Finding]:
    """All rules, in the order of their numbers."""
    rules: list[Callable[[Program], Iterator[Finding]]]
    rules = [several_maps, same_key, repeated_lookup, update_after_hit, shared_counter]
    if pedantic:
        rules += [plain_modification, only_element]
    for rule in rules:
        yield from rule(program)


def several_maps(program: Program) -> Iterator[Finding]:
    """A1: one call, several maps; in a live program the kernel itself says so (``live_rules``)."""
    if program.live:
        return
    for call in program.uses.calls:
        if call.helper in effects.REWRITTEN and len(call.maps) > 1:
            names = ", ".join(sorted(map(program.name, call.maps)))
            finding = program.finding(
                "A1",
                INFO,
                [call.pc],
                None,
                f"one {_VERBS.get(call.helper, 'call')} serves several maps ({names}): "
                "the kernel calls the map's function indirectly, and inlines nothing",
                "nothing: a call for each map does the same; compilers may merge such calls",
            )
            yield finding._replace(confidence=LIKELY)


def same_key(program: Program) -> Iterator[Finding]:
    """A2: two maps are searched with one key."""
    pairs: dict[tuple[MapToken, MapToken], list[int]] = {}
    for call in _lookups(program):
        for fact in program.looked_before(call, LOOKED):
            if fact.map is None or fact.map == call.map or Fact(MISS, fact.pc) in call.facts:
                continue
            first, second = program.definition(fact.map), program.definition(call.map)
            if first and second and _could_be_one(first, second):
                pairs.setdefault((first.token, second.token), []).append(call.pc)
                break
    for (before, after), pcs in pairs.items():
        change = "both values then come and go together, and share one size and eviction"
        if program.code.maps[after].type == MapType.LPM_TRIE:
            change += "; each prefix needs what the other map has for it"
        yield program.finding(
            "A2",
            WARN,
            pcs,
            after,
            f"the key was looked up in {program.name(before)} already: one map with both values "
            "would be searched once",
            change,
        )


def repeated_lookup(program: Program) -> Iterator[Finding]:
    """A3: the same key in the same map again."""
    again: dict[MapToken, list[int]] = {}
    for call in _lookups(program):
        if call.map is not None and any(f.map == call.map for f in program.looked_before(call, CURRENT)):
            again.setdefault(call.map, []).append(call.pc)
    for token, pcs in again.items():
        yield program.finding(
            "A3",
            WARN,
            pcs,
            token,
            "the same key was looked up before, and this program has not changed the map since",
            "an element that others add or replace in between would be missed",
        )


def update_after_hit(program: Program) -> Iterator[Finding]:
    """A4, and A5 where every CPU has a value of its own."""
    found: dict[MapToken, list[int]] = {}
    for call in program.uses.calls:
        if call.helper != effects.UPDATE or call.map is None or call.flags not in (BPF_ANY, BPF_EXIST):
            continue
        definition = program.definition(call.map)
        if definition is None or definition.type not in _UPDATED_IN_PLACE:
            continue
        facts = program.looked_before(call, CURRENT)
        if any(fact.map == call.map and Fact(HIT, fact.pc) in call.facts for fact in facts):
            found.setdefault(call.map, []).append(call.pc)
    for token, pcs in found.items():
        if program.code.maps[token].type in (MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH):
            yield program.finding(
                "A5",
                WARN,
                pcs,
                token,
                "this CPU's value is replaced by the helper, which searches again and takes the bucket's "
                "lock, though a lookup has just returned it: write through that pointer",
                "nothing: no other CPU writes this value",
            )
        else:
            yield program.finding(
                "A4",
                INFO,
                pcs,
                token,
                "the element is replaced by the helper, which searches again, though a lookup has just "
                "returned it: write through that pointer",
                "readers may see a value half written; the helper replaces it as a whole (not in arrays)",
            )


def shared_counter(program: Program) -> Iterator[Finding]:
    """A7: atomic additions to a value that all CPUs share."""
    counters: dict[MapToken, list[int]] = {}
    for access in program.uses.accesses:
        for token in access.maps if access.kind == ATOMIC and not access.own else ():
            definition = program.definition(token)
            if (
                definition is not None
                and definition.type in HASHES | ARRAYS
                and definition.type not in PER_CPU
            ):
                counters.setdefault(token, []).append(access.pc)
    for token, pcs in counters.items():
        where = "a .percpu variable" if program.code.maps[token].data else "a per-CPU map"
        yield program.finding(
            "A7",
            INFO,
            pcs,
            token,
            f"an atomic addition to a value that all CPUs share; {where} needs none, and scales",
            "readers must add the CPUs' values up; a limit that holds for all CPUs needs the shared value",
        )


def plain_modification(program: Program) -> Iterator[Finding]:
    """A8: a shared value is read, changed and written back without lock or atomic instruction."""
    races: dict[MapToken, list[int]] = {}
    for access in program.uses.accesses:
        if _races(access):
            for token in access.maps:
                definition = program.definition(token)
                if definition is not None and definition.type in (HASHES | ARRAYS) - PER_CPU:
                    races.setdefault(token, []).append(access.pc)
    for token, pcs in races.items():
        yield program.finding(
            "A8",
            INFO,
            pcs,
            token,
            "a shared value is read, changed and written back: another CPU's change in between is lost",
            "nothing, with an atomic addition; that costs more, and only matters where several CPUs run this",
        )


def only_element(program: Program) -> Iterator[Finding]:
    """A19: an array of one element is a global variable."""
    pcs: dict[MapToken, list[int]] = {}
    for call in _lookups(program):
        definition = program.definition(call.map)
        if definition and _could_be_variable(definition) and call.key == 0:
            pcs.setdefault(definition.token, []).append(call.pc)
    for token, where in pcs.items():
        yield program.finding(
            "A19",
            INFO,
            where,
            token,
            "an array of one element: a global variable needs no lookup and no test for NULL",
            "nothing in the program; user space finds the value in the map of the data section",
        )


def _lookups(program: Program) -> Iterator[MapCall]:
    return (call for call in program.uses.calls if call.helper == effects.LOOKUP and call.map is not None)


def _could_be_one(first: MapDefinition, second: MapDefinition) -> bool:
    """Whether one map could hold both values: not where one is found through another map."""
    types = {first.type, second.type}
    return (
        not is_inner(second.token)
        and first.key_size == second.key_size
        and (types <= HASHES - PER_CPU or types <= HASHES & PER_CPU or types == {MapType.LPM_TRIE})
    )


def _could_be_variable(definition: MapDefinition) -> bool:
    """One element for this object only; a timer or work queue has to name a map of its own."""
    return (
        definition.type == MapType.ARRAY
        and definition.max_entries == 1
        and not (is_inner(definition.token) or definition.placed or definition.pinned or definition.deferred)
    )


def _races(access: Access) -> bool:
    return access.kind == STORE and access.modifies and not access.own and not access.locked
