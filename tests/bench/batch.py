"""`-batch`: filters a second from one object file, against `tc -batch`.

    python tests/bench/batch.py [FILTERS [ROUNDS]]

Both tools get the same file of FILTERS lines, each adding the program of one object at its own
preference; the tools take turns, the qdisc is made anew each time, and the medians are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import netlab  # noqa: E402

BPFCTL = str(Path(sys.executable).parent / "bpfctl")
OBJECT = ROOT / "testdata" / "tc_pass.bpf.o"


def rate(tool: str, batch: Path, count: int, namespace: str) -> float:
    """Filters a second: wall time of the whole process over an empty clsact."""
    with netlab.inside(namespace):
        subprocess.run([BPFCTL, "qdisc", "add", "dev", "v0", "clsact"], check=True)
        start = time.perf_counter()
        subprocess.run([tool, "-batch", str(batch)], check=True)
        spent = time.perf_counter() - start
        subprocess.run([BPFCTL, "qdisc", "del", "dev", "v0", "clsact"], check=True)
    return count / spent


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    rates: dict[str, list[float]] = {BPFCTL: [], "tc": []}
    with netlab.lab() as lab, netlab.private_bpffs() as bpffs, tempfile.TemporaryDirectory() as directory:
        os.environ["TC_BPF_MNT"] = str(bpffs)
        batch = Path(directory, "filters")
        lines = (
            f"filter add dev v0 ingress pref {n} bpf da obj {OBJECT} sec classifier\n"
            for n in range(1, count + 1)
        )
        batch.write_text("".join(lines))
        for _ in range(rounds):
            for tool, values in rates.items():
                values.append(rate(tool, batch, count, lab.a.namespace))
    ours, theirs = (statistics.median(values) for values in rates.values())
    print(f"{count} filters from one object file, median of {rounds} rounds")
    print(f"  bpfctl -batch {ours:10.0f} filters/s")
    print(f"  tc -batch     {theirs:10.0f} filters/s")
    print(f"  ratio         {ours / theirs:10.2f}")


if __name__ == "__main__":
    main()
