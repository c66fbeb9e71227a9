"""Where measured packets go: a network namespace with nothing else in it, for as long as a path is measured.

A path is what becomes of a packet behind the measured XDP program:

    drop     that program drops it
    veth     it goes out of a veth device, behind which a native XDP program drops it
    tc       it becomes an skb, which a classifier at the tc ingress drops
    socket   it becomes an skb and goes up to a bound UDP socket, which is full: nobody reads

Packets are live frames of BPF_PROG_TEST_RUN (since Linux 5.18): the kernel's own XDP path without a driver.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bpfctl.bench.cell import load
from bpfctl.bench.programs import TC_ACT_SHOT, XDP_DROP, XDP_PASS, verdict_program
from bpfctl.kernel import bpf, netns, rtnl_link, rtnl_tc
from bpfctl.kernel.netlink import NetlinkSocket
from bpfctl.record import NamedTuple
from bpfctl.uapi import ProgramType

DROP, VETH, TC, SOCKET = "drop", "veth", "tc", "socket"
PATHS = (DROP, VETH, TC, SOCKET)

_LIVE_FRAMES = 2  # BPF_F_TEST_XDP_LIVE_FRAMES
_BATCH = 64
_MAC = bytes.fromhex("020000000001")
_SENDER_MAC = bytes.fromhex("020000000002")
_SENDER, _RECEIVER = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1))  # TEST-NET-1 of RFC 5737
_PREFIX = 24
_PORT = 9  # discard
_NEAR, _FAR = "near", "far"
_ALL = 3  # ETH_P_ALL


class Road(NamedTuple):
    """How packets are sent down a path: what each run is given, and the measured program's last word."""

    run: bpf.RunInput
    verdict: int = XDP_PASS
    redirect_to: int = 0


@contextmanager
def road(path: str) -> Iterator[Road]:
    """Everything that ``path`` needs, in a network namespace of this thread's own; raises OSError."""
    with ExitStack() as stack:
        stack.enter_context(netns.of_our_own())
        packet = udp_packet()
        sent = bpf.RunInput(packet, flags=_LIVE_FRAMES, batch_size=_BATCH)
        if path == DROP:
            yield Road(sent, XDP_DROP)
            return
        netlink = stack.enter_context(NetlinkSocket())
        near = _veth(netlink, stack)
        if path == VETH:
            yield Road(sent, redirect_to=near)
            return
        if path == TC:
            _drop_at_ingress(netlink, near, stack)
        else:
            _listen(netlink, near, stack)
        yield Road(sent._replace(ctx=_arrived_at(near, packet)))


def _veth(netlink: NetlinkSocket, stack: ExitStack) -> int:
    """The near end's index.  XDP at both ends makes them queues of the kind that the other one needs."""
    rtnl_link.add_veth(netlink, _NEAR, _MAC, _FAR)
    near, far = (rtnl_link.find_index(netlink, name) for name in (_NEAR, _FAR))
    for ifindex, verdict in ((near, XDP_PASS), (far, XDP_DROP)):
        program = stack.enter_context(load(verdict_program(verdict)))
        rtnl_link.set_xdp(netlink, ifindex, program.number, rtnl_link.XDP_FLAGS_DRV_MODE)
        rtnl_link.set_up(netlink, ifindex)
    return near


def _drop_at_ingress(netlink: NetlinkSocket, ifindex: int, stack: ExitStack) -> None:
    rtnl_tc.add_qdisc(netlink, ifindex, "clsact")
    program = stack.enter_context(load(verdict_program(TC_ACT_SHOT), ProgramType.SCHED_CLS))
    options = rtnl_tc.FilterOptions(program.number, "drop", direct_action=True)
    place = rtnl_tc.Place(ifindex, rtnl_tc.INGRESS)
    rtnl_tc.set_filter(netlink, place, rtnl_tc.Key(1, _ALL), options, rtnl_tc.ADD)


def _listen(netlink: NetlinkSocket, ifindex: int, stack: ExitStack) -> None:
    import socket

    rtnl_link.add_address(netlink, ifindex, _RECEIVER, _PREFIX)
    receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    receiver.bind((socket.inet_ntoa(_RECEIVER), _PORT))


def udp_packet() -> bytes:
    """60 bytes of Ethernet, IPv4 and UDP, to the address that :func:`road` gives its device."""
    payload = bytes(18)
    udp = struct.pack("!4H", _PORT, _PORT, 8 + len(payload), 0) + payload  # no checksum
    fields = (0x45, 0, 20 + len(udp), 0, 0, 64, 17)
    header = struct.pack("!BBHHHBBH4s4s", *fields, 0, _SENDER, _RECEIVER)
    total = sum(struct.unpack("!10H", header))
    checksum = ~(total + (total >> 16)) & 0xFFFF
    header = struct.pack("!BBHHHBBH4s4s", *fields, checksum, _SENDER, _RECEIVER)
    return _MAC + _SENDER_MAC + b"\x08\x00" + header + udp


def _arrived_at(ifindex: int, packet: bytes) -> bytes:
    """``struct xdp_md``: the packet came in on the first queue of this device."""
    return struct.pack("=6I", 0, len(packet), 0, ifindex, 0, 0)
