"""Network namespaces: by name, as ip-netns(8) keeps them under /run/netns, and nameless ones of our own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bpfctl.kernel import syscall

DIRECTORY = "/run/netns"
_OWN = "/proc/thread-self/ns/net"


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


@contextmanager
def of_our_own() -> Iterator[None]:
    """This thread is in a new network namespace; it and all that it holds are gone at the end of the block.

    It has no name, so it does not outlive this process either, however that ends.
    """
    before = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall.system.unshare(syscall.CLONE_NEWNET)
        try:
            yield
        finally:
            syscall.system.setns(before, syscall.CLONE_NEWNET)
    finally:
        os.close(before)
