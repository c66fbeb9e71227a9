"""Network interfaces over rtnetlink: what is attached to their XDP slots, attaching to them, and making some.

Layouts and numbers: include/uapi/linux/if_link.h, if_addr.h, veth.h and rtnetlink.h.
"""

from __future__ import annotations

import errno
import os
import struct

from bpfctl.kernel import syscall
from bpfctl.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute,
    attribute_s32,
    attribute_text,
    attribute_u32,
    number,
    parse_attributes,
    text,
    unpack,
)
from bpfctl.record import NamedTuple

XDP_FLAGS_UPDATE_IF_NOEXIST = 1
XDP_FLAGS_SKB_MODE = 2
XDP_FLAGS_DRV_MODE = 4
XDP_FLAGS_HW_MODE = 8
XDP_FLAGS_REPLACE = 16

_RTM_NEWLINK = 16
_RTM_GETLINK = 18
_RTM_NEWADDR = 20

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_OPERSTATE = 16
_IFLA_LINKINFO = 18
_IFLA_EXT_MASK = 29
_IFLA_XDP = 43
_IFLA_ALT_IFNAME = 53
_RTEXT_FILTER_SKIP_STATS = 8

_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_VETH_INFO_PEER = 1
_IFF_UP = 1
_IFA_LOCAL = 2
_AF_INET = 2

_IFLA_XDP_FD = 1
_IFLA_XDP_ATTACHED = 2
_IFLA_XDP_FLAGS = 3
_IFLA_XDP_PROG_ID = 4
_IFLA_XDP_DRV_PROG_ID = 5
_IFLA_XDP_SKB_PROG_ID = 6
_IFLA_XDP_HW_PROG_ID = 7
_IFLA_XDP_EXPECTED_FD = 8

_IFINFOMSG = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_IFADDRMSG = struct.Struct("=4BI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_IFNAMSIZ = 16
_ALTIFNAMSIZ = 128

_SKIP_STATS = attribute_u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)


class XdpSlots(NamedTuple):
    """Ids of the programs in a device's three XDP slots, 0 where a slot is empty.

    ``attached`` is IFLA_XDP_ATTACHED: 0 none, 1 native, 2 generic, 3 offloaded, 4 several.
    """

    attached: int = 0
    native: int = 0
    generic: int = 0
    offloaded: int = 0


class LinkState(NamedTuple):
    """One network interface; ``flags`` are IFF_*, ``operstate`` is IF_OPER_*, ``mtu`` in bytes."""

    ifindex: int
    name: str
    flags: int
    mtu: int
    operstate: int
    xdp: XdpSlots


def find_index(netlink: NetlinkSocket, name: str) -> int:
    """``ifindex`` of an interface by name or alternative name; ENODEV when there is none."""
    encoded = os.fsencode(name)
    # Names hold neither NUL nor colon; the ioctl would cut the name off there, and find another.
    if "\0" in name or ":" in name or len(encoded) >= _ALTIFNAMSIZ:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
    if len(encoded) < _IFNAMSIZ:
        return syscall.system.interface_index(netlink.fd, encoded)
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + attribute_text(_IFLA_ALT_IFNAME, name) + _SKIP_STATS
    return _ask_link(netlink, body).ifindex


def get_link(netlink: NetlinkSocket, ifindex: int) -> LinkState:
    """RTM_GETLINK of one interface; ENODEV when there is none."""
    body = _IFINFOMSG.pack(0, 0, ifindex, 0, 0) + _SKIP_STATS
    return _ask_link(netlink, body)


def list_links(netlink: NetlinkSocket) -> list[LinkState]:
    """Every interface of the network namespace, in the kernel's order."""
    messages = netlink.dump(_RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0) + _SKIP_STATS)
    return [_parse_link(message.body) for message in messages if message.type == _RTM_NEWLINK]


def set_xdp(
    netlink: NetlinkSocket, ifindex: int, program_fd: int, flags: int, expected_fd: int | None = None
) -> None:
    """Fill or, with ``program_fd`` -1, empty an XDP slot.

    ``expected_fd``: the program that must be there now, -1 for none (Linux 5.7); it adds
    XDP_FLAGS_REPLACE.
    """
    nested = attribute_s32(_IFLA_XDP_FD, program_fd)
    if expected_fd is not None:
        flags |= XDP_FLAGS_REPLACE
    if flags:
        nested += attribute_u32(_IFLA_XDP_FLAGS, flags)
    if expected_fd is not None:
        nested += attribute_s32(_IFLA_XDP_EXPECTED_FD, expected_fd)
    body = _IFINFOMSG.pack(0, 0, ifindex, 0, 0) + attribute(_IFLA_XDP, nested)
    netlink.request(_RTM_NEWLINK, 0, body)


def add_veth(netlink: NetlinkSocket, name: str, mac: bytes, peer: str) -> None:
    """RTM_NEWLINK of a veth pair, both ends down; ``mac``: address of the end ``name``, 6 bytes."""
    new = _IFINFOMSG.pack(0, 0, 0, 0, 0)
    other = attribute(_VETH_INFO_PEER, new + attribute_text(_IFLA_IFNAME, peer))
    kind = attribute_text(_IFLA_INFO_KIND, "veth") + attribute(_IFLA_INFO_DATA, other)
    own = attribute_text(_IFLA_IFNAME, name) + attribute(_IFLA_ADDRESS, mac)
    netlink.request(_RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, new + own + attribute(_IFLA_LINKINFO, kind))


def set_up(netlink: NetlinkSocket, ifindex: int) -> None:
    """RTM_NEWLINK of an interface that is there: IFF_UP."""
    netlink.request(_RTM_NEWLINK, 0, _IFINFOMSG.pack(0, 0, ifindex, _IFF_UP, _IFF_UP))


def add_address(netlink: NetlinkSocket, ifindex: int, address: bytes, prefix_length: int) -> None:
    """RTM_NEWADDR of an IPv4 address, 4 bytes."""
    body = _IFADDRMSG.pack(_AF_INET, prefix_length, 0, 0, ifindex) + attribute(_IFA_LOCAL, address)
    netlink.request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)


def _ask_link(netlink: NetlinkSocket, body: bytes) -> LinkState:
    messages = netlink.request(_RTM_GETLINK, 0, body)
    return _parse_link(messages[0].body if messages else b"")


def _parse_link(body: bytes) -> LinkState:
    _, _, ifindex, flags, _ = unpack(_IFINFOMSG, body)
    found = parse_attributes(body, _IFINFOMSG.size)
    return LinkState(
        ifindex=ifindex,
        name=text(found.get(_IFLA_IFNAME)),
        flags=flags,
        mtu=number(found.get(_IFLA_MTU, b"")),
        operstate=number(found.get(_IFLA_OPERSTATE, b"")),
        xdp=_parse_xdp(found.get(_IFLA_XDP, b"")),
    )


def _parse_xdp(data: bytes) -> XdpSlots:
    found = {kind: number(payload) for kind, payload in parse_attributes(data).items()}
    attached = found.get(_IFLA_XDP_ATTACHED, 0)
    slots = [found.get(k, 0) for k in (_IFLA_XDP_DRV_PROG_ID, _IFLA_XDP_SKB_PROG_ID, _IFLA_XDP_HW_PROG_ID)]
    if not any(slots) and 1 <= attached <= 3:  # before Linux 5.0 there is one id for the only program
        slots[attached - 1] = found.get(_IFLA_XDP_PROG_ID, 0)
    return XdpSlots(attached, *slots)
