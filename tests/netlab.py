"""Network laboratories: two fresh namespaces, a veth pair between them, and real packets.

Side A holds the device under test (``v0``), side B its peer (``v1``).  Nothing else is on the wire:
IPv6 is off and each side knows the other's hardware address, so a counter at a hook counts exactly
the packets that a test sends.  Needs root, and pyroute2 but no iproute2.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from pyroute2 import IPRoute

TESTDATA = Path(__file__).parent.parent / "testdata"
NETNS_DIRECTORY = Path("/run/netns")
CLONE_NEWNET = 0x40000000
MS_BIND = 4096
MNT_DETACH = 2
SO_RCVBUFFORCE = 33  # not in the socket module; root may exceed net.core.rmem_max
RECEIVE_BUFFER = 64 << 20  # bytes
QUIET = 0.3  # seconds without a packet after which no more will come
UDP_PORT = 5077
CLOSED_TCP_PORT = 5078

_libc = ctypes.CDLL(None, use_errno=True)
_serial = count(1)


class Side(NamedTuple):
    """One end of the wire; ``namespace`` is a name in /run/netns."""

    namespace: str
    device: str
    address: str
    hardware_address: str


class Lab(NamedTuple):
    """Both ends: ``a`` has the device under test."""

    a: Side
    b: Side


def unique_name(what: str) -> str:
    """A name for ``what`` that no other run of the tests uses: ``bpfctl-PID-WHAT-SERIAL``."""
    return f"bpfctl-{os.getpid()}-{what}-{next(_serial)}"


# --- namespaces and mounts -----------------------------------------------------------------------


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: Path, filesystem: str | None, flags: int = 0) -> None:
    """mount(2); raises OSError."""
    kind = filesystem.encode() if filesystem else None
    _check(_libc.mount(source.encode(), bytes(target), kind, flags, None), f"mount {target}")


def unmount(target: Path) -> None:
    """umount2(2), lazily: a file still open in it is no reason to stay.  Raises OSError."""
    _check(_libc.umount2(bytes(target), MNT_DETACH), f"umount {target}")


@contextmanager
def _home_namespace_after() -> Iterator[None]:
    """Puts this thread back into the network namespace that it is in now."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _check(_libc.setns(home, CLONE_NEWNET), "setns home")
        os.close(home)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread in ``namespace`` (a name in /run/netns); sockets made there stay there."""
    with _home_namespace_after():
        target = os.open(NETNS_DIRECTORY / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(target, CLONE_NEWNET), f"setns {namespace}")
        finally:
            os.close(target)
        yield


def create_namespace(name: str) -> None:
    """A network namespace at /run/netns/``name``, with ``lo`` up and IPv6 off.

    On failure what there is of it stays: :func:`remove_namespace` takes away halves too.
    """
    NETNS_DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = NETNS_DIRECTORY / name
    path.touch(exist_ok=False)
    with _home_namespace_after():
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        mount("/proc/thread-self/ns/net", path, None, MS_BIND)
        for scope in ("all", "default"):
            with suppress(FileNotFoundError):  # a kernel without IPv6 is as quiet
                Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        with IPRoute() as ip:
            ip.link("set", index=1, state="up")


def remove_namespace(name: str) -> None:
    """Takes ``name`` out of /run/netns; its devices go with the last process in it."""
    path = NETNS_DIRECTORY / name
    with suppress(OSError):
        unmount(path)
    path.unlink(missing_ok=True)


# --- the laboratory ------------------------------------------------------------------------------


@contextmanager
def lab(names: tuple[str, str] | None = None) -> Iterator[Lab]:
    """Two namespaces joined by a veth pair, gone again at the end.

    ``names``: those of the namespaces, for people to read; they must be unique on the machine.
    """
    name_a, name_b = names or (unique_name("a"), unique_name("b"))
    a = Side(name_a, "v0", "10.77.0.1", "02:00:00:00:00:01")
    b = Side(name_b, "v1", "10.77.0.2", "02:00:00:00:00:02")
    with ExitStack() as undo:
        for side in (a, b):
            undo.callback(remove_namespace, side.namespace)
            create_namespace(side.namespace)
        _join(a, b)
        yield Lab(a, b)


def _join(a: Side, b: Side) -> None:
    with inside(a.namespace), IPRoute() as ip:
        ip.link("add", ifname=a.device, kind="veth", peer={"ifname": b.device, "net_ns_fd": b.namespace})
    for side, other in ((a, b), (b, a)):
        with inside(side.namespace), IPRoute() as ip:
            index = ip.link_lookup(ifname=side.device)[0]
            ip.link("set", index=index, address=side.hardware_address)
            ip.addr("add", index=index, address=side.address, prefixlen=24)
            ip.link("set", index=index, state="up")
            ip.neigh("add", ifindex=index, dst=other.address, lladdr=other.hardware_address, state=0x80)


# --- traffic -------------------------------------------------------------------------------------


def open_socket(side: Side, kind: int, protocol: int = 0) -> socket.socket:
    """An IPv4 socket in ``side``'s namespace that gives up after QUIET seconds of silence."""
    with inside(side.namespace):
        opened = socket.socket(socket.AF_INET, kind, protocol)
    opened.settimeout(QUIET)
    return opened


def open_udp_receiver(side: Side) -> socket.socket:
    """A socket on UDP_PORT of ``side`` that holds some 80,000 small datagrams until they are read."""
    receiver = open_socket(side, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    receiver.bind((side.address, UDP_PORT))
    return receiver


def drain(receiver: socket.socket, expected: int) -> int:
    """Reads up to ``expected`` datagrams; returns how many came before QUIET seconds of silence."""
    received = 0
    with suppress(TimeoutError):
        while received < expected:
            receiver.recv(2048)
            received += 1
    return received


def send_udp(source: Side, target: Side, packets: int, *, size: int = 64) -> int:
    """Sends ``packets`` datagrams of ``size`` payload bytes; returns how many ``target`` received."""
    with open_udp_receiver(target) as receiver, open_socket(source, socket.SOCK_DGRAM) as sender:
        for _ in range(packets):
            sender.sendto(bytes(size), (target.address, UDP_PORT))
        return drain(receiver, packets)


def ping(source: Side, target: Side, packets: int) -> int:
    """Sends ``packets`` ICMP echo requests, one after the other; returns the number of replies."""
    replies = 0
    with open_socket(source, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        for sequence in range(1, packets + 1):
            raw.sendto(_echo_request(sequence), (target.address, 0))
            replies += _wait_for_reply(raw, sequence)
    return replies


def _echo_request(sequence: int) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, sequence) + bytes(48)
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return body[:2] + struct.pack("!H", checksum) + body[4:]


def _wait_for_reply(raw: socket.socket, sequence: int) -> bool:
    with suppress(TimeoutError):
        while True:
            packet = raw.recv(256)
            kind, _, _, _, number = struct.unpack_from("!BBHHH", packet, (packet[0] & 15) * 4)
            if (kind, number) == (0, sequence):
                return True
    return False


def knock_tcp(source: Side, target: Side, attempts: int) -> int:
    """Sends ``attempts`` TCP SYNs to a closed port; returns how many were answered (RST)."""
    answered = 0
    for _ in range(attempts):
        with open_socket(source, socket.SOCK_STREAM) as client:
            try:
                client.connect((target.address, CLOSED_TCP_PORT))
            except ConnectionRefusedError:
                answered += 1
            except TimeoutError:
                pass
    return answered


# --- bpffs ---------------------------------------------------------------------------------------


@contextmanager
def private_bpffs() -> Iterator[Path]:
    """A bpffs of one's own, unmounted at the end, all its pins with it."""
    directory = Path("/tmp") / unique_name("bpffs")
    directory.mkdir(mode=0o700)
    try:
        mount("bpf", directory, "bpf")
        try:
            yield directory
        finally:
            unmount(directory)
    finally:
        directory.rmdir()
