"""Raw tracepoints: a tracepoint's own arguments, unformatted."""

from __future__ import annotations

import errno

from bpfctl.attach.link_refusals import refused
from bpfctl.kernel import link
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program

_HINTS = {
    errno.ENOENT: "no tracepoint of that name; they are the second halves of tracefs events/CATEGORY/NAME",
}


def attach(program: Program) -> Fd:
    """The link of ``program`` to the tracepoint that its section names."""
    name = program.spec.target
    try:
        return Fd(link.raw_tracepoint_open(program.fd.number, name))
    except OSError as error:
        raise refused(program, f"raw tracepoint {name}", error, "BPF_RAW_TRACEPOINT_OPEN", _HINTS) from error
