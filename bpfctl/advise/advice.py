"""Everything together: a subject in, advice out."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.advise import code_rules, map_rules
from bpfctl.advise.code_rules import Program
from bpfctl.advise.findings import HINT, INFO, WARN, Advice, Finding
from bpfctl.advise.machine import Machine
from bpfctl.advise.subject import Subject
from bpfctl.advise.values import is_inner
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.bench.compare import OldReport

_ORDER = {WARN: 0, INFO: 1, HINT: 2}


def advise(
    subject: Subject, machine: Machine, report: OldReport | None = None, *, pedantic: bool = False
) -> Advice:
    """Interpret the programs of ``subject`` and apply all rules; the gravest findings first.

    ``report``: of ``bench maps``, what savings are taken from.
    """
    subject.interpret()
    found = list(_findings(subject, machine, pedantic))
    if report is not None:
        from bpfctl.advise.savings import with_saving

        by_name = {definition.name: definition for definition in subject.maps.values()}
        found = [with_saving(finding, by_name.get(finding.map or ""), report) for finding in found]
    found.sort(key=lambda finding: (_ORDER[finding.level], int(finding.rule[1:])))
    unfinished = [
        f"program {code.name}: {uses.unfinished}"
        for code, uses in zip(subject.codes, subject.uses, strict=True)
        if uses.unfinished is not None
    ]
    return Advice(
        subject=subject.where,
        programs=len(subject.codes) + len(subject.skipped),
        maps=sum(not is_inner(token) for token in subject.maps),
        findings=tuple(found),
        unfinished=tuple([*unfinished, *subject.skipped]),
        bench=None if report is None else f"Linux {report.kernel}, {report.keys} keys",
    )


def _findings(subject: Subject, machine: Machine, pedantic: bool) -> Iterator[Finding]:
    for code, uses in zip(subject.codes, subject.uses, strict=True):
        yield from code_rules.findings(Program(code, uses, subject.live), pedantic=pedantic)
    yield from map_rules.findings(subject, machine)
    if subject.live:
        from bpfctl.advise import live_rules

        yield from live_rules.findings(subject, machine)
