"""What to leave out for an older kernel, once it has refused something: on the evidence of probes alone."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from bpfctl.insn import CALL, SLOT
from bpfctl.kernel.bpf import MapAttributes, ProgAttributes
from bpfctl.uapi import MapFlag

# bpf_probe_read_user, _kernel -> bpf_probe_read; bpf_probe_read_user_str, _kernel_str -> bpf_probe_read_str
_PROBE_READ = {112: 4, 113: 4, 114: 45, 115: 45}

# How a kernel says that it does not know a field, a flag or a kind.
_UNKNOWN = (errno.EINVAL, errno.E2BIG)


def lesser_program(
    wanted: ProgAttributes, error: OSError, *, attach_type_optional: bool
) -> ProgAttributes | None:
    """``wanted``, refused with ``error``, less what this kernel lacks and the program can do without.

    None when the kernel has it all, so that the refusal is about something else.
    """
    if error.errno not in _UNKNOWN:
        return None
    from bpfctl.kernel import probe

    lesser = wanted
    if wanted.name and probe.OBJECT_NAMES.missing():
        lesser = lesser._replace(name="")
    if attach_type_optional and wanted.expected_attach_type and probe.EXPECTED_ATTACH_TYPE.missing():
        lesser = lesser._replace(expected_attach_type=0)
    if (code := _with_older_helpers(wanted.code)) != wanted.code and probe.PROBE_READ_KERNEL.missing():
        lesser = lesser._replace(code=code)
    return lesser if lesser != wanted else None


def _with_older_helpers(code: bytes) -> bytes:
    """``code`` with the probe_read of before Linux 5.5, which read kernel and user memory alike."""
    older = bytearray(code)
    for at in range(0, len(code), SLOT):
        if code[at] == CALL and not code[at + 1]:
            helper = int.from_bytes(code[at + 4 : at + 8], sys.byteorder)
            if helper in _PROBE_READ:
                older[at + 4 : at + 8] = _PROBE_READ[helper].to_bytes(4, sys.byteorder)
    return bytes(older)


def lesser_maps(wanted: MapAttributes, error: OSError) -> Iterator[MapAttributes]:
    """What to try instead of ``wanted``, which the kernel refused with ``error``, one after the other.

    The types may be more than its checks accept, and the map works without them.  So it does without a
    name, and as one that user space cannot mmap().
    """
    if wanted.btf_fd and not wanted.btf_vmlinux_value_type_id:
        wanted = wanted._replace(btf_fd=0, btf_key_type_id=0, btf_value_type_id=0)
        yield wanted
    if error.errno not in _UNKNOWN:
        return
    from bpfctl.kernel import probe

    lesser = wanted
    if wanted.name and probe.OBJECT_NAMES.missing():
        lesser = lesser._replace(name="")
    if wanted.map_flags & MapFlag.MMAPABLE and probe.ARRAY_MMAP.missing():
        lesser = lesser._replace(map_flags=wanted.map_flags & ~MapFlag.MMAPABLE)
    if lesser != wanted:
        yield lesser
