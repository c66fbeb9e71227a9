"""Loading big objects: whole processes, as ratios to `bpftool prog loadall` in the same run.

    python tests/bench/load.py [ROUNDS [DIRECTORY]]

Three objects are generated and compiled (into DIRECTORY, where they are used again): CO-RE against
the running kernel's types, very many relocations, and programs whose verification takes long.  The
tools take turns; wall time and CPU (user plus system) of the process are compared by their medians.
BPFTOOL names another peer.  Needs root, bpftool, clang-19 and a kernel with BTF.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import netlab  # noqa: E402

BPFCTL = str(Path(sys.executable).parent / "bpfctl")
BPFTOOL = os.environ.get("BPFTOOL", "bpftool")
CLANG = ["clang-19", "-O2", "-g", "-mcpu=v3", "-target", "bpfel", "-Wno-everything", "-c", "-x", "c", "-"]

_HEAD = """
#define SEC(name) __attribute__((section(name), used))
char _license[] SEC("license") = "GPL";
"""


class Case(NamedTuple):
    """An object to load; ``aim``: the ratio to the peer that is wanted."""

    name: str
    source: Callable[[], str]
    aim: float


class Sample(NamedTuple):
    """Times of one process in seconds."""

    wall: float
    cpu: float


# --- the objects ---------------------------------------------------------------------------------


def core_source(accesses: int = 300) -> str:
    """``accesses`` offsets of members of the kernel's own structs; the types they need make 100 KB."""
    header = _output([BPFTOOL, "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"])
    body = "\n".join(
        f"\tsum += __builtin_preserve_field_info(((struct {struct} *)0)->{member}, 0);"
        for (struct, member), _ in zip(_members(header), range(accesses), strict=False)
    )
    function = f'SEC("xdp") int offsets(void *ctx)\n{{\n\tint sum = 0;\n{body}\n\treturn sum & 1;\n}}\n'
    return header + _HEAD + function


def _members(header: str) -> Iterator[tuple[str, str]]:
    """(struct, member) of plain members of structs that every kernel has."""
    for struct in (
        "task_struct",
        "sk_buff",
        "sock",
        "net_device",
        "file",
        "inode",
        "mm_struct",
        "signal_struct",
    ):
        found = re.search(rf"^struct {struct} {{\n(.*?)^}}", header, re.S | re.M)
        for line in found[1].splitlines() if found else ():
            member = re.fullmatch(r"\t[a-z][\w ]* \**(\w+);", line)
            if member:
                yield struct, member[1]


def relocation_source(programs: int = 100, each: int = 400) -> str:
    """``programs`` programs that load a global variable's address ``each`` times: 40,000 relocations."""
    functions = "\n".join(
        f'SEC("xdp") int relocated_{n}(void *ctx)\n{{\n'
        f'\tasm volatile(".rept {each}\\n r1 = counters ll\\n .endr" ::: "r1");\n'
        f"\treturn counters[{n % 64}] & 1;\n}}"
        for n in range(programs)
    )
    return f"{_HEAD}volatile int counters[64];\n{functions}\n"


def verification_source(programs: int = 4, rounds: int = 160_000) -> str:
    """Loops that the verifier has to walk round by round: a million instructions each, near its limit."""
    functions = "\n".join(
        f'SEC("xdp") int walked_{n}(void *ctx)\n{{\n\tint sum = {n};\n'
        f'\tfor (int i = 0; i < {rounds}; i++)\n\t\tasm volatile("%0 += 3; %0 ^= %1" : "+r"(sum) : "r"(i));\n'
        "\treturn sum & 1;\n}"
        for n in range(programs)
    )
    return f"{_HEAD}{functions}\n"


CASES = (
    Case("300 CO-RE relocations", core_source, 3.0),
    Case("40,000 relocations", relocation_source, 2.0),
    Case("long verification", verification_source, 1.1),
)


def build(case: Case, directory: Path) -> Path:
    """The object of ``case`` in ``directory``, compiled unless it is there."""
    path = directory / (re.sub(r"\W+", "_", case.name) + ".o")
    if not path.exists():
        subprocess.run([*CLANG, "-o", str(path)], input=case.source(), text=True, check=True)
        subprocess.run(["llvm-strip-19", "-g", str(path)], check=True)
    return path


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- measuring -----------------------------------------------------------------------------------


def load(tool: str, path: Path, bpffs: Path) -> Sample:
    """One ``prog loadall`` into a fresh directory; SystemExit when it fails."""
    target = bpffs / "bench"
    start = time.perf_counter()
    child = subprocess.Popen(
        [tool, "prog", "loadall", str(path), str(target)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    errors = child.stderr.read()
    child.stderr.close()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{tool}: {errors.decode()}")
    for pin in target.iterdir():
        pin.unlink()
    target.rmdir()
    return Sample(wall, usage.ru_utime + usage.ru_stime)


def measure(path: Path, rounds: int, bpffs: Path) -> tuple[Sample, Sample]:
    """Median samples of bpfctl and of the peer."""
    samples: dict[str, list[Sample]] = {BPFCTL: [], BPFTOOL: []}
    for round_ in range(rounds + 1):
        for tool, values in samples.items():
            sample = load(tool, path, bpffs)
            if round_:  # the first warms caches
                values.append(sample)
    medians = [Sample(*map(statistics.median, zip(*values, strict=True))) for values in samples.values()]
    return medians[0], medians[1]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'object':24}{'KB':>6}{'bpfctl ms':>11}{'peer ms':>9}{'wall':>7}{'CPU':>7}{'aim':>6}")
    with netlab.private_bpffs() as bpffs, tempfile.TemporaryDirectory() as scratch:
        directory = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(scratch)
        for case in CASES:
            path = build(case, directory)
            ours, peer = measure(path, rounds, bpffs)
            print(
                f"{case.name:24}{path.stat().st_size >> 10:6}{ours.wall * 1000:11.0f}{peer.wall * 1000:9.0f}"
                f"{ours.wall / peer.wall:7.2f}{ours.cpu / peer.cpu:7.2f}{case.aim:6.1f}"
            )


if __name__ == "__main__":
    main()
