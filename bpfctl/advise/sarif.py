"""Advice as SARIF 2.1.0 (OASIS), which CI services turn into notes beside the source."""

from __future__ import annotations

from collections.abc import Iterable

from bpfctl.advise.findings import HINT, INFO, WARN, Advice, Finding
from bpfctl.record import TYPE_CHECKING
from bpfctl.version import VERSION

if TYPE_CHECKING:
    from typing import Any

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "A1": "one call serves several maps, so that the kernel cannot rewrite it",
    "A2": "two maps are searched with the same key",
    "A3": "a lookup is repeated",
    "A4": "an element is replaced by the helper after a lookup returned it",
    "A5": "this CPU's value is replaced by the helper after a lookup returned it",
    "A7": "an atomic addition to a value that all CPUs share",
    "A8": "a shared value is modified without lock or atomic instruction",
    "A9": "an LRU map with one list for all CPUs",
    "A10": "an LPM trie with few prefix lengths",
    "A11": "a hash map with the keys of an array",
    "A12": "a hash map nearly full",
    "A13": "a key whose size is no multiple of 8",
    "A14": "a map that takes much of the memory",
    "A15": "memory is allocated at every insertion",
    "A16": "a map bound to no NUMA node",
    "A17": "state that a reload loses",
    "A18": "a map that no program refers to",
    "A19": "an array of one element",
}
_LEVELS = {WARN: "warning", INFO: "note", HINT: "note"}


def document(advice: Iterable[Advice]) -> dict[str, Any]:
    """One run with all results, as plain dicts for a JSON encoder."""
    known = list(RULES)
    everything = list(advice)
    rules = [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()]
    results = [
        _result(finding, known.index(finding.rule), each.subject)
        for each in everything
        for finding in each.findings
    ]
    notes = [{"level": "note", "message": {"text": text}} for each in everything for text in each.unfinished]
    run = {
        "tool": {"driver": {"name": "bpfctl advise", "version": VERSION, "rules": rules}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": results,
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, index: int, subject: str) -> dict[str, Any]:
    where = ", ".join(f"{what} {name}" for what, name in _names(finding))
    text = f"{where}: {finding.message}" if where else finding.message
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": _LEVELS[finding.level],
        "message": {"text": f"{text}. What changes: {finding.change}."},
        "locations": [_location(finding, subject)],
        "properties": {"confidence": finding.confidence, "sites": finding.sites},
    }


def _location(finding: Finding, subject: str) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(finding.file or subject)}}
    if finding.file and finding.line:
        physical["region"] = {"startLine": finding.line}
    logical = [
        {"name": name, "kind": "function" if what == "program" else "variable"}
        for what, name in _names(finding)
    ]
    return {"physicalLocation": physical, "logicalLocations": logical}


def _names(finding: Finding) -> list[tuple[str, str]]:
    pairs = (("program", finding.program), ("map", finding.map))
    return [(what, name) for what, name in pairs if name is not None]


def _uri(path: str) -> str:
    from urllib.parse import quote

    return ("file://" if path.startswith("/") else "") + quote(path)
