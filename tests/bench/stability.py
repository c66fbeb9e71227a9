"""Does `bench maps` say the same each time?  Rankings and figures of several runs, compared.

    python tests/bench/stability.py [RUNS [WORDS OF bench maps ...]]

Runs the command (lookups of dependent keys in 1024 entries) and prints Kendall's tau of the rankings of every
two runs, what ties in either counting as agreement; the same of the bare figures, which know no ties; and for
each map its figures, with their coefficient of variation.  Ends with 1 where any ranking's tau is below 0.98.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

from bpfctl.bench.figures import kendall_tau, median, variation

BPFCTL = str(Path(sys.executable).parent / "bpfctl")
WORDS = ("sizes", "1k", "keys", "dependent")
WANTED = 0.98


def measured(words: tuple[str, ...]) -> dict[str, Any]:
    """A report."""
    command = [BPFCTL, "-j", "bench", "maps", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    if not report["complete"]:
        raise KeyboardInterrupt
    return report


def by_cell(report: dict[str, Any], key: str) -> dict[tuple[str, int, str], Any]:
    """Operation, entries and map -> rows[].key."""
    return {(row["operation"], row["entries"], row["map"]): row[key] for row in report["rows"]}


def agreements(reports: list[dict[str, Any]], key: str, operation: str, entries: int) -> list[float]:
    """Tau of every two reports, of the order that rows[].key gives."""
    cell = (operation, entries)
    rankings = [
        {name: place for (*found, name), place in by_cell(report, key).items() if tuple(found) == cell}
        for report in reports
    ]
    return [kendall_tau(one, other) for one, other in combinations(rankings, 2)]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    words = tuple(sys.argv[2:]) or WORDS
    reports = []
    for number in range(1, runs + 1):
        reports.append(measured(words))
        host = reports[-1]["host"]
        print(f"run {number}: {reports[-1]['seconds']} s, load {host['load_before']} to {host['load_after']}")
    worst = 1.0
    for operation, entries in dict.fromkeys(cell[:2] for cell in by_cell(reports[0], "ns")):
        taus = agreements(reports, "rank", operation, entries)
        bare = agreements(reports, "ns", operation, entries)
        worst = min([worst, *taus])
        print(f"\n{operation}, {entries} entries: tau {', '.join(f'{tau:.2f}' for tau in taus)}")
        print(f"of the bare figures: {', '.join(f'{tau:.2f}' for tau in bare)}")
        print(f"  {'map':20}{'median':>9}{'variation':>11}   ns in each run, and its rank")
        for cell in by_cell(reports[0], "ns"):
            if cell[:2] == (operation, entries):
                figures = [by_cell(report, "ns")[cell] for report in reports]
                places = [by_cell(report, "rank")[cell] for report in reports]
                each = "  ".join(f"{ns:.2f} ({place})" for ns, place in zip(figures, places, strict=True))
                print(f"  {cell[2]:20}{median(figures):9.2f}{variation(figures):11.1%}   {each}")
    print(f"\nlowest tau {worst:.3f} on {os.uname().release}; {WANTED} is wanted")
    sys.exit(worst < WANTED)


if __name__ == "__main__":
    main()
