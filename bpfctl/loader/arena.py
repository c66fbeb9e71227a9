"""Arenas: mapped into this process, which settles their address, and filled with the object's variables."""

from __future__ import annotations

import os

from bpfctl.errors import KernelError, ObjectFileError, printable
from bpfctl.kernel import probe
from bpfctl.kernel.memory import Mapping
from bpfctl.loader.live import Map
from bpfctl.objfile.arena import ARENA_SECTION
from bpfctl.objfile.spec import MapSpec
from bpfctl.uapi import MapFlag

_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def check_arena(spec: MapSpec, path: str) -> None:
    """ObjectFileError for an arena that cannot hold its variables."""
    data, size = spec.data or b"", spec.max_entries * _PAGE_SIZE
    if len(data) > size:
        reason = f"{len(data)} bytes of variables do not fit into the {size} of arena {printable(spec.name)}"
        hint = f"max_entries counts pages of {_PAGE_SIZE} bytes"
    elif data and spec.flags & MapFlag.SEGV_ON_FAULT:
        reason = (
            f"arena {printable(spec.name)} has BPF_F_SEGV_ON_FAULT: user space cannot put variables there"
        )
        hint = None
    else:
        return
    raise ObjectFileError(reason, path=path, section=ARENA_SECTION, offset=0, hint=hint)


def place_arena(live: Map, path: str) -> None:
    """Say where the variables of the arena ``live`` are, and unless it was there before, put them there."""
    spec = live.spec
    live.data_offset = _data_offset(spec)
    if live.reused:
        return
    try:
        live.mapping = Mapping(live.fd.number, spec.max_entries * _PAGE_SIZE, spec.map_extra)
        live.mapping.write(live.data_offset, spec.data or b"")
    except OSError as error:
        where = f" at {spec.map_extra:#x}" if spec.map_extra else ""
        what = f"{path}: cannot map arena {printable(spec.name)}, {spec.max_entries} pages{where}"
        raise KernelError(what, call="mmap", errno=error.errno or 0) from error


def _data_offset(spec: MapSpec) -> int:
    """As libbpf: in the last pages, where the kernel lets programs name addresses there; else the first."""
    pages = -(-len(spec.data or b"") // _PAGE_SIZE)
    if not pages or not probe.LDIMM64_FULL_RANGE.available():
        return 0
    return (spec.max_entries - pages) * _PAGE_SIZE
