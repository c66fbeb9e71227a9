"""What this process may do, for messages that explain EPERM."""

from __future__ import annotations

from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd

CAPABILITIES = {
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}


def effective_capabilities() -> int:
    """``CapEff`` of /proc/self/status as a bit mask; -1 (everything) when it cannot be read."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return -1


def missing_capabilities(*names: str) -> list[str]:
    """Those of ``names`` that this process lacks; CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON."""
    have = effective_capabilities()
    admin = have >> CAPABILITIES["CAP_SYS_ADMIN"] & 1

    def held(name: str) -> bool:
        return bool(have >> CAPABILITIES[name] & 1) or bool(admin and name in ("CAP_BPF", "CAP_PERFMON"))

    return [name for name in names if not held(name)]


def permission_hint(*capabilities: str) -> str:
    """What may lie behind EPERM, given the capabilities that the call needs."""
    missing = missing_capabilities(*capabilities)
    if missing:
        return f"this process lacks {' and '.join(missing)}; run it as root or grant them"
    return (
        "the capabilities are there; a security module, kernel lockdown, seccomp or a user namespace "
        "(`bpf` needs the initial one) may refuse it"
    )


def raise_memlock() -> bool:
    """Lift RLIMIT_MEMLOCK, against which kernels before 5.11 count maps and programs.

    True when the limit changed, so that a call that got EPERM is worth another try.
    """
    import resource

    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        return False
    return True


def create_map(wanted: bpf.MapAttributes) -> Fd:
    """BPF_MAP_CREATE; OSError.  Before Linux 5.11 RLIMIT_MEMLOCK may have to be raised first."""
    try:
        return Fd(bpf.map_create(wanted))
    except PermissionError:
        if not raise_memlock():
            raise
        return Fd(bpf.map_create(wanted))


def possible_cpus() -> int:
    """Number of possible CPUs: the highest number in /sys/devices/system/cpu/possible, plus one."""
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
