"""Figures of merit: medians, intervals, rankings in which what cannot be told apart ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from bpfctl.record import NamedTuple

SCHEMA = 1  # of the report in JSON


class Interval(NamedTuple):
    """``middle`` of several rounds, and the lowest and highest of them."""

    middle: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Whether the two cannot be told apart."""
        return self.low <= other.high and other.low <= self.high


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the two in the middle; ValueError for none."""
    if not values:
        raise ValueError("median of nothing")
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def interval(rounds: Sequence[float]) -> Interval:
    """The median of ``rounds`` with the span of all of them."""
    return Interval(median(rounds), min(rounds), max(rounds))


def ranks(figures: Mapping[str, Interval]) -> dict[str, int]:
    """Place by name from 1, fastest first; those whose intervals overlap with the first of a place share it.

    >>> ranks({"a": Interval(1, 1, 1), "b": Interval(3, 2, 4), "c": Interval(4, 3, 5)})
    {'a': 1, 'b': 2, 'c': 2}
    """
    places: dict[str, int] = {}
    leader: Interval | None = None
    place = 0
    for number, (name, figure) in enumerate(sorted(figures.items(), key=lambda item: item[1].middle), 1):
        if leader is None or not figure.overlaps(leader):
            leader, place = figure, number
        places[name] = place
    return places


def with_noise(figures: Mapping[str, Interval]) -> dict[str, Interval]:
    """Lower ends moved down by what the lowest is below 0: no cost is, so any of them may be that wrong.

    >>> with_noise({"a": Interval(1, -2, 3), "b": Interval(6, 5, 7)})["b"]
    Interval(middle=6, low=3, high=7)
    """
    noise = max(0, -min((figure.low for figure in figures.values()), default=0))
    return {name: figure._replace(low=figure.low - noise) for name, figure in figures.items()}


def kendall_tau(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Agreement of two rankings of the same names, 1 to -1; a pair that ties in either counts as agreeing.

    What a ranking does not claim to tell apart, the other cannot contradict.
    """
    pairs = list(combinations(sorted(first), 2))
    score = 0
    for one, other in pairs:
        signs = (first[one] - first[other]) * (second[one] - second[other])
        score += -1 if signs < 0 else 1
    return score / len(pairs) if pairs else 1.0


def variation(values: Sequence[float]) -> float:
    """Coefficient of variation: standard deviation over mean (of the sample), 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return float(spread**0.5 / mean) if mean else 0.0
