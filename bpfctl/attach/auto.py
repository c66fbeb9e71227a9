"""Attaching a program where its section's name says: ``SEC("fentry/tcp_connect")``, ``SEC("tp/sched/...")``.

The name's part before the slash is the family; each family has a module.  All give a bpf_link, so that what
is attached stays as long as its link is pinned.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from bpfctl.errors import BpfctlError, printable
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program
from bpfctl.objfile.spec import ProgramSpec
from bpfctl.uapi import ProgramType

_TRACING = "tracing:attach"
# family: module:function, and what has to follow the slash ("": nothing, the section's name is not read)
_FAMILIES = {
    **dict.fromkeys(("kprobe", "kretprobe"), ("kprobe:attach", "FUNCTION")),
    **dict.fromkeys(("ksyscall", "kretsyscall"), ("kprobe:attach_syscall", "SYSCALL")),
    **dict.fromkeys(
        ("kprobe.multi", "kretprobe.multi", "kprobe.session"), ("kprobe_multi:attach", "PATTERN")
    ),
    **dict.fromkeys(("uprobe", "uretprobe"), ("uprobe:attach", "FILE:FUNCTION")),
    **dict.fromkeys(
        ("uprobe.multi", "uretprobe.multi", "uprobe.session"), ("uprobe:attach_multi", "FILE:PATTERN")
    ),
    "usdt": ("usdt:attach", "FILE:PROVIDER:NAME"),
    **dict.fromkeys(("tp", "tracepoint"), ("tracepoint:attach", "CATEGORY/NAME")),
    **dict.fromkeys(("raw_tp", "raw_tracepoint"), ("raw_tracepoint:attach", "NAME")),
    **dict.fromkeys(("fentry", "fexit", "fmod_ret", "fsession", "freplace"), (_TRACING, "FUNCTION")),
    **dict.fromkeys(("fentry.multi", "fexit.multi", "fsession.multi"), ("tracing_multi:attach", "PATTERN")),
    "tp_btf": (_TRACING, "NAME"),
    "lsm": (_TRACING, "HOOK"),
    "iter": (_TRACING, "TARGET"),
}
_VARIANTS = (".s", ".w")  # sleepable, and a raw tracepoint that may be written to: attached alike

_CGROUP = "`bpftool cgroup attach CGROUP ATTACH_TYPE pinned PATH`"
# What attaches the others, by type; for a program pinned at PATH.
_OTHERS = {
    ProgramType.XDP: "`bpfctl link set dev DEV xdp pinned PATH`",
    ProgramType.SCHED_CLS: "`bpfctl filter add dev DEV ingress bpf da pinned PATH`",
    ProgramType.SCHED_ACT: "`tc actions add action bpf object-pinned PATH`",
    ProgramType.LWT_IN: "`ip route add ... encap bpf in pinned PATH`",
    ProgramType.LWT_OUT: "`ip route add ... encap bpf out pinned PATH`",
    ProgramType.LWT_XMIT: "`ip route add ... encap bpf xmit pinned PATH`",
    ProgramType.LWT_SEG6LOCAL: "`ip -6 route add ... encap seg6local action End.BPF endpoint pinned PATH`",
    ProgramType.FLOW_DISSECTOR: "`bpftool prog attach pinned PATH flow_dissector`",
    **dict.fromkeys(
        (ProgramType.SK_SKB, ProgramType.SK_MSG), "`bpftool prog attach pinned PATH ATTACH_TYPE MAP`"
    ),
    **dict.fromkeys(
        (
            ProgramType.CGROUP_SKB,
            ProgramType.CGROUP_SOCK,
            ProgramType.CGROUP_SOCK_ADDR,
            ProgramType.CGROUP_DEVICE,
            ProgramType.CGROUP_SYSCTL,
            ProgramType.CGROUP_SOCKOPT,
            ProgramType.SOCK_OPS,
        ),
        _CGROUP,
    ),
}
_NOBODY = "pin it without autoattach: the application that uses it attaches it itself"


def family(spec: ProgramSpec) -> str:
    """The family of a section's name: ``fentry.s/do_exit`` is of ``fentry``.

    >>> from types import SimpleNamespace
    >>> [family(SimpleNamespace(section=name)) for name in ("raw_tp.w/x", "kprobe.multi/y*", "xdp")]
    ['raw_tp', 'kprobe.multi', 'xdp']
    """
    name = spec.section.partition("/")[0]
    variant = next((variant for variant in _VARIANTS if name.endswith(variant)), "")
    return name.removesuffix(variant)


def check(spec: ProgramSpec, path: str, *, has_target: bool = False) -> None:
    """BpfctlError when the section of ``spec``, of the object ``path``, does not say where to attach it.

    ``has_target``: the command says the function, for programs that are loaded for one.
    """
    who = f"{path}: program {printable(spec.name)} (section {printable(spec.section)}) cannot be attached"
    found = _FAMILIES.get(family(spec))
    if found is None:
        raise BpfctlError(f"{who} by the name of its section", hint=_other(spec))
    if not spec.target and not (has_target and found[0] == _TRACING):
        name = f'SEC("{spec.section}/{found[1]}")'
        raise BpfctlError(f"{who}: the section does not say where", hint=f"it would be {name}")


def _other(spec: ProgramSpec) -> str:
    name = family(spec)
    if spec.program_type == ProgramType.STRUCT_OPS:
        return "`bpfctl prog loadall FILE DIRECTORY autoattach` registers the struct_ops map that has it"
    command = _CGROUP if name == "lsm_cgroup" else _OTHERS.get(ProgramType(spec.program_type or 0))
    return f"pin it without autoattach; then {command} attaches it" if command else _NOBODY


def attach(program: Program) -> Fd:
    """Attach ``program``, which :func:`check` has let pass, and return the link, which the caller closes.

    Raises KernelError with what was tried, NotSupportedError for what the kernel lacks, NotFoundError for a
    function or tracepoint that is not there.
    """
    module, _, function = _FAMILIES[family(program.spec)][0].partition(":")
    call: Callable[[Program], Fd] = getattr(import_module(f"bpfctl.attach.{module}"), function)
    return call(program)
