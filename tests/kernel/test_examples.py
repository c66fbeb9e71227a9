"""What iproute2's BPF examples show, in both generations of maps, with packets: the same counts.

Grafting into an array in use is in test_exec.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from netlab import TESTDATA, Lab

from bpfctl.cli import main
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import Command

pytestmark = pytest.mark.kernel

PACKETS = 8
LONGEST_CHAIN = 33  # MAX_TAIL_CALL_CNT (include/linux/bpf.h)


@pytest.fixture
def lab(netns: Lab, bpffs: Path) -> Iterator[Lab]:
    """This thread where v0 has a clsact."""
    with netlab.inside(netns.a.namespace):
        assert main.run(["qdisc", "add", "dev", "v0", "clsact"]) == 0
        yield netns


def attach(name: str, *choice: str, hook: str = "egress") -> None:
    words = ("filter", "add", "dev", "v0", hook, "bpf", "da", "obj", str(TESTDATA / f"{name}.bpf.o"))
    assert main.run([*words, *choice]) == 0


def counters(fd: int, slots: int) -> list[int]:
    packed = [bpf.map_lookup(fd, struct.pack("=I", slot), 8) for slot in range(slots)]
    return [int(struct.unpack("=Q", value)[0]) for value in packed]


def pinned(bpffs: Path, name: str, slots: int, folder: str = "globals") -> list[int]:
    with Fd(bpf.obj_get(str(bpffs / "tc" / folder / name))) as fd:
        return counters(fd.number, slots)


@pytest.mark.parametrize("name", ["tail_cyclic_legacy", "tail_cyclic"])
def test_cyclic_tail_calls(lab: Lab, bpffs: Path, name: str) -> None:
    """The program goes round as often as the kernel lets it; then the packet goes on."""
    attach(name, "sec", "classifier")
    assert netlab.send_udp(lab.a, lab.b, PACKETS) == PACKETS
    assert pinned(bpffs, "rounds", 1) == [LONGEST_CHAIN * PACKETS]


@pytest.mark.parametrize("name", ["tail_nested_legacy", "tail_nested"])
def test_tail_call_sections(lab: Lab, bpffs: Path, name: str) -> None:
    """Odd lengths by one slot, even ones by the other, all of them by the second array."""
    attach(name, "sec", "classifier")
    for size in (64, 65, 65):
        assert netlab.send_udp(lab.a, lab.b, PACKETS, size=size) == PACKETS
    assert pinned(bpffs, "steps", 4) == [3 * PACKETS, PACKETS, 2 * PACKETS, 3 * PACKETS]


@pytest.mark.parametrize("name", ["map_in_map_legacy", "map_in_map_btf"])
def test_map_in_map(lab: Lab, bpffs: Path, name: str) -> None:
    """Packets without a mark count in the inner map that the outer one holds in slot 0."""
    attach(name)
    outer = _outer_map(bpffs)
    with Fd(outer) as array:
        (number,) = struct.unpack("=I", bpf.map_lookup(array.number, bytes(4), 4))
    assert netlab.send_udp(lab.a, lab.b, PACKETS) == PACKETS
    with Fd(bpf.get_fd_by_id(Command.MAP_GET_FD_BY_ID, number)) as tenant:
        assert counters(tenant.number, 4) == [PACKETS, 0, 0, 0]


def _outer_map(bpffs: Path) -> int:
    """The map ``tenants``: by its pin, else as the newest map of this name."""
    path = bpffs / "tc" / "globals" / "tenants"
    if path.exists():
        return bpf.obj_get(str(path))
    for number in sorted(bpf.iter_ids(Command.MAP_GET_NEXT_ID), reverse=True):
        fd = Fd(bpf.get_fd_by_id(Command.MAP_GET_FD_BY_ID, number))
        if info.map_info(fd.number).name == "tenants":
            return fd.detach()
        fd.close()
    raise AssertionError("no map is called tenants")


@pytest.mark.parametrize("name", ["pin_object_ns", "shared_hooks"])
def test_sharing_between_ingress_and_egress(lab: Lab, bpffs: Path, name: str) -> None:
    """Two commands, one map: by the hash of the object file, or by name."""
    for hook in ("ingress", "egress"):
        attach(name, "sec", hook, hook=hook)
    assert netlab.ping(lab.a, lab.b, PACKETS) == PACKETS
    if name == "shared_hooks":
        assert pinned(bpffs, "shared_hooks", 2) == [PACKETS, PACKETS]
    else:
        import hashlib

        digest = hashlib.sha1((TESTDATA / f"{name}.bpf.o").read_bytes()).hexdigest()
        assert pinned(bpffs, "shared", 2, digest) == [PACKETS, PACKETS]
