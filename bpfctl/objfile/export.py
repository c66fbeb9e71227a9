"""The message by which iproute2 hands the maps of an object to another process.

One datagram for up to 64 maps, their descriptors beside it in the same order.  Everything is in host byte
order with the alignment of 64-bit machines (iproute2 include/bpf_scm.h):

======  =====  ==========================================================
offset  bytes  field
======  =====  ==========================================================
0       2      version, 1
2       2      number of maps in all datagrams together
4       64     path of the object as typed, NUL-terminated, cut to 63
72      8      device of the object file
80      8      its inode
88      36     for each map ``struct bpf_elf_map``, nine 32-bit words
======  =====  ==========================================================
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from bpfctl.objfile.spec import MapOrigin, MapSpec
from bpfctl.record import NamedTuple

MAPS_PER_MESSAGE = 64
_VERSION = 1
_HEADER = struct.Struct("=HH64s4xQQ")
_MAP = struct.Struct("=9I")
LARGEST_MESSAGE = _HEADER.size + MAPS_PER_MESSAGE * _MAP.size  # bytes


class ExportedMap(NamedTuple):
    """``struct bpf_elf_map``: sizes in bytes, ``id`` the object's own number for the map."""

    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    id: int
    pinning: int
    inner_id: int
    inner_idx: int


class ExportMessage(NamedTuple):
    """One datagram: ``total`` maps come in all, ``maps`` with this one."""

    total: int
    path: str
    device: int
    inode: int
    maps: tuple[ExportedMap, ...]


def exported_maps(specs: Sequence[MapSpec]) -> list[tuple[MapSpec, ExportedMap]]:
    """The maps that the object's author defined, in the order of their sections; data sections are none.

    A BTF definition has no ``id``: such maps are numbered from 1 on, around the ids of legacy maps.
    """
    taken = {spec.id for spec in specs if spec.origin is MapOrigin.LEGACY}
    found = []
    following = 1
    for spec in sorted(specs, key=lambda spec: (spec.origin, spec.offset or 0)):
        number = spec.id
        if spec.origin is MapOrigin.BTF:
            while following in taken:
                following += 1
            number = following
            following += 1
        elif spec.origin is not MapOrigin.LEGACY:
            continue
        pinning = 2 if spec.pins_by_name else spec.pinning  # by name is iproute2's PIN_GLOBAL_NS
        fields = (
            spec.map_type,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            spec.flags,
            number,
            pinning,
        )
        words = [word & 0xFFFFFFFF for word in (*fields, spec.inner_id, spec.inner_idx)]
        found.append((spec, ExportedMap(*words)))
    return found


def pack_export(message: ExportMessage) -> bytes:
    """The datagram."""
    path = os.fsencode(message.path)[:63]
    body = b"".join(_MAP.pack(*one) for one in message.maps)
    return _HEADER.pack(_VERSION, message.total, path, message.device, message.inode) + body


def parse_export(data: bytes) -> ExportMessage:
    """``ValueError``, in words, for bytes that are no such datagram."""
    if len(data) < _HEADER.size + _MAP.size:
        raise ValueError(f"{len(data)} bytes, where a header and a map are {_HEADER.size + _MAP.size}")
    version, total, path, device, inode = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"version {version}, where {_VERSION} is known")
    count, rest = divmod(len(data) - _HEADER.size, _MAP.size)
    if rest or count > MAPS_PER_MESSAGE:
        raise ValueError(f"{len(data)} bytes, which is no whole number of maps up to {MAPS_PER_MESSAGE}")
    if count > total:
        raise ValueError(f"{count} maps, where {total} are announced")
    maps = tuple(ExportedMap(*words) for words in _MAP.iter_unpack(data[_HEADER.size :]))
    return ExportMessage(total, os.fsdecode(path.split(b"\0", 1)[0]), device, inode, maps)
