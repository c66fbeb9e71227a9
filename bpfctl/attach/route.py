"""Routes with programs in their lightweight tunnels, by rtnetlink as ip(8) does.

Of a program in a route the kernel reports no more than the name that was given with it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial

from bpfctl.attach import lwt, refusals
from bpfctl.attach.address import Prefix, address_text, prefix_text
from bpfctl.attach.interfaces import interface_index
from bpfctl.attach.session import Rtnetlink
from bpfctl.errors import AlreadyAttachedError, AmbiguousError, BpfctlError, NotFoundError
from bpfctl.kernel import rtnl_link, rtnl_route
from bpfctl.kernel.netlink import AnswerLostError, NetlinkError, NetlinkSocket
from bpfctl.kernel.rtnl_route import AF_INET, AF_INET6, Encap, Nexthop, Route
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.loader.transaction import Transaction

__all__ = [
    "HOW",
    "UNICAST",
    "Leg",
    "Route",
    "RouteRequest",
    "RouteState",
    "delete",
    "describe",
    "set_route",
    "show",
]

HOW = {
    "add": rtnl_route.ADD,
    "append": rtnl_route.APPEND,
    "change": rtnl_route.CHANGE,
    "prepend": rtnl_route.PREPEND,
    "replace": rtnl_route.REPLACE,
}

MAIN_TABLE = 254
_LOCAL_TABLE = 255
_UNIVERSE, _LINK, _HOST = 0, 253, 254  # RT_SCOPE_*
UNICAST, _LOCAL, _BROADCAST, _ANYCAST, _MULTICAST = 1, 2, 3, 4, 5  # RTN_*
_BOOT = 3  # RTPROT_BOOT


class Leg(NamedTuple):
    """One way of a route: ``device`` or ``gateway`` or both; ``weight`` from 1 to 256."""

    device: str = ""
    gateway: bytes = b""
    onlink: bool = False
    weight: int = 1


class RouteRequest(NamedTuple):
    """A route, as ip(8) has it; a part that is None or 0 takes ip's default or, for ``delete``, fits any.

    ``kind``, ``scope`` and ``protocol`` are RTN_*, RT_SCOPE_* and RTPROT_*; ``metrics`` pairs of RTAX_* and
    number, ``lock`` has bit N set to lock metric N; ``preference`` is ICMPV6_ROUTER_PREF_*.
    """

    prefix: Prefix
    legs: tuple[Leg, ...] = ()
    kind: int | None = None
    table: int | None = None
    scope: int | None = None
    protocol: int | None = None
    tos: int = 0
    metric: int = 0
    source: bytes = b""
    nexthop_id: int = 0
    metrics: tuple[tuple[int, int], ...] = ()
    lock: int = 0
    preference: int | None = None
    expires: int = 0

    def __str__(self) -> str:
        return f"route {self.prefix}"

    @property
    def family(self) -> int:
        """Of the prefix, else of the first gateway, else AF_INET."""
        gateways = [leg.gateway for leg in self.legs if leg.gateway]
        return self.prefix.family or (rtnl_route.family_of(gateways[0]) if gateways else AF_INET)

    @property
    def effective_table(self) -> int:
        if self.table is not None:
            return self.table
        return _LOCAL_TABLE if self.kind in (_LOCAL, _BROADCAST, _ANYCAST) else MAIN_TABLE


class RouteState(NamedTuple):
    """A route that is there; ``devices``: names by ifindex."""

    route: Route
    devices: dict[int, str]

    def __str__(self) -> str:
        return describe(self.route, self.devices)


def set_route(
    request: RouteRequest,
    encaps: Sequence[Encap | None],
    how: str = "add",
    *,
    transaction: Transaction | None = None,
) -> None:
    """``how`` is one of HOW.  ``encaps``: the tunnel of each leg, with the programs' descriptors.

    Replacing is one step of the kernel's: each packet meets the old route or the new one.  Raises
    AlreadyAttachedError (add), NotFoundError (change, or no such interface), KernelError.
    """
    with Rtnetlink(request) as netlink:
        route = _resolve(netlink, request, encaps)
        _set(netlink, request, route, how)
        if transaction:
            if how == "add":
                transaction.undo(f"delete the {request}", partial(_delete_again, route))
            else:
                transaction.keep()  # what was there before cannot be had back


def delete(request: RouteRequest, encaps: Sequence[Encap | None] = ()) -> RouteState:
    """Delete the one route with programs that fits; ``encaps`` compares the programs' names.

    Raises AmbiguousError, which lists those that fit, NotFoundError, KernelError.
    """
    with Rtnetlink(request) as netlink:
        devices = _device_names(netlink)
        there = rtnl_route.list_routes(netlink, request.family, request.effective_table)
        wanted = _resolve(netlink, request, encaps)
        fitting = [route for route in there if route.encaps and _fits(route, request, wanted)]
        route = _only(request, fitting, there, devices)
        _delete(netlink, request, route)
        return RouteState(route, devices)


def show(family: int = 0, table: int = MAIN_TABLE) -> list[RouteState]:
    """Routes that run programs; ``family`` 0 is both, ``table`` 0 is all tables."""
    with Rtnetlink("routes") as netlink:
        devices = _device_names(netlink)
        families = (family,) if family else (AF_INET, AF_INET6)
        routes = [route for each in families for route in rtnl_route.list_routes(netlink, each, table)]
        return [RouteState(route, devices) for route in routes if route.encaps]


# --- one change ---


def _resolve(netlink: NetlinkSocket, request: RouteRequest, encaps: Sequence[Encap | None]) -> Route:
    family = request.family
    hops = tuple(
        Nexthop(
            interface_index(netlink, leg.device) if leg.device else 0,
            leg.gateway,
            encaps[at] if at < len(encaps) else None,
            rtnl_route.ONLINK if leg.onlink else 0,
            leg.weight,
        )
        for at, leg in enumerate(request.legs)
    )
    kind = UNICAST if request.kind is None else request.kind
    return Route(
        family=family,
        destination=request.prefix.address,
        length=request.prefix.length,
        table=request.effective_table,
        kind=kind,
        protocol=_BOOT if request.protocol is None else request.protocol,
        scope=_default_scope(request, kind, family) if request.scope is None else request.scope,
        tos=request.tos,
        metric=request.metric,
        source=request.source,
        nexthops=hops,
        nexthop_id=request.nexthop_id,
        metrics=request.metrics,
        lock=request.lock,
        preference=request.preference,
        expires=request.expires,
    )


def _default_scope(request: RouteRequest, kind: int, family: int) -> int:
    """As iproute2: a directly connected destination is in scope link."""
    if family == AF_INET6:
        return _UNIVERSE
    if kind == _LOCAL:
        return _HOST
    if kind in (_BROADCAST, _ANYCAST, _MULTICAST):
        return _LINK
    direct = len(request.legs) <= 1 and not any(leg.gateway for leg in request.legs)
    return _LINK if kind == UNICAST and direct and not request.nexthop_id else _UNIVERSE


def _set(netlink: NetlinkSocket, request: RouteRequest, route: Route, how: str) -> None:
    """The one message that makes or changes a route."""
    try:
        try:
            rtnl_route.set_route(netlink, route, HOW[how])
        except AnswerLostError as lost:
            if how in ("replace", "change"):  # twice is once
                rtnl_route.set_route(netlink, route, HOW[how])
            elif not _is_there(netlink, request, route, lost):
                raise refusals.not_done(request, lost) from lost
    except NetlinkError as error:
        raise _explain(netlink, request, route, how, error) from error


def _is_there(netlink: NetlinkSocket, request: RouteRequest, route: Route, lost: AnswerLostError) -> bool:
    """Whether the route is there, its programs under the same names."""
    try:
        there = rtnl_route.list_routes(netlink, route.family, route.table)
    except OSError as error:
        raise refusals.unknown_outcome(request, lost) from error
    return any(_fits(found, request, route) for found in there)


def _fits(found: Route, request: RouteRequest, wanted: Route) -> bool:
    """Whether ``found`` is what ``wanted`` describes, in what ``request`` says of it."""
    said = [
        (wanted.destination, found.destination),
        (wanted.length, found.length),
        (wanted.tos, found.tos),
        (wanted.metric or found.metric, found.metric),
        (wanted.source or found.source, found.source),
        (wanted.nexthop_id or found.nexthop_id, found.nexthop_id),
    ]
    said += [(wanted.kind, found.kind)] if request.kind is not None else []
    said += [(wanted.scope, found.scope)] if request.scope is not None else []
    said += [(wanted.protocol, found.protocol)] if request.protocol is not None else []
    if any(ours != theirs for ours, theirs in said):
        return False
    if not wanted.nexthops:
        return True
    if len(wanted.nexthops) != len(found.nexthops):
        return False
    return all(_hop_fits(*pair) for pair in zip(found.nexthops, wanted.nexthops, strict=True))


def _hop_fits(found: Nexthop, wanted: Nexthop) -> bool:
    if wanted.ifindex not in (0, found.ifindex) or wanted.gateway not in (b"", found.gateway):
        return False
    if wanted.encap is None:
        return True
    return found.encap is not None and found.encap.names() == wanted.encap.names()


def _only(request: RouteRequest, fitting: list[Route], there: list[Route], devices: dict[int, str]) -> Route:
    """The route to delete; an error where the kernel could take another one for it."""
    if len(fitting) > 1:
        listed = tuple(describe(route, devices) for route in fitting)
        raise AmbiguousError(f"{request}: {len(fitting)} routes fit", details=listed)
    if fitting:
        twins = [route for route in there if _bare(route) == _bare(fitting[0])]
        if len(twins) > 1:
            listed = tuple(describe(route, devices) for route in twins)
            raise AmbiguousError(f"{request}: routes that differ in their programs only", details=listed)
        return fitting[0]
    plain = any((r.destination, r.length) == (request.prefix.address, request.prefix.length) for r in there)
    hint = "the route there runs no program: `ip route del` deletes it" if plain else None
    raise NotFoundError(f"no {request} with a program in table {request.effective_table}", hint=hint)


def _bare(route: Route) -> Route:
    """What RTM_DELROUTE goes by: the route without its programs and what is not part of its identity."""
    hops = tuple(hop._replace(encap=None, flags=0) for hop in route.nexthops)
    bare = route._replace(nexthops=() if route.nexthop_id else hops, metrics=(), lock=0)
    return bare._replace(preference=None, expires=0, flags=0)


def _delete(netlink: NetlinkSocket, request: RouteRequest, route: Route) -> None:
    """The one message that deletes."""
    try:
        rtnl_route.delete_route(netlink, _bare(route))
    except AnswerLostError as lost:
        try:
            left = rtnl_route.list_routes(netlink, route.family, route.table)
        except OSError as error:
            raise refusals.unknown_outcome(request, lost) from error
        if any(_bare(found) == _bare(route) for found in left):
            raise refusals.not_done(request, lost) from lost
    except NetlinkError as error:
        if error.errno == errno.ESRCH:
            raise NotFoundError(f"{request}: it is gone") from error
        raise refusals.general(str(request), error) from error


def _delete_again(route: Route) -> None:
    with NetlinkSocket() as netlink:
        rtnl_route.delete_route(netlink, _bare(route))


# --- refusals ---


def _explain(
    netlink: NetlinkSocket, request: RouteRequest, route: Route, how: str, error: NetlinkError
) -> BpfctlError:
    if error.errno == errno.EEXIST:
        return _taken(netlink, request, route, error)
    if error.errno in (errno.ENOENT, errno.ESRCH) and how == "change" and not error.text:
        return NotFoundError(f"{request}: there is none to change", hint="`route replace` would make it")
    of_programs = lwt.explain(request, route.encaps, route.family, error)
    if of_programs:
        return of_programs
    if error.errno == errno.ENETDOWN and not error.text:
        devices = ", ".join(leg.device for leg in request.legs if leg.device)
        return refusals.general(str(request), error, f"`ip link set {devices} up`")
    return refusals.general(str(request), error)


def _taken(
    netlink: NetlinkSocket, request: RouteRequest, route: Route, error: NetlinkError
) -> AlreadyAttachedError:
    """EEXIST, with the route that is there."""
    details: tuple[str, ...] = ()
    try:
        devices = _device_names(netlink)
        there = rtnl_route.list_routes(netlink, route.family, route.table)
        key = (route.destination, route.length, route.tos)
        details = tuple(describe(r, devices) for r in there if (r.destination, r.length, r.tos) == key)
    except OSError:
        pass
    return AlreadyAttachedError(
        f"{request}: such a route is there",
        errno=error.errno or 0,
        text=error.text,
        hint="`route replace` exchanges it without a gap",
        details=details,
    )


def describe(route: Route, devices: dict[int, str]) -> str:
    """A line on a route for messages: destination, programs, ways."""
    words = [prefix_text(route.destination, route.length)]
    for hop in route.nexthops:
        words += [f"{hook} {name}" for hook, name in hop.encap.names()] if hop.encap else []
        words += [f"via {address_text(hop.gateway)}"] if hop.gateway else []
        words += [f"dev {devices.get(hop.ifindex, hop.ifindex)}"] if hop.ifindex else []
    words += [f"table {route.table}"] if route.table != MAIN_TABLE else []
    words += [f"metric {route.metric}"] if route.metric else []
    return " ".join(words)


def _device_names(netlink: NetlinkSocket) -> dict[int, str]:
    return {link.ifindex: link.name for link in rtnl_link.list_links(netlink)}
