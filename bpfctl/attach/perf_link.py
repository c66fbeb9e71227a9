"""A program on a perf event, by a link: what tracepoints, kprobes and uprobes share."""

from __future__ import annotations

from bpfctl.attach.link_refusals import need, refused
from bpfctl.kernel import link, perf_event, probe
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program


def attach(program: Program, event: Fd, where: str, *, cookie: int = 0) -> Fd:
    """The link of ``program`` to ``event``, which it keeps; ``where``: what it is, for errors.

    ``cookie``: what the program can ask for (bpf_get_attach_cookie).

    Kernels before 5.15 can only attach for as long as this process lives, which is of no use: that is a
    NotSupportedError.
    """
    try:
        made = Fd(link.perf_event(program.fd.number, event.number, cookie))
    except OSError as error:
        need(probe.PERF_LINK, program, error)
        raise refused(program, where, error, "BPF_LINK_CREATE") from error
    try:
        perf_event.enable(event.number)
    except OSError as error:
        made.close()
        raise refused(program, where, error, "PERF_EVENT_IOC_ENABLE") from error
    return made
