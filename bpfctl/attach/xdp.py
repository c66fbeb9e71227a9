"""XDP programs on network interfaces, attached by rtnetlink as ip(8) does.

An interface has three slots: native (in the driver), generic (behind it) and offloaded (in the
device).  Native and generic exclude each other.
"""

from __future__ import annotations

import errno
import os

from bpfctl.attach import refusals, xdp_refusals
from bpfctl.attach.interfaces import interface_index
from bpfctl.attach.session import Rtnetlink
from bpfctl.kernel import bpf, info, rtnl_link
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.netlink import AnswerLostError, NetlinkError, NetlinkSocket
from bpfctl.kernel.rtnl_link import LinkState, XdpSlots
from bpfctl.record import TYPE_CHECKING, NamedTuple, StrEnum
from bpfctl.uapi import Command, ProgramType

if TYPE_CHECKING:
    from bpfctl.loader.transaction import Transaction

_TRIES = 5
_NO_PROGRAM = -1


class XdpMode(StrEnum):
    """Which slot, in the words of ``ip link set``; ANY leaves native or generic to the kernel."""

    ANY = "xdp"
    GENERIC = "xdpgeneric"
    NATIVE = "xdpdrv"
    OFFLOAD = "xdpoffload"


_FLAGS = {
    XdpMode.ANY: 0,
    XdpMode.GENERIC: rtnl_link.XDP_FLAGS_SKB_MODE,
    XdpMode.NATIVE: rtnl_link.XDP_FLAGS_DRV_MODE,
    XdpMode.OFFLOAD: rtnl_link.XDP_FLAGS_HW_MODE,
}


class XdpChange(NamedTuple):
    """What a verb did.  Program ids, 0 for none: ``program_id`` is there now, ``replaced_id`` was."""

    device: str
    ifindex: int
    mode: XdpMode  # as asked for
    program_id: int
    replaced_id: int


class InterfaceInfo(NamedTuple):
    """An interface and its XDP programs: (mode, program id) of each slot in use.

    ``attached`` is the kernel's summary, IFLA_XDP_ATTACHED: 0 none, 1 native, 2 generic, 3 offloaded,
    4 several.
    """

    ifindex: int
    name: str
    flags: int
    mtu: int
    operstate: int
    attached: int
    programs: tuple[tuple[XdpMode, int], ...]


def attach(
    device: str,
    program_fd: int,
    *,
    mode: XdpMode = XdpMode.ANY,
    force: bool = False,
    expected_fd: int | None = None,
    transaction: Transaction | None = None,
) -> XdpChange:
    """Attach ``program_fd`` to an empty slot, or in the place of the program that is in it.

    ``expected_fd``: take the place of that very program, and of no other.  ``force``: take the place of
    whatever is there; should it change meanwhile, the newcomer is looked at and replaced in its turn.

    Raises AlreadyAttachedError (with who is there), NotFoundError (no such interface), KernelError.
    """
    with Rtnetlink(device) as netlink:
        request = _request(netlink, device, mode, program_fd)
        if force:
            return _exchange(request, transaction)
        try:
            if expected_fd is not None:
                return _replace(request, info.prog_info(expected_fd).id, expected_fd, transaction)
            return _fill(request, transaction)
        except NetlinkError as error:
            raise xdp_refusals.explain(_situation(request), error) from error


def detach(
    device: str, *, mode: XdpMode = XdpMode.ANY, transaction: Transaction | None = None
) -> XdpChange | None:
    """Take the program out of the slot; None when the interface has none in any.

    Raises NotFoundError where the program is in another slot than ``mode`` stands for, KernelError.
    """
    with Rtnetlink(device) as netlink:
        request = _request(netlink, device, mode, _NO_PROGRAM)
        slots = request.state().xdp
        if not _programs(slots):
            return None
        if not request.occupant(slots):
            raise xdp_refusals.other_slot(_situation(request))
        return _exchange(request, transaction)


def list_interfaces(device: str | None = None) -> list[InterfaceInfo]:
    """Every interface of the network namespace, or the one named."""
    with Rtnetlink(device or "interfaces") as netlink:
        if device is None:
            return [_interface(link) for link in rtnl_link.list_links(netlink)]
        return [_interface(rtnl_link.get_link(netlink, interface_index(netlink, device)))]


def _interface(link: LinkState) -> InterfaceInfo:
    return InterfaceInfo(
        link.ifindex,
        link.name,
        link.flags,
        link.mtu,
        link.operstate,
        link.xdp.attached,
        _programs(link.xdp),
    )


def _by_mode(slots: XdpSlots) -> dict[XdpMode, int]:
    """Program ids by mode, in the order in which ip(8) lists them."""
    return {
        XdpMode.GENERIC: slots.generic,
        XdpMode.NATIVE: slots.native,
        XdpMode.OFFLOAD: slots.offloaded,
    }


def _programs(slots: XdpSlots) -> tuple[tuple[XdpMode, int], ...]:
    return tuple((mode, number) for mode, number in _by_mode(slots).items() if number)


# --- one change ---


class _Request(NamedTuple):
    """What is to be in which slot: ``program_fd`` -1 and ``program_id`` 0 for no program."""

    netlink: NetlinkSocket
    device: str
    ifindex: int
    mode: XdpMode
    program_fd: int
    program_id: int

    def state(self) -> LinkState:
        return rtnl_link.get_link(self.netlink, self.ifindex)

    def occupant(self, slots: XdpSlots) -> int:
        """Id of the program in the slot.  For ANY the only one, wherever it is."""
        if self.mode is XdpMode.ANY:
            return slots.native or slots.generic or slots.offloaded
        return _by_mode(slots)[self.mode]

    def change(self, replaced_id: int) -> XdpChange:
        return XdpChange(self.device, self.ifindex, self.mode, self.program_id, replaced_id)


def _request(netlink: NetlinkSocket, device: str, mode: XdpMode, program_fd: int) -> _Request:
    ifindex = interface_index(netlink, device)
    number = 0 if program_fd == _NO_PROGRAM else _program_id(device, program_fd)
    return _Request(netlink, device, ifindex, mode, program_fd, number)


def _program_id(device: str, program_fd: int) -> int:
    try:
        return info.prog_info(program_fd).id
    except OSError as error:
        subject = f"{device}: cannot attach"
        unusable = refusals.unusable_program(subject, program_fd, ProgramType.XDP)
        raise unusable or refusals.general(subject, error) from error


def _exchange(request: _Request, transaction: Transaction | None) -> XdpChange:
    """Replace, or take off, what is in the slot: the kernel is told what that is, so no other is hit."""
    tried: XdpSlots | None = None
    for _ in range(_TRIES):
        slots = request.state().xdp
        if slots == tried and request.mode is XdpMode.ANY:
            # Nobody interferes: the program is not in the slot that ANY stands for on this device.
            raise xdp_refusals.other_slot(_situation(request))
        tried = slots
        try:
            return _replace_known(request, request.occupant(slots), transaction)
        except FileNotFoundError:
            tried = None  # the program went away meanwhile
        except NetlinkError as error:
            if error.text != xdp_refusals.MISMATCH:
                raise xdp_refusals.explain(_situation(request), error) from error
    raise xdp_refusals.keeps_changing(_situation(request), _TRIES)


def _fill(request: _Request, transaction: Transaction | None) -> XdpChange:
    _send(request, rtnl_link.XDP_FLAGS_UPDATE_IF_NOEXIST, None, 0)
    _register_undo(request, _NO_PROGRAM, transaction)
    return request.change(replaced_id=0)


def _replace_known(request: _Request, occupant: int, transaction: Transaction | None) -> XdpChange:
    """Replace the program with id ``occupant`` (0: none).  FileNotFoundError: it does not exist any more."""
    if not occupant:
        return _replace(request, 0, _NO_PROGRAM, transaction)
    try:
        opened = Fd(bpf.get_fd_by_id(Command.PROG_GET_FD_BY_ID, occupant))
    except PermissionError:  # by id needs CAP_SYS_ADMIN
        return _overwrite(request, occupant, transaction)
    with opened:
        return _replace(request, occupant, opened.number, transaction)


def _replace(
    request: _Request, occupant: int, occupant_fd: int, transaction: Transaction | None
) -> XdpChange:
    _send(request, 0, occupant_fd, occupant)
    _register_undo(request, occupant_fd, transaction)
    return request.change(replaced_id=occupant)


def _overwrite(request: _Request, occupant: int, transaction: Transaction | None) -> XdpChange:
    """What ip(8) always does: the slot is set, whatever is in it by now."""
    _send(request, 0, None, occupant)
    if not request.program_id and request.occupant(request.state().xdp) == occupant:
        raise xdp_refusals.other_slot(_situation(request))
    if transaction:
        transaction.undo(f"put program {occupant} back on {request.device}", _cannot_restore)
    return request.change(replaced_id=occupant)


def _send(request: _Request, flags: int, expected_fd: int | None, occupant: int) -> None:
    """The one message that changes something; ``NetlinkError`` when the kernel refuses it."""
    flags |= _FLAGS[request.mode]
    try:
        rtnl_link.set_xdp(request.netlink, request.ifindex, request.program_fd, flags, expected_fd)
    except AnswerLostError as error:
        _settle(request, occupant, error)


def _settle(request: _Request, occupant: int, lost: AnswerLostError) -> None:
    """The answer is lost: fine when the slot is now as it should be, else a KernelError."""
    try:
        now = request.occupant(request.state().xdp)
    except OSError as error:
        raise refusals.unknown_outcome(request.device, lost) from error
    done = now == request.program_id if request.program_id else now != occupant
    if not done:
        raise refusals.not_done(request.device, lost) from lost


# --- taking it back ---


def _register_undo(request: _Request, occupant_fd: int, transaction: Transaction | None) -> None:
    """Put ``occupant_fd`` (-1: nothing) back, if the slot then still holds what this request put there."""
    if transaction is None:
        return
    ours, theirs = (_held(fd, transaction) for fd in (request.program_fd, occupant_fd))
    action = "take the XDP program off" if theirs == _NO_PROGRAM else "put the XDP program back on"

    def restore() -> None:
        with NetlinkSocket() as netlink:
            _restore(netlink, request.ifindex, _FLAGS[request.mode], ours, theirs)

    transaction.undo(f"{action} {request.device}", restore)


def _held(fd: int, transaction: Transaction) -> int:
    """A duplicate that lives as long as the transaction: the caller may close the original before."""
    return fd if fd == _NO_PROGRAM else transaction.hold(Fd(os.dup(fd))).number


def _restore(netlink: NetlinkSocket, ifindex: int, flags: int, ours: int, theirs: int) -> None:
    try:
        rtnl_link.set_xdp(netlink, ifindex, theirs, flags, expected_fd=ours)
    except NetlinkError as error:
        if error.text != xdp_refusals.MISMATCH and error.errno != errno.ENODEV:
            raise


def _cannot_restore() -> None:
    raise PermissionError(errno.EPERM, "opening it by id needs CAP_SYS_ADMIN")


def _situation(request: _Request) -> xdp_refusals.Situation:
    """What an error message needs to know, slots read again."""
    try:
        programs = _programs(request.state().xdp)
    except OSError:  # the interface is gone, most likely; the refusal itself says so
        programs = ()
    return xdp_refusals.Situation(request.device, request.ifindex, request.mode, request.program_fd, programs)
