"""What to leave out for an older kernel, once it has refused something: on the evidence of probes alone."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from bpfctl.kernel.bpf import MapAttributes, ProgAttributes
from bpfctl.uapi import MapFlag

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
    return lesser if lesser != wanted else None


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
