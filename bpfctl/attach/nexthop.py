"""Nexthop objects with programs in their lightweight tunnels."""

from __future__ import annotations

import errno
from functools import partial

from bpfctl.attach import lwt, refusals
from bpfctl.attach.interfaces import interface_index
from bpfctl.attach.session import Rtnetlink
from bpfctl.errors import AlreadyAttachedError, NotFoundError
from bpfctl.kernel import rtnl_link, rtnl_route
from bpfctl.kernel.netlink import AnswerLostError, NetlinkError, NetlinkSocket
from bpfctl.kernel.rtnl_route import AF_INET, Encap, Nexthop, NexthopObject
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.loader.transaction import Transaction

HOW = {"add": rtnl_route.ADD, "replace": rtnl_route.REPLACE}


class NexthopRequest(NamedTuple):
    """A nexthop object as ip(8) has it: ``gateway`` in network byte order, ``protocol`` RTPROT_*."""

    id: int
    device: str = ""
    gateway: bytes = b""
    onlink: bool = False
    protocol: int = 0
    family: int = 0

    def __str__(self) -> str:
        return f"nexthop {self.id}"


class NexthopState(NamedTuple):
    """A nexthop object that is there, and the name of its device."""

    nexthop: NexthopObject
    device: str


def set_nexthop(
    request: NexthopRequest, encap: Encap, how: str = "add", *, transaction: Transaction | None = None
) -> None:
    """``how`` is one of HOW.  Raises AlreadyAttachedError (add), NotFoundError (interface), KernelError."""
    with Rtnetlink(request) as netlink:
        index = interface_index(netlink, request.device) if request.device else 0
        hop = Nexthop(index, request.gateway, encap, rtnl_route.ONLINK if request.onlink else 0)
        family = request.family or (rtnl_route.family_of(request.gateway) if request.gateway else AF_INET)
        wanted = NexthopObject(request.id, family, hop, protocol=request.protocol)
        _set(netlink, request, wanted, how)
        if transaction:
            if how == "add":
                transaction.undo(f"delete the {request}", partial(_delete_again, request.id))
            else:
                transaction.keep()  # what was there before cannot be had back


def delete(number: int) -> None:
    """Delete nexthop ``number`` and, with it, the routes that use it.  Raises NotFoundError, KernelError."""
    subject = NexthopRequest(number)
    with Rtnetlink(subject) as netlink:
        found = {nexthop.id: nexthop for nexthop in rtnl_route.list_nexthops(netlink)}.get(number)
        if found is None:
            raise NotFoundError(f"no {subject}")
        if found.hop.encap is None:
            raise NotFoundError(f"{subject} runs no program", hint="`ip nexthop del` deletes it")
        try:
            rtnl_route.delete_nexthop(netlink, number)
        except AnswerLostError as lost:
            try:
                left = rtnl_route.list_nexthops(netlink)
            except OSError as error:
                raise refusals.unknown_outcome(subject, lost) from error
            if any(nexthop.id == number for nexthop in left):
                raise refusals.not_done(subject, lost) from lost


def show() -> list[NexthopState]:
    """The nexthop objects that run programs."""
    with Rtnetlink("nexthops") as netlink:
        devices = {link.ifindex: link.name for link in rtnl_link.list_links(netlink)}
        return [
            NexthopState(nexthop, devices.get(nexthop.hop.ifindex, str(nexthop.hop.ifindex)))
            for nexthop in rtnl_route.list_nexthops(netlink)
            if nexthop.hop.encap
        ]


def _set(netlink: NetlinkSocket, request: NexthopRequest, wanted: NexthopObject, how: str) -> None:
    """The one message that makes or changes it."""
    try:
        try:
            rtnl_route.set_nexthop(netlink, wanted, HOW[how])
        except AnswerLostError as lost:
            if how == "replace":  # twice is once
                rtnl_route.set_nexthop(netlink, wanted, HOW[how])
            elif not _is_there(netlink, request, wanted, lost):
                raise refusals.not_done(request, lost) from lost
    except NetlinkError as error:
        if error.errno == errno.EEXIST:
            raise AlreadyAttachedError(
                f"{request} is there",
                errno=errno.EEXIST,
                text=error.text,
                hint="`nexthop replace` exchanges it without a gap",
            ) from error
        of_programs = lwt.explain(
            request, (wanted.hop.encap,) if wanted.hop.encap else (), wanted.family, error
        )
        raise of_programs or refusals.general(str(request), error) from error


def _is_there(
    netlink: NetlinkSocket, request: NexthopRequest, wanted: NexthopObject, lost: AnswerLostError
) -> bool:
    try:
        there = {nexthop.id: nexthop.hop for nexthop in rtnl_route.list_nexthops(netlink)}
    except OSError as error:
        raise refusals.unknown_outcome(request, lost) from error
    hop = there.get(wanted.id, Nexthop())
    return (
        hop.encap is not None
        and wanted.hop.encap is not None
        and hop.encap.names() == wanted.hop.encap.names()
    )


def _delete_again(number: int) -> None:
    with NetlinkSocket() as netlink:
        rtnl_route.delete_nexthop(netlink, number)
