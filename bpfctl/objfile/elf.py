"""A bounded reader of ELF64 relocatable objects, as compilers make them for BPF.

Layouts are those of the System V ABI, chapters 4 and 5 (``Elf64_Ehdr``, ``Elf64_Shdr``, ``Elf64_Sym``,
``Elf64_Rel``).  Whatever is malformed ends in :class:`ObjectFileError`, and nothing is ever
allocated beyond the size of the file: offsets and sizes are compared with it before they are used.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from bisect import bisect_left
from itertools import pairwise
from operator import lt

from bpfctl.errors import BpfctlError, ObjectFileError, errno_text, printable
from bpfctl.objfile.spec import SectionSpec
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_FILE_SIZE = 1 << 30  # bytes; the largest objects known are below 10 MB
MAX_NAME_SIZE = 4096  # bytes; a section name may carry a path (``uprobe//usr/bin/x:main``)
MAX_MESSAGE_SIZE = 400  # characters; a message may quote names from the file
MAX_SECTION_SIZE = (1 << 31) - 1  # bytes, of SHT_NOBITS: the file's size does not bound it

EM_NONE = 0  # written by old LLVM
EM_BPF = 247

SHN_UNDEF = 0
SHN_LORESERVE = 0xFF00
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2
_SHN_XINDEX = 0xFFFF

SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_RELA = 4
SHT_NOBITS = 8
SHT_REL = 9
_WITHOUT_CONTENTS = (0, SHT_NOBITS)
SHF_EXECINSTR = 0x4
_SHF_COMPRESSED = 0x800

STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2
STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STV_INTERNAL = 1
STV_HIDDEN = 2

_HEADER_SIZE = 64
_SECTION_SIZE = 64
_SYMBOL_SIZE = 24
_RELOCATION_SIZE = 16
_ET_REL = 1
_CLASS_64 = 2
_BYTE_ORDERS = {1: "little", 2: "big"}

# Machines that a BPF toolchain run without ``-target bpf`` leaves behind.
_MACHINE_NAMES = {
    3: "Intel 80386",
    40: "ARM",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    22: "S/390",
    21: "PowerPC64",
}


class Symbol(NamedTuple):
    """``Elf64_Sym`` as it stands in the file: ``value`` and ``size`` in bytes."""

    name_offset: int
    info: int
    other: int
    section_index: int
    value: int
    size: int

    @property
    def type(self) -> int:
        return self.info & 0xF

    @property
    def binding(self) -> int:
        return self.info >> 4

    @property
    def is_hidden(self) -> bool:
        """STV_HIDDEN or STV_INTERNAL: not visible outside the object that it was linked into."""
        return self.other & 3 in (STV_HIDDEN, STV_INTERNAL)


class RelocationEntry(NamedTuple):
    """``Elf64_Rel``: ``offset`` in bytes within the section that it applies to."""

    offset: int
    type: int
    symbol_index: int


class Relocations:
    """Relocations of one section by offset, none twice at one; in columns, for there may be very many.

    ``offsets``: in bytes within the section that they apply to; ``infos``: their ``r_info``, the number of
    the symbol in the high half and the type in the low one.  Iteration gives each as a RelocationEntry.
    """

    __slots__ = ("infos", "offsets")

    def __init__(self, offsets: Sequence[int], infos: Sequence[int]) -> None:
        self.offsets = offsets
        self.infos = infos

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[RelocationEntry]:
        for offset, info in zip(self.offsets, self.infos, strict=True):
            yield RelocationEntry(offset, info & 0xFFFFFFFF, symbol_of(info))

    def between(self, start: int, end: int) -> Relocations:
        """Those at offsets from ``start`` up to ``end``."""
        first = bisect_left(self.offsets, start)
        chosen = slice(first, bisect_left(self.offsets, end, first))
        return Relocations(self.offsets[chosen], self.infos[chosen])

    def has(self, offset: int) -> bool:
        """Whether one is at ``offset``."""
        found = bisect_left(self.offsets, offset)
        return found < len(self.offsets) and self.offsets[found] == offset


def symbol_of(info: int) -> int:
    """The number of the symbol in an ``r_info``."""
    return info >> 32


def _section(index: int, name: str, header: tuple[int, ...]) -> SectionSpec:
    _, kind, flags, _, offset, size, link, info, _, entry_size = header
    return SectionSpec(index, name, kind, flags, offset, size, link, info, entry_size)


class Elf:
    """An object file taken apart: ``sections`` and ``symbols`` by their ELF numbers.

    ``prefix`` is the byte-order character for ``struct`` formats.  Contents stay bytes in ``data``
    until asked for.
    """

    __slots__ = (
        "_by_name",
        "_names",
        "_relocation_sections",
        "_relocations",
        "_strings",
        "_symbol_table",
        "byte_order",
        "data",
        "machine",
        "path",
        "prefix",
        "sections",
        "symbols",
    )

    def __init__(self, data: bytes, path: str) -> None:
        self.data = data
        self.path = path
        self._names: dict[int, str] = {}
        self._relocations: dict[int, Relocations] = {}
        self._read_header()
        self._read_symbols()

    # -- errors ---------------------------------------------------------------------------------------

    def error(
        self, message: str, *, section: int | None = None, offset: int | None = None, hint: str | None = None
    ) -> ObjectFileError:
        """An error that names this file, the name of section number ``section`` and a byte ``offset``."""
        name = None if section is None else self.sections[section].name
        text = printable(message, MAX_MESSAGE_SIZE)
        return ObjectFileError(text, path=self.path, section=name, offset=offset, hint=hint)

    # -- tables ---------------------------------------------------------------------------------------

    def _read_header(self) -> None:
        data = self.data
        if not data.startswith(b"\x7fELF"):
            raise self.error("not an ELF file" if data else "the file is empty")
        if len(data) < _HEADER_SIZE:
            raise self.error(f"ELF header cut off: the file has {len(data)} bytes")
        if data[4] != _CLASS_64:
            raise self.error("a 32-bit ELF file; BPF objects are 64-bit", offset=4, hint=_TARGET_HINT)
        if data[5] not in _BYTE_ORDERS:
            raise self.error(f"unknown byte order {data[5]}", offset=5)
        self.byte_order = _BYTE_ORDERS[data[5]]
        self.prefix = "<" if data[5] == 1 else ">"
        kind, self.machine, version, _, _, table, _, _, _, _, entry_size, count, names = struct.unpack_from(
            self.prefix + "HHIQQQIHHHHHH", data, 16
        )
        if kind != _ET_REL:
            raise self.error(f"ELF type {kind}, not a relocatable object (1)", offset=16, hint=_TARGET_HINT)
        if self.machine not in (EM_BPF, EM_NONE):
            name = _MACHINE_NAMES.get(self.machine, "unknown")
            raise self.error(
                f"made for machine {self.machine} ({name}), not for BPF (247)", offset=18, hint=_TARGET_HINT
            )
        if version != 1 or data[6] != 1:
            raise self.error(f"ELF version {version}, not 1", offset=20)
        self._read_sections(table, entry_size, count, names)

    def _read_sections(self, table: int, entry_size: int, count: int, names: int) -> None:
        if entry_size != _SECTION_SIZE:
            raise self.error(f"section headers of {entry_size} bytes, not {_SECTION_SIZE}", offset=58)
        if not table or table + _SECTION_SIZE > len(self.data):
            raise self.error(f"section table outside of the file of {len(self.data)} bytes", offset=table)
        # More than 65279 sections: the true numbers stand in the header of section 0.
        first = struct.unpack_from(self.prefix + "IIQQQQIIQQ", self.data, table)
        count = count or first[5]
        names = first[6] if names == _SHN_XINDEX else names
        end = table + count * _SECTION_SIZE
        if not count or end > len(self.data):
            raise self.error(
                f"section table of {count} headers outside of the file of {len(self.data)} bytes",
                offset=table,
            )
        headers = list(struct.iter_unpack(self.prefix + "IIQQQQIIQQ", self.data[table:end]))
        self._check_sections(headers, table)
        if not 0 < names < count or headers[names][1] != SHT_STRTAB:
            raise self.error(f"section {names} is no string table for section names", offset=62)
        _, _, _, _, start, size, *_ = headers[names]
        strings = self.data[start : start + size]
        self.sections = tuple(
            _section(index, self._string(strings, header[0], f"name of section {index}", table), header)
            for index, header in enumerate(headers)
        )
        self._by_name: dict[str, SectionSpec] = {}
        self._relocation_sections: dict[int, list[SectionSpec]] = {}
        for section in self.sections:
            self._by_name.setdefault(section.name, section)
            if section.type in (SHT_REL, SHT_RELA):
                self._relocation_sections.setdefault(section.info, []).append(section)

    def _check_sections(self, headers: list[tuple[int, ...]], table: int) -> None:
        """Every section inside the file, and together not larger: so that copies stay bounded too."""
        total, end = 0, len(self.data)
        for index, header in enumerate(headers):
            kind, offset, size = header[1], header[4], header[5]
            if index == 0 or kind == 0:
                continue
            where = table + index * _SECTION_SIZE
            if kind == SHT_NOBITS:
                if size > MAX_SECTION_SIZE:
                    raise self.error(
                        f"section {index} of {size} bytes without contents is too large", offset=where
                    )
                continue
            if offset + size > end:
                raise self.error(
                    f"section {index} ({size} bytes at {offset:#x}) outside of the file of {end} bytes",
                    offset=where,
                )
            total += size
        if total > end:
            raise self.error(f"sections of {total} bytes overlap in a file of {end} bytes", offset=table)

    def _read_symbols(self) -> None:
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if not tables:
            raise self.error(
                "no symbol table", hint="was the object stripped?  strip -g keeps what a loader needs"
            )
        if len(tables) > 1:
            raise self.error("a second symbol table", section=tables[1].index)
        table = tables[0]
        index = self._symbol_table = table.index
        if table.entsize != _SYMBOL_SIZE or table.size % _SYMBOL_SIZE:
            raise self.error(f"not made of symbols of {_SYMBOL_SIZE} bytes", section=index)
        if not 0 < table.link < len(self.sections) or self.sections[table.link].type != SHT_STRTAB:
            raise self.error(f"its string table, section {table.link}, is none", section=index)
        self._strings = self.section_data(table.link)
        self.symbols = [
            Symbol._make(entry)
            for entry in struct.iter_unpack(self.prefix + "IBBHQQ", self.section_data(index))
        ]
        sizes = [section.size for section in self.sections]
        for number, symbol in enumerate(self.symbols):
            name_offset, _, _, section_index, value, size = symbol
            if name_offset and name_offset >= len(self._strings):
                problem = "its name lies outside of the string table"
            elif 0 < section_index < len(sizes) and value + size > sizes[section_index]:
                problem = f"it ends at {value + size:#x}, outside of section {section_index}"
            else:
                continue
            raise self.error(f"symbol {number}: {problem}", section=index, offset=number * _SYMBOL_SIZE)

    def _string(self, strings: bytes, start: int, what: str, where: int) -> str:
        """The NUL-terminated string at ``start``; bytes that are not UTF-8 come out escaped."""
        if not start and not strings:
            return ""
        end = strings.find(b"\0", start)
        if end < 0:
            raise self.error(f"{what} is not inside the string table", offset=where)
        if end - start > MAX_NAME_SIZE:
            raise self.error(f"{what} is longer than {MAX_NAME_SIZE} bytes", offset=where)
        return strings[start:end].decode("utf-8", "backslashreplace")

    # -- access ---------------------------------------------------------------------------------------

    def section_data(self, index: int) -> bytes:
        """The bytes of section number ``index``; b"" of one that has none in the file."""
        section = self.sections[index]
        if section.type in _WITHOUT_CONTENTS:
            return b""
        if section.flags & _SHF_COMPRESSED:
            raise self.error(
                "compressed, which a loader cannot use",
                section=index,
                hint="compile without -gz, or decompress with llvm-objcopy --decompress-debug-sections",
            )
        return self.data[section.offset : section.offset + section.size]

    def find_section(self, name: str) -> SectionSpec | None:
        """The first section of that name."""
        return self._by_name.get(name)

    def name(self, symbol: Symbol) -> str:
        """The symbol's name; of STT_SECTION the section's."""
        if symbol.type == STT_SECTION and 0 < symbol.section_index < len(self.sections):
            return self.sections[symbol.section_index].name
        start = symbol.name_offset
        if start not in self._names:
            self._names[start] = self._string(self._strings, start, "a symbol's name", start) if start else ""
        return self._names[start]

    def relocations(self, target: int) -> Relocations:
        """All relocations that apply to section number ``target``."""
        if target not in self._relocations:
            offsets: list[int] = []
            infos: list[int] = []
            for section in self._relocation_sections.get(target, ()):
                more = self._relocation_table(section)
                offsets += more.offsets
                infos += more.infos
            if not all(map(lt, offsets, offsets[1:])):  # never by a compiler
                pairs = sorted(zip(offsets, infos, strict=True))
                for (offset, _), (following, _) in pairwise(pairs):
                    if offset == following:
                        raise self.error("relocated twice", section=target, offset=offset)
                offsets, infos = [offset for offset, _ in pairs], [info for _, info in pairs]
            self._relocations[target] = Relocations(offsets, infos)
        return self._relocations[target]

    def _relocation_table(self, section: SectionSpec) -> Relocations:
        """The relocations in ``section`` as they stand there."""
        if section.type == SHT_RELA:
            raise self.error("relocations with addends, which BPF does not use", section=section.index)
        if section.entsize != _RELOCATION_SIZE or section.size % _RELOCATION_SIZE:
            raise self.error(f"not made of relocations of {_RELOCATION_SIZE} bytes", section=section.index)
        if section.link != self._symbol_table:
            raise self.error(f"its symbol table, section {section.link}, is none", section=section.index)
        target = self.sections[section.info]
        limit = 0 if target.type in _WITHOUT_CONTENTS else target.size
        words = struct.unpack(f"{self.prefix}{section.size // 8}Q", self.section_data(section.index))
        offsets, infos = words[0::2], words[1::2]
        if infos and symbol_of(max(infos)) >= len(self.symbols):
            number = next(n for n, info in enumerate(infos) if symbol_of(info) >= len(self.symbols))
            text = f"relocation {number} names symbol {symbol_of(infos[number])} of {len(self.symbols)}"
            raise self.error(text, section=section.index, offset=number * _RELOCATION_SIZE)
        if offsets and max(offsets) + 8 > limit:
            number = next(n for n, offset in enumerate(offsets) if offset + 8 > limit)
            text = f"relocation {number} at {offsets[number]:#x} lies outside of its target of {limit} bytes"
            raise self.error(text, section=section.index, offset=number * _RELOCATION_SIZE)
        return Relocations(offsets, infos)


_TARGET_HINT = "compile with clang -O2 -g -target bpf -c"


def read_file(path: str) -> bytes:
    """All bytes of the regular file ``path``; BpfctlError with the errno's text when that cannot be."""
    try:
        status = os.stat(path)  # before opening: to open a FIFO would wait for its writer
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
        if not stat.S_ISREG(status.st_mode):
            raise BpfctlError(f"cannot read object file {printable(path)}: not a regular file")
        if status.st_size > MAX_FILE_SIZE:
            raise BpfctlError(
                f"cannot read object file {printable(path)}: {status.st_size} bytes are too many"
            )
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise BpfctlError(
            f"cannot read object file {printable(path)}: {errno_text(error.errno or 0)}"
        ) from error
    except ValueError as error:  # a NUL byte in the path
        raise BpfctlError(f"cannot read object file {printable(path)}: {error}") from error
