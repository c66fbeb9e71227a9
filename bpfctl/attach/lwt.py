"""Programs in lightweight tunnels: which hook takes which program, and why the kernel refuses one."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from bpfctl.attach import refusals
from bpfctl.errors import BpfctlError, NotSupportedError
from bpfctl.kernel.netlink import NetlinkError
from bpfctl.kernel.rtnl_route import AF_INET6, BPF, ENDPOINT, SEG6LOCAL, Encap, EncapProgram, Nexthop
from bpfctl.uapi import ProgramType

__all__ = ["ENDPOINT", "HOOK_TYPES", "SEG6LOCAL", "Encap", "Nexthop", "explain", "new_encap"]

HOOK_TYPES = {
    "in": ProgramType.LWT_IN,
    "out": ProgramType.LWT_OUT,
    "xmit": ProgramType.LWT_XMIT,
    ENDPOINT: ProgramType.LWT_SEG6LOCAL,
}
HEADROOM_LIMIT = 256  # bytes, LWT_BPF_MAX_HEADROOM (net/core/lwt_bpf.c)


def new_encap(programs: Iterable[tuple[str, int, str]], headroom: int = 0) -> Encap:
    """A tunnel of (hook, descriptor, name); its hooks say of which kind it is."""
    members = tuple(EncapProgram(*program) for program in programs)
    kind = SEG6LOCAL if any(member.hook == ENDPOINT for member in members) else BPF
    return Encap(kind, members, headroom)


def explain(subject: object, encaps: Sequence[Encap], family: int, error: NetlinkError) -> BpfctlError | None:
    """The error when the programs or their tunnels are why the kernel refused, else None.

    It says nothing of its own about a wrong program type (EINVAL), a wrong descriptor (EINVAL) or a
    headroom that is too large (ERANGE).
    """
    if error.errno in (errno.EINVAL, errno.EBADF) and not error.text:
        return _unusable(subject, encaps) or _wrong_family(subject, encaps, family)
    if error.errno == errno.ERANGE and any(encap.headroom > HEADROOM_LIMIT for encap in encaps):
        hint = f"the kernel takes headroom up to {HEADROOM_LIMIT} bytes"
        return refusals.general(str(subject), error, hint)
    if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        return _not_supported(subject, encaps, error)
    return None


def _unusable(subject: object, encaps: Sequence[Encap]) -> BpfctlError | None:
    for encap in encaps:
        for program in encap.programs:
            wanted = HOOK_TYPES[program.hook]
            found = refusals.unusable_program(f"{subject}: {program.hook}", program.fd, wanted)
            if found:
                return found
    return None


def _wrong_family(subject: object, encaps: Sequence[Encap], family: int) -> BpfctlError | None:
    if family != AF_INET6 and any(encap.kind == SEG6LOCAL for encap in encaps):
        return BpfctlError(f"{subject}: seg6local works on IPv6 routes only")
    return None


def _not_supported(subject: object, encaps: Sequence[Encap], error: NetlinkError) -> BpfctlError | None:
    if not encaps:
        return None
    options = {"CONFIG_IPV6_SEG6_BPF" if e.kind == SEG6LOCAL else "CONFIG_LWTUNNEL_BPF" for e in encaps}
    return NotSupportedError(
        f"{subject}: {error.strerror}",
        feature="programs in lightweight tunnels",
        errno=error.errno or 0,
        hint=f"the kernel needs {' and '.join(sorted(options))}",
    )
