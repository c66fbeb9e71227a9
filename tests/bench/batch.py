"""`-batch`: lines a second, against `tc -batch`.

    python tests/bench/batch.py [LINES [ROUNDS]]

Two files of LINES lines: filters that run the program of one object, each at its own preference; and such
filters by turns with u32 filters, which under the name of tc are passed on to the real one.  The tools take
turns, the qdisc is made anew each time, and the medians are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shim import make_links

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import netlab  # noqa: E402

BPFCTL = str(Path(sys.executable).parent / "bpfctl")
OBJECT = ROOT / "testdata" / "tc_pass.bpf.o"
PROGRAM = f"filter add dev v0 ingress pref {{}} bpf da obj {OBJECT} sec classifier\n"
OTHER = "filter add dev v0 ingress pref {} protocol ip u32 match u32 0 0 flowid 1:1\n"


def rate(tool: str, batch: Path, count: int, namespace: str) -> float:
    """Lines a second: wall time of the whole process over an empty clsact."""
    with netlab.inside(namespace):
        subprocess.run([BPFCTL, "qdisc", "add", "dev", "v0", "clsact"], check=True)
        start = time.perf_counter()
        subprocess.run([tool, "-batch", str(batch)], check=True)
        spent = time.perf_counter() - start
        subprocess.run([BPFCTL, "qdisc", "del", "dev", "v0", "clsact"], check=True)
    return count / spent


def compare(title: str, lines: list[str], tools: dict[str, str], rounds: int, namespace: str) -> None:
    rates: dict[str, list[float]] = {name: [] for name in tools}
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("".join(lines))
        file.flush()
        for _ in range(rounds):
            for name, tool in tools.items():
                rates[name].append(rate(tool, Path(file.name), len(lines), namespace))
    real = statistics.median(rates["tc -batch"])
    print(f"{len(lines)} {title}, median of {rounds} rounds")
    for name, values in rates.items():
        ratio = f"{statistics.median(values) / real:8.2f}" if name != "tc -batch" else ""
        print(f"  {name:24}{statistics.median(values):8.0f} lines/s{ratio}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    programs = [PROGRAM.format(n) for n in range(1, count + 1)]
    mixed = [(PROGRAM if n % 2 else OTHER).format(n) for n in range(1, count + 1)]
    with netlab.lab() as lab, netlab.private_bpffs() as bpffs, tempfile.TemporaryDirectory() as folder:
        os.environ["TC_BPF_MNT"] = str(bpffs)
        make_links(Path(folder))
        links = {"bpfctl as tc -batch": f"{folder}/tc", "tc -batch": "tc"}
        namespace = lab.a.namespace
        compare("filters from one object", programs, {"bpfctl -batch": BPFCTL, **links}, rounds, namespace)
        compare("lines, every other one u32", mixed, links, rounds, namespace)


if __name__ == "__main__":
    main()
