"""Fields of a nexthop in ``route show`` and ``nexthop show``, as ip(8) has them."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.attach.address import AF_INET, address_text, family_of
from bpfctl.attach.lwt import SEG6LOCAL, Encap, Nexthop
from bpfctl.attach.nexthop import NexthopState
from bpfctl.cli.grammar import rtnames
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

# RTNH_F_* and RTM_F_* in the order in which ip(8) prints them.
_FLAGS = (
    (0x1, "dead"),
    (0x4, "onlink"),
    (0x2, "pervasive"),
    (0x8, "offload"),
    (0x40, "trap"),
    (0x100, "notify"),
    (0x10, "linkdown"),
    (0x20, "unresolved"),
    (0x4000, "rt_offload"),
    (0x8000, "rt_trap"),
    (0x20000000, "rt_offload_failed"),
)
_NAMELESS = "<unknown>"


def encap_record(encap: Encap | None) -> dict[str, Any]:
    """``encap`` and a key for each program; empty without a tunnel."""
    if encap is None:
        return {}
    record: dict[str, Any] = {"encap": "bpf"}
    if encap.kind == SEG6LOCAL:
        record = {"encap": "seg6local", "action": "End.BPF"}
    return record | {hook: name or _NAMELESS for hook, name in encap.names()}


def gateway_record(hop: Nexthop, family: int) -> dict[str, Any]:
    """``gateway``, or ``via`` where it is of another family than the route."""
    if not hop.gateway:
        return {}
    text = address_text(hop.gateway)
    if family_of(hop.gateway) == family:
        return {"gateway": text}
    return {"via": {"family": "inet" if family_of(hop.gateway) == AF_INET else "inet6", "host": text}}


def nexthop_record(state: NexthopState, details: bool) -> dict[str, Any]:
    """The fields of ``ip -j nexthop``, in its order."""
    found = state.nexthop
    record: dict[str, Any] = {"id": found.id} | encap_record(found.hop.encap)
    record |= gateway_record(found.hop, found.family)
    record |= {"dev": state.device, "scope": rtnames.name_of(found.scope, rtnames.SCOPES, "rt_scopes")}
    if found.protocol or details:
        record["protocol"] = rtnames.name_of(found.protocol, rtnames.PROTOCOLS, "rt_protos")
    return record | {"flags": flag_words(found.hop.flags)}


def flag_words(flags: int) -> list[str]:
    return [word for bit, word in _FLAGS if flags & bit]


def words(record: dict[str, Any]) -> Iterator[str]:
    """``key value`` of each field, and what is printed in another way."""
    for key, value in record.items():
        if key in ("type", "dst"):
            yield value
        elif key == "encap":
            yield f" encap {value}"  # two blanks, as ip(8) has it
        elif key == "gateway":
            yield f"via {value}"
        elif key == "via":
            yield f"via {value['family']} {value['host']}"
        elif key == "protocol":
            yield f"proto {value}"
        elif key == "prefsrc":
            yield f"src {value}"
        elif key == "flags":
            yield from value
        elif key == "expires":
            yield f"expires {value}sec"
        elif key == "metrics":
            locked = record.get("locked", ())
            for name, number in value[0].items():
                yield f"{name} lock {number}" if name in locked else f"{name} {number}"
        elif key == "locked":
            pass  # said beside each metric
        elif key == "nh_info":
            yield "\n\tnh_info " + " ".join(words(value))
        elif key == "nexthops":
            yield from ("\n\tnexthop " + " ".join(words(leg)) for leg in value)
        else:
            yield f"{key} {value}"
