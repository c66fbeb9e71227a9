"""What following a finding would save, from figures that were measured on this kernel."""

from __future__ import annotations

import math

from bpfctl.advise.code import MapDefinition
from bpfctl.advise.findings import Finding, Saving
from bpfctl.bench.compare import OldReport
from bpfctl.bench.shapes import COUNT, EVICT, LOOKUP, REINSERT, UPDATE
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType, type_name

_PER_CPU = {"array": "percpu_array", "hash": "percpu_hash", "lru_hash": "lru_percpu_hash"}


class _Comparison(NamedTuple):
    """Operations that tell, the best first; ``instead`` None: the operation is left out."""

    operations: tuple[str, ...]
    instead: str | None


def with_saving(finding: Finding, definition: MapDefinition | None, report: OldReport) -> Finding:
    """``finding`` with the saving that ``report`` has for it, if it has one."""
    if definition is None:
        return finding
    own, kind = shape_name(definition), type_name(MapType, definition.type)
    comparison = _comparison(finding.rule, kind)
    if comparison is None:
        return finding
    for operation in comparison.operations:
        # How a map allocates matters to what inserts, not to what finds.
        for name in dict.fromkeys((own, kind)) if operation in (LOOKUP, COUNT) else (own,):
            saving = _saving(report, operation, name, comparison.instead, max(definition.max_entries, 1))
            if saving is not None:
                return finding._replace(saving=saving)
    return finding


def shape_name(definition: MapDefinition) -> str:
    """The name under which ``bench maps`` measures such a map."""
    if definition.type == MapType.HASH and definition.flags & MapFlag.NO_PREALLOC:
        return "hash_no_prealloc"
    if definition.type == MapType.LRU_HASH and definition.flags & MapFlag.NO_COMMON_LRU:
        return "lru_hash_no_common"
    return type_name(MapType, definition.type)


def _comparison(rule: str, kind: str) -> _Comparison | None:
    if rule in ("A2", "A3", "A19"):
        return _Comparison((LOOKUP,), None)
    if rule in ("A4", "A5"):
        return _Comparison((UPDATE,), None)
    if rule == "A7" and kind in _PER_CPU:
        return _Comparison((COUNT,), _PER_CPU[kind])
    if rule == "A9":
        return _Comparison((EVICT, UPDATE), "lru_hash_no_common")
    if rule == "A10":
        return _Comparison((LOOKUP,), "hash")
    if rule == "A11":
        return _Comparison((LOOKUP,), "percpu_array" if "percpu" in kind else "array")
    if rule == "A15":
        return _Comparison((REINSERT, UPDATE), "hash")
    return None


def _saving(report: OldReport, operation: str, own: str, instead: str | None, entries: int) -> Saving | None:
    measured = [
        size
        for kind, size, name in report.figures
        if (kind, name) == (operation, own)
        and size > 0
        and (instead is None or (operation, size, instead) in report.figures)
    ]
    if not measured:
        return None
    size = min(measured, key=lambda size: abs(math.log(size / entries)))
    before, after = (operation, size, own), (operation, size, instead or "")
    return Saving(
        operation,
        own,
        instead,
        size,
        report.figures[before].middle,
        report.figures[after].middle if instead else 0.0,
        report.contended.get(before),
        report.contended.get(after) if instead else None,
        report.kernel,
    )
