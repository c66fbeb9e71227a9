"""Break objects on purpose for as long as one likes: `make fuzz`.

    python tests/fuzz/run.py [COUNT [SEED [OBJECT...]]]

COUNT mutations (200,000) of the objects of testdata/, shared among the processors, each shown and loaded
against a system call layer that does nothing.  A failure prints the seed that makes it again:

    python tests/fuzz/run.py 1 SEED OBJECT

The last line has the figures; the exit status is 1 when one object raised something that is not an error
of ours, took more than two seconds, or a process grew past 200 MB.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.judge import TESTDATA, agreeable_kernel, check
from fuzz.mutate import Sample

SLOW = 2.0  # seconds, for one object
LARGE = 200 << 20  # bytes, of a whole process
_SHARE = 2_000  # mutations that a process does at a time


class Outcome(NamedTuple):
    """Of one share of the work: counts, the slowest object in seconds, the process in bytes."""

    done: int
    loaded: int
    slowest: float
    peak: int
    failures: tuple[str, ...]


def main(arguments: Sequence[str]) -> int:
    count = int(arguments[0]) if arguments else 200_000
    seed = int(arguments[1]) if len(arguments) > 1 else Random().randrange(1 << 31)
    names = list(arguments[2:]) or sorted(map(str, TESTDATA.glob("*.o")))
    start = time.monotonic()
    shares = [(seed + first, min(_SHARE, count - first), names) for first in range(0, count, _SHARE)]
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor() as pool:
        for outcome in pool.map(work, shares):
            outcomes.append(outcome)
            for failure in outcome.failures:
                print(failure)
            if sys.stderr.isatty():
                print(f"\r{sum(o.done for o in outcomes):,} of {count:,}", end="", file=sys.stderr)
    failures = sum(len(outcome.failures) for outcome in outcomes)
    print(
        f"{sum(o.done for o in outcomes):,} objects from seed {seed} in {time.monotonic() - start:.0f} s: "
        f"{sum(o.loaded for o in outcomes):,} loaded all the same, {failures} failures, "
        f"slowest {max(o.slowest for o in outcomes) * 1000:.0f} ms, "
        f"largest process {max(o.peak for o in outcomes) >> 20} MB"
    )
    return 1 if failures else 0


def work(share: tuple[int, int, list[str]]) -> Outcome:
    """Mutation by mutation, each from a seed of its own, so that one can be made again alone."""
    first, count, names = share
    samples = [Sample(name, Path(name).read_bytes()) for name in names]
    loaded, slowest, failures = 0, 0.0, []
    with agreeable_kernel():
        for seed in range(first, first + count):
            sample = samples[seed % len(samples)]
            data = sample.mutated(Random(seed))
            start = time.perf_counter()
            try:
                loaded += check(data)
            except Exception:
                failures.append(f"seed {seed}, {sample.name}:\n{traceback.format_exc()}")
            spent = time.perf_counter() - start
            slowest = max(slowest, spent)
            if spent > SLOW:
                failures.append(f"seed {seed}, {sample.name}: {spent:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if peak > LARGE:
        failures.append(f"seeds {first} to {first + count - 1}: a process of {peak >> 20} MB")
    return Outcome(count, loaded, slowest, peak, tuple(failures))


if __name__ == "__main__":
    os.environ.setdefault("TC_BPF_MNT", "/bpf-of-the-fuzzer")
    sys.exit(main(sys.argv[1:]))
