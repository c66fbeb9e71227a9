"""What a section's name says about the program in it.

The table is that of libbpf's SEC() definitions.  A name ending in ``+`` there matches the bare name and
the name with ``/`` and anything after it; all others match the whole section name only.  No two rows
match one name, so the order of rows says nothing.
"""

from __future__ import annotations

from bpfctl.objfile.spec import TailCall
from bpfctl.record import NamedTuple
from bpfctl.uapi import AttachType as A
from bpfctl.uapi import MapFlag, ProgramFlag
from bpfctl.uapi import ProgramType as P

# Sections of struct_ops variables, without a leading ``?`` -> flags of their maps.
STRUCT_OPS_FLAGS = {".struct_ops": 0, ".struct_ops.link": int(MapFlag.LINK)}


class SectionKind(NamedTuple):
    """``program_type`` None: the name says nothing, the command that loads it must know the type."""

    program_type: int | None
    attach_type: int = 0
    attach_type_optional: bool = False  # send 0 where the kernel does not know the field
    flags: int = 0  # ProgramFlag
    target: str = ""  # what follows the slash: hook, function, ...
    autoload: bool = True  # False: the name began with ``?``


# section, program type, expected attach type, letters: S sleepable, F XDP frags, O attach type optional
_TABLE: tuple[tuple[str, P, int, str], ...] = (
    ("socket", P.SOCKET_FILTER, 0, ""),
    ("sk_reuseport/migrate", P.SK_REUSEPORT, A.SK_REUSEPORT_SELECT_OR_MIGRATE, ""),
    ("sk_reuseport", P.SK_REUSEPORT, A.SK_REUSEPORT_SELECT, ""),
    ("kprobe+", P.KPROBE, 0, ""),
    ("uprobe+", P.KPROBE, 0, ""),
    ("uprobe.s+", P.KPROBE, 0, "S"),
    ("kretprobe+", P.KPROBE, 0, ""),
    ("uretprobe+", P.KPROBE, 0, ""),
    ("uretprobe.s+", P.KPROBE, 0, "S"),
    ("kprobe.multi+", P.KPROBE, A.TRACE_KPROBE_MULTI, ""),
    ("kretprobe.multi+", P.KPROBE, A.TRACE_KPROBE_MULTI, ""),
    ("kprobe.session+", P.KPROBE, A.TRACE_KPROBE_SESSION, ""),
    ("uprobe.multi+", P.KPROBE, A.TRACE_UPROBE_MULTI, ""),
    ("uretprobe.multi+", P.KPROBE, A.TRACE_UPROBE_MULTI, ""),
    ("uprobe.session+", P.KPROBE, A.TRACE_UPROBE_SESSION, ""),
    ("uprobe.multi.s+", P.KPROBE, A.TRACE_UPROBE_MULTI, "S"),
    ("uretprobe.multi.s+", P.KPROBE, A.TRACE_UPROBE_MULTI, "S"),
    ("uprobe.session.s+", P.KPROBE, A.TRACE_UPROBE_SESSION, "S"),
    ("ksyscall+", P.KPROBE, 0, ""),
    ("kretsyscall+", P.KPROBE, 0, ""),
    ("usdt+", P.KPROBE, 0, ""),
    ("usdt.s+", P.KPROBE, 0, "S"),
    ("tc/ingress", P.SCHED_CLS, A.TCX_INGRESS, ""),
    ("tc/egress", P.SCHED_CLS, A.TCX_EGRESS, ""),
    ("tcx/ingress", P.SCHED_CLS, A.TCX_INGRESS, ""),
    ("tcx/egress", P.SCHED_CLS, A.TCX_EGRESS, ""),
    ("tc", P.SCHED_CLS, 0, ""),
    ("classifier", P.SCHED_CLS, 0, ""),
    ("action", P.SCHED_ACT, 0, ""),
    ("netkit/primary", P.SCHED_CLS, A.NETKIT_PRIMARY, ""),
    ("netkit/peer", P.SCHED_CLS, A.NETKIT_PEER, ""),
    ("tracepoint+", P.TRACEPOINT, 0, ""),
    ("tp+", P.TRACEPOINT, 0, ""),
    ("tracepoint.s+", P.TRACEPOINT, 0, "S"),
    ("tp.s+", P.TRACEPOINT, 0, "S"),
    ("raw_tracepoint+", P.RAW_TRACEPOINT, 0, ""),
    ("raw_tp+", P.RAW_TRACEPOINT, 0, ""),
    ("raw_tracepoint.s+", P.RAW_TRACEPOINT, 0, "S"),
    ("raw_tp.s+", P.RAW_TRACEPOINT, 0, "S"),
    ("raw_tracepoint.w+", P.RAW_TRACEPOINT_WRITABLE, 0, ""),
    ("raw_tp.w+", P.RAW_TRACEPOINT_WRITABLE, 0, ""),
    ("tp_btf+", P.TRACING, A.TRACE_RAW_TP, ""),
    ("tp_btf.s+", P.TRACING, A.TRACE_RAW_TP, "S"),
    ("fentry+", P.TRACING, A.TRACE_FENTRY, ""),
    ("fmod_ret+", P.TRACING, A.MODIFY_RETURN, ""),
    ("fexit+", P.TRACING, A.TRACE_FEXIT, ""),
    ("fentry.s+", P.TRACING, A.TRACE_FENTRY, "S"),
    ("fmod_ret.s+", P.TRACING, A.MODIFY_RETURN, "S"),
    ("fexit.s+", P.TRACING, A.TRACE_FEXIT, "S"),
    ("fsession+", P.TRACING, A.TRACE_FSESSION, ""),
    ("fsession.s+", P.TRACING, A.TRACE_FSESSION, "S"),
    ("fsession.multi+", P.TRACING, A.TRACE_FSESSION_MULTI, ""),
    ("fsession.multi.s+", P.TRACING, A.TRACE_FSESSION_MULTI, "S"),
    ("fentry.multi+", P.TRACING, A.TRACE_FENTRY_MULTI, ""),
    ("fexit.multi+", P.TRACING, A.TRACE_FEXIT_MULTI, ""),
    ("fentry.multi.s+", P.TRACING, A.TRACE_FENTRY_MULTI, "S"),
    ("fexit.multi.s+", P.TRACING, A.TRACE_FEXIT_MULTI, "S"),
    ("freplace+", P.EXT, 0, ""),
    ("lsm+", P.LSM, A.LSM_MAC, ""),
    ("lsm.s+", P.LSM, A.LSM_MAC, "S"),
    ("lsm_cgroup+", P.LSM, A.LSM_CGROUP, ""),
    ("iter+", P.TRACING, A.TRACE_ITER, ""),
    ("iter.s+", P.TRACING, A.TRACE_ITER, "S"),
    ("syscall", P.SYSCALL, 0, "S"),
    ("xdp.frags/devmap", P.XDP, A.XDP_DEVMAP, "F"),
    ("xdp/devmap", P.XDP, A.XDP_DEVMAP, ""),
    ("xdp.frags/cpumap", P.XDP, A.XDP_CPUMAP, "F"),
    ("xdp/cpumap", P.XDP, A.XDP_CPUMAP, ""),
    ("xdp.frags", P.XDP, A.XDP, "F"),
    ("xdp", P.XDP, A.XDP, "O"),
    ("perf_event", P.PERF_EVENT, 0, ""),
    ("lwt_in", P.LWT_IN, 0, ""),
    ("lwt_out", P.LWT_OUT, 0, ""),
    ("lwt_xmit", P.LWT_XMIT, 0, ""),
    ("lwt_seg6local", P.LWT_SEG6LOCAL, 0, ""),
    ("sockops", P.SOCK_OPS, A.CGROUP_SOCK_OPS, "O"),
    ("sk_skb/stream_parser", P.SK_SKB, A.SK_SKB_STREAM_PARSER, "O"),
    ("sk_skb/stream_verdict", P.SK_SKB, A.SK_SKB_STREAM_VERDICT, "O"),
    ("sk_skb/verdict", P.SK_SKB, A.SK_SKB_VERDICT, "O"),
    ("sk_skb", P.SK_SKB, 0, ""),
    ("sk_msg", P.SK_MSG, A.SK_MSG_VERDICT, "O"),
    ("lirc_mode2", P.LIRC_MODE2, A.LIRC_MODE2, "O"),
    ("flow_dissector", P.FLOW_DISSECTOR, A.FLOW_DISSECTOR, "O"),
    ("cgroup_skb/ingress", P.CGROUP_SKB, A.CGROUP_INET_INGRESS, "O"),
    ("cgroup_skb/egress", P.CGROUP_SKB, A.CGROUP_INET_EGRESS, "O"),
    ("cgroup/skb", P.CGROUP_SKB, 0, ""),
    ("cgroup/sock_create", P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE, ""),
    ("cgroup/sock_release", P.CGROUP_SOCK, A.CGROUP_INET_SOCK_RELEASE, ""),
    ("cgroup/sock", P.CGROUP_SOCK, A.CGROUP_INET_SOCK_CREATE, "O"),
    ("cgroup/post_bind4", P.CGROUP_SOCK, A.CGROUP_INET4_POST_BIND, ""),
    ("cgroup/post_bind6", P.CGROUP_SOCK, A.CGROUP_INET6_POST_BIND, ""),
    ("cgroup/bind4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_BIND, ""),
    ("cgroup/bind6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_BIND, ""),
    ("cgroup/connect4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_CONNECT, ""),
    ("cgroup/connect6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_CONNECT, ""),
    ("cgroup/connect_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_CONNECT, ""),
    ("cgroup/sendmsg4", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP4_SENDMSG, ""),
    ("cgroup/sendmsg6", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP6_SENDMSG, ""),
    ("cgroup/sendmsg_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_SENDMSG, ""),
    ("cgroup/recvmsg4", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP4_RECVMSG, ""),
    ("cgroup/recvmsg6", P.CGROUP_SOCK_ADDR, A.CGROUP_UDP6_RECVMSG, ""),
    ("cgroup/recvmsg_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_RECVMSG, ""),
    ("cgroup/getpeername4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_GETPEERNAME, ""),
    ("cgroup/getpeername6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_GETPEERNAME, ""),
    ("cgroup/getpeername_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_GETPEERNAME, ""),
    ("cgroup/getsockname4", P.CGROUP_SOCK_ADDR, A.CGROUP_INET4_GETSOCKNAME, ""),
    ("cgroup/getsockname6", P.CGROUP_SOCK_ADDR, A.CGROUP_INET6_GETSOCKNAME, ""),
    ("cgroup/getsockname_unix", P.CGROUP_SOCK_ADDR, A.CGROUP_UNIX_GETSOCKNAME, ""),
    ("cgroup/sysctl", P.CGROUP_SYSCTL, A.CGROUP_SYSCTL, ""),
    ("cgroup/getsockopt", P.CGROUP_SOCKOPT, A.CGROUP_GETSOCKOPT, ""),
    ("cgroup/setsockopt", P.CGROUP_SOCKOPT, A.CGROUP_SETSOCKOPT, ""),
    ("cgroup/dev", P.CGROUP_DEVICE, A.CGROUP_DEVICE, "O"),
    ("struct_ops+", P.STRUCT_OPS, 0, ""),
    ("struct_ops.s+", P.STRUCT_OPS, 0, "S"),
    ("sk_lookup", P.SK_LOOKUP, A.SK_LOOKUP, ""),
    ("netfilter", P.NETFILTER, A.NETFILTER, ""),
)

_FLAGS = {"S": ProgramFlag.SLEEPABLE, "F": ProgramFlag.XDP_HAS_FRAGS}


def _kind(program_type: P, attach_type: int, letters: str) -> SectionKind:
    flags = sum(_FLAGS.get(letter, 0) for letter in letters)
    return SectionKind(int(program_type), int(attach_type), "O" in letters, flags)


_EXACT = {row[0]: row[1:] for row in _TABLE if not row[0].endswith("+")}
_FAMILIES = {row[0][:-1]: row[1:] for row in _TABLE if row[0].endswith("+")}


def section_kind(name: str) -> SectionKind:
    """What section ``name`` says; unknown names, which any loader command may still choose, say nothing.

    >>> section_kind("kprobe/do_exit").target, section_kind("?xdp").autoload
    ('do_exit', False)
    """
    bare = name.removeprefix("?")
    head, _, target = bare.partition("/")
    if row := _EXACT.get(bare):
        kind = _kind(*row)
    elif row := _FAMILIES.get(head):
        kind = _kind(*row)._replace(target=target)
    else:
        kind = SectionKind(None)
    return kind._replace(autoload=bare == name)


def is_struct_ops_section(name: str) -> bool:
    """Whether a data section of that name holds struct_ops variables.

    >>> is_struct_ops_section("?.struct_ops.link"), is_struct_ops_section("struct_ops/init")
    (True, False)
    """
    return name.removeprefix("?") in STRUCT_OPS_FLAGS


def tail_call(name: str) -> TailCall | None:
    """The program array and slot that a section named ``ID/KEY`` asks for, as iproute2 scans it (``%i/%i``).

    Both are decimal, ``0x`` hexadecimal or ``0`` octal; what follows the key is ignored.  Numbers wrap at
    32 bits, as the map's ``id`` and the array's index do.

    >>> tail_call("0x2a/010")
    TailCall(map_id=42, key=8)
    """
    map_id = _scan_integer(name)
    if map_id is None or not map_id[1].startswith("/"):
        return None
    key = _scan_integer(map_id[1][1:])
    return None if key is None else TailCall(map_id[0] & 0xFFFFFFFF, key[0] & 0xFFFFFFFF)


def _scan_integer(text: str) -> tuple[int, str] | None:
    """An integer at the start of ``text`` by the rules of scanf's ``%i``, and what follows it."""
    text = text.lstrip(" \t\n\v\f\r")
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits[:2] in ("0x", "0X"):
        base, allowed, digits = 16, "0123456789abcdefABCDEF", digits[2:]
    elif digits.startswith("0"):
        base, allowed = 8, "01234567"
    else:
        base, allowed = 10, "0123456789"
    rest = digits.lstrip(allowed)
    number = digits[: len(digits) - len(rest)]
    if not number:
        return None
    # Only 32 bits will be kept, and digits beyond the last 64 are multiples of that in every base.
    value = int(number[-64:], base)
    return (-value if text.startswith("-") else value), rest
