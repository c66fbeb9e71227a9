"""What a lookup is of a packet: its cost in a program that packets run through, beside that of the rest."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from random import Random

from bpfctl.bench.cell import (
    Sample,
    filled_map,
    load,
    read_state,
    sample_of,
    state_map,
    warm_chunks,
    write_state,
)
from bpfctl.bench.figures import interval, median, ranks, with_noise
from bpfctl.bench.network import Road, road
from bpfctl.bench.programs import CHUNK, State, fresh_state, packet_program
from bpfctl.bench.shapes import Shape, by_size
from bpfctl.errors import errno_text
from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd
from bpfctl.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bpfctl.bench.maps import Progress, Request

_SAMPLES = 200  # chunks that count, of each round
_TO_FIND_THE_PACE = 16  # chunks


class PathRow(NamedTuple):
    """One line: what a lookup in ``map`` adds to a packet, in ns; the rest is as in the table of maps.

    ``base``: a packet without the lookup.  ``ns``: what the lookup adds, the median of the rounds between
    ``low`` and ``high``; ``share``: its part of the whole packet, 0 to 1.
    """

    path: str
    entries: int
    map: str
    rank: int
    tied: bool
    base: float
    ns: float
    low: float
    high: float
    share: float
    hits: float
    disturbed: float
    rounds: tuple[float, ...]


class _Lane:
    """A filled map and what its programs keep: the same for all paths."""

    def __init__(self, shape: Shape, entries: int, fill: float, stack: ExitStack) -> None:
        self.shape = shape
        self.rounds: list[tuple[float, Sample]] = []  # without the lookup, in ns, and with it
        self._state = stack.enter_context(state_map(shape))
        self._target = filled_map(shape, entries, fill, self._state, stack)

    def open(self, way: Road, stack: ExitStack) -> None:
        """Its programs for a path, which ``stack`` closes."""
        self._way = way
        self._base, self._measured = (
            stack.enter_context(
                load(
                    packet_program(
                        self._target, self._state.number, way.verdict, way.redirect_to, baseline=baseline
                    )
                )
            )
            for baseline in (True, False)
        )

    def measure(self, round_: int) -> None:
        """One round of both programs."""
        base = sample_of(self._run(self._base, round_, _SAMPLES))
        chunk_ns = self._run(self._measured, round_, _TO_FIND_THE_PACE).times[-1]
        warm = warm_chunks(self._target, chunk_ns)
        self.rounds.append((base.ns, sample_of(self._run(self._measured, round_, warm + _SAMPLES))))

    def _run(self, program: Fd, seed: int, chunks: int) -> State:
        """Packets from a fresh state: the first chunk of them is one too many, its time is not known."""
        write_state(self._state.number, fresh_state(self.shape, seed=seed * 7919 + 1))
        bpf.prog_test_run(program.number, self._way.run._replace(repeat=(chunks + 1) * CHUNK))
        return read_state(self._state.number, self.shape, min(chunks, _SAMPLES))


class PathTable:
    """Rounds of samples by path, size and map, as they come in."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self._request = request
        self._progress = progress
        self._random = Random(1)
        self._done = 0
        self._groups = by_size(request.shapes, request.sizes)
        self._total = len(self._groups) * len(request.paths) * request.rounds
        self._rows: dict[tuple[str, int], list[PathRow]] = {}
        self.skipped: list[str] = []
        self.complete = False

    def fill(self) -> None:
        """Measure."""
        for entries, shapes in self._groups.items():
            with ExitStack() as stack:
                lanes = list(self._lanes(shapes, entries, stack))
                for path in self._request.paths:
                    self._measure(path, entries, lanes)
        self.complete = True

    def _lanes(self, shapes: Sequence[Shape], entries: int, stack: ExitStack) -> Iterator[_Lane]:
        for shape in shapes:
            try:
                yield _Lane(shape, entries, self._request.fill, stack)
            except OSError as error:
                self._skip(f"{shape.name} with {entries} entries", error)

    def _measure(self, path: str, entries: int, lanes: list[_Lane]) -> None:
        """One path in rounds, the maps in another order each time; one that fails is left out."""
        for lane in lanes:
            lane.rounds = []
        try:
            with ExitStack() as stack:
                way = stack.enter_context(road(path))
                for lane in lanes:
                    lane.open(way, stack)
                for number in range(1, self._request.rounds + 1):
                    self._random.shuffle(lanes)
                    for lane in lanes:
                        lane.measure(number)
                    self._done += 1
                    self._progress(self._done, self._total)
        except OSError as error:
            self._skip(f"path {path}", error)
        finally:
            self._rows[path, entries] = list(_ranked(path, entries, lanes))

    def _skip(self, what: str, error: OSError) -> None:
        reason = f"{what}: {errno_text(error.errno or 0)}"
        if error.errno == errno.EINVAL:
            reason += "; packets can be sent since Linux 5.18"
        if reason not in self.skipped:
            self.skipped.append(reason)

    def rows(self) -> Iterator[PathRow]:
        """The lines, by path and size, the cheapest first."""
        for path in self._request.paths:
            for entries in self._groups:
                yield from self._rows.get((path, entries), [])


def _ranked(path: str, entries: int, lanes: Sequence[_Lane]) -> Iterator[PathRow]:
    extras = {lane: [sample.ns - base for base, sample in lane.rounds] for lane in lanes if lane.rounds}
    figures = {lane: interval(rounds) for lane, rounds in extras.items()}
    places = ranks(with_noise({lane.shape.name: figure for lane, figure in figures.items()}))
    taken = list(places.values())
    for lane, figure in sorted(figures.items(), key=lambda item: item[1].middle):
        base = median([base for base, _ in lane.rounds])
        samples = [sample for _, sample in lane.rounds]
        place = places[lane.shape.name]
        yield PathRow(
            path=path,
            entries=entries,
            map=lane.shape.name,
            rank=place,
            tied=taken.count(place) > 1,
            base=round(base, 2),
            ns=round(figure.middle, 2),
            low=round(figure.low, 2),
            high=round(figure.high, 2),
            share=round(max(figure.middle, 0) / (base + max(figure.middle, 0)), 3),
            hits=round(median([sample.hits for sample in samples]), 3),
            disturbed=round(median([sample.disturbed for sample in samples]), 3),
            rounds=tuple(round(ns, 2) for ns in extras[lane]),
        )
