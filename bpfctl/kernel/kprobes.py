"""kprobes: what cannot be probed, and what the functions behind system calls are called."""

from __future__ import annotations

from bpfctl.kernel import syscall

# By machine (include/linux/syscalls.h and arch/*/include/asm/syscall_wrapper.h).
_PREFIXES = {
    "x86_64": "__x64_sys_",
    "aarch64": "__arm64_sys_",
    "s390x": "__s390x_sys_",
    "riscv64": "__riscv_sys_",
    "ppc64le": "__powerpc_sys_",
    "ppc64": "__powerpc_sys_",
}
_PLAIN_PREFIX = "__se_sys_"
_BLACKLIST = "/sys/kernel/debug/kprobes/blacklist"  # debugfs, for root alone


def syscall_functions(name: str) -> list[str]:
    """What the function behind system call ``name`` is called: on this machine, and without wrappers."""
    prefix = _PREFIXES.get(syscall.machine())
    return [each + name for each in (prefix, _PLAIN_PREFIX) if each]


def blacklist() -> set[str]:
    """Functions that the kernel lets nobody probe; none where they cannot be read.

    Lines are ``0xFIRST-0xLAST<tab>NAME`` (kernel/kprobes.c, kprobe_blacklist_seq_show).
    """
    try:
        with open(_BLACKLIST, encoding="utf-8", errors="replace") as file:
            return {line.split()[1] for line in file if len(line.split()) > 1}
    except OSError:
        return set()
