"""The pseudo qdiscs that carry filters: ``clsact`` (hooks ingress and egress) and ``ingress``."""

from __future__ import annotations

import errno

from bpfctl.attach import refusals
from bpfctl.attach.interfaces import interface_index
from bpfctl.attach.session import Rtnetlink
from bpfctl.errors import AlreadyAttachedError, BpfctlError, NotFoundError
from bpfctl.kernel import rtnl_link, rtnl_tc
from bpfctl.kernel.netlink import AnswerLostError, NetlinkError, NetlinkSocket
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.loader.transaction import Transaction

CLSACT = "clsact"
INGRESS = "ingress"


class QdiscInfo(NamedTuple):
    """A qdisc; ``handle`` and ``parent`` are MAJOR << 16 | MINOR, a block is 0 where it is not shared."""

    device: str
    kind: str
    handle: int
    parent: int
    ingress_block: int
    egress_block: int


def add(device: str, kind: str = CLSACT, *, transaction: Transaction | None = None) -> None:
    """Add a ``clsact`` or ``ingress`` qdisc.

    Raises AlreadyAttachedError when the interface has either, NotFoundError, KernelError.
    """
    with Rtnetlink(device) as netlink:
        ifindex = interface_index(netlink, device)
        try:
            rtnl_tc.add_qdisc(netlink, ifindex, kind)
        except AnswerLostError as lost:
            _settle(netlink, device, ifindex, kind, lost)
        except NetlinkError as error:
            raise _add_refusal(netlink, device, ifindex, kind, error) from error
        if transaction:
            transaction.undo(f"delete the {kind} qdisc of {device}", lambda: _delete_again(ifindex, kind))


def delete(device: str, kind: str = CLSACT) -> None:
    """Delete the qdisc with all its filters, which cannot be taken back.

    Raises NotFoundError when the interface has none of that kind, KernelError.
    """
    with Rtnetlink(device) as netlink:
        ifindex = interface_index(netlink, device)
        try:
            rtnl_tc.delete_qdisc(netlink, ifindex, kind)
        except AnswerLostError as lost:
            _settle(netlink, device, ifindex, "", lost)
        except NetlinkError as error:
            raise _delete_refusal(netlink, device, ifindex, kind, error) from error


def show(device: str | None = None, *, every_kind: bool = False) -> list[QdiscInfo]:
    """The clsact and ingress qdiscs of one interface or of all; ``every_kind``: the other qdiscs too."""
    with Rtnetlink(device or "qdiscs") as netlink:
        if device is None:
            names = {link.ifindex: link.name for link in rtnl_link.list_links(netlink)}
        else:
            names = {interface_index(netlink, device): device}
        return [
            QdiscInfo(names[state.ifindex], *state[1:])
            for state in rtnl_tc.list_qdiscs(netlink)
            if state.ifindex in names and (every_kind or state.kind in (CLSACT, INGRESS))
        ]


def _settle(netlink: NetlinkSocket, device: str, ifindex: int, wanted: str, lost: AnswerLostError) -> None:
    """The answer is lost: fine when the interface now has the qdisc ``wanted`` ('': none)."""
    try:
        kind = rtnl_tc.pseudo_qdisc(netlink, ifindex)
    except OSError as error:
        raise refusals.unknown_outcome(device, lost) from error
    if kind != wanted:
        raise refusals.not_done(device, lost) from lost


def _add_refusal(
    netlink: NetlinkSocket, device: str, ifindex: int, kind: str, error: NetlinkError
) -> BpfctlError:
    if error.errno != errno.EEXIST:
        return refusals.general(f"{device}: cannot add a {kind} qdisc", error)
    there = rtnl_tc.pseudo_qdisc(netlink, ifindex)
    hint = None
    if there != kind:
        hint = f"`bpfctl qdisc del dev {device} {there}` removes it and its filters"
    return AlreadyAttachedError(
        f"{device}: a qdisc of kind {there} is there", errno=errno.EEXIST, text=error.text, hint=hint
    )


def _delete_refusal(
    netlink: NetlinkSocket, device: str, ifindex: int, kind: str, error: NetlinkError
) -> BpfctlError:
    if error.errno not in (errno.ENOENT, errno.EINVAL):
        return refusals.general(f"{device}: cannot delete the {kind} qdisc", error)
    there = rtnl_tc.pseudo_qdisc(netlink, ifindex)
    return NotFoundError(
        f"{device}: no {kind} qdisc: {error.strerror}",
        hint=f"there is one of kind {there}" if there else None,
    )


def _delete_again(ifindex: int, kind: str) -> None:
    with NetlinkSocket() as netlink:
        rtnl_tc.delete_qdisc(netlink, ifindex, kind)
