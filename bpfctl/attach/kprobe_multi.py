"""Many functions of the kernel under one link, by a pattern with ``*`` and ``?``."""

from __future__ import annotations

import errno

from bpfctl.attach.auto import family
from bpfctl.attach.link_refusals import lacks_feature, need, refused
from bpfctl.attach.pattern import is_pattern, matcher
from bpfctl.attach.tracepoint import mounted
from bpfctl.errors import KernelError, NotFoundError, printable
from bpfctl.kernel import link, probe, tracefs
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program

_HINTS = {
    errno.ENOENT: "no such function",
    errno.ESRCH: "no such function, or one that ftrace cannot stop at: available_filter_functions in tracefs",
    errno.EADDRNOTAVAIL: "a function among them cannot be traced",
}

_LOCKED = "available_filter_functions in tracefs; without a pattern, a single name needs no list"


def attach(program: Program) -> Fd:
    """The link of ``program`` to the function that its section names, or to all that the pattern fits."""
    spec = program.spec
    at_return = family(spec) == "kretprobe.multi"
    names: list[str] = [] if is_pattern(spec.target) else [spec.target]
    addresses = _addresses(program) if not names else []
    try:
        return Fd(
            link.kprobe_multi(
                program.fd.number, spec.attach_type, names=names, addresses=addresses, at_return=at_return
            )
        )
    except OSError as error:
        need(probe.KPROBE_MULTI, program, error)
        count = f" ({len(addresses)} functions)" if addresses else ""
        raise refused(program, f"{spec.target}{count}", error, "BPF_LINK_CREATE", _HINTS) from error


def _addresses(program: Program) -> list[int]:
    """Of every traceable function that the pattern fits, each once."""
    fits = matcher(program.spec.target)
    try:
        found = [(place, name) for place, name in tracefs.traceable_functions(mounted(program)) if fits(name)]
        if any(not place for place, _ in found):
            addresses = list(tracefs.symbol_addresses({name for _, name in found}).values())
        else:
            addresses = [place for place, _ in found]
    except OSError as error:
        if probe.KPROBE_MULTI.missing():
            raise lacks_feature(program, probe.KPROBE_MULTI) from error
        what = "cannot read the functions that can be traced"
        raise KernelError(what, call="open", errno=error.errno or 0, hint=_LOCKED) from error
    if not addresses:
        raise NotFoundError(
            f"cannot attach program {printable(program.name)}: "
            f"no function that can be traced is named like {printable(program.spec.target)}",
            hint="available_filter_functions in tracefs lists them; addresses need CAP_SYSLOG",
        )
    return sorted(set(addresses))
