"""Maps in bulk against the installed bpftool, in the same run.

    python tests/bench/maps.py [ENTRIES [ROUNDS]]

A hash map with keys of 8 bytes and a struct of 16 for a value, typed by BTF.  Each command is a process of
its own, the tools take turns, and the medians are compared.  bpftool's batch has a tenth of the entries, and
its time is scaled.  The floor of `restore` is BPF_MAP_UPDATE_BATCH of the same bytes, which are in memory;
BPF_MAP_LOOKUP_BATCH of all elements is what a dump cannot do without.  What writes, writes to a new map: in
one that was filled before, elements lie in memory as they happened to be freed.  Memory is the largest
resident set of the process.
"""

from __future__ import annotations

import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import netlab  # noqa: E402
from btf_builder import BtfBuilder  # noqa: E402

from bpfctl.kernel import bpf, map_batch  # noqa: E402
from bpfctl.kernel.bpf import MapAttributes  # noqa: E402
from bpfctl.kernel.fd import Fd  # noqa: E402
from bpfctl.uapi import MapType  # noqa: E402

BPFCTL = str(Path(sys.executable).parent / "bpfctl")
BATCH_SHARE = 10


class Run(NamedTuple):
    """Seconds of wall time and of CPU, and MiB of memory."""

    wall: float
    cpu: float
    memory: float


def make_map(entries: int, pin: Path) -> Fd:
    b = BtfBuilder()
    u64 = b.int("__u64", 8, signed=False)
    traffic = b.struct("traffic", 16, [("packets", u64, 0), ("bytes", u64, 64)])
    with Fd(bpf.btf_load(b.blob())) as types:
        wanted = MapAttributes(MapType.HASH, 8, 16, entries, name="bench", btf_fd=types.number)
        fd = Fd(bpf.map_create(wanted._replace(btf_key_type_id=u64, btf_value_type_id=traffic)))
    bpf.obj_pin(fd.number, str(pin))
    return fd


def fill(fd: Fd, entries: int) -> float:
    """Seconds of BPF_MAP_UPDATE_BATCH alone."""
    spent = 0.0
    for start in range(0, entries, 1 << 16):
        count = min(1 << 16, entries - start)
        numbers = range(start, start + count)
        keys = bytearray(struct.pack(f"={count}Q", *numbers))
        values = bytearray(struct.pack(f"={2 * count}Q", *(n for k in numbers for n in (k * 7, k * 1000))))
        begin = time.perf_counter()
        map_batch.update(fd.number, keys, values, count)
        spent += time.perf_counter() - begin
    return spent


def walk(fd: Fd) -> float:
    """Seconds of BPF_MAP_LOOKUP_BATCH alone."""
    keys, values = bytearray(8 << 14), bytearray(16 << 14)
    cursor, following = None, bytearray(map_batch.LEAST_CURSOR)
    begin = time.perf_counter()
    while not map_batch.lookup(fd.number, cursor, following, keys, values, 1 << 14).end:
        cursor = bytearray(following)
    return time.perf_counter() - begin


def run(command: Sequence[object], output: Path | None = None) -> Run:
    """Run a process of its own through one of its own, whose children's usage is this command's only."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with open(output or os.devnull, "wb") as file:
            begin = time.perf_counter()
            done = subprocess.run([str(word) for word in command], stdout=file, check=False)
            wall = time.perf_counter() - begin
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = usage.ru_utime + usage.ru_stime
        os.write(write, struct.pack("=3d", wall, cpu, usage.ru_maxrss / 1024))
        os._exit(done.returncode)
    os.close(write)
    data = os.read(read, 24)
    os.close(read)
    assert os.waitpid(child, 0)[1] == 0, command
    return Run(*struct.unpack("=3d", data))


def middle(runs: Sequence[Run]) -> Run:
    return Run(
        statistics.median(r.wall for r in runs),
        statistics.median(r.cpu for r in runs),
        max(r.memory for r in runs),
    )


class Bench:
    """One map, its files, and the rounds that ran over it."""

    def __init__(self, entries: int, directory: Path, pin: Path) -> None:
        self.entries = entries
        self.pin = pin
        self.fd = make_map(entries, pin)
        self.ndjson, self.binary = directory / "x.ndjson", directory / "x.bin"
        self.batch = directory / "batch"
        self.runs: dict[str, list[Run]] = {}
        self.floors: dict[str, list[float]] = {"LOOKUP_BATCH": [], "UPDATE_BATCH": []}

    def prepare(self) -> None:
        fill(self.fd, self.entries)
        run([BPFCTL, "map", "dump", "pinned", self.pin, "format", "ndjson"], self.ndjson)
        run([BPFCTL, "map", "save", "pinned", self.pin, self.binary])
        with self.batch.open("w") as file:
            for n in range(self.entries // BATCH_SHARE):
                key = struct.pack("=Q", n).hex(" ")
                value = struct.pack("=2Q", n * 7, n * 1000).hex(" ")
                file.write(f"map update pinned {self.pin} key hex {key} value hex {value}\n")

    def note(self, name: str, measured: Run) -> None:
        self.runs.setdefault(name, []).append(measured)

    def round(self) -> None:
        pinned = ("pinned", self.pin)
        self.floors["LOOKUP_BATCH"].append(walk(self.fd))
        self.note("dump -j", run([BPFCTL, "-j", "map", "dump", *pinned]))
        self.note("bpftool dump", run(["bpftool", "-j", "map", "dump", *pinned]))
        self.note(
            "dump hex", run([BPFCTL, "-j", "map", "dump", *pinned, "key", "as", "hex", "value", "as", "hex"])
        )
        self.note("dump ndjson", run([BPFCTL, "map", "dump", *pinned, "format", "ndjson"]))
        self.renew()
        self.note("load ndjson", run([BPFCTL, "map", "load", *pinned, self.ndjson]))
        self.renew()
        self.note("restore", run([BPFCTL, "map", "restore", self.binary, *pinned]))
        self.renew()
        batch = run(["bpftool", "batch", "file", self.batch])
        scaled = Run(batch.wall * BATCH_SHARE, batch.cpu * BATCH_SHARE, batch.memory)
        self.note("bpftool batch", scaled)
        self.renew()
        self.floors["UPDATE_BATCH"].append(fill(self.fd, self.entries))

    def renew(self) -> None:
        """A new map in the place of the old."""
        self.close()
        self.fd = make_map(self.entries, self.pin)

    def close(self) -> None:
        self.pin.unlink()
        self.fd.close()

    def report(self) -> None:
        found = {name: middle(runs) for name, runs in self.runs.items()}
        floors = {name: statistics.median(seconds) for name, seconds in self.floors.items()}
        rounds = len(self.floors["UPDATE_BATCH"])
        print(f"{self.entries} entries, median of {rounds} rounds: wall s, cpu s, MiB")
        for name, r in found.items():
            print(f"  {name:14} {r.wall:8.2f} {r.cpu:8.2f} {r.memory:6.0f}")
        for name, seconds in floors.items():
            print(f"  {name:14} {seconds:8.2f}")
        for what, theirs, aim in (
            ("dump -j", "bpftool dump", "at least 4"),
            ("dump hex", "bpftool dump", "at least 2.5"),
            ("load ndjson", "bpftool batch", "at least 3"),
        ):
            wall = found[theirs].wall / found[what].wall
            cpu = found[theirs].cpu / found[what].cpu
            print(f"  {what:14} {wall:6.2f} times faster than {theirs} (cpu {cpu:.2f}); aim: {aim}")
        ratio = found["restore"].wall / floors["UPDATE_BATCH"]
        print(f"  restore        {ratio:6.2f} times UPDATE_BATCH; aim: 1.5")


def main() -> None:
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with netlab.private_bpffs() as bpffs, tempfile.TemporaryDirectory() as directory:
        bench = Bench(entries, Path(directory), bpffs / "bench")
        bench.prepare()
        for _ in range(rounds):
            bench.round()
        bench.close()
        bench.report()


if __name__ == "__main__":
    main()
