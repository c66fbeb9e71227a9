"""The index of a BTF as bytes, to be kept: where each type starts, and where its name is.

magic 8 bytes, number of types u32, CRC-32 of the rest u32, then for each type its word number in the
type section (u32), then for each the string offset of its name (u32), in native byte order
"""

from __future__ import annotations

from array import array
from binascii import crc32
from collections.abc import Sequence
from struct import Struct

from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmap import mmap

_MAGIC = b"bpfctl\x00\x01"
_HEADER = Struct("=8sII")
_SAMPLE = 1 << 16  # bytes of the BTF that its key is made of


class Index(NamedTuple):
    """``starts`` and ``names`` by position of the type, own types only."""

    starts: array[int]
    names: array[int]


def key_of(data: bytes | mmap) -> str:
    """Tells one BTF from another: its size and its beginning."""
    return f"{len(data):x}-{crc32(data[:_SAMPLE]):08x}"


def pack(starts: Sequence[int], names: Sequence[int]) -> bytes:
    """The bytes that :func:`unpack` reads."""
    body = array("I", starts).tobytes() + array("I", names).tobytes()
    return _HEADER.pack(_MAGIC, len(starts), crc32(body)) + body


def unpack(data: bytes) -> Index | None:
    """The index in ``data``; None for anything that is none, or damaged."""
    if len(data) < _HEADER.size:
        return None
    magic, count, checksum = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size :]
    if magic != _MAGIC or len(body) != 8 * count or crc32(body) != checksum:
        return None
    words = array("I", body.tobytes())
    return Index(words[:count], words[count:])
