"""Two reports of the benchmark side by side: what became slower or faster, beyond what rounds differ by."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.bench.figures import SCHEMA, Interval
from bpfctl.errors import BpfctlError, printable
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

    from bpfctl.bench.maps import Report, Row
    from bpfctl.bench.paths import PathRow

_LARGEST = 16 << 20  # bytes of a report
_LARGEST_FIGURE = 1e15  # ns, more than any run takes


class Change(NamedTuple):
    """One line of both reports, ns an operation; ``verdict``: faster, slower, or same where they overlap.

    ``operation`` of a packet's lookups is ``path drop`` and the like.
    """

    operation: str
    entries: int
    map: str
    old: float
    new: float
    percent: float
    verdict: str


class OldReport(NamedTuple):
    """What is compared of an earlier report: (operation, entries, map) -> figure, and the kernel.

    ``contended``: the same with another CPU at work, ns, where that was measured.
    """

    kernel: str
    keys: str
    figures: dict[tuple[str, int, str], Interval]
    contended: dict[tuple[str, int, str], float]


def read_report(path: str) -> OldReport:
    """A report that ``json`` wrote; raises BpfctlError for anything else."""
    import json

    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise BpfctlError(f"{path}: too large for a report of bench maps")
        document = json.loads(data)
    except OSError as error:
        raise BpfctlError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BpfctlError(f"{path}: no JSON: {printable(str(error))}") from error
    return checked_report(document, path)


def checked_report(document: object, path: str) -> OldReport:
    """A report as it was decoded from JSON; raises BpfctlError, which names ``path``, for anything else."""
    try:
        return _checked(document)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BpfctlError(
            f"{path}: no report of bench maps ({printable(str(error))} is missing or wrong)"
        ) from error


def _checked(document: Any) -> OldReport:
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']}")
    figures = {
        (str(row["operation"]), int(row["entries"]), str(row["map"])): Interval(
            _finite(row["ns"]), _finite(row["low"]), _finite(row["high"])
        )
        for row in [*document["rows"], *map(_of_path, document.get("paths", ()))]
    }
    contended = {
        (str(row["operation"]), int(row["entries"]), str(row["map"])): _finite(row["contended"])
        for row in document["rows"]
        if row.get("contended") is not None
    }
    kernel, keys = printable(str(document["host"]["kernel"])), printable(str(document["keys"]))
    return OldReport(kernel, keys, figures, contended)


def _finite(number: Any) -> float:
    if not -_LARGEST_FIGURE < float(number) < _LARGEST_FIGURE:  # nor NaN
        raise ValueError(f"the figure {number}")
    return float(number)


def _of_path(row: Any) -> dict[str, Any]:
    return {**row, "operation": f"path {row['path']}"}


def changes(old: OldReport, new: Report) -> Iterator[Change]:
    """Each line that both reports have, in the order of the new one.

    Raises BpfctlError when they measured different things.
    """
    if old.keys != new.keys:
        raise BpfctlError(f"the old report is of {old.keys} keys, the new one of {new.keys} keys")
    named: list[tuple[str, Row | PathRow]] = [(row.operation, row) for row in new.rows]
    named += [(f"path {row.path}", row) for row in new.paths]
    for operation, row in named:
        before = old.figures.get((operation, row.entries, row.map))
        if before is None:
            continue
        if before.overlaps(Interval(row.ns, row.low, row.high)):
            verdict = "same"
        else:
            verdict = "slower" if row.ns > before.middle else "faster"
        percent = round((row.ns / before.middle - 1) * 100, 1) if before.middle else 0.0
        yield Change(operation, row.entries, row.map, before.middle, row.ns, percent, verdict)
