"""From the errno of a refused request to a sentence, for what all hooks have in common."""

from __future__ import annotations

import errno
import os

from bpfctl.errors import KernelError, NotFoundError, errno_text
from bpfctl.kernel import info
from bpfctl.kernel.netlink import NetlinkError
from bpfctl.kernel.privilege import permission_hint
from bpfctl.uapi import ProgramType, type_name


def general(subject: str, error: OSError, hint: str | None = None) -> KernelError | NotFoundError:
    """``subject`` (what was tried, on which device) and the kernel's words."""
    text = error.text if isinstance(error, NetlinkError) else ""
    if error.errno == errno.ENODEV and not text:
        return NotFoundError(f"{subject}: the interface is gone")
    if error.errno == errno.EPERM:
        hint = hint or permission_hint("CAP_NET_ADMIN")
    return KernelError(subject, errno=error.errno or 0, text=text or _own_words(error), hint=hint)


def unusable_program(subject: str, program_fd: int, wanted: ProgramType) -> KernelError | None:
    """The error when ``program_fd`` is no program of type ``wanted``, else None.

    The kernel refuses such a one without a word (EINVAL, EBADF).
    """
    try:
        facts = info.fdinfo(program_fd)
    except OSError:
        return KernelError(f"{subject}: descriptor {program_fd} is not open", errno=errno.EBADF)
    if "prog_type" not in facts:
        return KernelError(f"{subject}: descriptor {program_fd} is no program", errno=errno.EBADF)
    kind = int(facts["prog_type"])
    if kind == wanted:
        return None
    return KernelError(
        f"{subject}: program {facts.get('prog_id', '')} is of type {type_name(ProgramType, kind)}, "
        f"not {wanted.name.lower()}",
        text=errno_text(errno.EINVAL),
        errno=errno.EINVAL,
    )


def not_done(subject: object, lost: OSError) -> KernelError:
    """The answer was lost, and what is there now shows that the request had no effect."""
    return KernelError(
        f"{subject}: the kernel's answer was lost and nothing has changed",
        errno=lost.errno or 0,
        text=_own_words(lost),
        hint="try again",
    )


def unknown_outcome(subject: object, lost: OSError) -> KernelError:
    """The answer was lost, and what is there now cannot be read."""
    return KernelError(
        f"{subject}: the kernel's answer was lost and the outcome is unknown",
        errno=lost.errno or 0,
        text=_own_words(lost),
        hint="look at what is attached now",
    )


def _own_words(error: OSError) -> str:
    """The text of an error that was not the kernel's refusal, where it says more than its errno."""
    return "" if error.strerror == os.strerror(error.errno or 0) else str(error.strerror)
