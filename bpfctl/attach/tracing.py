"""Hooks that a program is loaded for: fentry, fexit, fmod_ret, tp_btf, LSM, freplace, iterators.

The verifier already knows the target, so the link only says that it may run now.
"""

from __future__ import annotations

import errno

from bpfctl.attach.link_refusals import refused
from bpfctl.kernel import link
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program
from bpfctl.uapi import AttachType

# Linux before 5.15 links these by the older call only (tools/lib/bpf/bpf.c).
_OLDER_CALL = frozenset(
    {
        AttachType.TRACE_RAW_TP,
        AttachType.TRACE_FENTRY,
        AttachType.TRACE_FEXIT,
        AttachType.MODIFY_RETURN,
        AttachType.LSM_MAC,
    }
)
_HINTS = {
    errno.E2BIG: "38 trampoline programs are the most that one function takes",
    errno.ENOENT: "the target is gone: was its module unloaded?",
}
_ITERATOR_HINTS = {
    errno.EBADF: "this iterator walks the elements of one map: `bpftool iter pin OBJECT PATH map MAP`",
}


def attach(program: Program) -> Fd:
    """The link of ``program`` to the target that it was loaded for."""
    attach_type = program.spec.attach_type
    iterates = attach_type == AttachType.TRACE_ITER
    try:
        return Fd(_open(program.fd.number, attach_type))
    except OSError as error:
        hints = _ITERATOR_HINTS if iterates else _HINTS
        raise refused(program, program.spec.section, error, "BPF_LINK_CREATE", hints) from error


def _open(program_fd: int, attach_type: int) -> int:
    try:
        return link.tracing(program_fd, attach_type)
    except OSError as error:
        if error.errno != errno.EINVAL or attach_type not in _OLDER_CALL:
            raise
        return link.raw_tracepoint_open(program_fd, None)
