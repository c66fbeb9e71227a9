"""Why a link could not be made: the words that every family of hooks shares."""

from __future__ import annotations

import errno

from bpfctl.errors import KernelError, NotSupportedError, printable
from bpfctl.kernel import probe
from bpfctl.kernel.privilege import permission_hint
from bpfctl.loader.live import Program
from bpfctl.uapi import ENOTSUPP


def refused(
    program: Program, where: str, error: OSError, call: str, hints: dict[int, str] | None = None
) -> KernelError:
    """The error for ``program``, which the kernel did not attach to ``where``.

    ``hints`` by errno go before those that hold for all hooks.
    """
    number = error.errno or 0
    hint = (hints or {}).get(number)
    if hint is None and number in (errno.EPERM, errno.EACCES):
        hint = permission_hint("CAP_PERFMON") or "a security module or kernel.perf_event_paranoid forbids it"
    elif hint is None and number == errno.EBUSY:
        hint = "something else is attached there, and only one program can be"
    elif hint is None and number in (errno.EOPNOTSUPP, ENOTSUPP):
        hint = "this kernel, or its architecture, has no such hook"
    what = f"cannot attach program {printable(program.name)} to {printable(where)}"
    return KernelError(what, call=call, errno=number, hint=hint)


def need(feature: probe.Feature, program: Program, error: OSError) -> None:
    """NotSupportedError when it is ``feature`` whose lack explains ``error``; else nothing."""
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP, errno.ENOTTY) and feature.missing():
        raise lacks_feature(program, feature) from error


def lacks_feature(program: Program, feature: probe.Feature) -> NotSupportedError:
    """:func:`lacks` in the words of a probe."""
    return lacks(program, feature.meaning, feature.name, feature.since)


def lacks(program: Program, what: str, feature: str, since: str = "") -> NotSupportedError:
    """The error for a kernel without ``what``."""
    return NotSupportedError(
        f"cannot attach program {printable(program.name)}: the kernel lacks {what}",
        feature=feature,
        hint=f"Linux {since} has it, if it is configured" if since else None,
    )
