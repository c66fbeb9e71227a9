"""Contents of maps in a file: definitions, types and elements, for ``map save``, ``restore`` and ``load``.

    magic      8 bytes, 89 "BPFMAP" 0a
    version    4: 1
    length     4, of the header
    header     JSON: {"byte_order", "cpus", "btf": [size, ...], "maps": [{...}, ...]}
    crc        4, CRC-32 of the header
    BTF        the blobs, one after the other
    blocks     number of the map 4, count 4, CRC-32 of what follows 4; then ``count`` keys, ``count`` values
    end        ffffffff, elements in all modulo 2 ** 32, 0

Numbers are little-endian; keys and values are in the byte order of the machine that saved them, a per-CPU
value as the kernel copies it.  A value of a map of maps is the number of a map in this file.  It is written
and read in one pass, a block at a time, also through a pipe.  Every byte of it may be hostile.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterator, Sequence

from bpfctl.errors import BpfctlError, printable
from bpfctl.inventory import maptypes
from bpfctl.inventory.batch import Block
from bpfctl.inventory.textforms import BINARY_MAGIC
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, BinaryIO

VERSION = 1
_HEAD = struct.Struct("<II")
_BLOCK = struct.Struct("<III")
_CRC = struct.Struct("<I")
_END = 0xFFFFFFFF
_U32 = 0xFFFFFFFF

_LARGEST_HEADER = 4 << 20  # bytes
_LARGEST_BTF = 16 << 20  # BTF_MAX_SIZE of the kernel (include/linux/btf.h)
_LARGEST_BLOCK = 16 << 20  # bytes of several elements; one alone may be longer
_LARGEST_ELEMENT = 1 << 30
_MOST_MAPS = 4096
_PIECE = 1 << 20  # bytes that are read at once


class SavedMap(NamedTuple):
    """The definition of a saved map; sizes in bytes.  ``btf`` is the number of a blob, or None."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    map_extra: int
    frozen: bool
    btf: int | None
    key_type_id: int
    value_type_id: int
    pins: list[str]


class Header(NamedTuple):
    """What comes before the elements.  ``btf``: the blobs."""

    byte_order: str
    cpus: int
    maps: list[SavedMap]
    btf: list[bytes]

    def value_bytes(self, number: int) -> int:
        """Bytes of a value of map ``number`` in the file."""
        saved = self.maps[number]
        cpus = self.cpus if saved.type in maptypes.PER_CPU else 1
        return maptypes.value_stride(saved.type, saved.value_size) * cpus


class SaveWriter:
    """Writes a file in one pass."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        import json

        self._file = file
        self._total = 0
        facts = {
            "byte_order": header.byte_order,
            "cpus": header.cpus,
            "btf": [len(blob) for blob in header.btf],
            "maps": [saved._asdict() for saved in header.maps],
        }
        text = json.dumps(facts, separators=(",", ":")).encode()
        file.write(BINARY_MAGIC + _HEAD.pack(VERSION, len(text)) + text + _CRC.pack(zlib.crc32(text)))
        file.writelines(header.btf)

    def block(self, number: int, block: Block) -> None:
        """Elements of map ``number``."""
        crc = zlib.crc32(block.values, zlib.crc32(block.keys))
        self._file.write(_BLOCK.pack(number, block.count, crc))
        self._file.write(block.keys)
        self._file.write(block.values)
        self._total += block.count

    def end(self) -> None:
        """The mark by which a file that was cut off is told from a whole one."""
        self._file.write(_BLOCK.pack(_END, self._total & _U32, 0))


class SaveReader:
    """Reads a file in one pass; BpfctlError names file and offset of what is wrong."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = printable(name, 4096)
        self._file = file
        self._at = 0
        self.header = self._read_header()

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """(number of the map, elements), up to the end mark."""
        total = 0
        while True:
            at = self._at
            number, count, crc = _BLOCK.unpack(self._read(_BLOCK.size))
            if number == _END:
                if count != total & _U32 or crc:
                    raise self._error(f"{count} elements are counted, {total} are there", at)
                if self._file.read(1):
                    raise self._error("there is something behind the end", self._at)
                return
            yield number, self._block(number, count, crc, at)
            total += count

    def _block(self, number: int, count: int, crc: int, at: int) -> Block:
        if number >= len(self.header.maps):
            raise self._error(f"elements of map {number}, and there are {len(self.header.maps)} maps", at)
        key, value = self.header.maps[number].key_size, self.header.value_bytes(number)
        if not count or (count > 1 and count * (key + value) > _LARGEST_BLOCK):
            raise self._error(f"a block of {count} elements", at)
        keys, values = self._read(count * key), self._read(count * value)
        if zlib.crc32(values, zlib.crc32(keys)) != crc:
            raise self._error("the checksum of the block is wrong", at)
        return Block(count, keys, values)

    # --- header ---

    def _read_header(self) -> Header:
        if self._read(len(BINARY_MAGIC)) != BINARY_MAGIC:
            raise self._error("this is no file of map save", 0)
        version, length = _HEAD.unpack(self._read(_HEAD.size))
        if version != VERSION:
            raise self._error(f"version {version} is newer than this program, which knows {VERSION}", 8)
        if length > _LARGEST_HEADER:
            raise self._error(f"a header of {length} bytes", 12)
        at = self._at
        text = self._read(length)
        if _CRC.unpack(self._read(_CRC.size))[0] != zlib.crc32(text):
            raise self._error("the checksum of the header is wrong", at)
        facts = self._parse(text, at)
        sizes = self._numbers(facts, "btf", _LARGEST_BTF, at)
        maps = facts.get("maps")
        if not isinstance(maps, list) or not 0 < len(maps) <= _MOST_MAPS or len(sizes) > len(maps):
            raise self._error("the header lists no maps, or too many", at)
        order, cpus = facts.get("byte_order"), facts.get("cpus")
        if order not in ("little", "big") or type(cpus) is not int or not 0 < cpus <= 1 << 16:
            raise self._error("the header has no byte order, or no number of CPUs", at)
        saved = [self._saved_map(entry, len(sizes), at) for entry in maps]
        header = Header(order, cpus, saved, [])
        for number, entry in enumerate(saved):
            if entry.key_size + header.value_bytes(number) > _LARGEST_ELEMENT:
                raise self._error(f"map {printable(entry.name)}: elements of more than 1 GiB", at)
        return header._replace(btf=[self._read(size) for size in sizes])

    def _parse(self, text: bytes, at: int) -> dict[str, Any]:
        import json

        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._error(f"the header is no JSON: {error}", at) from None
        if not isinstance(facts, dict):
            raise self._error("the header is no JSON object", at)
        return facts

    def _numbers(self, facts: dict[str, Any], name: str, limit: int, at: int) -> list[int]:
        numbers = facts.get(name)
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n <= limit for n in numbers):
            raise self._error(f"{name} of the header is no list of sizes", at)
        return numbers

    def _saved_map(self, entry: Any, blobs: int, at: int) -> SavedMap:
        if not isinstance(entry, dict) or set(entry) != set(SavedMap._fields):
            raise self._error(f"a map of the header has other members than {', '.join(SavedMap._fields)}", at)
        saved = SavedMap(**entry)
        numbers: Sequence[Any] = (*saved[1:6], saved.key_type_id, saved.value_type_id)
        fits = (
            isinstance(saved.name, str)
            and len(saved.name) < 64
            and all(type(number) is int and 0 <= number <= _U32 for number in numbers)
            and type(saved.map_extra) is int
            and 0 <= saved.map_extra < 1 << 64
            and isinstance(saved.frozen, bool)
            and (saved.btf is None or (type(saved.btf) is int and 0 <= saved.btf < blobs))
            and isinstance(saved.pins, list)
            and all(isinstance(pin, str) for pin in saved.pins)
        )
        if not fits:
            raise self._error(
                f"the definition of map {printable(str(saved.name))} does not hold together", at
            )
        return saved

    def _read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; no more memory than there are bytes in the file."""
        parts = []
        left = size
        while left:
            part = self._file.read(min(left, _PIECE))
            if not part:
                raise self._error(f"the file is cut off: {left} bytes are missing", self._at)
            parts.append(part)
            left -= len(part)
            self._at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _error(self, message: str, at: int) -> BpfctlError:
        return BpfctlError(f"{self._name}: {message} (offset {at:#x})")


def check_order(name: str, header: Header) -> None:
    """BpfctlError for a file of a machine of the other byte order."""
    if header.byte_order != sys.byteorder:
        raise BpfctlError(
            f"{printable(name, 4096)}: saved on a {header.byte_order}-endian machine",
            hint="map dump format ndjson and map load carry typed values over",
        )
