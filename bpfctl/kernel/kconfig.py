"""How the running kernel was built: its configuration, its version, and what only a probe can tell.

These are what libbpf fills the ``__kconfig`` variables of an object from, looked for in the same places.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from bpfctl.kernel import perf_event, syscall

_PLACES = ("/boot/config-{}", "/proc/config.gz")  # {} is the kernel's release
_MAX_SIZE = 16 << 20  # bytes of text; today's are 0.3 MB
_GZIP = b"\x1f\x8b"

# What the entry points of system calls are called since Linux 4.17, where they take a struct pt_regs.
_WRAPPERS = {
    "x86_64": "__x64_sys_bpf",
    "s390x": "__s390x_sys_bpf",
    "aarch64": "__arm64_sys_bpf",
    "riscv64": "__riscv_sys_bpf",
    "ppc64le": "__powerpc_sys_bpf",
    "ppc64": "__powerpc_sys_bpf",
}


def config_values(names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Where the configuration is, and the text right of ``=`` for those of ``names`` that it sets.

    The first line of a name counts.  FileNotFoundError when the kernel publishes none, OSError for one that
    is larger than any kernel's or whose compression is broken.
    """
    path, text = _read_config()
    text = b"\n" + text + b"\n"
    found: dict[str, str] = {}
    for name in names:
        key = b"\n" + name.encode() + b"="
        at = text.find(key)
        if at >= 0:
            value = text[at + len(key) : text.find(b"\n", at + 1)]
            found[name] = value.decode(errors="surrogateescape")
    return path, found


def _read_config() -> tuple[str, bytes]:
    for place in _PLACES:
        path = place.replace("{}", syscall.release())
        try:
            with open(path, "rb") as file:
                return path, _unpacked(file.read(_MAX_SIZE), path)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), _PLACES[-1])


def _unpacked(data: bytes, path: str) -> bytes:
    if not data.startswith(_GZIP):
        return data
    import zlib

    try:
        return zlib.decompressobj(wbits=31).decompress(data, _MAX_SIZE)
    except zlib.error as error:
        raise OSError(errno.EIO, f"broken gzip data ({error})", path) from error


def version() -> int:
    """LINUX_VERSION_CODE of the running kernel: major << 16 | minor << 8 | patch; 0 if nothing tells.

    Distributions keep uname's release at x.y.0: Ubuntu says more in /proc/version_signature, Debian in
    uname's version.
    """
    try:
        with open("/proc/version_signature", encoding="ascii", errors="replace") as file:
            words = file.read(256).split()
    except OSError:
        words = []
    system = os.uname()
    debian = system.version.partition("Debian ")[2]
    for text in (words[2] if len(words) > 2 else "", debian, system.release):
        numbers = _three_numbers(text)
        if numbers:
            major, minor, patch = numbers
            return major << 16 | minor << 8 | min(patch, 255)
    return 0


def _three_numbers(text: str) -> tuple[int, int, int] | None:
    """The numbers at the start of ``6.18.44-amd64``; None for anything else."""
    parts = text.split(".", 2)
    if len(parts) < 3:
        return None
    last = parts[2]
    digits = last[: len(last) - len(last.lstrip("0123456789"))]
    if not all(part.isascii() and part.isdigit() for part in (*parts[:2], digits)):
        return None
    return int(parts[0]), int(parts[1]), int(digits)


def has_syscall_wrapper() -> bool:
    """Whether a kprobe can be set on a system call's wrapper: then arguments are in a struct pt_regs.

    A kernel without kprobes has none to set, whatever its system calls look like: so libbpf answers as well,
    and a program must come out the same.
    """
    name = _WRAPPERS.get(syscall.machine())
    if name is None or not perf_event.has_unit("kprobe"):
        return False
    try:
        syscall.system.close(perf_event.kprobe(name, 0, at_return=False))
    except (OSError, ValueError):
        return False
    return True
