"""One section of any 64-bit ELF file by its name: of a kernel image, of a library.  Nothing else is read.

:class:`bpfctl.objfile.elf.Elf` reads BPF objects, whole and more strictly.
"""

from __future__ import annotations

import struct

from bpfctl.errors import ObjectFileError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

_SIZE = 64  # bytes of the header, and of each section header
_CLASS_64 = 2
_BYTE_ORDERS = {1: "<", 2: ">"}
_NOBITS = 8
_COMPRESSED = 0x800
_EXTENDED = 0xFFFF  # the number of the section with the names stands in the first section header


def section_contents(data: bytes | mmap, name: str, path: str = "") -> bytes | None:
    """The bytes of the first section called ``name``; None if there is none with contents.

    Raises ObjectFileError for what is no such file, or points outside of it.
    """

    def fail(message: str, offset: int) -> ObjectFileError:
        return ObjectFileError(message, path=path, offset=offset)

    if len(data) < _SIZE or data[4] != _CLASS_64 or data[5] not in _BYTE_ORDERS:
        raise fail("not a 64-bit ELF file", 4)
    prefix = _BYTE_ORDERS[data[5]]
    header = struct.Struct(prefix + "IIQQQQII16x")
    (table,) = struct.unpack_from(prefix + "Q", data, 40)
    entry_size, count, names = struct.unpack_from(prefix + "HHH", data, 58)
    if entry_size != _SIZE or table + _SIZE > len(data):
        raise fail(f"no table of sections at {table:#x}", 40)
    first = header.unpack_from(data, table)
    count, names = count or first[5], first[6] if names == _EXTENDED else names
    if table + count * _SIZE > len(data) or names >= count:
        raise fail(f"the table of {count} sections at {table:#x} runs past the end", 60)
    _, _, _, _, strings, _, _, _ = header.unpack_from(data, table + names * _SIZE)
    wanted = name.encode() + b"\0"
    for at in range(table, table + count * _SIZE, _SIZE):
        name_at, kind, flags, _, offset, size, _, _ = header.unpack_from(data, at)
        if kind in (0, _NOBITS) or data[strings + name_at : strings + name_at + len(wanted)] != wanted:
            continue
        if flags & _COMPRESSED:
            raise fail(f"section {name} is compressed", at)
        if offset + size > len(data):
            raise fail(f"section {name} ({size} bytes at {offset:#x}) runs past the end", at)
        return bytes(data[offset : offset + size])
    return None
