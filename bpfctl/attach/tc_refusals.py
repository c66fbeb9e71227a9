"""Why a filter request was refused, which filter is in the way, and what to do about it."""

from __future__ import annotations

import errno
from contextlib import suppress

from bpfctl.attach import owner, refusals
from bpfctl.attach.tc_target import Target
from bpfctl.errors import AlreadyAttachedError, AmbiguousError, BpfctlError, NotFoundError
from bpfctl.kernel import rtnl_tc
from bpfctl.kernel.netlink import NetlinkError
from bpfctl.kernel.rtnl_tc import EGRESS, INGRESS, FilterState, Key
from bpfctl.uapi import ProgramType

_FILTERS_SHOWN = 10
# net/core/filter.c, bpf_check_classic
_CLASSIC_RULES = (
    "a classic filter ends with a return, jumps only forwards and within itself, "
    "divides by no constant 0 and reads no scratch word before it is written"
)

# The kernel's words (net/sched/cls_api.c); EINVAL stands for most of them.
_NO_QDISC = "Parent Qdisc doesn't exists"
_NOT_CLASSFUL = "Qdisc not classful"
_SHARED_BLOCK = "This filter block is shared"
_OTHER_KIND = "Specified filter kind does not match existing one"
_OTHER_PROTOCOL = "Protocol mismatch"
_NO_ACTION = "Failed to load TC action module"


def explain(target: Target, key: Key, program_fd: int | None, error: NetlinkError) -> BpfctlError:
    """The error that the user gets to see; ``program_fd`` is None for a deletion."""
    subject = f"{target.request}: cannot {'delete' if program_fd is None else 'attach'} the filter"
    if error.errno == errno.EEXIST:
        return _taken(target, key, error)
    if error.text.startswith(_NO_ACTION):
        from bpfctl.attach import actions

        return actions.no_module(subject, error)
    is_silent = error.errno in (errno.EINVAL, errno.EBADF) and not error.text
    if is_silent and program_fd is not None and not target.request.bytecode:
        unusable = refusals.unusable_program(subject, program_fd, ProgramType.SCHED_CLS)
        if unusable:
            return unusable
    return refusals.general(subject, error, _hint(target, key, error))


def ambiguous(target: Target, found: list[FilterState]) -> AmbiguousError:
    """Several filters fit the request."""
    lines = [_describe(state) for state in found[:_FILTERS_SHOWN]]
    if len(found) > _FILTERS_SHOWN:
        lines.append(f"and {len(found) - _FILTERS_SHOWN} more")
    return AmbiguousError(
        f"{target.request}: {len(found)} bpf filters fit",
        hint="say pref and handle",
        details=tuple(lines),
    )


def nothing_fits(target: Target) -> NotFoundError:
    """No cls_bpf filter fits the request; says what is there instead."""
    wanted = target.request
    words = (f"pref {wanted.pref}" * bool(wanted.pref), f"handle {wanted.handle:#x}" * bool(wanted.handle))
    which = " ".join(["no bpf filter", *filter(None, words)])
    there = rtnl_tc.list_filters(target.netlink, target.place, Key(chain=wanted.chain or 0))
    heads = sorted({(state.pref, state.kind, state.protocol) for state in there})[:_FILTERS_SHOWN]
    listed = ", ".join(f"pref {pref} {kind} (protocol {number:#x})" for pref, kind, number in heads)
    return NotFoundError(
        f"{wanted}: {which}", hint=f"there are {listed}" if listed else "there are no filters"
    )


def no_egress(target: Target) -> NotFoundError:
    """The kernel would hang the filter on ingress, without a word."""
    device = target.request.device
    return NotFoundError(
        f"{device}: its qdisc is of kind ingress, which has no egress hook",
        hint=f"`bpfctl qdisc del dev {device} ingress`, then `bpfctl qdisc add dev {device} clsact`",
    )


def _taken(target: Target, key: Key, error: NetlinkError) -> AlreadyAttachedError:
    there = f"pref {key.pref} handle {key.handle:#x} is taken"
    with suppress(OSError):
        state = rtnl_tc.get_filter(target.netlink, target.place, key)
        if state:
            program = owner.describe_program(state.program_id) if state.program_id else "a classic filter"
            there = f"{_describe(state)}, {program}, is there"
    return AlreadyAttachedError(
        f"{target.request}: {there}",
        errno=error.errno or 0,
        text=error.text,
        hint="`filter replace` takes its place",
    )


def _describe(state: FilterState) -> str:
    name = f" {state.name}" if state.name else ""
    return f"filter pref {state.pref} handle {state.handle:#x} protocol {state.protocol:#x}{name}"


def _hint(target: Target, key: Key, error: NetlinkError) -> str | None:
    wanted = target.request
    if error.text.startswith((_NO_QDISC, _NOT_CLASSFUL)):
        if wanted.parent in (INGRESS, EGRESS):
            return f"`bpfctl qdisc add dev {wanted.device} clsact` makes the hook"
        return "ingress and egress of a clsact qdisc take filters on every interface"
    if error.text.startswith(_SHARED_BLOCK):
        return "the hook shares a block with other interfaces; `filter add block N` reaches it"
    if error.text.startswith((_OTHER_KIND, _OTHER_PROTOCOL)):
        return _what_has_pref(target, key)
    if error.errno == errno.EOPNOTSUPP and wanted.skip_sw:
        return "skip_sw needs a device that runs the program itself"
    if error.errno == errno.EINVAL and not error.text:
        return _other_skip_flags(target, key) or (_CLASSIC_RULES if wanted.bytecode else None)
    return None


def _other_skip_flags(target: Target, key: Key) -> str | None:
    """net/sched/cls_bpf.c, cls_bpf_offload: they stay as they are for the life of a filter."""
    if not (key.pref and key.handle):
        return None
    with suppress(OSError):
        state = rtnl_tc.get_filter(target.netlink, target.place, key)
        if state and state.skip_flags != target.request.skip_flags:
            names = {rtnl_tc.FLAG_SKIP_HW: "skip_hw", rtnl_tc.FLAG_SKIP_SW: "skip_sw"}
            words = names.get(state.skip_flags, "neither skip_hw nor skip_sw")
            return f"the filter that is there has {words}, which a replacement cannot change"
    return None


def _what_has_pref(target: Target, key: Key) -> str | None:
    with suppress(OSError):
        for state in rtnl_tc.list_filters(target.netlink, target.place, Key(key.pref, chain=key.chain or 0)):
            return f"pref {key.pref} is of kind {state.kind} and protocol {state.protocol:#x}"
    return None
