"""A program run by hand: BPF_PROG_TEST_RUN, with packet and context in, verdict, packet and context out.

What the kernel takes differs by program type (net/bpf/test_run.c): it refuses what a type has no use for with
a bare EINVAL, so that is checked here, where it can be said in words.
"""

from __future__ import annotations

import errno

from bpfctl.errors import KernelError, NotSupportedError, UsageError
from bpfctl.inventory import verdicts
from bpfctl.inventory.reference import Reference, open_program
from bpfctl.kernel import bpf, info
from bpfctl.record import NamedTuple
from bpfctl.uapi import ENOTSUPP, ProgramType, type_name

_LEAST_PACKET = 14  # bytes, of an Ethernet header
_ROOM = 1 << 18  # bytes that a program may add to a packet and more: no packet is as large
_CONTEXT_ROOM = 1 << 12

_PACKET_TYPES = frozenset(
    {
        ProgramType.SOCKET_FILTER,
        ProgramType.SCHED_CLS,
        ProgramType.SCHED_ACT,
        ProgramType.XDP,
        ProgramType.CGROUP_SKB,
        ProgramType.LWT_IN,
        ProgramType.LWT_OUT,
        ProgramType.LWT_XMIT,
        ProgramType.LWT_SEG6LOCAL,
        ProgramType.SK_SKB,
        ProgramType.FLOW_DISSECTOR,
        ProgramType.NETFILTER,
    }
)
_REPEATABLE = _PACKET_TYPES | {ProgramType.SK_LOOKUP}
_NO_CONTEXT_OUT = frozenset({ProgramType.FLOW_DISSECTOR, ProgramType.NETFILTER, ProgramType.SK_LOOKUP})


class Run(NamedTuple):
    """The outcome: ``duration`` in ns, the mean of ``repeat`` runs; the last run's bytes as hex digits."""

    type: str
    retval: int
    verdict: str | None  # name of retval
    duration: int | None  # where the kernel measures it
    repeat: int
    data_out: str | None
    ctx_out: str | None


class RunRequest(NamedTuple):
    """What a run is given.  ``data`` None: no packet; ``ctx`` None: a context of zeros."""

    data: bytes | None = None
    ctx: bytes | None = None
    repeat: int = 1
    wants_ctx: bool = False


def program_type(reference: Reference) -> int:
    """The type, as a number, of the program that ``reference`` names."""
    with open_program(reference) as fd:
        return info.prog_info(fd.number).type


def run(reference: Reference, request: RunRequest) -> Run:
    """Run the program that ``reference`` names.

    Raises UsageError for what programs of its type do not take, NotSupportedError for a type that the kernel
    does not run by hand, KernelError for another refusal.
    """
    with open_program(reference) as fd:
        try:
            kind = info.prog_info(fd.number).type
            _check(kind, request)
            result = bpf.prog_test_run(fd.number, _attributes(kind, request))
        except OSError as error:
            raise _refusal(reference, kind, request, error) from error
    return Run(
        type=type_name(ProgramType, kind),
        retval=verdicts.signed(result.retval),
        verdict=verdicts.verdict_name(kind, result.retval),
        duration=result.duration if kind in _REPEATABLE else None,
        repeat=request.repeat,
        data_out=result.data.hex() if kind in _PACKET_TYPES and kind != ProgramType.NETFILTER else None,
        ctx_out=result.ctx.hex() if request.wants_ctx else None,
    )


def _check(kind: int, request: RunRequest) -> None:
    name = type_name(ProgramType, kind)
    if kind in _PACKET_TYPES:
        if request.data is None:
            raise UsageError(f"a program of type {name} needs a packet: data_in is missing")
        if len(request.data) < _LEAST_PACKET:
            raise UsageError(
                f"the packet has {len(request.data)} bytes, less than an Ethernet header ({_LEAST_PACKET})"
            )
    elif request.data is not None:
        raise UsageError(f"a program of type {name} takes no packet", hint="its input is ctx_in")
    if request.repeat != 1 and kind not in _REPEATABLE:
        raise UsageError(f"a program of type {name} cannot be repeated by the kernel")
    if request.wants_ctx and kind in _NO_CONTEXT_OUT:
        raise UsageError(f"a program of type {name} gives no context back")


def _attributes(kind: int, request: RunRequest) -> bpf.RunInput:
    takes_out = kind in _PACKET_TYPES and kind != ProgramType.NETFILTER
    in_place = kind == ProgramType.SYSCALL  # what the program writes to its context is written to ctx_in
    return bpf.RunInput(
        data=request.data or b"",
        ctx=request.ctx or b"",
        repeat=request.repeat if kind in _REPEATABLE else 0,
        data_room=len(request.data or b"") + _ROOM if takes_out else 0,
        ctx_room=_CONTEXT_ROOM if request.wants_ctx and not in_place else 0,
    )


def _refusal(reference: Reference, kind: int, request: RunRequest, error: OSError) -> KernelError:
    number = error.errno or 0
    name = type_name(ProgramType, kind)
    if number in (ENOTSUPP, errno.EOPNOTSUPP):
        return NotSupportedError(
            f"the kernel does not run programs of type {name} by hand", feature=name, errno=number
        )
    return KernelError(
        f"cannot run program {reference} (type {name})",
        call="BPF_PROG_TEST_RUN",
        errno=number,
        hint=_hint(kind, request, number),
    )


def _hint(kind: int, request: RunRequest, number: int) -> str | None:
    if number == errno.EPERM:
        return "running by hand needs CAP_BPF, and CAP_NET_ADMIN or CAP_PERFMON for some types"
    if number == errno.EINTR:
        return "interrupted: fewer repetitions?"
    if number == errno.EAFNOSUPPORT:
        return "ctx_in is a struct bpf_sk_lookup: family, protocol and addresses have to be set"
    if number not in (errno.EINVAL, errno.E2BIG):
        return None
    if kind == ProgramType.XDP and (request.ctx or request.wants_ctx):
        return (
            "ctx_in is a struct xdp_md: data_end the size of the packet, data that of the metadata before it"
        )
    if request.ctx:
        return "the context may be of another size, or set a field that the kernel sets itself"
    if kind in _PACKET_TYPES:
        return "the packet may be larger than one page, which only XDP programs with frags take"
    return "programs of this type want a context: ctx_in"
