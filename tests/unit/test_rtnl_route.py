"""Route messages: what we pack, pyroute2 reads, and so do we; what is broken ends in OSError."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from bpfctl.kernel import rtnl_route
from bpfctl.kernel.netlink import Message, attribute, attribute_u32, parse_attributes
from bpfctl.kernel.rtnl_route import (
    AF_INET,
    AF_INET6,
    BPF,
    SEG6LOCAL,
    Encap,
    EncapProgram,
    Nexthop,
    NexthopObject,
    Route,
)

TEN = bytes([10, 0, 0, 0])
SIX = bytes([0xFC]) + bytes(15)
PROGRAMS = Encap(BPF, (EncapProgram("in", 7, "x.o:[in]"), EncapProgram("xmit", 8, "x.o:[xmit]")), 32)
ENDPOINT = Encap(SEG6LOCAL, (EncapProgram("endpoint", 9, "x.o:[end]"),))


class Recorder:
    """Stands for a socket: keeps what is asked, answers dumps with ``bodies``."""

    def __init__(self, *bodies: bytes) -> None:
        self.sent: list[tuple[int, int, bytes]] = []
        self._bodies = bodies

    def request(self, kind: int, flags: int, body: bytes) -> list[Any]:
        self.sent.append((kind, flags, body))
        return []

    def dump(self, kind: int, body: bytes) -> list[Message]:
        return [Message(kind - 2, body) for body in self._bodies]


def packed(route: Route, flags: int = rtnl_route.ADD) -> bytes:
    socket = Recorder()
    rtnl_route.set_route(socket, route, flags)  # type: ignore[arg-type]
    ((kind, sent_flags, body),) = socket.sent
    assert (kind, sent_flags) == (24, flags)
    return body


def parsed(body: bytes) -> Route:
    (route,) = rtnl_route.list_routes(Recorder(body), 0)  # type: ignore[arg-type]
    return route


def test_tunnel_as_iproute2_sends_it() -> None:
    """RTA_ENCAP has the nested bit, and so has each hook; then the type."""
    body = packed(Route(AF_INET, TEN, 8, nexthops=(Nexthop(3, encap=PROGRAMS),)))
    assert body[:12] == struct.pack("=8BI", 2, 8, 0, 0, 254, 3, 0, 1, 0)
    found = parse_attributes(body, 12)
    assert list(found) == [1, 22, 21, 4]
    assert found[21] == struct.pack("=H", 6)
    name = b"x.o:[in]\0".ljust(12, b"\0")
    hook_in = struct.pack("=HHI", 8, 1, 7) + struct.pack("=HH", 4 + 9, 2) + name
    name = b"x.o:[xmit]\0".ljust(12, b"\0")
    hook_xmit = struct.pack("=HHI", 8, 1, 8) + struct.pack("=HH", 4 + 11, 2) + name
    assert found[22] == (
        struct.pack("=HH", 4 + len(hook_in), 0x8001) + hook_in
        + struct.pack("=HH", 4 + len(hook_xmit), 0x8003) + hook_xmit
        + struct.pack("=HHI", 8, 4, 32)
    )  # fmt: skip
    at = body.index(found[22]) - 4
    assert struct.unpack_from("=HH", body, at) == (4 + len(found[22]), 0x8000 | 22)


def test_seg6local_as_iproute2_sends_it() -> None:
    found = parse_attributes(packed(Route(AF_INET6, SIX, 64, nexthops=(Nexthop(3, encap=ENDPOINT),))), 12)
    inner = parse_attributes(found[22])
    assert found[21] == struct.pack("=H", 7)
    assert inner[1] == struct.pack("=I", 15)
    assert parse_attributes(inner[8]) == {1: struct.pack("=I", 9), 2: b"x.o:[end]\0"}


def test_pyroute2_reads_it() -> None:
    route = Route(
        AF_INET, TEN, 8, table=1000, protocol=4, scope=253, tos=16, metric=5, source=TEN, lock=4,
        metrics=((2, 1400),), nexthops=(Nexthop(3, bytes([10, 0, 0, 1]), PROGRAMS, flags=4),),
    )  # fmt: skip
    body = packed(route)
    message = rtmsg(struct.pack("=IHHII", 16 + len(body), 24, 0, 0, 0) + body)
    message.decode()
    fields = ("family", "dst_len", "table", "proto", "scope", "tos", "flags")
    assert {key: message[key] for key in fields} == {
        "family": 2, "dst_len": 8, "table": 252, "proto": 4, "scope": 253, "tos": 16, "flags": 4,
    }  # fmt: skip
    expected = {
        "DST": "10.0.0.0",
        "TABLE": 1000,
        "PRIORITY": 5,
        "PREFSRC": "10.0.0.0",
        "GATEWAY": "10.0.0.1",
        "OIF": 3,
    }
    assert {key: message.get_attr(f"RTA_{key}") for key in expected} == expected
    metrics = message.get_attr("RTA_METRICS")
    assert (metrics.get_attr("RTAX_LOCK"), metrics.get_attr("RTAX_MTU")) == (4, 1400)


def nameless(hop: Nexthop) -> Nexthop:
    """As reported: without descriptors."""
    if hop.encap is None:
        return hop
    programs = tuple(program._replace(fd=-1) for program in hop.encap.programs)
    return hop._replace(encap=hop.encap._replace(programs=programs))


@pytest.mark.parametrize(
    "route",
    [
        Route(AF_INET, TEN, 8, nexthops=(Nexthop(3, b"", PROGRAMS, 4),), flags=4),
        Route(AF_INET, table=500, metric=7, nexthops=(Nexthop(0, TEN),)),
        Route(AF_INET, TEN, 32, tos=8, kind=2, scope=254, source=TEN, nexthops=(Nexthop(3, SIX, PROGRAMS),)),
        Route(AF_INET6, SIX, 64, preference=3, metrics=((2, 9),), nexthops=(Nexthop(3, SIX, ENDPOINT),)),
        Route(AF_INET, TEN, 8, nexthops=(Nexthop(3, TEN, PROGRAMS, 4, 256), Nexthop(4), Nexthop(5, SIX))),
        Route(AF_INET, TEN, 8, nexthop_id=5),
    ],
)
def test_comes_back(route: Route) -> None:
    expected = route._replace(nexthops=tuple(map(nameless, route.nexthops)))
    assert parsed(packed(route)) == expected


def test_what_is_no_tunnel_of_ours() -> None:
    """Other tunnels and other seg6local actions hold no program."""
    header = struct.pack("=8BI", 2, 8, 0, 0, 254, 3, 0, 1, 0)
    for kind, inner in ((1, b""), (5, b"junk"), (7, attribute_u32(1, 4))):
        body = header + attribute(22, inner) + attribute(21, struct.pack("=H", kind)) + attribute_u32(4, 3)
        assert parsed(body).nexthops == (Nexthop(3),)
    unnamed = attribute(0x8002, b"")
    body = header + attribute(22, unnamed) + attribute(21, struct.pack("=H", 6))
    assert parsed(body).encaps == (Encap(BPF, (EncapProgram("out", -1, None),)),)


def test_cloned_routes_are_left_out() -> None:
    clone = struct.pack("=8BI", 2, 8, 0, 0, 254, 3, 0, 1, 0x200)
    assert rtnl_route.list_routes(Recorder(clone), 0) == []  # type: ignore[arg-type]


def test_nexthop_comes_back() -> None:
    wanted = NexthopObject(5, AF_INET, Nexthop(3, TEN, PROGRAMS, 4), protocol=4)
    socket = Recorder()
    rtnl_route.set_nexthop(socket, wanted, rtnl_route.REPLACE)  # type: ignore[arg-type]
    ((kind, flags, body),) = socket.sent
    assert (kind, flags) == (104, 0x500)
    (found,) = rtnl_route.list_nexthops(Recorder(body))  # type: ignore[arg-type]
    assert found == wanted._replace(hop=nameless(wanted.hop))


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_end_in_oserror(data: bytes) -> None:
    header = struct.pack("=8BI", 2, 8, 0, 0, 254, 3, 0, 1, 0)
    for body in (
        data,
        header + data,
        header + attribute(9, data),
        header + attribute(21, b"\6\0") + attribute(22, data),
    ):
        with suppress(OSError):
            rtnl_route.list_routes(Recorder(body), 0)  # type: ignore[arg-type]


@given(st.binary(max_size=100))
def test_any_nexthop_parses_or_ends_in_oserror(data: bytes) -> None:
    with suppress(OSError):
        rtnl_route.list_nexthops(Recorder(data))  # type: ignore[arg-type]
