"""An independent judge: what bpftool loads, we load the same, instruction by instruction.

Every object of testdata goes through both.  bpftool (libbpf) refuses the older generation, so those
objects are judged by the traffic tests instead; which ones it refuses is asserted here too.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Requires
from netlab import TESTDATA

from bpfctl.errors import BpfctlError
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.loader.pins import pin
from bpfctl.objfile import read_object
from bpfctl.objfile.spec import MapOrigin, ObjectSpec

pytestmark = pytest.mark.kernel

OBJECTS = sorted(TESTDATA.glob("*.bpf.o"))
# Objects that neither tool is meant to load: broken on purpose, or for another machine.
BROKEN = {"verifier_reject", "no_license", "undefined_symbol", "core_missing", "externs", "targets", "hooks"}
BROKEN |= {"replacement"}  # of nothing
# Loaded here, and why bpftool does not: another rule of libbpf's in each.
PEER_REFUSES = {
    "percpu_variables": "Debian's is older than section .percpu",
    "arena_globals": "Debian's is older than arenas",
    "jump_table": "Debian's is older than jump tables",
    "cross_section": "static functions outside of .text",
    "optional_prog": "it pins what it did not load",
    "steady_window": "Debian's is older than section ?.struct_ops.link",
    "xdp_drop": "the section name `prog` says no type",
}
# Never given to bpftool: it would pin into the machine's own bpffs.
PINS_BY_NAME = {"proto_report", "hooks_events", "hooks_kprobe", "hooks_multi", "hooks_tracing", "usdt"}
PINS_BY_NAME |= {"graft_root", "route_counters", "shared_hooks", "tail_cyclic", "tail_nested", "xdp_shared"}
PINS_BY_NAME |= {"flow_table", "flow_table_v2", "hooks_tracing_multi"}


def name_of(path: Path) -> str:
    return path.name.removesuffix(".bpf.o")


def bpftool(*words: object) -> Any:
    done = subprocess.run(["bpftool", "-j", *map(str, words)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout) if done.stdout.strip() else None


def loads_with_bpftool(path: Path, directory: Path) -> bool:
    command = ["bpftool", "prog", "loadall", str(path), str(directory), "pinmaps", str(directory / "maps")]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def instructions(pin_path: Path) -> list[str]:
    """The translated instructions; map ids and addresses, which differ from load to load, masked."""
    masked = []
    for insn in bpftool("prog", "dump", "xlated", "pinned", pin_path, "opcodes"):
        opcodes = insn["opcodes"]
        code, registers = opcodes["code"], opcodes["src_reg"]
        is_load = int(code, 0) == 0x18 and int(registers, 0) != 0
        masked.append(
            f"{code} {registers} {opcodes['dst_reg']} {opcodes['off']} "
            + ("" if is_load else "".join(opcodes["imm"]))
        )
    return masked


def map_facts(facts: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        facts.get(key)
        for key in ("type", "name", "flags", "bytes_key", "bytes_value", "max_entries", "frozen")
    )


def program_maps(pin_path: Path) -> set[tuple[Any, ...]]:
    ids = bpftool("prog", "show", "pinned", pin_path).get("map_ids", [])
    return {map_facts(bpftool("map", "show", "id", number)) for number in ids}


@pytest.mark.parametrize(
    "path", [p for p in OBJECTS if "bigendian" not in p.name and name_of(p) not in PINS_BY_NAME], ids=name_of
)
def test_same_programs_and_maps_as_bpftool(path: Path, bpffs: Path, requires: Requires) -> None:
    requires("bpftool")
    theirs, ours = bpffs / "theirs", bpffs / "ours"
    name = name_of(path)
    obj = read_object(str(path), maps_abi="iproute2" if name == "ambiguous_map" else None)
    if name in PEER_REFUSES or any(spec.origin is MapOrigin.LEGACY for spec in obj.maps.values()):
        assert not loads_with_bpftool(path, theirs)
        return
    if name in BROKEN:
        with pytest.raises(BpfctlError), Transaction() as transaction:
            load(obj, LoadRequest(tuple(obj.programs), pin_root=str(bpffs)), transaction)
        return
    assert loads_with_bpftool(path, theirs)
    assert_same(obj, theirs, ours, bpffs)


def assert_same(obj: ObjectSpec, theirs: Path, ours: Path, pin_root: Path) -> None:
    """Load all of ``obj`` into ``ours``; programs and their maps must be those pinned in ``theirs``."""
    ours.mkdir()
    names = tuple(name for name, spec in obj.programs.items() if spec.autoload)
    with (
        Transaction() as transaction,
        load(obj, LoadRequest(names, pin_root=str(pin_root)), transaction) as loaded,
    ):
        for name in names:
            assert pin(loaded.program(name).fd.number, str(ours / name), transaction)
    for program in names:
        assert instructions(ours / program) == instructions(theirs / program), program
        assert program_maps(ours / program) == program_maps(theirs / program), program


def libxdp_objects() -> list[Path]:
    """XDP programs that Debian's libxdp1 installs: objects that others wrote and compiled."""
    tracing = "xdpdump_bpf.o"  # fentry and fexit of a program that has to be attached first
    return [path for path in sorted(Path("/usr/lib").glob("*/bpf/*.o")) if path.name != tracing]


@pytest.mark.parametrize("path", libxdp_objects(), ids=lambda path: path.name)
def test_objects_of_libxdp(path: Path, bpffs: Path, requires: Requires) -> None:
    requires("bpftool")
    obj = read_object(str(path))
    pinned = {spec.name for spec in obj.maps.values() if spec.pinning}
    # libbpf before 1.2 makes .rodata MMAPABLE though all its variables are static.
    if not pinned and path.name != "xdp-dispatcher.o":
        assert loads_with_bpftool(path, bpffs / "theirs")
        assert_same(obj, bpffs / "theirs", bpffs / "ours", bpffs)
        return
    # Pinned by name, which bpftool would do in the machine's own bpffs.
    with Transaction() as transaction, load(obj, LoadRequest(tuple(obj.programs)), transaction) as loaded:
        assert set(loaded.programs) == set(obj.programs)
    assert {pin_path.name for pin_path in bpffs.glob("tc/globals/*")} == pinned
