"""The kernel's trace pipe, where bpf_trace_printk() writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bpfctl.errors import KernelError, NotFoundError
from bpfctl.kernel import tracefs
from bpfctl.kernel.privilege import permission_hint

_CHUNK = 4096  # bytes


def read_trace(opened: Callable[[], object]) -> Iterator[bytes]:
    """What comes out of the trace pipe, as it comes; ``opened`` is called once, before the first of it.

    It is one pipe for all: what is read here nobody else reads.  Raises NotFoundError, KernelError.
    """
    mount = tracefs.find_mount()
    if mount is None:
        how = f"mount -t tracefs tracefs {tracefs.USUAL}"
        raise NotFoundError("no tracefs is mounted", hint=how)
    path = f"{mount}/trace_pipe"
    try:
        with open(path, "rb", buffering=0) as pipe:
            opened()
            while chunk := pipe.read(_CHUNK):
                yield chunk
    except OSError as error:
        hint = permission_hint("CAP_SYS_ADMIN") if isinstance(error, PermissionError) else None
        raise KernelError(f"cannot read {path}", errno=error.errno or 0, hint=hint) from error
