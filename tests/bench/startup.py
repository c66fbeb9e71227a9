"""Start-up: whole-process CPU of an attach, as ratios to a bare interpreter and to tc and ip.

    python tests/bench/startup.py [RUNS]

Each round runs every command once, in turn, so that all meet the same noise; the median of the rounds
is compared.  CPU is user plus system time of the finished child (rusage), in ms.  A second table has
what each import costs.  Needs root, iproute2 and the objects of testdata/.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import netlab  # noqa: E402

BPFCTL = [str(Path(sys.executable).parent / "bpfctl")]
# An object that Debian's tc and ip load too: BTF maps or none.
TC_OBJECT = ROOT / "testdata" / "tc_pass.bpf.o"
XDP_OBJECT = ROOT / "testdata" / "xdp_pass.bpf.o"


def cpu_ms(command: Sequence[str], namespace: str) -> float:
    """CPU time of one run of ``command``, in ms; SystemExit when it fails."""
    with netlab.inside(namespace):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    errors = child.stderr.read()
    child.stderr.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: {errors.decode()}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def measure(runs: int) -> dict[str, float]:
    """Median CPU in ms by name of command."""
    filter_words = ["filter", "replace", "dev", "v0", "ingress", "pref", "1", "handle", "1", "bpf", "da"]
    filter_words += ["obj", str(TC_OBJECT), "sec"]
    xdp_words = ["-force", "link", "set", "dev", "v0", "xdp", "obj", str(XDP_OBJECT), "sec", "xdp"]
    commands = {
        "python3 -I -c pass": [sys.executable, "-I", "-c", "pass"],
        "bpfctl filter replace": [*BPFCTL, *filter_words, "classifier"],
        "tc filter replace": ["tc", *filter_words, "classifier"],
        "bpfctl link set xdp": [*BPFCTL, *xdp_words],
        "ip link set xdp": ["ip", *xdp_words],
        "bpfctl -V": [*BPFCTL, "-V"],
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    with netlab.lab() as lab, netlab.private_bpffs() as bpffs:
        os.environ["TC_BPF_MNT"] = str(bpffs)
        subprocess.run([*BPFCTL, "-n", lab.a.namespace, "qdisc", "add", "dev", "v0", "clsact"], check=True)
        for round_ in range(runs + 1):
            for name, command in commands.items():
                spent = cpu_ms(command, lab.a.namespace)
                if round_:  # the first warms caches
                    samples[name].append(spent)
    return {name: statistics.median(values) for name, values in samples.items()}


def import_costs(limit: int = 15) -> list[tuple[str, float]]:
    """(module, own ms) of the most expensive imports of a tc attach, by -X importtime."""
    # A device that is not there: everything is imported, and nothing is attached.
    words = ["filter", "add", "dev", "no-such-dev", "ingress", "bpf", "da", "obj", str(TC_OBJECT)]
    command = [sys.executable, "-X", "importtime", "-m", "bpfctl", *words]
    report = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    rows = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", report)
    costs = [(name, int(own) / 1000) for own, name in rows]
    return sorted(costs, key=lambda row: -row[1])[:limit]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    medians = measure(runs)
    bare = medians["python3 -I -c pass"]
    peers = {"bpfctl filter replace": "tc filter replace", "bpfctl link set xdp": "ip link set xdp"}
    print(f"{'command':26}{'CPU ms':>8}{'/ bare python':>15}{'/ peer':>9}   ({runs} rounds, medians)")
    for name, spent in medians.items():
        peer = f"{spent / medians[peers[name]]:9.1f}" if name in peers else ""
        print(f"{name:26}{spent:8.1f}{spent / bare:15.2f}{peer}")
    print("\nimports of a tc attach (own time, ms)")
    for name, cost in import_costs():
        print(f"  {cost:6.2f}  {name}")


if __name__ == "__main__":
    main()
