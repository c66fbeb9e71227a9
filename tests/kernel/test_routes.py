"""Programs in routes: real packets pass them; ip(8) is the judge of what is shown."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import netlab
import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA, Lab
from programs import load
from pyroute2 import IPRoute

from bpfctl.cli import main
from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import ProgramType

pytestmark = pytest.mark.kernel

BTF = TESTDATA / "route_counters.bpf.o"
LEGACY = TESTDATA / "route_counters_legacy.bpf.o"
IN, OUT, XMIT, ENDPOINT = range(4)
A6, B6, SID = "fd77::1", "fd77::2", "fc00:77::1"
ETH_P_IPV6 = 0x86DD


@pytest.fixture
def ns(netns: Lab, bpffs: Path) -> str:
    """The namespace of v0; 10.77.9.0/24 is on the far side, and this side forwards."""
    with netlab.inside(netns.a.namespace):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with netlab.inside(netns.b.namespace), IPRoute() as ip:
        ip.addr("add", index=ip.link_lookup(ifname="v1")[0], address="10.77.9.1", prefixlen=32)
    return netns.a.namespace


@pytest.fixture
def ns6(netns: Lab, ns: str) -> str:
    """And both sides have IPv6 and know segment routing."""
    for side, address in ((netns.a, A6), (netns.b, B6)):
        with netlab.inside(side.namespace), IPRoute() as ip:
            ipv6 = Path("/proc/sys/net/ipv6/conf")
            for setting in ("all/disable_ipv6", f"{side.device}/disable_ipv6", f"{side.device}/accept_dad"):
                (ipv6 / setting).write_text("0")
            for setting in ("all/forwarding", "all/seg6_enabled", f"{side.device}/seg6_enabled"):
                (ipv6 / setting).write_text("1")
            index = ip.link_lookup(ifname=side.device)[0]
            ip.addr("add", index=index, address=address, prefixlen=64)
            other, lladdr = (B6, netns.b) if side is netns.a else (A6, netns.a)
            ip.neigh("add", ifindex=index, dst=other, lladdr=lladdr.hardware_address, state=0x80, family=10)
    return ns


def counters(bpffs: Path, name: str = "route_counters", slots: int = 4) -> list[int]:
    with Fd(bpf.obj_get(str(bpffs / "tc" / "globals" / name))) as fd:
        packed = [bpf.map_lookup(fd.number, struct.pack("=I", slot), 8) for slot in range(slots)]
    return [int(struct.unpack("=Q", value)[0]) for value in packed]


def send(lab: Lab, source: netlab.Side, target: str, packets: int) -> int:
    """Datagrams from ``source`` to ``target``, a second address of the other side; those that arrive."""
    sink = (lab.b if source is lab.a else lab.a)._replace(address=target)
    return netlab.send_udp(source, sink, packets)


# --- traffic -------------------------------------------------------------------------------------


def test_out_and_xmit_see_what_leaves(netns: Lab, ns: str, bpffs: Path, run: Cli) -> None:
    words = ("encap", "bpf", "out", "obj", BTF, "xmit", "obj", BTF, "sec", "lwt_xmit", "headroom", "32")
    run("-n", ns, "route", "add", "10.77.9.0/24", *words, "via", "10.77.0.2", "dev", "v0", status=0)
    assert send(netns, netns.a, "10.77.9.1", 10) == 10
    assert counters(bpffs) == [0, 10, 10, 0]
    run("-n", ns, "route", "del", "10.77.9.0/24", status=0)
    run("-n", ns, "route", "show", "10.77.9.0/24", status=0)
    with pytest.raises(OSError, match="unreachable"):
        send(netns, netns.a, "10.77.9.1", 1)
    assert counters(bpffs) == [0, 10, 10, 0]


def test_in_sees_what_arrives(netns: Lab, ns: str, bpffs: Path, run: Cli) -> None:
    words = ("encap", "bpf", "in", "obj", BTF, "dev", "v0")
    run("-n", ns, "route", "add", "local", "10.77.8.1", *words, status=0)
    with netlab.inside(netns.b.namespace), IPRoute() as ip:
        ip.route("add", dst="10.77.8.0/24", gateway="10.77.0.1")
    assert send(netns, netns.b, "10.77.8.1", 7) == 7
    assert counters(bpffs) == [7, 0, 0, 0]


def test_in_sees_what_is_forwarded(netns: Lab, ns: str, bpffs: Path, run: Cli) -> None:
    run(
        "-n",
        ns,
        "route",
        "add",
        "10.77.9.0/24",
        "encap",
        "bpf",
        "in",
        "obj",
        BTF,
        "via",
        "10.77.0.2",
        status=0,
    )
    with netlab.inside(netns.b.namespace), IPRoute() as ip:
        ip.route("add", dst="10.77.9.128/25", gateway="10.77.0.1")
        Path("/proc/sys/net/ipv4/conf/v1/rp_filter").write_text("0")
    with closing(netlab.open_socket(netns.b, socket.SOCK_DGRAM)) as sender:
        for _ in range(5):
            sender.sendto(b"x", ("10.77.9.200", 9))
    assert counters(bpffs)[IN] == 5


@pytest.mark.parametrize("hook", ["in", "out", "xmit"])
def test_legacy_object_at_any_hook(netns: Lab, ns: str, bpffs: Path, run: Cli, hook: str) -> None:
    """The section says nothing of the hook: the command does."""
    place = ("10.77.9.0/24", "encap", "bpf", hook, "obj", LEGACY, "via", "10.77.0.2", "dev", "v0")
    run("-n", ns, "route", "add", *place, status=0)
    assert send(netns, netns.a, "10.77.9.1", 3) == 3
    assert counters(bpffs, "route_counters_old", 2) == [0 if hook == "in" else 3, 0]


def test_ipv6(netns: Lab, ns6: str, bpffs: Path, run: Cli) -> None:
    route = ("fc00:9::/64", "encap", "bpf", "out", "obj", BTF, "via", B6, "dev", "v0")
    run("-n", ns6, "route", "add", *route, status=0)
    with netlab.inside(ns6), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        for _ in range(4):
            sender.sendto(b"x", ("fc00:9::1", 9))
    assert counters(bpffs)[OUT] == 4


def test_seg6local_end_bpf(netns: Lab, ns6: str, bpffs: Path, run: Cli) -> None:
    words = ("encap", "seg6local", "action", "End.BPF", "endpoint", "obj", BTF, "dev", "v0")
    run("-n", ns6, "route", "add", f"{SID}/128", *words, status=0)
    shown = run("-n", ns6, "route", "show", SID, status=0).stdout
    assert shown.startswith(
        f"{SID}  encap seg6local action End.BPF endpoint route_counters.bpf.o:[lwt_seg6local] dev v0 "
    )
    with netlab.inside(netns.b.namespace):
        receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    with receiver:
        receiver.bind(("::", netlab.UDP_PORT))
        receiver.settimeout(2)
        send_through_segment(netns, 6)
        assert netlab.drain(receiver, 6) == 6
    assert counters(bpffs) == [0, 0, 0, 6]


def send_through_segment(lab: Lab, packets: int) -> None:
    """UDP from the far side to itself by way of SID: IPv6, segment routing header (RFC 8754), UDP."""
    source, destination = (socket.inet_pton(socket.AF_INET6, B6),) * 2
    segment = socket.inet_pton(socket.AF_INET6, SID)
    datagram = struct.pack("!HHHH", netlab.UDP_PORT, netlab.UDP_PORT, 8 + 4, 0) + b"data"
    pseudo = source + destination + struct.pack("!II", len(datagram), socket.IPPROTO_UDP) + datagram
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    total = (total & 0xFFFF) + (total >> 16)
    datagram = datagram[:6] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + datagram[8:]
    header = struct.pack("!BBBBBBH", socket.IPPROTO_UDP, 4, 4, 1, 1, 0, 0) + destination + segment
    payload = header + datagram
    packet = struct.pack("!IHBB", 6 << 28, len(payload), 43, 64) + source + segment + payload
    hardware = [bytes.fromhex(side.hardware_address.replace(":", "")) for side in (lab.a, lab.b)]
    frame = b"".join(hardware) + struct.pack("!H", ETH_P_IPV6) + packet
    with netlab.inside(lab.b.namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("v1", ETH_P_IPV6))
        for _ in range(packets):
            raw.send(frame)


def test_replace_loses_no_packet(netns: Lab, ns: str, bpffs: Path, run: Cli) -> None:
    """Programs are exchanged under traffic: each packet is counted and arrives."""
    place = ("10.77.9.0/24", "encap", "bpf", "out", "obj", BTF, "via", "10.77.0.2", "dev", "v0")
    run("-n", ns, "route", "add", *place, status=0)
    batch = "".join(f"route replace {' '.join(map(str, place))} mtu {1400 + n}\n" for n in range(50))
    done = threading.Event()
    sent = 0
    with netlab.open_udp_receiver(netns.b._replace(address="10.77.9.1")) as receiver:
        with closing(netlab.open_socket(netns.a, socket.SOCK_DGRAM)) as sender:

            def replace() -> None:
                run("-n", ns, "-b", "-", stdin=batch, status=0)
                done.set()

            worker = threading.Thread(target=replace)
            worker.start()
            while not done.is_set():
                sender.sendto(bytes(64), ("10.77.9.1", netlab.UDP_PORT))
                sent += 1
            worker.join()
        assert netlab.drain(receiver, sent) == sent
    assert counters(bpffs)[OUT] == sent
    assert "mtu 1449" in run("-n", ns, "route", "show", status=0).stdout


# --- shown as ip(8) shows it ---------------------------------------------------------------------

ROUTES = [
    "10.9.1.0/24 encap bpf in OBJ sec lwt_in out OBJ sec lwt_out xmit OBJ sec lwt_xmit dev v0 mtu 1400",
    "10.9.2.1 encap bpf out OBJ via 10.77.0.2 dev v0 src 10.77.0.1 metric 5 proto static table 100 onlink",
    "10.9.3.0/24 nexthop encap bpf out OBJ via 10.77.0.2 dev v0 weight 2 nexthop via 10.77.0.3 dev v0",
    "10.9.4.0/24 encap bpf xmit OBJ headroom 20 dev v0 scope link proto 99 mtu lock 1300 advmss 1200",
    "local 10.9.5.1 encap bpf in OBJ dev v0",
    "10.9.6/23 encap bpf out OBJ via inet6 fd77::7 dev v0 tos 0x10",
    "default encap bpf out OBJ via 10.77.0.2 metric 77",
    "fc00:1::1 encap bpf out OBJ dev v0",
    "fc00:9::/64 encap bpf out OBJ via fd77::2 pref high hoplimit 9",
    "default encap bpf out OBJ via fd77::2",
    "fc00:5::1 encap seg6local action End.BPF endpoint OBJ dev v0 table 300",
    "10.9.8.0/24 nhid 5 mtu 1300 src 10.77.0.1",
]


class Here(Protocol):
    """``here("route", "show")``: bpfctl in this process and namespace; its stdout, or stderr if it failed."""

    def __call__(self, *words: object, status: int = 0) -> str: ...


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    def call(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        found = main.run([str(word) for word in words])
        out, err = capsys.readouterr()
        assert found == status, out + err
        return err if status else out

    return call


def judge(*words: str) -> str:
    """What another tool prints; nothing where it finds no such table."""
    return subprocess.run(words, check=False, capture_output=True, text=True).stdout


def of_programs(text: str) -> list[str]:
    """The lines of ``ip route`` about routes with programs, legs of a multipath route in one line."""
    joined = text.replace("\n\t", "\t").splitlines()
    return [line.rstrip().replace(" \t", "\t") for line in joined if " encap " in line]


def flat(entry: dict[str, object]) -> dict[str, object]:
    """Later versions of ip(8) put the programs of a tunnel into an object of their own."""
    encap = entry.get("encap")
    if isinstance(encap, dict):
        before = {key: entry[key] for key in list(entry)[: list(entry).index("encap")]}
        encap = {"encap": encap.pop("encap_type"), **encap}
        return {
            **before,
            **encap,
            **{key: entry[key] for key in entry if key not in before and key != "encap"},
        }
    return entry


@pytest.fixture
def routed(ns6: str, here: Here, requires: Requires, tmp_path: Path) -> Iterator[None]:
    """This thread in a namespace with ROUTES."""
    requires("ip")
    batch = tmp_path / "batch"
    lines = [f"route add {route}\n" for route in ROUTES if "nhid" not in route]
    lines.append("nexthop add id 5 encap bpf out OBJ via 10.77.0.2 dev v0\n")
    batch.write_text("".join(lines).replace("OBJ", f"obj {BTF}"))
    with netlab.inside(ns6):
        here("-b", batch)
        judge("ip", "route", "add", *ROUTES[-1].split())
        yield


SELECTIONS = [
    "",
    "table all",
    "table 100",
    "table 300",
    "dev v0",
    "10.9.1.0/24",
    "table all proto static",
    "fc00:1::1",
]


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize("details", [(), ("-d",), ("-s", "-d")], ids=" ".join)
def test_route_show_as_ip(here: Here, details: tuple[str, ...]) -> None:
    shown = 0
    for words in SELECTIONS:
        ours = here(*details, "route", "show", *words.split()).rstrip("\n")
        theirs = [
            line
            for family in ("-4", "-6")
            for line in of_programs(judge("ip", *details, family, "route", "show", *words.split()))
        ]
        assert ours.replace("\n\t", "\t").splitlines() == theirs, words
        shown += len(theirs)
    assert shown == 34


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize("details", [(), ("-d",), ("-s", "-d")], ids=" ".join)
def test_json_as_ip(here: Here, details: tuple[str, ...]) -> None:
    ours = json.loads(here(*details, "-j", "route", "show", "table", "all"))
    theirs = [
        flat(entry)
        for family in ("-4", "-6")
        for entry in json.loads(judge("ip", *details, "-j", family, "route", "show", "table", "all"))
        if '"encap"' in json.dumps(entry)
    ]
    for entry in theirs:
        if "nh_info" in entry:
            entry["nh_info"] = flat(entry["nh_info"])
    assert [entry.pop("locked") for entry in ours if "locked" in entry] == [["mtu"]]
    assert [list(entry.items()) for entry in ours] == [list(entry.items()) for entry in theirs]
    for words in ([], ["id", "5"]):
        ours = json.loads(here(*details, "-j", "nexthop", "show", *words))
        theirs = [flat(entry) for entry in json.loads(judge("ip", *details, "-j", "nexthop", "show", *words))]
        assert [list(entry.items()) for entry in ours] == [list(entry.items()) for entry in theirs]
    text = judge("ip", *details, "nexthop", "show").rstrip()
    assert here(*details, "nexthop", "show").rstrip() == text


@pytest.mark.usefixtures("routed")
def test_default_route_of_a_family(here: Here) -> None:
    words = ("encap", "bpf", "xmit", "obj", BTF, "dev", "v0", "metric", "9")
    here("-6", "route", "add", "default", *words)
    here("-4", "route", "add", "default", *words)
    for family in ("-4", "-6"):
        theirs = of_programs(judge("ip", family, "route", "show", "default"))
        assert here(family, "route", "show", "default").rstrip("\n").splitlines() == theirs
        assert len(theirs) == 2
        here(family, "route", "del", "default", "metric", "9")


@pytest.mark.usefixtures("routed")
def test_everything_is_deleted_again(here: Here) -> None:
    """By what `route add` was told of each, less the tunnel."""
    for route in ROUTES[:-1]:
        words = route.partition(" encap ")[0].partition(" nexthop")[0].split()
        tail = route.rpartition("table ")
        more = ["table", tail[2].split()[0]] if tail[1] else []
        more += ["via", "fd77::2"] if route == "default encap bpf out OBJ via fd77::2" else []
        more += ["tos", "0x10"] if "tos" in route else []
        here("route", "del", *words, *more)
    assert here("route", "show", "table", "all").startswith("10.9.8.0/24 nhid 5  encap bpf out ")
    here("nexthop", "del", "id", "5")  # its routes go with it
    assert here("-j", "route", "show", "table", "all") == "[]\n"
    assert here("nexthop", "show") == ""


@pytest.mark.usefixtures("routed")
def test_nexthop_replace_changes_its_routes(here: Here) -> None:
    words = ("id", "5", "encap", "bpf", "xmit", "obj", BTF, "via", "10.77.0.2", "dev", "v0")
    taken = here("nexthop", "add", *words, status=2)
    assert taken.startswith("Error: nexthop 5 is there: ")
    assert taken.endswith("\nHint: `nexthop replace` exchanges it without a gap\n")
    here("nexthop", "replace", *words)
    assert "xmit route_counters" in here("route", "show", "10.9.8.0/24")


# --- refusals ------------------------------------------------------------------------------------

# Where ip(8) says "Failed to parse eBPF program: Operation not permitted" for each, we say why.
MISTAKES = [
    (
        "add 10.9.1.0/24 encap bpf in obj DIR/verifier_reject.bpf.o sec xdp dev v0",
        2,
        "refused program ",
        "verifier",
    ),
    ("add 10.9.1.0/24 encap bpf in obj DIR/lwt.bpf.c dev v0", 1, "lwt.bpf.c: not an ELF file", ""),
    ("add 10.9.1.0/24 encap bpf in obj DIR/none.o dev v0", 1, "none.o: No such file or directory", ""),
    (
        "add 10.9.1.0/24 encap bpf in obj DIR/undefined_symbol.bpf.o sec classifier dev v0",
        1,
        "symbol defined_elsewhere",
        "",
    ),
    (
        "add 10.9.1.0/24 encap bpf in obj DIR/pin_custom.bpf.o sec classifier dev v0",
        1,
        "map custom has pinning 7",
        "bpf_pinning",
    ),
    (
        "add 10.9.1.0/24 encap bpf in obj DIR/xdp_pass.bpf.o dev v0",
        1,
        "no program of type lwt_in",
        "xdp (xdp_pass)",
    ),
    ("add 10.9.1.0/24 encap bpf out PIN dev v0", 2, "route 10.9.1.0/24: out: program ", "not lwt_out"),
    (
        "add fc00:5::1 encap seg6local action End.BPF endpoint PIN dev v0",
        2,
        "endpoint: program ",
        "lwt_in, not",
    ),
    ("add 10.9.1.0/24 encap seg6local action End.BPF endpoint OBJ dev v0", 1, "seg6local works on IPv6", ""),
    ("add 10.9.1.0/24 encap bpf xmit OBJ headroom 257 dev v0", 2, "out of range", "up to 256 bytes"),
    ("add 10.9.1.0/24 encap bpf in OBJ dev v9", 1, 'no interface "v9"', "interfaces here: lo, v0"),
    ("add 10.9.1.1/24 encap bpf in OBJ dev v0", 2, "route 10.9.1.1/24: ", "prefix"),
    ("add 10.9.1.0/24 encap bpf in OBJ via 10.66.0.1", 2, "route 10.9.1.0/24: ", "gateway"),
    ("change 10.9.1.0/24 encap bpf in OBJ dev v0", 1, "there is none to change", "route replace"),
    ("del 10.77.0.0/24", 1, "no route 10.77.0.0/24 with a program", "`ip route del` deletes it"),
    ("del 10.9.9.0/24", 1, "no route 10.9.9.0/24 with a program in table 254", ""),
    ("add 10.9.1.0/24 encap bpf in PIN/nothing dev v0", 2, "/pin/nothing: Not a directory", ""),
    (
        "add 10.9.1.0/24 encap bpf in OBJ sec nope dev v0",
        1,
        'no program in a section "nope"',
        "lwt_in (count_in)",
    ),
]


@pytest.mark.parametrize(
    ("words", "status", "message", "more"), MISTAKES, ids=[m[0].replace("/", "-")[4:60] for m in MISTAKES]
)
def test_refusal(ns6: str, bpffs: Path, here: Here, words: str, status: int, message: str, more: str) -> None:
    """The cause is named, and nothing stays."""
    with load(ProgramType.LWT_IN, 0, "of_input") as program:
        bpf.obj_pin(program.number, str(bpffs / "pin"))
    line = (
        words.replace("OBJ", f"obj {BTF}").replace("DIR", str(TESTDATA)).replace("PIN", f"pinned {bpffs}/pin")
    )
    with netlab.inside(ns6):
        before = sorted(bpffs.rglob("*"))
        refused = here("route", *line.split(), status=status)
        assert message in refused
        assert more in refused
        assert sorted(bpffs.rglob("*")) == before
        assert here("-j", "route", "show", "table", "all") == "[]\n"


def test_add_of_a_route_that_is_there(ns: str, bpffs: Path, here: Here) -> None:
    words = ("10.9.1.0/24", "encap", "bpf", "out", "obj", BTF, "via", "10.77.0.2")
    with netlab.inside(ns):
        here("route", "add", *words)
        refused = here("route", "add", *words, "mtu", "1300", status=2)
    assert refused == (
        "Error: route 10.9.1.0/24: such a route is there: File exists (EEXIST)\n"
        "  10.9.1.0/24 out route_counters.bpf.o:[lwt_out] via 10.77.0.2 dev v0\n"
        "Hint: `route replace` exchanges it without a gap\n"
    )


def test_delete_by_the_name_of_a_program(ns: str, bpffs: Path, here: Here) -> None:
    """Two routes to one destination: the program tells which, or the metric."""
    with netlab.inside(ns):
        for metric, hook in ((5, "out"), (6, "xmit")):
            words = ("10.9.1.0/24", "encap", "bpf", hook, "obj", BTF, "via", "10.77.0.2", "metric", metric)
            here("route", "add", *words)
        assert here("route", "del", "10.9.1.0/24", status=1) == (
            "Error: route 10.9.1.0/24: 2 routes fit\n"
            "  10.9.1.0/24 out route_counters.bpf.o:[lwt_out] via 10.77.0.2 dev v0 metric 5\n"
            "  10.9.1.0/24 xmit route_counters.bpf.o:[lwt_xmit] via 10.77.0.2 dev v0 metric 6\n"
        )
        here("route", "del", "10.9.1.0/24", "encap", "bpf", "xmit", "obj", BTF)
        (left,) = json.loads(here("-j", "route", "show"))
        assert left["metric"] == 5
        for hook in ("in", "xmit"):
            here("route", "append", "10.9.2.0/24", "encap", "bpf", hook, "obj", BTF, "dev", "v0")
        refused = here("route", "del", "10.9.2.0/24", "encap", "bpf", "xmit", "obj", BTF, status=1)
        assert "routes that differ in their programs only" in refused
