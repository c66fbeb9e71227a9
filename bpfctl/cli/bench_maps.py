"""``bench maps``: the table of what each kind of map costs here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from bpfctl.api.sources import resolved
from bpfctl.bench import maps as bench
from bpfctl.bench import plot, saved
from bpfctl.bench.compare import Change, changes, read_report
from bpfctl.bench.like import Model, model_of_map, model_of_object, shapes_like
from bpfctl.bench.maps import Report, Request, Row
from bpfctl.bench.paths import PathRow
from bpfctl.bench.shapes import SHAPES
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.bench import KEYWORDS, BenchCommand, parse_bench
from bpfctl.cli.output import columns, to_json
from bpfctl.errors import BpfctlError
from bpfctl.inventory.reference import Reference, open_map

_SIZES = (1024, 65536)
_BAR = 24  # characters
_BLOCKS = " ▏▎▍▌▋▊▉█"

_USAGE = (
    "[ types LIST ] [ sizes LIST ] [ op LIST ] [ keys MODE ] [ rounds N ] [ cpus A[,B] ]\n"
    "       [ like { FILE:MAP | id N | pinned PATH | name NAME } ] [ path LIST ]\n"
    "       [ json FILE ] [ plot FILE ] [ compare FILE ]"
)


@words_command("maps", _USAGE, KEYWORDS)
def maps(app: App, words: list[str]) -> None:
    """Measure what each kind of map costs on this machine, and rank them.

    Programs are generated, run by the kernel and timed inside of it; nothing is attached.  What cannot be
    told apart shares a rank.  Without words: lookups in 1024 and 65536 entries with dependent keys, about
    ten seconds; an interrupt shows what was measured so far.
    """
    command = parse_bench(words)
    old = read_report(command.compare) if command.compare else None
    if command.plot:
        plot.require()
    report = _measured(_request(command))
    if report.complete and report.rows and command.like is None and command.rounds >= bench.ROUNDS:
        saved.keep(to_json(report))
    if command.json:
        _write(command.json, to_json(report, indent=4) + "\n")
    if command.plot:
        plot.write(report, command.plot)
    if old:
        app.output.records(changes(old, report), _change)
    else:
        app.output.record(report, _table)


def _request(command: BenchCommand) -> Request:
    _check_cpus(command.cpus)
    request = Request(
        tuple(SHAPES[name] for name in command.types),
        command.sizes or _SIZES,
        command.operations,
        command.keys,
        command.rounds,
        command.cpus,
        paths=command.paths,
    )
    if command.like is None:
        return request
    model = _model(command.like)
    return request._replace(
        shapes=shapes_like(model), sizes=command.sizes or (model.max_entries,), fill=model.fill
    )


def _check_cpus(cpus: tuple[int, ...]) -> None:
    allowed = os.sched_getaffinity(0)
    for cpu in cpus:
        if cpu not in allowed:
            listed = ", ".join(map(str, sorted(allowed)))
            raise BpfctlError(
                f"CPU {cpu} is not one that this process may run on", hint=f"those are: {listed}"
            )


def _model(like: Reference | tuple[str, str]) -> Model:
    if isinstance(like, Reference):
        with open_map(resolved(like)) as fd:
            return model_of_map(fd.number)
    return model_of_object(*like)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BpfctlError(f"cannot write {path}: {error.strerror}") from error


def _measured(request: Request) -> Report:
    """Shows steps on a terminal's stderr meanwhile, in one line that is gone at the end."""
    if not sys.stderr.isatty():
        return bench.run(request)

    def show(done: int, total: int) -> None:
        print(f"\rmeasuring: {done} of {total}", end="", file=sys.stderr, flush=True)

    try:
        return bench.run(request, show)
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


# --- text ---------------------------------------------------------------------------------------------


def _table(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    host = report.host
    cpu = f"{host.cpu}, " if host.cpu else ""
    jit = "" if host.jit is None else f", JIT {'on' if host.jit else 'off'}"
    yield f"Linux {host.kernel}, {cpu}{host.cpus} CPUs{jit}, load {host.load_before} to {host.load_after}"
    keys = "a random key in each packet" if report.paths else f"{report.keys} keys"
    yield f"{keys}, {report.seconds} s" + ("" if report.complete else ", interrupted")
    groups = dict.fromkeys((row.operation, row.entries) for row in report.rows)
    for operation, entries in groups:
        rows = [row for row in report.rows if (row.operation, row.entries) == (operation, entries)]
        yield ""
        yield f"{operation}, {entries} entries, ns an operation"
        yield columns(list(_cells(rows)), "  ")
    for path, entries in dict.fromkeys((row.path, row.entries) for row in report.paths):
        shares = [row for row in report.paths if (row.path, row.entries) == (path, entries)]
        yield ""
        yield f"path {path}, {entries} entries, ns that a lookup adds to a packet"
        yield columns(list(_share_cells(shares)), "  ")
    if report.article:
        yield ""
        yield "the order that was published, pair by pair:"
        for verdict in report.article:
            yield f"  {verdict.entries} entries: {verdict.faster} before {verdict.slower}: {verdict.verdict}"
    for reason in report.skipped:
        yield f"not measured: {reason}"


def _cells(rows: list[Row]) -> Iterator[list[str]]:
    has_contended = any(row.contended is not None for row in rows)
    extra = ["contended", "overlap"] if has_contended else []
    yield _with_bar(["rank", "map", "ns", "interval", "hits", "disturbed", *extra], 0)
    slowest = max(row.ns for row in rows)
    for row in rows:
        cells = [
            f"{row.rank}{'=' if row.tied else ''}",
            row.map,
            f"{row.ns:.2f}",
            f"{row.low:.2f} - {row.high:.2f}",
            f"{row.hits:.0%}",
            f"{row.disturbed:.0%}",
        ]
        if has_contended:
            cells += ["-" if row.contended is None else f"{row.contended:.2f}"]
            cells += ["-" if row.overlap is None else f"{row.overlap:.0%}"]
        yield _with_bar(cells, row.ns / slowest if slowest > 0 else 0)


def _share_cells(rows: list[PathRow]) -> Iterator[list[str]]:
    yield _with_bar(["rank", "map", "ns", "interval", "share", "without", "hits", "disturbed"], 0)
    for row in rows:
        cells = [
            f"{row.rank}{'=' if row.tied else ''}",
            row.map,
            f"{row.ns:.2f}",
            f"{row.low:.2f} - {row.high:.2f}",
            f"{row.share:.1%}",
            f"{row.base:.2f}",
            f"{row.hits:.0%}",
            f"{row.disturbed:.0%}",
        ]
        yield _with_bar(cells, row.share)


def _with_bar(cells: list[str], share: float) -> list[str]:
    """A line of the table: on a terminal with a bar at its end, ``share`` of the longest."""
    return [*cells, _bar(share)] if sys.stdout.isatty() else cells


def _bar(share: float) -> str:
    """In eighths of a character.

    >>> _bar(1 / 64)
    '▍'
    """
    eighths = max(round(share * _BAR * 8), 0)  # noise can make a figure negative
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


def _change(change: Change) -> str:
    text = (
        f"{change.operation}, {change.entries} entries, {change.map}: {change.old:.2f} -> {change.new:.2f} ns"
    )
    return f"{text} ({change.percent:+.0f} %, {change.verdict})"
