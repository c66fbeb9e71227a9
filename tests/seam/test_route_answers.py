"""Routes against a scripted kernel: what a lost answer leads to, and what is taken back."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

import pytest
from scripted import (
    IFINDEX,
    Answer,
    Datagram,
    Request,
    ScriptedSystem,
    accepted,
    done,
    link,
    lost,
    message,
    refused,
)

from bpfctl.attach import nexthop, route
from bpfctl.attach.address import AF_INET, Prefix
from bpfctl.attach.lwt import new_encap
from bpfctl.attach.nexthop import NexthopRequest
from bpfctl.attach.route import Leg, RouteRequest
from bpfctl.errors import KernelError, NotFoundError
from bpfctl.kernel import rtnl_route, syscall
from bpfctl.kernel.rtnl_route import Nexthop, NexthopObject, Route
from bpfctl.loader import Transaction

NEWLINK, GETLINK = 16, 18
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEXTHOP, GETNEXTHOP = 104, 106
TEN = bytes([10, 0, 0, 0])
REQUEST = RouteRequest(Prefix(AF_INET, TEN, 8), (Leg("v0"),))
OURS, OTHER = (new_encap([("out", 5, name)]) for name in ("x.o:[out]", "y.o:[out]"))
LOST = lost(errno.ENOBUFS)

Script = Callable[..., ScriptedSystem]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    def install(*script: Answer) -> ScriptedSystem:
        system = ScriptedSystem(*script)
        monkeypatch.setattr(syscall, "system", system)
        return system

    return install


def routes(*encaps: rtnl_route.Encap) -> Answer:
    """A dump of routes to 10.0.0.0/8 by v0, each with a tunnel."""

    def answer(request: Request) -> list[Datagram]:
        found = [
            Route(AF_INET, TEN, 8, scope=253, nexthops=(Nexthop(IFINDEX, b"", encap),)) for encap in encaps
        ]
        bodies = [message(NEWROUTE, request.sequence, rtnl_route._pack(one), 2) for one in found]
        return [b"".join(bodies) + done(request)]

    return answer


def links(request: Request) -> list[Datagram]:
    return [message(NEWLINK, request.sequence, link(), 2) + done(request)]


def types(system: ScriptedSystem) -> list[int]:
    return [request.type for request in system.sent]


# how, what the kernel answers, whether it is done
LOST_ANSWERS = [
    ("add", (LOST, routes(OURS)), True),
    ("add", (LOST, routes(OTHER)), False),
    ("add", (LOST, routes()), False),
    ("append", (LOST, routes(OTHER, OURS)), True),
    ("replace", (LOST, accepted), True),  # the same request again: twice is once
    ("change", (LOST, accepted), True),
    ("replace", (LOST, refused(errno.EINVAL, "No")), False),
]


@pytest.mark.parametrize(("how", "script", "is_done"), LOST_ANSWERS)
def test_lost_answer(scripted: Script, how: str, script: tuple[Answer, ...], is_done: bool) -> None:
    system = scripted(*script)
    if is_done:
        route.set_route(REQUEST, [OURS], how)
    else:
        with pytest.raises(KernelError, match=r"nothing has changed|No"):
            route.set_route(REQUEST, [OURS], how)
    assert types(system) == [NEWROUTE, NEWROUTE if how in ("replace", "change") else GETROUTE]


def test_lost_answer_and_no_list(scripted: Script) -> None:
    scripted(LOST, refused(errno.EPERM))
    with pytest.raises(KernelError, match="the outcome is unknown"):
        route.set_route(REQUEST, [OURS])


@pytest.mark.parametrize(("left", "is_gone"), [((), True), ((OURS,), False)])
def test_lost_answer_to_a_deletion(
    scripted: Script, left: tuple[rtnl_route.Encap, ...], is_gone: bool
) -> None:
    system = scripted(links, routes(OURS), LOST, routes(*left))
    if is_gone:
        route.delete(REQUEST)
    else:
        with pytest.raises(KernelError, match="nothing has changed"):
            route.delete(REQUEST)
    assert types(system) == [GETLINK, GETROUTE, DELROUTE, GETROUTE]


def test_route_that_goes_while_it_is_deleted(scripted: Script) -> None:
    scripted(links, routes(OURS), refused(errno.ESRCH))
    with pytest.raises(NotFoundError, match=r"route 10\.0\.0\.0/8: it is gone"):
        route.delete(REQUEST)


@pytest.mark.parametrize(("how", "sent"), [("add", [NEWROUTE, DELROUTE]), ("replace", [NEWROUTE])])
def test_rollback(scripted: Script, how: str, sent: list[int]) -> None:
    """A route that was added goes again; what replaced another one stays, with all that it needs."""
    system = scripted(accepted, accepted)
    undone = []
    with pytest.raises(KeyboardInterrupt), Transaction() as transaction:
        transaction.undo("unpin", lambda: undone.append("pin"))
        route.set_route(REQUEST, [OURS], how, transaction=transaction)
        raise KeyboardInterrupt
    assert types(system) == sent
    assert undone == (["pin"] if how == "add" else [])


def nexthops(*objects: NexthopObject) -> Answer:
    def answer(request: Request) -> list[Datagram]:
        bodies = []
        for one in objects:
            body = struct.pack("=4BI", one.family, 0, 0, 0, 0) + rtnl_route.attribute_u32(1, one.id)
            encap = rtnl_route._pack_encap(one.hop.encap, 8, 7) if one.hop.encap else b""
            bodies.append(message(NEWNEXTHOP, request.sequence, body + encap, 2))
        return [b"".join(bodies) + done(request)]

    return answer


@pytest.mark.parametrize(
    ("how", "answer", "is_done"),
    [
        ("add", nexthops(NexthopObject(5, AF_INET, Nexthop(encap=OURS))), True),
        ("add", nexthops(NexthopObject(5, AF_INET, Nexthop(encap=OTHER))), False),
        ("add", nexthops(NexthopObject(6, AF_INET, Nexthop(encap=OURS))), False),
        ("replace", accepted, True),
    ],
)
def test_lost_answer_about_a_nexthop(scripted: Script, how: str, answer: Answer, is_done: bool) -> None:
    system = scripted(LOST, answer)
    if is_done:
        nexthop.set_nexthop(NexthopRequest(5, "v0"), OURS, how)
    else:
        with pytest.raises(KernelError, match="nothing has changed"):
            nexthop.set_nexthop(NexthopRequest(5, "v0"), OURS, how)
    assert types(system) == [NEWNEXTHOP, NEWNEXTHOP if how == "replace" else GETNEXTHOP]
