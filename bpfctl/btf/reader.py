"""BTF bytes -> where everything is.  Nothing else is decoded here.

vmlinux holds 126,000 types, and most commands want a handful of them, so reading means one walk that
notes where each type starts.  Every field of every record is a 32-bit word; the walk steps over words,
and memoises the step by the info word, of which even vmlinux has few distinct ones.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct

from bpfctl.btf.kinds import Kind
from bpfctl.errors import BtfError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmap import mmap

MAGIC = 0xEB9F
VERSION = 1
WORD = 4  # bytes

# The info word.  Headers before Linux 7.0 split it as 16 bits of vlen and 5 of kind; the bits between were
# zero, so reading with today's masks is right for both.
VLEN_MASK = 0xFFFFFF
KIND_SHIFT, KIND_MASK = 24, 0x7F
KFLAG = 1 << 31

# Words of a record: fixed part (name, info, size or type, and what the kind adds), then each of vlen.
RECORD_WORDS: dict[int, tuple[int, int]] = {
    **{kind: (3, 0) for kind in Kind if kind is not Kind.VOID},
    Kind.INT: (4, 0),
    Kind.ARRAY: (6, 0),
    Kind.STRUCT: (3, 3),
    Kind.UNION: (3, 3),
    Kind.ENUM: (3, 2),
    Kind.FUNC_PROTO: (3, 2),
    Kind.VAR: (4, 0),
    Kind.DATASEC: (3, 3),
    Kind.DECL_TAG: (4, 0),
    Kind.ENUM64: (3, 3),
}

_HEADER = {"little": Struct("<HBBIIIII"), "big": Struct(">HBBIIIII")}
_LAYOUT_FIELDS = {"little": Struct("<II"), "big": Struct(">II")}
_HEADER_WITH_LAYOUT = _HEADER["little"].size + _LAYOUT_FIELDS["little"].size

Fail = Callable[[str, int], BtfError]  # (message, byte offset in the section)


class Parts(NamedTuple):
    """A BTF blob taken apart.

    ``words``: the type section in native byte order; ``starts``: word number of each type, own types only;
    ``types_start``, ``strings_start`` and ``strings_end``: bytes from the start of the blob.
    """

    byte_order: str
    words: memoryview
    starts: Sequence[int]
    types_start: int
    strings_start: int
    strings_end: int


class _Header(NamedTuple):
    """Section bounds, bytes from the start of the blob; ``layout`` is empty when there is none."""

    byte_order: str
    types: tuple[int, int]
    strings: tuple[int, int]
    layout: tuple[int, int]


def read_parts(data: bytes | mmap, *, split: bool, fail: Fail, starts: Sequence[int] | None = None) -> Parts:
    """Bounds of ``data`` and the place of each type; raises what ``fail`` makes of anything malformed.

    ``split``: a base holds the empty string and the first ids.  ``starts``: the places, where they are known.
    """
    header = _read_header(data, fail)
    start, end = header.strings
    if start == end and not split:
        raise fail("the string section is empty", start)
    if start < end and data[end - 1] != 0:
        raise fail("the string section does not end with a NUL byte", end - 1)
    if start < end and not split and data[start] != 0:
        raise fail("the string section does not start with the empty string", start)
    words = native_words(data[slice(*header.types)], header.byte_order)
    if starts is None:
        records = dict(RECORD_WORDS)
        _add_layout(records, data[slice(*header.layout)], header, fail)
        starts = _walk(words, records, header.types[0], fail)
    return Parts(header.byte_order, words, starts, header.types[0], start, end)


def byte_order_of(data: bytes | mmap, fail: Fail) -> str:
    """``little`` or ``big`` from the magic number that BTF and .BTF.ext share."""
    if data[:2] == MAGIC.to_bytes(2, "little"):
        return "little"
    if data[:2] == MAGIC.to_bytes(2, "big"):
        return "big"
    raise fail(f"not BTF: starts with {data[:2].hex() or 'nothing'}, not with {MAGIC:#x}", 0)


def native_words(data: bytes, byte_order: str) -> memoryview:
    """The 32-bit words of ``data`` (a multiple of 4 bytes) as the machine reads them."""
    if byte_order == sys.byteorder:
        return memoryview(data).cast("I")
    words = array("I", data)
    words.byteswap()
    return memoryview(words)


def _read_header(data: bytes | mmap, fail: Fail) -> _Header:
    byte_order = byte_order_of(data, fail)
    layout = _HEADER[byte_order]
    if len(data) < layout.size:
        raise fail(f"cut off inside the header ({len(data)} bytes)", len(data))
    _, version, _, size, type_off, type_len, str_off, str_len = layout.unpack_from(data)
    if version != VERSION:
        raise fail(f"BTF version {version} is unknown", 2)
    if not layout.size <= size <= len(data):
        raise fail(f"header of {size} bytes in BTF of {len(data)} bytes", 4)
    if type_off % WORD or type_len % WORD:
        raise fail(f"the type section ({type_off:#x}+{type_len:#x}) is not a whole number of words", 8)
    if size + str_off + str_len > len(data):
        raise fail(f"the string section ({str_off:#x}+{str_len:#x}) runs past the end", 16)
    if type_off + type_len > str_off:
        raise fail(f"the type section ({type_off:#x}+{type_len:#x}) overlaps the strings at {str_off:#x}", 8)
    types, strings = size + type_off, size + str_off
    return _Header(
        byte_order,
        (types, types + type_len),
        (strings, strings + str_len),
        _layout_bounds(data, byte_order, size, fail),
    )


def _layout_bounds(data: bytes | mmap, byte_order: str, header_size: int, fail: Fail) -> tuple[int, int]:
    if header_size < _HEADER_WITH_LAYOUT:
        return 0, 0
    offset, size = _LAYOUT_FIELDS[byte_order].unpack_from(data, _HEADER[byte_order].size)
    if size % WORD or header_size + offset + size > len(data):
        raise fail(f"the layout section ({offset:#x}+{size:#x}) runs past the end", 24)
    return header_size + offset, header_size + offset + size


def _add_layout(records: dict[int, tuple[int, int]], layout: bytes, header: _Header, fail: Fail) -> None:
    """Sizes of kinds newer than us: one {u8 info size, u8 element size, u16 flags} for each kind from 0."""
    for kind in range(len(layout) // WORD):
        info, element = layout[kind * WORD : kind * WORD + 2]
        if kind == Kind.VOID or kind in records:
            continue
        if info % WORD or element % WORD:
            raise fail(f"the layout of kind {kind} is not in whole words", header.layout[0] + kind * WORD)
        records[kind] = (3 + info // WORD, element // WORD)


class _Steps(dict[int, int]):
    """Info word -> words to the next record; a kind that nobody knows steps out of any section."""

    def __init__(self, records: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self._records = records

    def __missing__(self, info: int) -> int:
        fixed, each = self._records.get(info >> KIND_SHIFT & KIND_MASK, (1 << 40, 0))
        self[info] = step = fixed + each * (info & VLEN_MASK)
        return step


def _walk(words: memoryview, records: dict[int, tuple[int, int]], start: int, fail: Fail) -> list[int]:
    """The word number of each record.  Tight on purpose: once per type of vmlinux.

    Without looking for the end: the info word that is not there stops the walk, a third sooner.
    """
    steps = _Steps(records)
    starts: list[int] = []
    add = starts.append
    infos = words[1:]
    at = 0
    with suppress(IndexError):
        while True:
            add(at)
            at += steps[infos[at]]
    starts.pop()
    if at != len(words):
        raise _overrun(words, starts, at, records, start, fail)
    return starts


def _overrun(
    words: memoryview,
    starts: list[int],
    at: int,
    records: dict[int, tuple[int, int]],
    start: int,
    fail: Fail,
) -> BtfError:
    """Why the walk did not stop at the end of the section."""
    if at == len(words) - 1:
        return fail("the type section ends inside a type", start + at * WORD)
    last = starts[-1]
    kind = words[last + 1] >> KIND_SHIFT & KIND_MASK
    offset = start + last * WORD
    if kind not in records:
        return fail(f"type {len(starts)} has unknown kind {kind}", offset)
    return fail(f"type {len(starts)} ({Kind(kind).label}) runs past the end of the type section", offset)
