"""A file in which the index of the kernel's BTF waits for the next command.

Walking over vmlinux's 126,000 types costs as much as starting Python twice, and gives the same result until
the next boot of another kernel.  The file is worth having, never worth trusting: it is read only when nobody
but root (or this user) can have written it, and whatever is wrong with it, it is as if it were not there.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

DIRECTORY = "/run/bpfctl"
_LARGEST = 64 << 20  # bytes


def read(name: str) -> bytes | None:
    """The content of file ``name``; None when there is none that may be believed."""
    try:
        if not _is_ours(os.lstat(DIRECTORY), stat.S_ISDIR):
            return None
        fd = os.open(f"{DIRECTORY}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not _is_ours(status, stat.S_ISREG) or status.st_size > _LARGEST:
                return None
            return file.read(_LARGEST)
    except OSError:
        return None


def write(name: str, data: bytes) -> None:
    """Keep ``data`` as file ``name``, whole or not at all; only root leaves files behind."""
    if os.geteuid() != 0:
        return
    temporary = f"{DIRECTORY}/{name}.{os.getpid()}"
    with suppress(OSError):
        with suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o755)
        if not _is_ours(os.lstat(DIRECTORY), stat.S_ISDIR):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o644), "wb") as file:
                file.write(data)
            os.rename(temporary, f"{DIRECTORY}/{name}")
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def _is_ours(status: os.stat_result, is_kind: object) -> bool:
    assert callable(is_kind)
    others = stat.S_IWGRP | stat.S_IWOTH
    return is_kind(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & others
