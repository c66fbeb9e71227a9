"""bpffs: find it, mount it, walk it.

Names inside come from untrusted objects: :func:`check_name` holds what bpffs itself would refuse and
what would leave the directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from bpfctl.kernel import syscall
from bpfctl.uapi import BPF_FS_MAGIC

DEFAULT_MOUNT = "/sys/fs/bpf"
_NAME_MAX = 255  # bytes, NAME_MAX of include/uapi/linux/limits.h


def is_bpffs(path: str) -> bool:
    """True when ``path`` exists and lies on a bpffs."""
    try:
        return syscall.system.statfs_type(path) == BPF_FS_MAGIC
    except OSError:
        return False


def find_mount() -> str | None:
    """The bpffs that iproute2 would use: $TC_BPF_MNT alone if set, else /sys/fs/bpf, else /bpf."""
    chosen = os.environ.get("TC_BPF_MNT")
    places = (chosen,) if chosen else (DEFAULT_MOUNT, "/bpf")
    return next((place.rstrip("/") or "/" for place in places if is_bpffs(place)), None)


def wanted_mount() -> str:
    """Where a bpffs has to be mounted when :func:`find_mount` finds none."""
    return os.environ.get("TC_BPF_MNT", DEFAULT_MOUNT).rstrip("/") or "/"


def mounts() -> list[str]:
    """Mount points of every bpffs in this mount namespace, each file system once."""
    found: dict[str, str] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields, _, tail = line.partition(" - ")
            if tail.startswith("bpf "):
                device, _, point = fields.split()[2:5]
                # Blanks and the like are written in octal (proc_pid_mountinfo(5)).
                found.setdefault(device, point.encode("latin-1", "surrogateescape").decode("unicode_escape"))
    return list(found.values())


def mount(path: str) -> None:
    """Mount a new bpffs, mode 0700, on the existing directory ``path``."""
    syscall.system.mount("bpf", path, "bpf", 0, "mode=0700")


def unmount(path: str) -> None:
    """Unmount what is mounted on ``path``."""
    syscall.system.umount(path)


def make_directory(path: str) -> bool:
    """mkdir, mode 0700; False when it was there already."""
    try:
        syscall.system.mkdir(path, 0o700)
    except FileExistsError:
        return False
    return True


def make_link(target: str, path: str) -> bool:
    """symlink; False when something of that name was there already."""
    try:
        syscall.system.symlink(target, path)
    except FileExistsError:
        return False
    return True


def rename(path: str, new_path: str) -> None:
    """rename(2): a directory takes the place of an empty one only (ENOTEMPTY)."""
    syscall.system.rename(path, new_path)


def remove_directory(path: str) -> None:
    """rmdir of a directory that may have come into use meanwhile: then it stays."""
    try:
        syscall.system.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT):
            raise


def unpin(path: str) -> None:
    """Remove a pin or link; nothing happens when it is gone already."""
    try:
        syscall.system.unlink(path)
    except FileNotFoundError:
        return


def check_name(name: str) -> str | None:
    """Why ``name`` cannot be a pin, or None when it can.

    bpffs refuses names with a dot (kernel/bpf/inode.c, bpf_lookup); a slash would leave the directory.
    """
    if not name:
        return "it is empty"
    if "/" in name:
        return "it contains '/'"
    if "." in name:
        return "it contains '.', which bpffs refuses"
    if not name.isprintable():
        return "it contains a control character"
    if len(name.encode("utf-8", "surrogateescape")) > _NAME_MAX:
        return f"it is longer than {_NAME_MAX} bytes"
    return None


def iter_pins(root: str, limit: int = 100_000) -> Iterator[str]:
    """Paths of the files below ``root`` that lie on bpffs; symbolic links are not followed."""
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            limit -= 1
            if limit < 0:
                return
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path
