"""Under the name of ``tc`` or ``ip``: what a command that is not ours costs over the real tool.

    python tests/bench/shim.py [RUNS]

CPU of the whole process, as in startup.py; the goal is at most 1.5 bare interpreters over the real tool.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path

from startup import cpu_ms

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import netlab  # noqa: E402

COMMANDS = (["tc", "qdisc", "show"], ["ip", "-j", "link", "show"], ["ip", "route"])


def make_links(folder: Path) -> None:
    """``tc`` and ``ip`` in ``folder``, as `make shim` makes them."""
    script = folder / "bpfctl-shim"
    script.write_text(f"#!{sys.executable}\nfrom bpfctl.cli.main import main\nmain()\n")
    script.chmod(0o755)
    for tool in ("ip", "tc"):
        (folder / tool).symlink_to(script)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder, netlab.lab() as lab:
        make_links(Path(folder))
        bare: list[float] = []
        samples: dict[str, tuple[list[float], list[float]]] = {" ".join(c): ([], []) for c in COMMANDS}
        for _ in range(runs):
            bare.append(cpu_ms([sys.executable, "-I", "-c", "pass"], lab.a.namespace))
            for command in COMMANDS:
                ours, theirs = samples[" ".join(command)]
                ours.append(cpu_ms([os.path.join(folder, command[0]), *command[1:]], lab.a.namespace))
                theirs.append(cpu_ms(command, lab.a.namespace))
    unit = statistics.median(bare)
    print(f"passed on to the real tool: CPU ms ({runs} rounds, medians; a bare interpreter: {unit:.1f})")
    print(f"{'command':22}{'real':>8}{'shim':>8}{'over it, in bare interpreters':>32}")
    for name, (ours, theirs) in samples.items():
        mine, real = statistics.median(ours), statistics.median(theirs)
        print(f"{name:22}{real:8.1f}{mine:8.1f}{(mine - real) / unit:32.2f}")


if __name__ == "__main__":
    main()
