"""Where the functions of a program or library lie in its file: what a uprobe is placed by.

ELF64 of this machine's byte order, as System V ABI chapters 4 and 5 have it; versions of symbols as in the
Linux Standard Base (``.gnu.version``, ``.gnu.version_d``).  The file may be anybody's: what is malformed ends
in ObjectFileError, and it is mapped, not read.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator

from bpfctl.errors import BpfctlError, NotFoundError, ObjectFileError, errno_text, printable
from bpfctl.record import NamedTuple

_SYMBOL = struct.Struct("=IBBHQQ")
_SECTION = struct.Struct("=2I4Q2I2Q")
_SEGMENT = struct.Struct("=2I6Q")
_PT_LOAD, _PF_X = 1, 1
_SHT_SYMTAB, _SHT_DYNSYM, _SHT_NOBITS = 2, 11, 8
_SHT_VERSYM, _SHT_VERDEF = 0x6FFFFFFF, 0x6FFFFFFD
_STT_FUNC, _STB_WEAK = 2, 2
_MAX_NAME = 4096


class Section(NamedTuple):
    """A section header, in the order of its fields."""

    name_offset: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


class Segment(NamedTuple):
    """A part of the file that is loaded at ``address``: ``size`` bytes from ``offset`` on."""

    address: int
    size: int
    offset: int
    executable: bool


class Function(NamedTuple):
    """A function: ``offset`` in bytes from the start of the file.

    ``version``: of the symbol, "" for none; ``default``: what the bare name means to a linker.
    """

    name: str
    offset: int
    version: str
    default: bool
    weak: bool


class Executable:
    """An ELF file, mapped until the end of the ``with`` block.

    Raises BpfctlError for a file that cannot be opened, ObjectFileError for one that is not such an ELF file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._data = _map(path)
        try:
            self.sections = self._read_sections()
        except struct.error:
            self.close()
            raise self._error("its section table is cut off") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Executable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._data.close()

    def _error(self, message: str) -> ObjectFileError:
        return ObjectFileError(message, path=printable(self.path, _MAX_NAME))

    def _read_sections(self) -> list[Section]:
        data = self._data
        if data[:4] != b"\x7fELF":
            raise self._error("not an ELF file")
        if data[4:6] != bytes((2, 1 if sys.byteorder == "little" else 2)):
            raise self._error("not a 64-bit ELF file of this machine's byte order")
        table, entry_size, count, names = (
            struct.unpack_from("=Q", data, 40)[0],
            *struct.unpack_from("=3H", data, 58),
        )
        if entry_size != _SECTION.size or table + count * entry_size > len(data):
            raise self._error("its section table lies outside of the file")
        sections = [Section._make(_SECTION.unpack_from(data, table + n * entry_size)) for n in range(count)]
        for section in sections:
            if section.type not in (0, _SHT_NOBITS) and section.offset + section.size > len(data):
                raise self._error("a section lies outside of the file")
        self._names = sections[names] if names < count else None
        return sections

    @property
    def segments(self) -> list[Segment]:
        """What of the file is loaded, read anew each time."""
        table, size, count = (
            struct.unpack_from("=Q", self._data, 32)[0],
            *struct.unpack_from("=2H", self._data, 54),
        )
        if count and (size != _SEGMENT.size or table + count * size > len(self._data)):
            raise self._error("its program headers lie outside of the file")
        rows = (_SEGMENT.unpack_from(self._data, table + n * size) for n in range(count))
        return [
            Segment(address, file_size, offset, bool(flags & _PF_X))
            for kind, flags, offset, address, _, file_size, _, _ in rows
            if kind == _PT_LOAD
        ]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        if self._names is None:
            return None
        return next((s for s in self.sections if self._string(self._names, s.name_offset) == name), None)

    def contents(self, section: Section) -> bytes:
        """The bytes of ``section``."""
        if section.type == _SHT_NOBITS:
            return b""
        return self._data[section.offset : section.offset + section.size]

    def _string(self, table: Section, start: int) -> str:
        begin, end = table.offset + start, table.offset + table.size
        stop = self._data.find(b"\0", begin, min(end, begin + _MAX_NAME))
        return self._data[begin : max(stop, begin)].decode("utf-8", "backslashreplace")

    def functions(self, wanted: Callable[[str], bool]) -> Iterator[Function]:
        """Functions whose name is ``wanted``: those that can be linked to first, then the others."""
        tables = [s for s in self.sections if s.type == _SHT_DYNSYM]
        tables += [s for s in self.sections if s.type == _SHT_SYMTAB]
        for table in tables:
            if table.link < len(self.sections):
                yield from self._functions(table, wanted)

    def _functions(self, table: Section, wanted: Callable[[str], bool]) -> Iterator[Function]:
        strings = self.sections[table.link]
        versions = self._versions() if table.type == _SHT_DYNSYM else {}
        numbers = self._version_numbers() if versions else b""
        contents = self.contents(table)
        usable = len(contents) // _SYMBOL.size * _SYMBOL.size
        for index, symbol in enumerate(_SYMBOL.iter_unpack(contents[:usable])):
            name_offset, info, _, section_index, value, _ = symbol
            if info & 0xF != _STT_FUNC or not 0 < section_index < len(self.sections):
                continue
            name = self._string(strings, name_offset)
            if not name or not wanted(name.partition("@")[0]):
                continue
            home = self.sections[section_index]
            number = int.from_bytes(numbers[2 * index : 2 * index + 2], sys.byteorder)
            yield Function(
                name=name.partition("@")[0],
                offset=value - home.address + home.offset,
                version=versions.get(number & 0x7FFF, "") or name.rpartition("@")[2] * ("@" in name),
                default=not number & 0x8000,
                weak=info >> 4 == _STB_WEAK,
            )

    def _version_numbers(self) -> bytes:
        found = next((s for s in self.sections if s.type == _SHT_VERSYM), None)
        return self.contents(found) if found else b""

    def _versions(self) -> dict[int, str]:
        """Number to name of the versions that the file defines."""
        table = next((s for s in self.sections if s.type == _SHT_VERDEF), None)
        if table is None or table.link >= len(self.sections):
            return {}
        names, data, at = {}, self.contents(table), 0
        while at + 20 <= len(data):
            number, _, _, extra, following = struct.unpack_from("=2H3I", data, at + 4)
            if at + extra + 4 > len(data):
                break
            start = struct.unpack_from("=I", data, at + extra)[0]
            names[number & 0x7FFF] = self._string(self.sections[table.link], start)
            if not following:
                break
            at += following
        return names


def function_offset(binary: Executable, wanted: str) -> int:
    """Where function ``wanted`` (NAME, NAME@VERSION or NAME@@VERSION) begins in the file.

    Of several, the default version, and then the one that is not weak.  NotFoundError for none,
    ObjectFileError when several remain that lie in different places.
    """
    name, _, version = wanted.partition("@")
    version = version.removeprefix("@")
    found = [f for f in binary.functions(lambda candidate: candidate == name) if version in ("", f.version)]
    for better in (lambda f: f.default, lambda f: not f.weak):
        found = [f for f in found if better(f)] or found
    offsets = {f.offset for f in found}
    shown = printable(binary.path, _MAX_NAME)
    if not offsets:
        raise NotFoundError(
            f"{shown}: no function {printable(wanted)}",
            hint="a stripped file names only the functions that others call; an inlined one is nowhere",
        )
    if len(offsets) > 1:
        places = ", ".join(f"{offset:#x}" for offset in sorted(offsets))
        raise ObjectFileError(f"function {printable(wanted)} is at {places}", path=shown)
    return offsets.pop()


def _map(path: str) -> mmap.mmap:
    shown = printable(path, _MAX_NAME)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BpfctlError(f"cannot read {shown}: not a regular file")
            if status.st_size < 64:
                raise ObjectFileError("not an ELF file", path=shown)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BpfctlError(f"cannot read {shown}: {errno_text(error.errno or 0)}") from error
