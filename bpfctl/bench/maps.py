"""A run of the benchmark: cells in shuffled rounds, and the table that comes of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from random import Random

from bpfctl.bench import host
from bpfctl.bench.cell import DEPENDENT, Cell, CellKey, Sample
from bpfctl.bench.figures import SCHEMA, Interval, interval, median, ranks
from bpfctl.bench.paths import PathRow, PathTable
from bpfctl.bench.shapes import ARTICLE_ORDER, LOOKUP, Shape, by_size
from bpfctl.errors import KernelError
from bpfctl.kernel import privilege
from bpfctl.record import NamedTuple

ROUNDS = 7
_HINT = "CAP_BPF and CAP_NET_ADMIN are needed to load and run the measured programs"
_PATH_HINT = f"{_HINT}, and CAP_SYS_ADMIN for a network namespace of theirs"

Progress = Callable[[int, int], object]  # (steps done, steps in all)


class Request(NamedTuple):
    """What to measure: every operation on every shape at every size, or lookups on the ``paths`` of a packet.

    ``keys``: see ``cell``.  ``cpus``: the CPU to measure on and, for contention, the one that works against
    it.  ``fill``: the share of max_entries that is filled, 0 to 1.
    """

    shapes: tuple[Shape, ...]
    sizes: tuple[int, ...] = (1024, 65536)
    operations: tuple[str, ...] = (LOOKUP,)
    keys: str = DEPENDENT
    rounds: int = ROUNDS
    cpus: tuple[int, ...] = ()
    fill: float = 1.0
    paths: tuple[str, ...] = ()


class Row(NamedTuple):
    """One line of the table.  Times in ns an operation, those of an empty loop subtracted.

    ``rank``: place among the maps of the same operation and size; ``tied``: others share it.  ``hits``: share
    of lookups that found something; ``disturbed``: of chunks that took over twice the median.
    ``contended``: with another CPU at work on the same map, in ``overlap`` of the chunks.
    """

    operation: str
    entries: int
    map: str
    rank: int
    tied: bool
    ns: float
    low: float
    high: float
    hits: float
    disturbed: float
    rounds: tuple[float, ...]
    contended: float | None = None
    overlap: float | None = None


class Verdict(NamedTuple):
    """Two neighbours of the article's order: ``faster`` before ``slower``, and what this machine says."""

    entries: int
    faster: str
    slower: str
    verdict: str  # "yes", "tie" or "no"


class Report(NamedTuple):
    """All of a run; ``complete`` is false for one that was interrupted.

    ``skipped``: cells that this kernel or machine did not let us measure, with the reason.  ``paths``: the
    share of a packet, where that was asked for in place of ``rows``.
    """

    schema: int
    complete: bool
    seconds: float
    keys: str
    host: host.Host
    rows: tuple[Row, ...]
    article: tuple[Verdict, ...]
    skipped: tuple[str, ...]
    paths: tuple[PathRow, ...] = ()


def run(request: Request, progress: Progress = lambda done, total: None) -> Report:
    """Measure; an interrupt (SIGINT) ends the run, and what was measured so far is reported.

    Raises KernelError when the kernel let us measure nothing at all.
    """
    privilege.raise_memlock()
    start, load = time.monotonic(), host.load_average()
    table = _Table(request, progress)
    ways = PathTable(request, progress)
    measured = ways if request.paths else table
    with suppress(KeyboardInterrupt), pinned(request.cpus):
        measured.fill()
    rows, paths = tuple(table.rows()), tuple(ways.rows())
    if measured.complete and not (rows or paths):
        raise KernelError(
            "nothing could be measured",
            details=tuple(measured.skipped),
            hint=_hint(request, measured.skipped),
        )
    return Report(
        schema=SCHEMA,
        complete=measured.complete,
        seconds=round(time.monotonic() - start, 1),
        keys=request.keys,
        host=host.describe(load),
        rows=rows,
        article=tuple(_article(rows)),
        skipped=tuple(measured.skipped),
        paths=paths,
    )


def _hint(request: Request, skipped: Sequence[str]) -> str | None:
    if not any("(EPERM)" in reason for reason in skipped):
        return None
    return _PATH_HINT if request.paths else _HINT


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """This process stays on one CPU, the first of ``cpus``: per-CPU values are then those that it filled."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus[0] if cpus else min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Table:
    """Rounds of samples by cell, as they come in."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self._request = request
        self._progress = progress
        self._random = Random(1)
        self._done = 0
        self._samples: dict[CellKey, list[tuple[float, Sample]]] = {}
        self._contended: dict[CellKey, list[tuple[float, Sample]]] = {}
        self.skipped: list[str] = []
        self.complete = False

    def fill(self) -> None:
        groups = [
            [
                CellKey(shape, entries, operation, self._request.keys, self._request.fill)
                for shape in shapes
                if shape.supports(operation)
            ]
            for operation in self._request.operations
            for entries, shapes in by_size(self._request.shapes, self._request.sizes).items()
        ]
        passes: list[tuple[dict[CellKey, list[tuple[float, Sample]]], tuple[int, int] | None]]
        passes = [(self._samples, None)]
        if len(self._request.cpus) > 1:
            passes.append((self._contended, (self._request.cpus[0], self._request.cpus[1])))
        total = sum(map(len, groups)) * len(passes) * self._request.rounds
        for group in groups:
            for samples, cpus in passes:
                self._measure(group, samples, cpus, total)
        self.complete = True

    def _measure(
        self,
        group: list[CellKey],
        samples: dict[CellKey, list[tuple[float, Sample]]],
        cpus: tuple[int, int] | None,
        total: int,
    ) -> None:
        """One group in rounds, the maps in another order each time, so that noise meets all alike."""
        with ExitStack() as stack:
            cells = []
            for key in group:
                try:
                    cells.append(stack.enter_context(Cell(key, cpus)))
                except KernelError as error:
                    self._skip(str(error))
            refusals: dict[CellKey, KernelError] = {}
            for round_ in range(1, self._request.rounds + 1):
                self._random.shuffle(cells)
                for cell in cells:
                    try:
                        sample, base = cell.sample(round_), cell.baseline(round_)
                    except KernelError as error:
                        refusals[cell.key] = error
                    else:
                        samples.setdefault(cell.key, []).append((sample.ns - base, sample))
                    self._done += 1
                    self._progress(self._done, total)
            for key, refusal in refusals.items():
                if key not in samples:  # other rounds were better
                    self._skip(f"{key.operation} on {key.shape.name} with {key.entries} entries: {refusal}")

    def _skip(self, reason: str) -> None:
        if reason not in self.skipped:
            self.skipped.append(reason)

    def rows(self) -> Iterator[Row]:
        """The lines, by operation and size, fastest first."""
        for operation in self._request.operations:
            for entries in by_size(self._request.shapes, self._request.sizes):
                figures = {
                    key: interval([ns for ns, _ in rounds])
                    for key, rounds in self._samples.items()
                    if (key.operation, key.entries) == (operation, entries)
                }
                yield from self._ranked(figures)

    def _ranked(self, figures: dict[CellKey, Interval]) -> Iterator[Row]:
        places = ranks({key.shape.name: figure for key, figure in figures.items()})
        taken = list(places.values())
        for key, figure in sorted(figures.items(), key=lambda item: item[1].middle):
            samples = [sample for _, sample in self._samples[key]]
            against = self._contended.get(key, [])
            place = places[key.shape.name]
            yield Row(
                operation=key.operation,
                entries=key.entries,
                map=key.shape.name,
                rank=place,
                tied=taken.count(place) > 1,
                ns=round(figure.middle, 2),
                low=round(figure.low, 2),
                high=round(figure.high, 2),
                hits=round(median([sample.hits for sample in samples]), 3),
                disturbed=round(median([sample.disturbed for sample in samples]), 3),
                rounds=tuple(round(ns, 2) for ns, _ in self._samples[key]),
                contended=round(median([ns for ns, _ in against]), 2) if against else None,
                overlap=round(median([s.overlap or 0 for _, s in against]), 3) if against else None,
            )


def _article(rows: Sequence[Row]) -> Iterator[Verdict]:
    """The article's order pair by pair: does the first win here?"""
    lookups = {(row.entries, row.map): row for row in rows if row.operation == LOOKUP}
    for entries in dict.fromkeys(entries for entries, _ in lookups):
        present = [name for name in ARTICLE_ORDER if (entries, name) in lookups]
        for faster, slower in pairwise(present):
            first, second = lookups[entries, faster], lookups[entries, slower]
            if first.low <= second.high and second.low <= first.high:
                verdict = "tie"
            else:
                verdict = "yes" if first.ns < second.ns else "no"
            yield Verdict(entries, faster, slower, verdict)
