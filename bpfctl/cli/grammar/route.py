"""``route CMD [ TYPE ] PREFIX WORDS``: ip-route(8)'s words, as far as routes with programs need them."""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.api.routes import Tunnel
from bpfctl.attach.address import AF_INET, AF_INET6, Prefix
from bpfctl.attach.route import Leg, RouteRequest
from bpfctl.cli.grammar import rtnames
from bpfctl.cli.grammar.address import parse_address, parse_prefix
from bpfctl.cli.grammar.encap import parse_encap
from bpfctl.cli.grammar.tokens import Tokens, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

METRICS = {
    "mtu": 2,
    "window": 3,
    "ssthresh": 6,
    "cwnd": 7,
    "advmss": 8,
    "reordering": 9,
    "hoplimit": 10,
    "initcwnd": 11,
    "initrwnd": 14,
    "quickack": 15,
}  # RTAX_*
_LOCKABLE = frozenset(("mtu", "window", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit"))
_PREFIXABLE = frozenset(
    ("advmss", "reordering", "window", "cwnd", "initcwnd", "initrwnd", "quickack", "ssthresh")
)
_FAMILIES = {"inet": AF_INET, "inet6": AF_INET6}
_U32 = 0xFFFFFFFF


class RouteCommand(NamedTuple):
    """A route as typed; ``tunnels``: one for each of ``request.legs``."""

    request: RouteRequest
    tunnels: tuple[Tunnel | None, ...] = ()


class _Way(NamedTuple):
    """A leg while its words come in."""

    leg: Leg = Leg()
    tunnel: Tunnel | None = None


def parse_route(words: Sequence[str], *, strict: bool = False) -> RouteCommand:
    """The words after ``route add`` and its like; ``strict``: a program's in iproute2's order only."""
    tokens = Tokens(words, strict=strict)
    found: dict[str, Any] = {"metrics": {}, "lock": 0}
    only, legs = _Way(), list[_Way]()
    while tokens:
        if tokens.take("nexthop"):
            legs.append(_parse_leg(tokens))
            continue
        way = _parse_way(tokens, only)
        if way is not None:
            only = way
        elif not (_parse_number(tokens, found) or _parse_name(tokens, found) or _parse_metric(tokens, found)):
            _parse_destination(tokens, found)
    if "prefix" not in found:
        raise UsageError("Command line is not complete: the destination is missing")
    if legs and only != _Way():
        raise UsageError("via, dev, encap and onlink belong to each nexthop where there are several")
    ways = legs or ([only] if only != _Way() else [])
    found["metrics"] = tuple(found["metrics"].items())
    request = RouteRequest(legs=tuple(way.leg for way in ways), **found)
    return RouteCommand(request, tuple(way.tunnel for way in ways))


def in_family(command: RouteCommand, family: int) -> RouteCommand:
    """``command`` with the family that an option fixed (0: none did); UsageError for a prefix of another."""
    prefix = command.request.prefix
    if not family or prefix.family == family:
        return command
    if prefix.family:
        wanted = "IPv4" if family == AF_INET else "IPv6"
        raise UsageError(f"{prefix} is no {wanted} prefix")
    request = command.request._replace(prefix=prefix._replace(family=family))
    return command._replace(request=request)


def _parse_leg(tokens: Tokens) -> _Way:
    """One ``nexthop NH``, up to the next word that is none of it."""
    way = _Way()
    while tokens:
        following = _parse_way(tokens, way)
        if following is None and tokens.take("weight"):
            weight = tokens.number("weight", 256)
            if not weight:
                raise UsageError("Illegal weight: a number from 1 to 256 is wanted")
            following = way._replace(leg=way.leg._replace(weight=weight))
        if following is None:
            break
        way = following
    if way == _Way():
        raise UsageError("Command line is not complete: nexthop without a way")
    return way


def _parse_way(tokens: Tokens, way: _Way) -> _Way | None:
    """One of the words that say where the route goes; None for another word."""
    leg = way.leg
    if tokens.take("via"):
        _once(leg.gateway, "via")
        return way._replace(leg=leg._replace(gateway=parse_gateway(tokens)))
    if tokens.take("dev", "oif"):
        _once(leg.device, "dev")
        return way._replace(leg=leg._replace(device=tokens.value("DEV")))
    if tokens.take("onlink"):
        return way._replace(leg=leg._replace(onlink=True))
    if tokens.take("encap"):
        _once(way.tunnel, "encap")
        return way._replace(tunnel=parse_encap(tokens))
    return None


def parse_gateway(tokens: Tokens) -> bytes:
    """``[ inet | inet6 ] ADDRESS``, after ``via``."""
    family = _FAMILIES[tokens.next()] if tokens.peek() in _FAMILIES else 0
    return parse_address(tokens.value("ADDRESS"), family)


def _parse_number(tokens: Tokens, found: dict[str, Any]) -> bool:
    """One of the words with a number or an address; the tests stand in iproute2's order (ip/iproute.c)."""
    if tokens.take("src"):
        return _store(found, "source", "src", parse_address(tokens.value("ADDRESS")))
    if tokens.take("tos") or tokens.take_prefix("dsfield"):
        return _store(found, "tos", "tos", tokens.number("tos", 0xFF))
    if tokens.take("expires"):
        return _store(found, "expires", "expires", tokens.number("expires", _U32))
    if tokens.take_prefix("metric", "priority") or tokens.take("preference"):
        return _store(found, "metric", "metric", tokens.number("metric", _U32))
    if tokens.take("nhid"):
        return _store(found, "nexthop_id", "nhid", tokens.number("nhid", _U32))
    return False


def _parse_name(tokens: Tokens, found: dict[str, Any]) -> bool:
    """One of the words whose value has names."""
    if tokens.take("scope"):
        return _store(found, "scope", "scope", parse_scope(tokens.value("SCOPE")))
    if tokens.take_prefix("protocol"):
        return _store(found, "protocol", "proto", parse_protocol(tokens.value("PROTO")))
    if tokens.take_prefix("table"):
        return _store(found, "table", "table", parse_table(tokens.value("TABLE")))
    if tokens.take("pref"):
        value = rtnames.parse_name(tokens.value("PREF"), rtnames.PREFERENCES, "pref", 3)
        return _store(found, "preference", "pref", value)
    return False


def parse_table(word: str) -> int:
    """A routing table; at least 1."""
    table = rtnames.parse_name(word, rtnames.TABLES, "table", _U32, "rt_tables")
    if not table:
        raise UsageError(f"Illegal table {shown(word)}: tables are numbered from 1")
    return table


def parse_protocol(word: str) -> int:
    return rtnames.parse_name(word, rtnames.PROTOCOLS, "protocol", 0xFF, "rt_protos")


def parse_scope(word: str) -> int:
    return rtnames.parse_name(word, rtnames.SCOPES, "scope", 0xFF, "rt_scopes")


def _parse_metric(tokens: Tokens, found: dict[str, Any]) -> bool:
    """``mtu [ lock ] N`` and its like."""
    for name, kind in METRICS.items():
        if tokens.take(name) or (name in _PREFIXABLE and tokens.take_prefix(name)):
            if name in _LOCKABLE and tokens.take("lock"):
                found["lock"] |= 1 << kind
            found["metrics"][kind] = tokens.number(name, _U32)
            return True
    return False


def _parse_destination(tokens: Tokens, found: dict[str, Any]) -> None:
    """``[ to ] [ TYPE ] PREFIX``."""
    tokens.take("to")
    word = tokens.value("PREFIX")
    if word in rtnames.TYPES and "kind" not in found and "prefix" not in found:
        found["kind"] = rtnames.TYPES[word]
        word = tokens.value("PREFIX")
    if "prefix" in found:
        raise unknown(word, "encap, via, dev, table, metric, src, scope, proto, tos, onlink, mtu, nexthop")
    found["prefix"] = parse_prefix(word)


def _store(found: dict[str, Any], field: str, word: str, value: object) -> bool:
    _once(found.get(field), word)
    found[field] = value
    return True


def _once(known: object, word: str) -> None:
    if known:
        raise UsageError(f"{shown(word)} comes twice")


# --- show ---


class RouteSelection(NamedTuple):
    """Which routes to show; ``table`` 0 is all of them, None what is not said."""

    table: int = 254
    prefix: Prefix | None = None
    device: str = ""
    protocol: int | None = None


def parse_selection(words: Sequence[str]) -> RouteSelection:
    """The words after ``route show``."""
    tokens = Tokens(words)
    chosen = RouteSelection()
    while tokens:
        if tokens.take_prefix("table"):
            word = tokens.value("TABLE")
            chosen = chosen._replace(table=0 if word == "all" else parse_table(word))
        elif tokens.take("dev", "oif"):
            chosen = chosen._replace(device=tokens.value("DEV"))
        elif tokens.take_prefix("protocol"):
            chosen = chosen._replace(protocol=parse_protocol(tokens.value("PROTO")))
        else:
            tokens.take("to")
            tokens.take_prefix("exact")
            chosen = chosen._replace(prefix=parse_prefix(tokens.value("PREFIX")))
    return chosen
