"""Where the kernel's own types are: the BTF of vmlinux and of its modules, as bytes.

Nobody reads them but what refers to them: CO-RE, kernel symbols, attach targets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap

from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.record import NamedTuple
from bpfctl.uapi import Command

# As libbpf's list, for a kernel that publishes none; {} is its release.
_PLACES = (
    "/sys/kernel/btf/vmlinux",
    "/boot/vmlinux-{}",
    "/lib/modules/{}/vmlinux-{}",
    "/lib/modules/{}/build/vmlinux",
    "/usr/lib/modules/{}/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{}",
    "/usr/lib/debug/boot/vmlinux-{}.debug",
    "/usr/lib/debug/lib/modules/{}/vmlinux",
)
_MAGIC = (b"\x9f\xeb", b"\xeb\x9f")


class BtfSource(NamedTuple):
    """BTF bytes and the path that they came from."""

    name: str
    data: bytes | mmap


class ModuleBtf(NamedTuple):
    """A module's name and the id of its BTF, for ``info.btf_data``."""

    name: str
    id: int


def vmlinux() -> BtfSource:
    """The running kernel's BTF; FileNotFoundError when it is in none of the places as raw BTF.

    An image of the kernel, which is ELF, is passed over.
    """
    release = os.uname().release
    for place in _PLACES:
        path = place.replace("{}", release)
        try:
            found = from_file(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found.data[:2] in _MAGIC:
            return found
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), _PLACES[0])


def from_file(path: str) -> BtfSource:
    """The content of ``path``, mapped where the kernel allows (sysfs does from Linux 6.16 on)."""
    with open(path, "rb") as file:
        try:
            return BtfSource(path, mmap(file.fileno(), 0, access=ACCESS_READ))
        except (OSError, ValueError):  # ValueError: an empty file
            return BtfSource(path, file.read())


def modules() -> Iterator[ModuleBtf]:
    """The BTF of each module, split from vmlinux's; none for a process that may not look (CAP_SYS_ADMIN)."""
    try:
        for number in bpf.iter_ids(Command.BTF_GET_NEXT_ID):
            try:
                with Fd(bpf.get_fd_by_id(Command.BTF_GET_FD_BY_ID, number)) as fd:
                    found = info.btf_info(fd.number)
            except FileNotFoundError:
                continue  # unloaded since
            if found.kernel_btf and found.name != "vmlinux":
                yield ModuleBtf(found.name, number)
    except PermissionError:
        return
