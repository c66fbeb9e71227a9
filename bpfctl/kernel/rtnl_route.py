"""Routes and nexthop objects over rtnetlink, and the programs in their lightweight tunnels.

Layouts and numbers: include/uapi/linux/rtnetlink.h, nexthop.h, lwtunnel.h and seg6_local.h.  Addresses are
raw bytes in network byte order.
"""

from __future__ import annotations

import errno
import struct

from bpfctl.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
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

_NLM_F_APPEND = 0x800

# How a route is set: the flags of iproute2's commands.
ADD = NLM_F_CREATE | NLM_F_EXCL
APPEND = NLM_F_CREATE | _NLM_F_APPEND
CHANGE = NLM_F_REPLACE
PREPEND = NLM_F_CREATE
REPLACE = NLM_F_CREATE | NLM_F_REPLACE

AF_INET = 2
AF_INET6 = 10

BPF = 6  # LWTUNNEL_ENCAP_BPF
SEG6LOCAL = 7  # LWTUNNEL_ENCAP_SEG6_LOCAL

UNICAST = 1  # RTN_UNICAST
ONLINK = 4  # RTNH_F_ONLINK

_RTM_NEWROUTE = 24
_RTM_DELROUTE = 25
_RTM_GETROUTE = 26
_RTM_NEWNEXTHOP = 104
_RTM_DELNEXTHOP = 105
_RTM_GETNEXTHOP = 106

_RTM_F_CLONED = 0x200

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_PREFSRC = 7
_RTA_METRICS = 8
_RTA_MULTIPATH = 9
_RTA_CACHEINFO = 12
_RTA_TABLE = 15
_RTA_VIA = 18
_RTA_PREF = 20
_RTA_ENCAP_TYPE = 21
_RTA_ENCAP = 22
_RTA_EXPIRES = 23
_RTA_NH_ID = 30

_NHA_ID = 1
_NHA_OIF = 5
_NHA_GATEWAY = 6
_NHA_ENCAP_TYPE = 7
_NHA_ENCAP = 8

_LWT_BPF_IN = 1
_LWT_BPF_OUT = 2
_LWT_BPF_XMIT = 3
_LWT_BPF_XMIT_HEADROOM = 4
_LWT_BPF_PROG_FD = 1
_LWT_BPF_PROG_NAME = 2

_SEG6_LOCAL_ACTION = 1
_SEG6_LOCAL_BPF = 8
_SEG6_LOCAL_ACTION_END_BPF = 15

_NESTED = 0x8000
_RTAX_LOCK = 1

_RTMSG = struct.Struct(
    "=8BI"
)  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type; flags
_RTNEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: len, flags, hops, ifindex
_NHMSG = struct.Struct("=4BI")  # struct nhmsg: family, scope, protocol, reserved; flags
_CACHEINFO_EXPIRES = struct.Struct("=8xi")  # struct rta_cacheinfo: clntref, lastuse, expires, ...
_CLOCK_TICKS = 100  # USER_HZ

_TABLE_ALL = 252  # RT_TABLE_COMPAT: the number stands in RTA_TABLE

HOOKS = {"in": _LWT_BPF_IN, "out": _LWT_BPF_OUT, "xmit": _LWT_BPF_XMIT}
ENDPOINT = "endpoint"


class EncapProgram(NamedTuple):
    """A program at a hook of a tunnel: ``in``, ``out``, ``xmit``, or ``endpoint`` of seg6local's End.BPF.

    ``fd`` is -1 in what the kernel reports: it gives no more than the name back, None without one.
    """

    hook: str
    fd: int
    name: str | None


class Encap(NamedTuple):
    """The tunnel of one nexthop: ``kind`` is BPF or SEG6LOCAL.  ``headroom`` in bytes is never reported."""

    kind: int
    programs: tuple[EncapProgram, ...]
    headroom: int = 0

    def names(self) -> tuple[tuple[str, str | None], ...]:
        """(hook, name) of each program, in the kernel's order: all that can be compared."""
        order = [*HOOKS, ENDPOINT]
        return tuple(sorted(((p.hook, p.name) for p in self.programs), key=lambda pair: order.index(pair[0])))


class Nexthop(NamedTuple):
    """One way to go.  ``gateway`` may be of another family than the route; ``weight`` from 1 on."""

    ifindex: int = 0
    gateway: bytes = b""
    encap: Encap | None = None
    flags: int = 0  # RTNH_F_*
    weight: int = 1


class Route(NamedTuple):
    """One route, asked for or reported.

    ``kind`` is RTN_*, ``tos`` and ``scope`` as in struct rtmsg; ``metric`` 0 leaves it to the kernel.
    ``metrics``: RTAX_* and value (an integer, or bytes for what is none); ``lock``: bit N set when metric N
    is locked.  ``expires`` in seconds.
    """

    family: int
    destination: bytes = b""
    length: int = 0
    table: int = 254
    kind: int = UNICAST
    protocol: int = 3
    scope: int = 0
    tos: int = 0
    metric: int = 0
    source: bytes = b""
    nexthops: tuple[Nexthop, ...] = ()
    nexthop_id: int = 0
    metrics: tuple[tuple[int, int], ...] = ()
    lock: int = 0
    preference: int | None = None
    expires: int = 0
    flags: int = 0

    @property
    def encaps(self) -> tuple[Encap, ...]:
        """Those of the nexthops that have one."""
        return tuple(hop.encap for hop in self.nexthops if hop.encap)


class NexthopObject(NamedTuple):
    """A nexthop with an id, which routes refer to."""

    id: int
    family: int
    hop: Nexthop
    scope: int = 0
    protocol: int = 0


# --- routes ---


def set_route(netlink: NetlinkSocket, route: Route, flags: int) -> None:
    """RTM_NEWROUTE with ADD, APPEND, CHANGE, PREPEND or REPLACE."""
    netlink.request(_RTM_NEWROUTE, flags, _pack(route))


def delete_route(netlink: NetlinkSocket, route: Route) -> None:
    """RTM_DELROUTE of the first route that fits everything in ``route``.

    Of a program the kernel compares the name, but it wants the descriptors all the same; without ``encap``
    any tunnel fits.
    """
    netlink.request(_RTM_DELROUTE, 0, _pack(route))


def list_routes(netlink: NetlinkSocket, family: int, table: int = 0) -> list[Route]:
    """Routes of a family, in the kernel's order; ``table`` 0 is all tables."""
    body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    if table:
        body += attribute_u32(_RTA_TABLE, table)
    try:
        messages = netlink.dump(_RTM_GETROUTE, body)
    except NetlinkError as error:
        if table and error.errno == errno.ENOENT:  # no route was ever put into this table
            return []
        raise
    routes = [_parse(message.body) for message in messages if message.type == _RTM_NEWROUTE]
    return [route for route in routes if not route.flags & _RTM_F_CLONED and table in (0, route.table)]


def _pack(route: Route) -> bytes:
    table = route.table if route.table < 256 else _TABLE_ALL
    single = route.nexthops[0] if len(route.nexthops) == 1 else Nexthop()
    fields = (route.family, route.length, 0, route.tos, table, route.protocol, route.scope, route.kind)
    body = _RTMSG.pack(*fields, single.flags)
    if route.destination:
        body += attribute(_RTA_DST, route.destination)
    body += attribute_u32(_RTA_TABLE, route.table) if route.table >= 256 else b""
    body += attribute(_RTA_PREFSRC, route.source) if route.source else b""
    body += attribute_u32(_RTA_PRIORITY, route.metric) if route.metric else b""
    body += attribute_u32(_RTA_NH_ID, route.nexthop_id) if route.nexthop_id else b""
    body += attribute_u32(_RTA_EXPIRES, route.expires) if route.expires else b""
    body += attribute(_RTA_PREF, bytes([route.preference])) if route.preference is not None else b""
    body += _pack_hop(single, route.family)
    body += attribute_u32(_RTA_OIF, single.ifindex) if single.ifindex else b""
    if len(route.nexthops) > 1:
        body += attribute(_RTA_MULTIPATH, b"".join(_pack_leg(hop, route.family) for hop in route.nexthops))
    return body + _pack_metrics(route)


def _pack_leg(hop: Nexthop, family: int) -> bytes:
    """struct rtnexthop of a multipath route; the kernel's ``hops`` is the weight less one."""
    attributes = _pack_hop(hop, family)
    return _RTNEXTHOP.pack(8 + len(attributes), hop.flags, hop.weight - 1, hop.ifindex) + attributes


def _pack_hop(hop: Nexthop, family: int) -> bytes:
    """Tunnel and gateway."""
    body = _pack_encap(hop.encap, _RTA_ENCAP, _RTA_ENCAP_TYPE) if hop.encap else b""
    if not hop.gateway:
        return body
    if len(hop.gateway) == _address_size(family):
        return body + attribute(_RTA_GATEWAY, hop.gateway)
    return body + attribute(_RTA_VIA, struct.pack("=H", family_of(hop.gateway)) + hop.gateway)


def _pack_metrics(route: Route) -> bytes:
    values = ((_RTAX_LOCK, route.lock), *route.metrics) if route.lock else route.metrics
    if not values:
        return b""
    return attribute(_RTA_METRICS, b"".join(attribute_u32(kind, value) for kind, value in values))


def _pack_encap(encap: Encap, nest: int, type_attribute: int) -> bytes:
    if encap.kind == SEG6LOCAL:
        inner = attribute_u32(_SEG6_LOCAL_ACTION, _SEG6_LOCAL_ACTION_END_BPF)
        inner += b"".join(_pack_program(_SEG6_LOCAL_BPF, program) for program in encap.programs)
    else:
        inner = b"".join(_pack_program(HOOKS[program.hook], program) for program in encap.programs)
        inner += attribute_u32(_LWT_BPF_XMIT_HEADROOM, encap.headroom) if encap.headroom else b""
    kind = attribute(type_attribute, struct.pack("=H", encap.kind))
    return attribute(nest | _NESTED, inner) + kind


def _pack_program(kind: int, program: EncapProgram) -> bytes:
    inner = attribute_u32(_LWT_BPF_PROG_FD, program.fd) + attribute_text(
        _LWT_BPF_PROG_NAME, program.name or ""
    )
    return attribute(kind | _NESTED, inner)


def _parse(body: bytes) -> Route:
    family, length, _, tos, table, protocol, scope, kind, flags = unpack(_RTMSG, body)
    found = parse_attributes(body, _RTMSG.size)
    metrics = {kind: number(value) for kind, value in parse_attributes(found.get(_RTA_METRICS, b"")).items()}
    preference = found.get(_RTA_PREF)
    return Route(
        family=family,
        destination=found.get(_RTA_DST, b""),
        length=length,
        table=number(found.get(_RTA_TABLE, b"")) or table,
        kind=kind,
        protocol=protocol,
        scope=scope,
        tos=tos,
        metric=number(found.get(_RTA_PRIORITY, b"")),
        source=found.get(_RTA_PREFSRC, b""),
        nexthops=_parse_hops(found, flags),
        nexthop_id=number(found.get(_RTA_NH_ID, b"")),
        lock=metrics.pop(_RTAX_LOCK, 0),
        metrics=tuple(metrics.items()),
        preference=None if preference is None else number(preference),
        expires=_parse_expires(found.get(_RTA_CACHEINFO)),
        flags=flags,
    )


def _parse_hops(found: dict[int, bytes], flags: int) -> tuple[Nexthop, ...]:
    legs = found.get(_RTA_MULTIPATH)
    if legs is None:
        hop = _parse_hop(found, number(found.get(_RTA_OIF, b"")))._replace(flags=flags & 0xFF)
        return (hop,) if hop != Nexthop() else ()
    hops = []
    while legs:
        size, flags, hops_less_one, ifindex = unpack(_RTNEXTHOP, legs)
        hop = _parse_hop(parse_attributes(legs[:size], _RTNEXTHOP.size), ifindex)
        hops.append(hop._replace(flags=flags, weight=hops_less_one + 1))
        legs = legs[max(size + 3 & ~3, _RTNEXTHOP.size) :]
    return tuple(hops)


def _parse_hop(found: dict[int, bytes], ifindex: int) -> Nexthop:
    gateway = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]
    return Nexthop(ifindex, gateway, _parse_encap(found.get(_RTA_ENCAP_TYPE), found.get(_RTA_ENCAP, b"")))


def _parse_encap(kind: bytes | None, data: bytes) -> Encap | None:
    """The tunnel if a program can be in it, else None."""
    if kind is None or number(kind) not in (BPF, SEG6LOCAL):
        return None
    found = parse_attributes(data)
    if number(kind) == SEG6LOCAL:
        if number(found.get(_SEG6_LOCAL_ACTION, b"")) != _SEG6_LOCAL_ACTION_END_BPF:
            return None
        return Encap(SEG6LOCAL, (_parse_program(ENDPOINT, found.get(_SEG6_LOCAL_BPF, b"")),))
    programs = [_parse_program(hook, found[kind]) for hook, kind in HOOKS.items() if kind in found]
    return Encap(BPF, tuple(programs), number(found.get(_LWT_BPF_XMIT_HEADROOM, b"")))


def _parse_program(hook: str, data: bytes) -> EncapProgram:
    name = parse_attributes(data).get(_LWT_BPF_PROG_NAME)
    return EncapProgram(hook, -1, None if name is None else text(name))


def _parse_expires(data: bytes | None) -> int:
    """Seconds left, from clock ticks; 0 for a route that stays."""
    if data is None or len(data) < _CACHEINFO_EXPIRES.size:
        return 0
    return int(_CACHEINFO_EXPIRES.unpack_from(data)[0]) // _CLOCK_TICKS


def family_of(address: bytes) -> int:
    """AF_INET or AF_INET6, by the length of an address."""
    return AF_INET if len(address) == 4 else AF_INET6


def _address_size(family: int) -> int:
    return 4 if family == AF_INET else 16


# --- nexthop objects ---


def set_nexthop(netlink: NetlinkSocket, nexthop: NexthopObject, flags: int) -> None:
    """RTM_NEWNEXTHOP with ADD or REPLACE."""
    hop = nexthop.hop
    body = _NHMSG.pack(nexthop.family, 0, nexthop.protocol, 0, hop.flags)
    body += attribute_u32(_NHA_ID, nexthop.id) if nexthop.id else b""
    body += attribute(_NHA_GATEWAY, hop.gateway) if hop.gateway else b""
    body += attribute_u32(_NHA_OIF, hop.ifindex) if hop.ifindex else b""
    body += _pack_encap(hop.encap, _NHA_ENCAP, _NHA_ENCAP_TYPE) if hop.encap else b""
    netlink.request(_RTM_NEWNEXTHOP, flags, body)


def delete_nexthop(netlink: NetlinkSocket, number_: int) -> None:
    """RTM_DELNEXTHOP, and with it the routes that use it."""
    netlink.request(_RTM_DELNEXTHOP, 0, _NHMSG.pack(0, 0, 0, 0, 0) + attribute_u32(_NHA_ID, number_))


def list_nexthops(netlink: NetlinkSocket) -> list[NexthopObject]:
    """Every nexthop object that is no group."""
    messages = netlink.dump(_RTM_GETNEXTHOP, _NHMSG.pack(0, 0, 0, 0, 0))
    return [_parse_nexthop(message.body) for message in messages if message.type == _RTM_NEWNEXTHOP]


def _parse_nexthop(body: bytes) -> NexthopObject:
    family, scope, protocol, _, flags = unpack(_NHMSG, body)
    found = parse_attributes(body, _NHMSG.size)
    encap = _parse_encap(found.get(_NHA_ENCAP_TYPE), found.get(_NHA_ENCAP, b""))
    ifindex = number(found.get(_NHA_OIF, b""))
    hop = Nexthop(ifindex, found.get(_NHA_GATEWAY, b""), encap, flags & 0xFF)
    return NexthopObject(number(found.get(_NHA_ID, b"")), family, hop, scope, protocol)
