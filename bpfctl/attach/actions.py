"""Actions of traffic control: requests by name, and the verbs on actions that stand alone."""

from __future__ import annotations

import errno

from bpfctl.attach import refusals
from bpfctl.attach.interfaces import interface_index
from bpfctl.attach.session import Rtnetlink
from bpfctl.errors import AlreadyAttachedError, BpfctlError, NotFoundError, NotSupportedError
from bpfctl.kernel import rtnl_action, rtnl_link
from bpfctl.kernel.netlink import NetlinkError, NetlinkSocket
from bpfctl.kernel.privilege import missing_capabilities
from bpfctl.kernel.rtnl_action import Action, ActionState, ActionStats, decode, decode_police
from bpfctl.kernel.rtnl_police import ATM, ETHERNET, Police
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

    from bpfctl.loader.transaction import Transaction

__all__ = [
    "ATM",
    "CHANCES",
    "CONTROLS",
    "ETHERNET",
    "GOTO_CHAIN",
    "JUMP",
    "MIRRED",
    "Action",
    "ActionRequest",
    "ActionState",
    "ActionStats",
    "Police",
    "add",
    "decode",
    "decode_police",
    "delete",
    "device_names",
    "flush",
    "get",
    "replace",
    "resolve_device",
    "show",
]

# TC_ACT_* (include/uapi/linux/pkt_cls.h); jump and goto carry a number in the lower bits
CONTROLS = {
    "pass": 0,
    "ok": 0,
    "reclassify": 1,
    "drop": 2,
    "shot": 2,
    "pipe": 3,
    "stolen": 4,
    "trap": 8,
    "continue": -1,
}
JUMP, GOTO_CHAIN = 0x10000000, 0x20000000
CHANCES = ("none", "netrand", "determ")  # PGACT_*
MIRRED = {
    ("egress", "redirect"): 1,
    ("egress", "mirror"): 2,
    ("ingress", "redirect"): 3,
    ("ingress", "mirror"): 4,
}

_NO_MODULE = "Failed to load TC action module"
_NO_KIND = ("Specified TC action kind not found", "Cannot flush unknown TC action")


class ActionRequest(NamedTuple):
    """An action as the user names it.

    ``source``: of a ``bpf``, where its program comes from.  ``mirred`` and ``device``: of a ``mirred``,
    one of MIRRED's numbers and the interface that packets go to.  ``random``: of a ``gact``, a number of
    CHANCES, the verdict by chance, and a value up to 10000 that says how often.  ``police``: of a ``police``.
    """

    kind: str
    control: int
    number: int = 0
    cookie: bytes = b""
    source: Any = None
    mirred: int = 0
    device: str = ""
    random: tuple[int, int, int] = (0, 0, 0)
    police: Police | None = None


def resolve_device(name: str) -> int:
    """``ifindex`` of the interface that packets are sent to."""
    with Rtnetlink(name) as netlink:
        return interface_index(netlink, name)


def add(actions: list[Action], *, transaction: Transaction | None = None) -> None:
    """Make actions, all or none.  Raises AlreadyAttachedError, NotSupportedError, KernelError."""
    _set(actions, rtnl_action.ADD, transaction)


def replace(actions: list[Action], *, transaction: Transaction | None = None) -> None:
    """Make actions, in the place of those that have the same index."""
    _set(actions, rtnl_action.REPLACE, transaction)


def delete(kind: str, number: int) -> None:
    """Delete one action.  Raises NotFoundError, KernelError."""
    with Rtnetlink("actions") as netlink:
        try:
            rtnl_action.delete_action(netlink, kind, number)
        except NetlinkError as error:
            raise _explain(
                f"cannot delete action {kind} index {number}", error, "a filter uses it"
            ) from error


def get(kind: str, number: int) -> list[ActionState]:
    """The one action of this index.  Raises NotFoundError, KernelError."""
    with Rtnetlink("actions") as netlink:
        try:
            return rtnl_action.get_action(netlink, kind, number)
        except NetlinkError as error:
            raise _explain(f"cannot show action {kind} index {number}", error) from error


def flush(kind: str) -> None:
    """Delete all actions of a kind.  Raises KernelError when a filter uses one."""
    with Rtnetlink("actions") as netlink:
        try:
            rtnl_action.flush_actions(netlink, kind)
        except NetlinkError as error:
            subject = f"cannot flush actions of kind {kind}"
            raise _explain(subject, error, "a filter uses one of them") from error


def show(kind: str) -> list[tuple[int, list[ActionState]]]:
    """The actions of a kind as the kernel lists them, with the number that it gives for each message."""
    with Rtnetlink("actions") as netlink:
        return rtnl_action.list_actions(netlink, kind)


def device_names() -> dict[int, str]:
    """Names of interfaces by index."""
    with Rtnetlink("interfaces") as netlink:
        return {link.ifindex: link.name for link in rtnl_link.list_links(netlink)}


def _set(actions: list[Action], flags: int, transaction: Transaction | None) -> None:
    with Rtnetlink("actions") as netlink:
        try:
            rtnl_action.set_actions(netlink, actions, flags)
        except NetlinkError as error:
            kinds = " ".join(action.kind for action in actions)
            raise _explain(f"cannot set action {kinds}", error) from error
    if transaction and flags == rtnl_action.ADD:
        for action in actions:
            if action.number:
                transaction.undo(f"delete action {action.kind} index {action.number}", _undo(action))


def _undo(action: Action) -> Any:
    def remove() -> None:
        with NetlinkSocket() as netlink:
            rtnl_action.delete_action(netlink, action.kind, action.number)

    return remove


def _explain(subject: str, error: NetlinkError, when_used: str | None = None) -> BpfctlError:
    """The error that the user gets to see; the kernel says EPERM of an action ``when_used``."""
    if error.text.startswith(_NO_MODULE):
        return no_module(subject, error)
    if error.errno == errno.ENOENT or error.text.startswith(_NO_KIND):
        return NotFoundError(f"{subject}: {error.strerror}")
    if error.errno == errno.EEXIST:
        hint = "`action replace` takes its place"
        return AlreadyAttachedError(subject, errno=errno.EEXIST, text=error.text, hint=hint)
    is_used = error.errno == errno.EPERM and not missing_capabilities("CAP_NET_ADMIN")
    return refusals.general(subject, error, when_used if is_used else None)


def no_module(subject: str, error: NetlinkError) -> NotSupportedError:
    """The kernel was built without the kind of action."""
    hint = "an option of the kernel: CONFIG_NET_ACT_BPF, NET_ACT_POLICE, NET_ACT_GACT for a bare verdict"
    return NotSupportedError(
        f"{subject}: {error.strerror}", feature="tc action", errno=error.errno or 0, hint=hint
    )
