"""Entering a network namespace for the rest of the process."""

from __future__ import annotations

import errno

from bpfctl.attach import refusals
from bpfctl.errors import KernelError, NotFoundError, printable
from bpfctl.kernel import netns
from bpfctl.kernel.privilege import permission_hint

_NAMES_SHOWN = 10


def enter(name: str) -> None:
    """Enter ``name`` of /run/netns, or the namespace that an absolute path names.

    The mount namespace stays, and with it bpffs: pins made inside are there afterwards.  Raises
    NotFoundError with the names that there are, KernelError.
    """
    subject = f'network namespace "{printable(name)}"'
    try:
        netns.enter(name)
    except FileNotFoundError as error:
        raise NotFoundError(f"no {subject}", hint=_known_names()) from error
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise NotFoundError(f"{subject}: not a network namespace", hint=_known_names()) from error
        raise _refused(subject, error) from error


def _refused(subject: str, error: OSError) -> KernelError | NotFoundError:
    hint = permission_hint("CAP_SYS_ADMIN") if error.errno == errno.EPERM else None
    return refusals.general(subject, error, hint)


def _known_names() -> str:
    names = netns.names()
    if not names:
        return f"{netns.DIRECTORY} has none; `ip netns add NAME` makes one"
    more = len(names) - _NAMES_SHOWN
    return f"there are {', '.join(names[:_NAMES_SHOWN])}" + (f" and {more} more" if more > 0 else "")
