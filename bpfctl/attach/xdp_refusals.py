"""Why an XDP request was refused, who is in the way, and what to do about it."""

from __future__ import annotations

import errno

from bpfctl.attach import owner, refusals
from bpfctl.errors import (
    AlreadyAttachedError,
    AmbiguousError,
    BpfctlError,
    KernelError,
    NotFoundError,
)
from bpfctl.kernel.netlink import NetlinkError
from bpfctl.record import NamedTuple
from bpfctl.uapi import ProgramType

# The kernel's words (net/core/dev.c, dev_xdp_attach); one errno stands for several of them.
MISMATCH = "Active program does not match expected"
_EXCLUSIVE = "Native and generic XDP can't be active at the same time"
_SEVERAL = "More than one program loaded, unset mode is ambiguous"
_HELD_BY_LINK = "Can't replace active BPF XDP link"
_TAKEN = "XDP program already attached"


class Situation(NamedTuple):
    """What was asked for, and what is there: (mode, program id) of each slot in use.

    ``program_fd`` is -1 when a program was to be taken off.
    """

    device: str
    ifindex: int
    mode: str
    program_fd: int
    programs: tuple[tuple[str, int], ...]

    @property
    def subject(self) -> str:
        return f"{self.device}: cannot {'detach' if self.program_fd < 0 else 'attach'} as {self.mode}"

    def occupant(self) -> tuple[str, int] | None:
        """The program in the slot that was asked for; for ``xdp`` the first there is."""
        fitting = [entry for entry in self.programs if self.mode in ("xdp", entry[0])]
        return fitting[0] if fitting else None


def explain(situation: Situation, error: NetlinkError) -> BpfctlError:
    """The error that the user gets to see."""
    if error.text == _EXCLUSIVE:
        return other_slot(situation)
    if error.text == _SEVERAL:
        return _ambiguous(situation)
    occupant = situation.occupant()
    if occupant and error.text in (_TAKEN, MISMATCH, _HELD_BY_LINK):
        return _occupied(situation, error, *occupant)
    if error.errno in (errno.EINVAL, errno.EBADF) and not error.text and situation.program_fd >= 0:
        unusable = refusals.unusable_program(situation.subject, situation.program_fd, ProgramType.XDP)
        if unusable:
            return unusable
    return refusals.general(situation.subject, error, _hint(situation, error))


def other_slot(situation: Situation) -> BpfctlError:
    """The only program is in a slot that the request does not stand for."""
    device, programs = situation.device, situation.programs
    there = _list(programs) or "a program of the other mode is attached"
    commands = " or ".join(f"`bpfctl link set dev {device} {mode} off`" for mode, _ in programs)
    if situation.program_fd < 0:
        return NotFoundError(
            f"{device}: nothing to take off as {situation.mode}: {there}", hint=f"use {commands}"
        )
    return AlreadyAttachedError(
        f"{device}: {there}", errno=errno.EEXIST, text=_EXCLUSIVE, hint=f"{commands} removes it"
    )


def keeps_changing(situation: Situation, tries: int) -> BpfctlError:
    """Somebody else replaced the program each time that this request was about to."""
    return KernelError(
        f"{situation.subject}: the attached program changed each of the {tries} times that it was looked at",
        errno=errno.EBUSY,
        hint="another loader manages this interface",
    )


def _occupied(situation: Situation, error: NetlinkError, mode: str, program_id: int) -> BpfctlError:
    there = f"{owner.describe_program(program_id)} is attached as {mode}"
    hint = "`bpfctl -force` replaces it"
    if error.text == _HELD_BY_LINK:
        link_id = owner.find_xdp_link(situation.ifindex, program_id)
        there += f" by {owner.describe_link(link_id)}" if link_id else " by a bpf_link"
        command = f"`bpftool link detach id {link_id}`" if link_id else "`bpftool link detach`"
        hint = f"its owner has to let go of it; {command} takes it away from the owner"
    elif error.text == MISMATCH:
        hint = "it is not the program that was to be replaced"
    return AlreadyAttachedError(
        f"{situation.device}: {there}", errno=error.errno or 0, text=error.text, hint=hint
    )


def _ambiguous(situation: Situation) -> BpfctlError:
    modes = " or ".join(mode for mode, _ in situation.programs)
    return AmbiguousError(f"{situation.device}: {_list(situation.programs)}", hint=f"say {modes}")


def _list(programs: tuple[tuple[str, int], ...]) -> str:
    words = (f"{owner.describe_program(number)} is attached as {mode}" for mode, number in programs)
    return "; ".join(words)


def _hint(situation: Situation, error: NetlinkError) -> str | None:
    if situation.mode == "xdpoffload":
        return "the device has to support XDP offload, and the program has to be loaded for this device"
    if situation.mode == "xdpdrv" and error.errno == errno.EOPNOTSUPP:
        return "xdpgeneric works on every interface"
    if "MTU" in error.text or "frags" in error.text or error.errno == errno.ERANGE:
        return "lower the MTU, or load the program as one that takes fragments (section xdp.frags)"
    return None
