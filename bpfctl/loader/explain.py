"""From an errno to a sentence: what the kernel most likely meant, and what to do."""

from __future__ import annotations

import errno

from bpfctl.kernel.bpf import ProgAttributes
from bpfctl.kernel.privilege import permission_hint
from bpfctl.uapi import ENOTSUPP, ProgramType

_NETWORK_TYPES = frozenset(
    {
        ProgramType.SCHED_CLS,
        ProgramType.SCHED_ACT,
        ProgramType.XDP,
        ProgramType.LWT_IN,
        ProgramType.LWT_OUT,
        ProgramType.LWT_XMIT,
        ProgramType.LWT_SEG6LOCAL,
        ProgramType.CGROUP_SKB,
        ProgramType.SK_SKB,
        ProgramType.SK_MSG,
        ProgramType.SOCK_OPS,
        ProgramType.FLOW_DISSECTOR,
    }
)
_TRACING_TYPES = frozenset(
    {
        ProgramType.KPROBE,
        ProgramType.TRACEPOINT,
        ProgramType.PERF_EVENT,
        ProgramType.RAW_TRACEPOINT,
        ProgramType.RAW_TRACEPOINT_WRITABLE,
        ProgramType.TRACING,
        ProgramType.EXT,
        ProgramType.LSM,
    }
)


def program_capabilities(program_type: int) -> tuple[str, ...]:
    """Capabilities that BPF_PROG_LOAD asks for (kernel/bpf/syscall.c, bpf_prog_load)."""
    if program_type in _NETWORK_TYPES:
        return ("CAP_BPF", "CAP_NET_ADMIN")
    if program_type in _TRACING_TYPES:
        return ("CAP_BPF", "CAP_PERFMON")
    return ("CAP_BPF",)


def map_create_hint(number: int, map_type: int, size: int, max_entries: int) -> str | None:
    """A hint for a failed BPF_MAP_CREATE; ``size`` is key plus value in bytes."""
    if number == errno.EPERM:
        return permission_hint("CAP_BPF")
    if number == errno.ENOMEM:
        return f"{max_entries} entries of {size} bytes are more than the kernel will give this process"
    if number == errno.E2BIG:
        return "the map is too large for one allocation: fewer entries, or smaller values"
    if number in (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP):
        if max_entries == 0:
            return "max_entries is 0"
        return f"this kernel may not know map type {map_type}, its flags, or these sizes for it"
    return None


def program_load_hint(number: int, program: ProgAttributes) -> str | None:
    """A hint for a BPF_PROG_LOAD that failed without a verifier log."""
    if number == errno.EPERM:
        return permission_hint(*program_capabilities(program.prog_type))
    if number == errno.E2BIG:
        return f"{len(program.code) // 8} instructions are more than this kernel takes"
    if program.ifindex:
        return "the driver of the device takes no offloaded programs"
    if number in (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP):
        return "this kernel may not know the program type, its attach type, or a flag it was loaded with"
    return None
