"""Traffic control over rtnetlink: cls_bpf filters, and the qdiscs whose hooks carry them.

Layouts and numbers: include/uapi/linux/rtnetlink.h, pkt_sched.h and pkt_cls.h.  A protocol here is an
ETH_P_* number in host byte order; the messages carry it in network byte order.
"""

from __future__ import annotations

import errno
import struct
import sys

from bpfctl.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_ECHO,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    number,
    parse_attributes,
    text,
    unpack,
)
from bpfctl.record import NamedTuple

ROOT = 0xFFFFFFFF
CLSACT = 0xFFFFFFF1  # also TC_H_INGRESS, the parent of both pseudo qdiscs
INGRESS = 0xFFFFFFF2
EGRESS = 0xFFFFFFF3

ADD = NLM_F_EXCL | NLM_F_CREATE
REPLACE = NLM_F_CREATE
CHANGE = 0

FLAG_SKIP_HW = 1
FLAG_SKIP_SW = 2
FLAG_IN_HW = 4
FLAG_NOT_IN_HW = 8

_RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_RTM_GETQDISC = 38
_RTM_NEWTFILTER = 44
_RTM_DELTFILTER = 45
_RTM_GETTFILTER = 46

_TCA_KIND = 1
_TCA_OPTIONS = 2
_TCA_STATS = 3
_TCA_CHAIN = 11
_TCA_INGRESS_BLOCK = 13
_TCA_EGRESS_BLOCK = 14

_TCA_BPF_ACT = 1
_TCA_BPF_POLICE = 2
_TCA_BPF_CLASSID = 3
_TCA_BPF_OPS_LEN = 4
_TCA_BPF_OPS = 5
_TCA_BPF_FD = 6
_TCA_BPF_NAME = 7
_TCA_BPF_FLAGS = 8
_TCA_BPF_FLAGS_GEN = 9
_TCA_BPF_TAG = 10
_TCA_BPF_ID = 11
_TCA_BPF_FLAG_ACT_DIRECT = 1

_STATS = struct.Struct("=QIII")  # struct tc_stats: bytes, packets, drops, overlimits, ...
_TCMSG = struct.Struct("=BxxxiIII")  # struct tcmsg: family, ifindex, handle, parent, info
_BLOCK_INDEX = -1  # TCM_IFINDEX_MAGIC_BLOCK: the parent field is a block's number
_KIND_BPF = attribute_text(_TCA_KIND, "bpf")


class Place(NamedTuple):
    """Where filters hang: a parent of an interface, or a shared block (``ifindex`` 0)."""

    ifindex: int
    parent: int
    block: int = 0

    def header(self, handle: int, info: int) -> bytes:
        """``struct tcmsg`` of a request about this place."""
        if self.block:
            return _TCMSG.pack(0, _BLOCK_INDEX, handle, self.block, info)
        return _TCMSG.pack(0, self.ifindex, handle, self.parent, info)


class Key(NamedTuple):
    """Which filter of a place; 0 leaves a part to the kernel, ``chain`` None leaves it unsaid."""

    pref: int = 0
    protocol: int = 0
    chain: int | None = None
    handle: int = 0

    def info(self) -> int:
        """``tcm_info``: priority and protocol, the latter in network byte order."""
        return self.pref << 16 | _swap(self.protocol)


class FilterOptions(NamedTuple):
    """What a cls_bpf filter does: ``program_fd``, or ``bytecode`` of a classic filter.

    ``flags_gen``: FLAG_SKIP_HW, FLAG_SKIP_SW.  ``actions`` and ``police``: payloads of their attributes.
    """

    program_fd: int
    name: str = ""
    classid: int = 0
    direct_action: bool = False
    flags_gen: int = 0
    bytecode: bytes = b""
    actions: bytes = b""
    police: bytes = b""


class FilterState(NamedTuple):
    """One entry of a filter dump.

    The kernel lists each classifier instance (pref, protocol, chain) once with ``handle`` 0 and
    without options, and then each of its filters.  Fields from ``classid`` on are of kind ``bpf`` only;
    ``tag`` is hex, ``bytecode`` a classic filter at 8 bytes an instruction, ``actions`` and ``police``
    attributes as they came.  ``stats``: bytes, packets, drops and overlimits, which only a policer has.
    """

    ifindex: int
    block: int
    parent: int
    pref: int
    protocol: int
    chain: int
    kind: str
    handle: int
    classid: int = 0
    name: str = ""
    direct_action: bool = False
    flags_gen: int = 0
    program_id: int = 0
    tag: str = ""
    bytecode: bytes = b""
    actions: bytes = b""
    police: bytes = b""
    stats: tuple[int, ...] = ()

    @property
    def skip_flags(self) -> int:
        """FLAG_SKIP_HW and FLAG_SKIP_SW, without what the kernel reports beside them."""
        return self.flags_gen & (FLAG_SKIP_HW | FLAG_SKIP_SW)


class QdiscState(NamedTuple):
    """One qdisc; the blocks are 0 where its hooks are not shared."""

    ifindex: int
    kind: str
    handle: int
    parent: int
    ingress_block: int = 0
    egress_block: int = 0


# --- filters ---


def set_filter(
    netlink: NetlinkSocket, place: Place, key: Key, options: FilterOptions, flags: int
) -> Key | None:
    """RTM_NEWTFILTER with ADD, REPLACE or CHANGE: the key in full, with what the kernel chose.

    None when the kernel did not echo it.
    """
    body = place.header(key.handle, key.info()) + _chain(key) + _KIND_BPF + _options(options)
    for message in netlink.request(_RTM_NEWTFILTER, flags | NLM_F_ECHO, body):
        if message.type == _RTM_NEWTFILTER:
            # Only the header is looked at: a batch has thousands of these.
            _, _, handle, _, info = unpack(_TCMSG, message.body)
            return Key(info >> 16, _swap(info & 0xFFFF), key.chain, handle)
    return None


def delete_filter(netlink: NetlinkSocket, place: Place, key: Key) -> None:
    """RTM_DELTFILTER: one filter or, with handle 0, all cls_bpf filters of this pref."""
    body = place.header(key.handle, key.info()) + _chain(key) + _KIND_BPF
    netlink.request(_RTM_DELTFILTER, 0, body)


def flush_filters(netlink: NetlinkSocket, place: Place, chain: int | None) -> None:
    """RTM_DELTFILTER of everything in the chain (None: chain 0), whatever its kind."""
    netlink.request(_RTM_DELTFILTER, 0, place.header(0, 0) + _chain(Key(chain=chain)))


def get_filter(netlink: NetlinkSocket, place: Place, key: Key) -> FilterState | None:
    """RTM_GETTFILTER of the one cls_bpf filter with this pref and handle, or None.

    ``key.protocol`` may be 0.  None also when another protocol or kind has the pref.
    """
    body = place.header(key.handle, key.info()) + _chain(key) + _KIND_BPF
    try:
        messages = netlink.request(_RTM_GETTFILTER, 0, body)
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise
    return _parse_filter(messages[0].body) if messages else None


def list_filters(netlink: NetlinkSocket, place: Place, key: Key) -> list[FilterState]:
    """Filters of a place with the given pref, protocol and chain; parts that are 0 or None fit all.

    A place without a qdisc gives an empty list.
    """
    body = place.header(0, key.info()) + _chain(key)
    messages = netlink.dump(_RTM_GETTFILTER, body)
    return [_parse_filter(message.body) for message in messages if message.type == _RTM_NEWTFILTER]


def _chain(key: Key) -> bytes:
    return b"" if key.chain is None else attribute_u32(_TCA_CHAIN, key.chain)


def _options(options: FilterOptions) -> bytes:
    """TCA_OPTIONS, in the order in which tc(8) sends its parts."""
    nested = attribute_u32(_TCA_BPF_CLASSID, options.classid) if options.classid else b""
    if options.actions:
        nested += attribute(_TCA_BPF_ACT, options.actions)
    if options.police:
        nested += attribute(_TCA_BPF_POLICE, options.police)
    if options.bytecode:
        nested += attribute(_TCA_BPF_OPS_LEN, struct.pack("=H", len(options.bytecode) // 8))
        nested += attribute(_TCA_BPF_OPS, options.bytecode)
    else:
        nested += attribute_u32(_TCA_BPF_FD, options.program_fd)
    if options.name:
        nested += attribute_text(_TCA_BPF_NAME, options.name)
    if options.flags_gen:
        nested += attribute_u32(_TCA_BPF_FLAGS_GEN, options.flags_gen)
    if options.direct_action:
        nested += attribute_u32(_TCA_BPF_FLAGS, _TCA_BPF_FLAG_ACT_DIRECT)
    return attribute(_TCA_OPTIONS, nested)


def _parse_filter(body: bytes) -> FilterState:
    _, ifindex, handle, parent, info = unpack(_TCMSG, body)
    found = parse_attributes(body, _TCMSG.size)
    kind = text(found.get(_TCA_KIND))
    on_block = ifindex == _BLOCK_INDEX
    options = parse_attributes(found[_TCA_OPTIONS]) if kind == "bpf" and _TCA_OPTIONS in found else {}
    return FilterState(
        ifindex=0 if on_block else ifindex,
        block=parent if on_block else 0,
        parent=0 if on_block else parent,
        pref=info >> 16,
        protocol=_swap(info & 0xFFFF),
        chain=number(found.get(_TCA_CHAIN, b"")),
        kind=kind,
        handle=handle,
        classid=number(options.get(_TCA_BPF_CLASSID, b"")),
        name=text(options.get(_TCA_BPF_NAME)),
        direct_action=bool(number(options.get(_TCA_BPF_FLAGS, b"")) & _TCA_BPF_FLAG_ACT_DIRECT),
        flags_gen=number(options.get(_TCA_BPF_FLAGS_GEN, b"")),
        program_id=number(options.get(_TCA_BPF_ID, b"")),
        tag=options.get(_TCA_BPF_TAG, b"").hex(),
        bytecode=options.get(_TCA_BPF_OPS, b""),
        actions=options.get(_TCA_BPF_ACT, b""),
        police=options.get(_TCA_BPF_POLICE, b""),
        stats=unpack(_STATS, found[_TCA_STATS]) if _TCA_STATS in found else (),
    )


def _swap(protocol: int) -> int:
    """A u16 between host and network byte order."""
    return int.from_bytes(protocol.to_bytes(2, sys.byteorder), "big")


# --- qdiscs ---


def add_qdisc(netlink: NetlinkSocket, ifindex: int, kind: str) -> None:
    """RTM_NEWQDISC of a ``clsact`` or ``ingress``."""
    netlink.request(_RTM_NEWQDISC, NLM_F_EXCL | NLM_F_CREATE, _qdisc(ifindex, kind))


def delete_qdisc(netlink: NetlinkSocket, ifindex: int, kind: str) -> None:
    """RTM_DELQDISC of a ``clsact`` or ``ingress``, with all its filters."""
    netlink.request(_RTM_DELQDISC, 0, _qdisc(ifindex, kind))


def pseudo_qdisc(netlink: NetlinkSocket, ifindex: int) -> str:
    """``clsact`` or ``ingress``, whichever the interface has, or ''."""
    try:
        # The kernel answers this one by a notification, which the asker only gets as an echo.
        messages = netlink.request(_RTM_GETQDISC, NLM_F_ECHO, _TCMSG.pack(0, ifindex, 0, CLSACT, 0))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return ""
        raise
    return _parse_qdisc(messages[0].body).kind if messages else ""


def list_qdiscs(netlink: NetlinkSocket) -> list[QdiscState]:
    """Qdiscs of all interfaces of the network namespace."""
    messages = netlink.dump(_RTM_GETQDISC, _TCMSG.pack(0, 0, 0, 0, 0))
    return [_parse_qdisc(message.body) for message in messages if message.type == _RTM_NEWQDISC]


def _qdisc(ifindex: int, kind: str) -> bytes:
    return _TCMSG.pack(0, ifindex, 0xFFFF0000, CLSACT, 0) + attribute_text(_TCA_KIND, kind)


def _parse_qdisc(body: bytes) -> QdiscState:
    _, ifindex, handle, parent, _ = unpack(_TCMSG, body)
    found = parse_attributes(body, _TCMSG.size)
    return QdiscState(
        ifindex=ifindex,
        kind=text(found.get(_TCA_KIND)),
        handle=handle,
        parent=parent,
        ingress_block=number(found.get(_TCA_INGRESS_BLOCK, b"")),
        egress_block=number(found.get(_TCA_EGRESS_BLOCK, b"")),
    )
