"""``.BTF.ext``: which function, source line and CO-RE relocation belong to which instruction.

Three areas, each a record size and then blocks of {section name, count, records}.  A compiler newer than
us may use longer records; bytes that we do not know travel to the kernel as they are.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from struct import Struct

from bpfctl.btf.reader import VERSION, WORD, byte_order_of, native_words
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError
from bpfctl.insn import SLOT
from bpfctl.record import NamedTuple

_HEADER = {"little": Struct("<HBBIIIII"), "big": Struct(">HBBIIIII")}
_CORE_FIELDS = {"little": Struct("<II"), "big": Struct(">II")}
_HEADER_WITH_CORE = _HEADER["little"].size + _CORE_FIELDS["little"].size

# The fields that we know, in words: instruction, then type | file, text, line+column | type, access, kind.
_FUNC_WORDS, _LINE_WORDS, _CORE_WORDS = 2, 4, 4


Fail = Callable[[str, int], BtfError]  # (message, byte offset in .BTF.ext)


class CoreRelocation(NamedTuple):
    """A CO-RE record: ``offset`` in bytes of the section; ``access`` is the path, as ``0:1:2``."""

    offset: int
    type_id: int
    access: str
    kind: int


class Records:
    """The records of one area for one section, ordered by instruction.

    ``words``: all records in native byte order, ``width`` words each, the first being the byte offset of the
    instruction in the section; ``offsets``: those first words.
    """

    __slots__ = ("offsets", "width", "words")

    def __init__(self, words: array[int], width: int) -> None:
        self.width = width
        offsets = words[0::width].tolist()
        order = sorted(range(len(offsets)), key=offsets.__getitem__)
        if order != list(range(len(offsets))):  # never by a compiler
            words = array("I", [w for n in order for w in words[n * width : (n + 1) * width]])
            offsets.sort()
        self.words = words
        self.offsets = offsets

    def between(self, start: int, size: int) -> range:
        """Numbers of the records of instructions in [start, start + size), in bytes of the section."""
        return range(bisect_left(self.offsets, start), bisect_left(self.offsets, start + size))

    def at(self, number: int) -> list[int]:
        """The words of record ``number``."""
        return self.words[number * self.width : (number + 1) * self.width].tolist()


class Area(NamedTuple):
    """One area: ``record_size`` in bytes, the records by section name; size 0 when it is not there."""

    record_size: int
    sections: dict[str, Records]


class BtfExt:
    """The three areas of a .BTF.ext section; ``btf`` holds the strings that they refer to."""

    __slots__ = ("btf", "byte_order", "core_relocations", "func_info", "line_info")

    def __init__(self, btf: Btf, byte_order: str, func_info: Area, line_info: Area, core: Area) -> None:
        self.btf = btf
        self.byte_order = byte_order
        self.func_info = func_info
        self.line_info = line_info
        self.core_relocations = core

    @classmethod
    def from_bytes(cls, data: bytes, btf: Btf, *, path: str = "", section: str = ".BTF.ext") -> BtfExt:
        """Take ``data`` apart; raises BtfError with ``path``, ``section`` and the byte offset in ``data``."""

        def fail(message: str, offset: int) -> BtfError:
            return BtfError(message, path=path, section=section, offset=offset)

        byte_order = byte_order_of(data, fail)
        func, line, core = _bounds(data, byte_order, fail)
        return cls(
            btf,
            byte_order,
            _read_area(data, func, "func_info", _FUNC_WORDS, btf, byte_order, fail),
            _read_area(data, line, "line_info", _LINE_WORDS, btf, byte_order, fail),
            _read_area(data, core, "core_relo", _CORE_WORDS, btf, byte_order, fail),
        )

    def func_info_for(self, section: str, start: int, size: int, at: int) -> bytes:
        """Kernel records, ``func_info.record_size`` bytes each, of a function placed in a program.

        The function is ``size`` bytes from ``start`` of ``section``; in the program it begins at instruction
        number ``at``.  b"" when there is nothing about its start, as the kernel then takes no others.
        """
        return self._moved(self.func_info, section, start, size, at)

    def line_info_for(self, section: str, start: int, size: int, at: int) -> bytes:
        """As :meth:`func_info_for`, ``line_info.record_size`` bytes each."""
        return self._moved(self.line_info, section, start, size, at)

    def core_relocations_for(self, section: str, start: int, size: int) -> list[CoreRelocation]:
        """CO-RE records of the instructions in ``size`` bytes from ``start`` of ``section``.

        BtfError if there are any of which nobody can say where they belong.
        """
        if "" in self.core_relocations.sections:
            raise BtfError(
                "CO-RE relocations of a section without a name", path=self.btf.path, section=".BTF.ext"
            )
        records = self.core_relocations.sections.get(section)
        if records is None:
            return []
        found = []
        for number in records.between(start, size):
            offset, type_id, access, kind = records.at(number)[:_CORE_WORDS]
            if offset % SLOT:
                raise BtfError(
                    f"CO-RE relocation inside an instruction, at {offset:#x} of {section}",
                    path=self.btf.path,
                    section=".BTF.ext",
                )
            found.append(CoreRelocation(offset, type_id, self.btf.string(access), kind))
        return found

    def all_core_relocations(self) -> Iterator[CoreRelocation]:
        """CO-RE records of every section."""
        for section, records in self.core_relocations.sections.items():
            if len(records.offsets):
                last = records.offsets[-1]
                yield from self.core_relocations_for(section, 0, last + 1)

    def core_type_ids(self) -> set[int]:
        """The types, right or wrong, that the CO-RE records of all sections start from."""
        return {
            type_id
            for records in self.core_relocations.sections.values()
            for type_id in records.words[1 :: records.width]
        }

    def _moved(self, area: Area, section: str, start: int, size: int, at: int) -> bytes:
        records = area.sections.get(section)
        if records is None:
            return b""
        chosen, width = records.between(start, size), records.width
        if not chosen or records.offsets[chosen.start] // SLOT != start // SLOT:
            return b""
        words = records.words[chosen.start * width : chosen.stop * width]
        shift = at - start // SLOT
        words[0::width] = array("I", [o // SLOT + shift for o in records.offsets[chosen.start : chosen.stop]])
        if self.byte_order != sys.byteorder:
            words.byteswap()
        return words.tobytes()


Bounds = tuple[int, int]  # start and end, bytes from the start of .BTF.ext


def _bounds(data: bytes, byte_order: str, fail: Fail) -> tuple[Bounds, Bounds, Bounds]:
    header = _HEADER[byte_order]
    if len(data) < header.size:
        raise fail(f"cut off inside the header ({len(data)} bytes)", len(data))
    _, version, flags, size, func, func_len, line, line_len = header.unpack_from(data)
    if version != VERSION or flags:
        raise fail(f"version {version}, flags {flags:#x} are unknown", 2)
    if not header.size <= size <= len(data):
        raise fail(f"header of {size} bytes in {len(data)} bytes", 4)
    core, core_len = 0, 0
    if size >= _HEADER_WITH_CORE:
        core, core_len = _CORE_FIELDS[byte_order].unpack_from(data, header.size)
    for field, (start, length) in enumerate(((func, func_len), (line, line_len), (core, core_len))):
        place = 8 + field * 2 * WORD
        if start % WORD:
            raise fail(f"area at {start:#x} is not aligned", place)
        if length and size + start + length > len(data):
            raise fail(f"area {start:#x}+{length:#x} runs past the end", place)
    return (
        (size + func, size + func + func_len),
        (size + line, size + line + line_len),
        (size + core, size + core + core_len),
    )


def _read_area(
    data: bytes, bounds: Bounds, label: str, known: int, btf: Btf, byte_order: str, fail: Fail
) -> Area:
    """One area; ``known`` is the least number of words in a record."""
    start, end = bounds
    if start == end:
        return Area(0, {})
    if (end - start) % WORD:
        raise fail(f"{label}: {end - start} bytes are not whole words", start)
    words = native_words(data[start:end], byte_order)
    record_size = words[0]
    if record_size % WORD or record_size < known * WORD:
        raise fail(f"{label}: record size {record_size}, at least {known * WORD} expected", start)
    width = record_size // WORD
    gathered: dict[str, array[int]] = {}
    for name, position, count in _blocks(words, width, label, start, fail):
        records = gathered.setdefault(_section_name(btf, name), array("I"))
        records.frombytes(words[position : position + count * width].cast("B"))
    return Area(record_size, {name: Records(records, width) for name, records in gathered.items()})


def _section_name(btf: Btf, offset: int) -> str:
    """ "" for what is no name: only those who need the block have to mind."""
    try:
        return btf.string(offset)
    except BtfError:
        return ""


def _blocks(
    words: memoryview, width: int, label: str, start: int, fail: Fail
) -> Iterator[tuple[int, int, int]]:
    """(name offset, word number of the first record, number of records) of each block."""
    at = 1
    if len(words) == at:
        raise fail(f"{label}: no sections", start)
    while at < len(words):
        if at + 2 > len(words):
            raise fail(f"{label}: cut off inside a section header", start + at * WORD)
        name, count = words[at], words[at + 1]
        if not count:
            raise fail(f"{label}: a section without records", start + at * WORD)
        if at + 2 + count * width > len(words):
            raise fail(f"{label}: {count} records run past the end", start + at * WORD)
        yield name, at + 2, count
        at += 2 + count * width
