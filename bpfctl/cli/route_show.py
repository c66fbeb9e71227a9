"""``route show``: the routes that run programs, as ip(8) prints them."""

from __future__ import annotations

from bpfctl.attach import nexthop, route
from bpfctl.attach.address import Prefix, prefix_text
from bpfctl.attach.nexthop import NexthopState
from bpfctl.attach.route import UNICAST, Route, RouteState
from bpfctl.cli import routetext
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar import rtnames
from bpfctl.cli.grammar.route import METRICS, RouteSelection, parse_selection
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_MAIN, _UNIVERSE, _BOOT = 254, 0, 3
_METRIC_NAMES = {number: name for name, number in METRICS.items()}


@words_command(
    "show",
    "[ PREFIX ] [ table { T | all } ] [ dev DEV ] [ proto P ]",
    keywords="table all dev proto",
)
def show(app: App, words: list[str]) -> None:
    """Show the routes that run programs, of IPv4 and IPv6, of table main unless another one is named.

    The kernel tells no more of the programs than the names that they were given with the route.
    """
    chosen = parse_selection(words)
    family = (chosen.prefix.family if chosen.prefix else 0) or app.options.family
    states = [state for state in route.show(family, chosen.table) if _is_chosen(state, chosen)]
    details = app.options.details and any(state.route.nexthop_id for state in states)
    nexthops = {state.nexthop.id: state for state in nexthop.show()} if details else {}
    app.output.records((_record(app, chosen, state, nexthops) for state in states), _text)


def _is_chosen(state: RouteState, chosen: RouteSelection) -> bool:
    found = state.route
    if chosen.prefix is not None and _prefix(found)[1:] != chosen.prefix[1:]:
        return False
    if chosen.protocol not in (None, found.protocol):
        return False
    if not chosen.device:
        return True
    # As ip(8): a route with several ways is of no device.
    return len(found.nexthops) == 1 and state.devices.get(found.nexthops[0].ifindex) == chosen.device


def _prefix(found: Route) -> Prefix:
    return Prefix(found.family, found.destination, found.length)


def _record(
    app: App, chosen: RouteSelection, state: RouteState, nexthops: dict[int, NexthopState]
) -> dict[str, Any]:
    """The fields of ``ip -j route``, in its order."""
    found, details = state.route, app.options.details
    single = found.nexthops[0] if len(found.nexthops) == 1 else None
    record: dict[str, Any] = {}
    if found.kind != UNICAST or details:
        record["type"] = rtnames.name_of(found.kind, rtnames.TYPES)
    record["dst"] = prefix_text(found.destination, found.length)
    if found.nexthop_id:
        record["nhid"] = found.nexthop_id
    record |= routetext.encap_record(single.encap if single else None)
    if found.tos:
        record["tos"] = f"{found.tos:#04x}"
    if single:
        record |= routetext.gateway_record(single, found.family)
        if single.ifindex and not chosen.device:
            record["dev"] = state.devices.get(single.ifindex, f"if{single.ifindex}")
    if not chosen.table and (found.table != _MAIN or details):
        record["table"] = rtnames.name_of(found.table, rtnames.TABLES, "rt_tables")
    record |= _more(found, chosen, details) | _nexthops(state)
    if found.nexthop_id in nexthops:
        record["nh_info"] = routetext.nexthop_record(nexthops[found.nexthop_id], details)
    return record


def _more(found: Route, chosen: RouteSelection, details: bool) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if (found.protocol != _BOOT or details) and chosen.protocol is None:
        record["protocol"] = rtnames.name_of(found.protocol, rtnames.PROTOCOLS, "rt_protos")
    if found.scope != _UNIVERSE or details:
        record["scope"] = rtnames.name_of(found.scope, rtnames.SCOPES, "rt_scopes")
    if found.source:
        record["prefsrc"] = prefix_text(found.source, 8 * len(found.source))
    if found.metric:
        record["metric"] = found.metric
    record["flags"] = routetext.flag_words(found.flags)
    if found.expires:
        record["expires"] = found.expires
    if found.metrics:
        record["metrics"] = [{_metric_name(kind): value for kind, value in sorted(found.metrics)}]
    if found.lock:
        record["locked"] = [_metric_name(kind) for kind in range(32) if found.lock >> kind & 1]
    if found.preference is not None:
        record["pref"] = rtnames.name_of(found.preference, rtnames.PREFERENCES)
    return record


def _metric_name(kind: int) -> str:
    return _METRIC_NAMES.get(kind, f"metric {kind}")


def _nexthops(state: RouteState) -> dict[str, Any]:
    """The legs of a multipath route."""
    found = state.route
    if len(found.nexthops) < 2:
        return {}
    legs = []
    for hop in found.nexthops:
        leg = routetext.encap_record(hop.encap) | routetext.gateway_record(hop, found.family)
        leg["dev"] = state.devices.get(hop.ifindex, f"if{hop.ifindex}")
        legs.append(leg | {"weight": hop.weight, "flags": routetext.flag_words(hop.flags)})
    return {"nexthops": legs}


def _text(record: dict[str, Any]) -> str:
    return " ".join(routetext.words(record)).replace(" \n", "\n")
