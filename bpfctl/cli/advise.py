"""``advise``: what could be better about the maps of programs."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.advise.advice import advise as advise_about
from bpfctl.advise.findings import WARN, Advice, Finding, Saving
from bpfctl.advise.machine import Machine, this_machine
from bpfctl.advise.subject import Subject
from bpfctl.bench.saved import latest
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.advise import KEYWORDS, AdviseCommand, parse_advise
from bpfctl.cli.output import Output
from bpfctl.errors import BpfctlError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.bench.compare import OldReport

_USAGE = (
    "{ FILE | id N | pinned PATH | name NAME | live }\n"
    "       [ format { text | json | sarif } ] [ strict ] [ bench FILE ] [ pedantic ] [ maps-abi ABI ]"
)
_NO_FIGURE = "not measured: run bpfctl bench maps"
_NO_OPERATION = "not measured: bench maps has no operation for it"
# Rules whose gain `bench maps` has an operation for, and those whose gain is not time.
_MEASURED = ("A2", "A3", "A4", "A5", "A7", "A9", "A10", "A11", "A15", "A19")
_NOT_OF_TIME = ("A14", "A17", "A18")


@words_command("advise", _USAGE, KEYWORDS)
def advise(app: App, words: list[str]) -> None:
    """Say what could be better about maps: of an object file, a loaded program, or all that are loaded.

    Instructions are interpreted, not run.  Each finding has a rule, how it is known, the source line, what
    would mean something else afterwards, and the saving that "bench maps" measured on this kernel.  With
    "strict" a finding of level warn makes the exit status 1; "pedantic" adds rules seldom worth following.
    """
    command = parse_advise(words)
    advice = _advice(command)
    if command.format == "sarif":
        _show_sarif(app, advice)
    else:
        output = Output(True, app.options.pretty) if command.format == "json" else app.output
        output.record(advice, lambda record: "\n".join(_lines(record)))
    grave = sum(finding.level == WARN for finding in advice.findings)
    if command.strict and grave:
        raise BpfctlError(f"{grave} finding{'s' if grave > 1 else ''} of level warn")


def _report(path: str) -> OldReport:
    from bpfctl.bench.compare import read_report

    return read_report(path)


def _advice(command: AdviseCommand) -> Advice:
    report = latest() if command.bench is None else _report(command.bench)
    machine = this_machine()
    return advise_about(_subject(command, machine), machine, report, pedantic=command.pedantic)


def _subject(command: AdviseCommand, machine: Machine) -> Subject:
    if isinstance(command.subject, str):
        from bpfctl.advise.objects import read_subject

        return read_subject(command.subject, maps_abi=command.maps_abi)
    from bpfctl.advise.devices import attached
    from bpfctl.advise.live import read_live
    from bpfctl.api.sources import resolved

    where = attached() if machine.nodes > 1 else {}
    return read_live(None if command.subject is None else resolved(command.subject), where)


def _show_sarif(app: App, advice: Advice) -> None:
    import json

    from bpfctl.advise.sarif import document

    app.output.text(json.dumps(document([advice]), indent=2))


# --- text ---------------------------------------------------------------------------------------------


def _lines(advice: Advice) -> Iterator[str]:
    counts = (advice.programs, "program"), (advice.maps, "map"), (len(advice.findings), "finding")
    yield f"{advice.subject}: " + ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts)
    for finding in advice.findings:
        yield ""
        yield from _finding(finding)
    if advice.unfinished:
        yield ""
    for reason in advice.unfinished:
        yield f"not analysed: {reason}"


def _finding(finding: Finding) -> Iterator[str]:
    about = [f"program {finding.program}"] if finding.program is not None else []
    about += [f"map {finding.map}"] if finding.map is not None else []
    yield f"{finding.rule} {finding.level} ({finding.confidence})  {'  '.join(about)}"
    yield f"  {finding.message}"
    if finding.instruction is not None:
        yield f"  at {_place(finding)}"
    yield f"  changes: {finding.change}"
    if finding.saving is not None:
        yield f"  saves: {_saving(finding.saving)}"
    elif finding.rule not in _NOT_OF_TIME:
        yield f"  saves: {_NO_FIGURE if finding.rule in _MEASURED else _NO_OPERATION}"


def _place(finding: Finding) -> str:
    text = f"instruction {finding.instruction}"
    if finding.file:
        text += f", {finding.file}:{finding.line}"
    if finding.source:
        text += f": {finding.source}"
    return text + (f"  (and {finding.sites - 1} more)" if finding.sites > 1 else "")


def _saving(saving: Saving) -> str:
    text = f"{saving.operation}, {saving.entries} entries: {saving.map} {saving.before:.2f} ns"
    text += f" -> {saving.instead} {saving.after:.2f} ns" if saving.instead else ", all of it"
    if saving.contended_before is not None:
        text += f"; beside another CPU {saving.contended_before:.2f} ns"
        text += f" -> {saving.contended_after:.2f} ns" if saving.contended_after is not None else ""
    return f"{text} (Linux {saving.kernel})"
