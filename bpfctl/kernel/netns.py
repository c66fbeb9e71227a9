"""Network namespaces by name, as ip-netns(8) keeps them under /run/netns."""

from __future__ import annotations

import errno
import os

from bpfctl.kernel import syscall

DIRECTORY = "/run/netns"


def path_of(name: str) -> str:
    """The file that stands for ``name``; an absolute path stands for itself.

    ``OSError`` EINVAL for a name that would lead out of the directory.
    """
    if name.startswith("/"):
        return name
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise OSError(errno.EINVAL, "not a name of a network namespace", name)
    return f"{DIRECTORY}/{name}"


def names() -> list[str]:
    """Names under /run/netns, sorted; empty when there is no such directory."""
    try:
        return sorted(os.listdir(DIRECTORY))
    except OSError:
        return []


def enter(name: str) -> None:
    """Move this thread into network namespace ``name``; the mount namespace, and so bpffs, stays.

    ENOENT: no such name.  EINVAL: the file is no network namespace.  EPERM: setns(2) needs
    CAP_SYS_ADMIN.
    """
    fd = os.open(path_of(name), os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall.system.setns(fd, syscall.CLONE_NEWNET)
    finally:
        os.close(fd)
