"""Each call into the kernel fails in turn, then kills the command in turn.

A failed command leaves nothing; exit 0 means that all is there; after a kill the same command, run
again, succeeds and leaves what an undisturbed run leaves.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import AF_INET
from typing import NamedTuple

import netlab
import pytest
from faults import Outcome, trial
from netlab import TESTDATA
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

pytestmark = pytest.mark.kernel

INGRESS = 0xFFFFFFF2
NET = "10.88.0.0/16"
SKB_MODE = 2  # XDP_FLAGS_SKB_MODE: xdpgeneric


class State(NamedTuple):
    """What a command can leave: pins below the bpffs, filters as (pref, name), XDP attach mode, tunnels."""

    pins: tuple[str, ...]
    filters: tuple[tuple[int, str], ...]
    xdp: str
    routes: tuple[str, ...]


class Command(NamedTuple):
    """A command line that says what is to be, so that running it twice makes sense.

    (`filter add` without a preference adds another filter each time, as tc's does.)
    """

    name: str
    words: tuple[object, ...]


def xdp(name: str, *choice: str) -> tuple[object, ...]:
    return ("link", "set", "dev", "v0", "xdpgeneric", "obj", TESTDATA / f"{name}.bpf.o", *choice)


def tc(verb: str, name: str, *choice: str) -> tuple[object, ...]:
    words = ("filter", verb, "dev", "v0", "ingress", "bpf", "da", "obj", TESTDATA / f"{name}.bpf.o")
    return (*words, *choice)


def lent(verb: str, name: str) -> tuple[object, ...]:
    """A line under the name of tc, which is done by the real one, with our program."""
    place = ("tc", "filter", verb, "dev", "v0", "ingress", "pref", 5, "handle", 1)
    action = ("action", "mirred", "egress", "mirror", "dev", "v0", "hw_stats", "disabled")
    return (*place, "bpf", "obj", TESTDATA / f"{name}.bpf.o", *action)


def load(name: str, path: str) -> tuple[object, ...]:
    return ("prog", "load", TESTDATA / f"{name}.bpf.o", path)


def route(verb: str, *hooks: str) -> tuple[object, ...]:
    obj = TESTDATA / "route_counters.bpf.o"
    programs = [word for hook in hooks for word in (hook, "obj", obj)]
    return ("route", verb, NET, "encap", "bpf", *programs, "dev", "v0")


COMMANDS = (
    Command("xdp-legacy-pinned", xdp("proto_counters", "sec", "xdp")),
    Command("xdp-tail-calls", xdp("xdp_root", "program", "xdp_root")),
    Command("xdp-globals", xdp("subprogs", "program", "sum_xdp")),
    Command("tc-endpoints", tc("replace", "endpoints", "sec", "from-container")),
    Command("tc-map-in-map", tc("replace", "map_in_map_legacy", "sec", "classifier")),
    Command("tc-btf-maps", tc("replace", "proto_report", "sec", "tc")),
    Command("loadall", ("prog", "loadall", TESTDATA / "two_in_section.bpf.o", "m:all")),
    Command("autoattach", (*load("hooks_events", "m:link"), "program", "on_getppid", "autoattach")),
    Command("tc-lent", lent("replace", "legacy_globals")),
    Command("route", route("replace", "out", "xmit")),
)

# Cannot be run again once it is done: the kernel knows no more of the programs than their names.
ROUTE_ADD = Command("route-add", route("add", "out"))


class Place:
    """A namespace and a bpffs that trials run in, one after the other, each from a clean state."""

    def __init__(self, lab: netlab.Lab, bpffs: Path, directory: Path, ip: IPRoute) -> None:
        self.namespace = lab.a.namespace
        self.bpffs = bpffs
        self.directory = directory
        self.ip = ip
        self.index = ip.link_lookup(ifname=lab.a.device)[0]

    def state(self) -> State:
        filters = [
            (message["info"] >> 16, message.get_nested("TCA_OPTIONS", "TCA_BPF_NAME"))
            for message in self.ip.get_filters(index=self.index, parent=INGRESS)
            if message.get_nested("TCA_OPTIONS", "TCA_BPF_NAME")
        ]
        xdp = next(iter(self.ip.get_links(self.index))).get_nested("IFLA_XDP", "IFLA_XDP_ATTACHED")
        listed = self.ip.get_routes(family=AF_INET, table=254)
        routes = [str(found.get_attr("RTA_ENCAP")) for found in listed if found.get_attr("RTA_ENCAP")]
        pins = sorted(str(path.relative_to(self.bpffs)) for path in self.bpffs.rglob("*"))
        return State(tuple(pins), tuple(sorted(filters)), str(xdp), tuple(routes))

    def reset(self) -> None:
        """Back to an interface without programs, an empty clsact, and an empty bpffs."""
        off = {"attrs": [("IFLA_XDP_FD", -1), ("IFLA_XDP_FLAGS", SKB_MODE)]}
        self.ip.link("set", index=self.index, xdp=off)
        with suppress(NetlinkError):
            self.ip.tc("del", "clsact", self.index)
        self.ip.tc("add", "clsact", self.index)
        with suppress(NetlinkError):
            self.ip.route("del", dst=NET, scope=255)
        for path in sorted(self.bpffs.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.suffix != ".debug":
                path.unlink()

    def run(self, command: Command, at: int = 0, number: int = 0) -> Outcome:
        return trial(command.words, self.directory, self.namespace, at, number)


@pytest.fixture
def place(netns: netlab.Lab, bpffs: Path, tmp_path: Path) -> Iterator[Place]:
    with netlab.inside(netns.a.namespace), IPRoute() as ip:
        here = Place(netns, bpffs, tmp_path, ip)
        here.reset()
        yield here


def undisturbed(place: Place, command: Command) -> tuple[State, State, int]:
    """State before and after a run without faults, and the number of calls that it makes."""
    before = place.state()
    outcome = place.run(command)
    assert outcome.status == 0, outcome.stderr
    after = place.state()
    assert after != before
    return before, after, len(outcome.calls)


# Every command with EIO; some with errors that the code treats in a way of their own.
ERRORS = [(command, errno.EIO) for command in (*COMMANDS, ROUTE_ADD)]
ERRORS += [
    (command, number) for command in COMMANDS[:1] + COMMANDS[3:4] for number in (errno.ENOBUFS, errno.EPERM)
]
KILLED = tuple(
    command for command in COMMANDS if command.name not in ("xdp-globals", "tc-map-in-map", "tc-btf-maps")
)


@pytest.mark.parametrize(
    ("command", "number"), ERRORS, ids=[f"{command.name}-{errno.errorcode[n]}" for command, n in ERRORS]
)
def test_each_call_fails_in_turn(place: Place, command: Command, number: int) -> None:
    before, after, calls = undisturbed(place, command)
    for at in range(1, calls + 1):
        place.reset()
        outcome = place.run(command, at, number)
        what = f"call {at} ({outcome.calls[at - 1]}): status {outcome.status}: {outcome.stderr}"
        assert outcome.status in (0, 1, 2), what
        assert place.state() == (before if outcome.status else after), what


@pytest.mark.parametrize("command", KILLED, ids=lambda command: command.name)
def test_killed_at_each_call_the_next_run_converges(place: Place, command: Command) -> None:
    _, after, calls = undisturbed(place, command)
    for at in range(1, calls + 1):
        place.reset()
        killed = place.run(command, at)
        assert killed.status == -9
        what = f"killed before call {at} ({killed.calls[at - 1]})"
        again = place.run(command)
        assert again.status == 0, f"{what}: {again.stderr}"
        assert place.state() == after, what
