"""Object files made in memory, so that each test shows its own input, the broken included.

``elf_file`` lays out what it is given, right or wrong; the other functions make its parts.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bpfctl.errors import ObjectFileError
from bpfctl.objfile import ObjectSpec, read_object_bytes
from bpfctl.objfile.elf import (
    EM_BPF,
    SHF_EXECINSTR,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
)

R_BPF_64_64 = 1
R_BPF_64_ABS64 = 2
R_BPF_64_32 = 10


class Reloc(NamedTuple):
    """A relocation at byte ``offset`` against the symbol (or, with a leading dot, section) of that name."""

    offset: int
    symbol: str
    type: int = R_BPF_64_64


class Sec(NamedTuple):
    """A section; ``size`` is said only where it is not that of ``data``."""

    name: str
    data: bytes = b""
    type: int = SHT_PROGBITS
    flags: int = 0
    size: int | None = None
    relocations: Sequence[Reloc] = ()
    relocation_type: int = SHT_REL
    relocation_entry_size: int = 16


class Sym(NamedTuple):
    """A symbol; ``section`` is a section's name, a raw section number, or None for an undefined one."""

    name: str
    section: str | int | None
    value: int = 0
    size: int = 0
    type: int = STT_OBJECT
    binding: int = STB_GLOBAL
    visibility: int = 0


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def add(self, text: str) -> int:
        if not text:
            return 0
        self.data += text.encode() + b"\0"
        return len(self.data) - len(text.encode()) - 1


def elf_file(
    sections: Iterable[Sec] = (),
    symbols: Iterable[Sym] = (),
    *,
    byte_order: str = "little",
    machine: int = EM_BPF,
    file_type: int = 1,
    symbol_tables: int = 1,
) -> bytes:
    """An ELF64 file: ``sections`` from number 1, their relocations, symbol tables, strings.

    Every section gets a section symbol, as clang's objects have it.
    """
    prefix = "<" if byte_order == "little" else ">"
    sections = list(sections)
    numbers = {section.name: number for number, section in enumerate(sections, 1)}
    all_symbols = [Sym("", 0, type=STT_NOTYPE, binding=STB_LOCAL)]
    all_symbols += [Sym("", number, 0, 0, STT_SECTION, STB_LOCAL) for number in numbers.values()]
    first_own = len(all_symbols)
    all_symbols += symbols
    symbol_numbers = {symbol.name: n for n, symbol in enumerate(all_symbols[first_own:], first_own)}
    strings = _Strings()
    symbol_data = b"".join(_symbol(prefix, symbol, numbers, strings) for symbol in all_symbols)

    headers: list[tuple[str, int, int, bytes, int, int, int, int]] = []
    for section in sections:
        size = len(section.data) if section.size is None else section.size
        headers.append((section.name, section.type, section.flags, section.data, size, 0, 0, 0))
    relocated = [section for section in sections if section.relocations]
    symbol_table = 1 + len(sections) + len(relocated)
    string_table = symbol_table + symbol_tables
    for section in relocated:
        data = b"".join(
            struct.pack(prefix + "QQ", r.offset, (numbers | symbol_numbers)[r.symbol] << 32 | r.type)
            for r in section.relocations
        )
        headers.append(
            (".rel" + section.name, section.relocation_type, 0, data, len(data), symbol_table,
             numbers[section.name], section.relocation_entry_size)
        )  # fmt: skip
    for _ in range(symbol_tables):
        headers.append((".symtab", SHT_SYMTAB, 0, symbol_data, len(symbol_data), string_table, first_own, 24))
    headers.append((".strtab", SHT_STRTAB, 0, bytes(strings.data), len(strings.data), 0, 0, 0))
    return _layout(prefix, headers, machine, file_type)


def _symbol(prefix: str, symbol: Sym, numbers: dict[str, int], strings: _Strings) -> bytes:
    index = numbers[symbol.section] if isinstance(symbol.section, str) else symbol.section or 0
    info = symbol.binding << 4 | symbol.type
    fields = (strings.add(symbol.name), info, symbol.visibility, index, symbol.value, symbol.size)
    return struct.pack(prefix + "IBBHQQ", *fields)


def _layout(
    prefix: str, headers: list[tuple[str, int, int, bytes, int, int, int, int]], machine: int, file_type: int
) -> bytes:
    names = _Strings()
    offsets = [names.add(header[0]) for header in headers]
    offsets.append(names.add(".shstrtab"))
    headers = [*headers, (".shstrtab", SHT_STRTAB, 0, bytes(names.data), len(names.data), 0, 0, 0)]
    body = bytearray()
    table = bytearray(64)
    for name, (_, kind, flags, data, size, link, info, entry_size) in zip(offsets, headers, strict=True):
        table += struct.pack(
            prefix + "IIQQQQIIQQ", name, kind, flags, 0, 64 + len(body), size, link, info, 1, entry_size
        )
        body += data + bytes(-len(data) % 8)
    ident = b"\x7fELF\x02" + (b"\x01" if prefix == "<" else b"\x02") + b"\x01" + bytes(9)
    count = len(headers) + 1
    header = ident + struct.pack(
        prefix + "HHIQQQIHHHHHH",
        file_type,
        machine,
        1,
        0,
        0,
        64 + len(body),
        0,
        64,
        0,
        0,
        64,
        count,
        count - 1,
    )
    return bytes(header + body + table)


# -- instructions --------------------------------------------------------------------------------------


def insn(
    code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0, *, order: str = "little"
) -> bytes:
    registers = dst | src << 4 if order == "little" else dst << 4 | src
    return struct.pack(("<" if order == "little" else ">") + "BBhi", code, registers, off, imm)


def load(dst: int = 1, imm: int = 0, src: int = 0, high: int = 0, *, order: str = "little") -> bytes:
    """The 64-bit load, two slots."""
    return insn(0x18, dst, src, 0, imm, order=order) + insn(0, imm=high, order=order)


def call(imm: int = -1, src: int = 1, *, order: str = "little") -> bytes:
    """A call to another function."""
    return insn(0x85, src=src, imm=imm, order=order)


def mov(imm: int, *, order: str = "little") -> bytes:
    """r0 = imm: a filler that tells functions apart."""
    return insn(0xB7, imm=imm, order=order)


def exit_(*, order: str = "little") -> bytes:
    return insn(0x95, order=order)


# -- parts of objects ----------------------------------------------------------------------------------


def code(name: str, data: bytes, relocations: Sequence[Reloc] = ()) -> Sec:
    """An executable section."""
    return Sec(name, data, flags=SHF_EXECINSTR, relocations=relocations)


def bss(name: str, size: int) -> Sec:
    return Sec(name, b"", type=SHT_NOBITS, size=size)


def func(
    name: str, section: str, value: int, size: int, *, binding: int = STB_GLOBAL, visibility: int = 0
) -> Sym:
    return Sym(name, section, value, size, STT_FUNC, binding, visibility)


def words(*numbers: int, order: str = "little") -> bytes:
    """32-bit words, as the definitions of section ``maps`` are made of."""
    return struct.pack(f"{'<' if order == 'little' else '>'}{len(numbers)}I", *numbers)


def maps_object(*definitions: tuple[str, bytes], order: str = "little") -> bytes:
    """An object with nothing but section ``maps``: a name and the struct's bytes for each map."""
    symbols, data = [], b""
    for name, definition in definitions:
        symbols.append(Sym(name, "maps", len(data), len(definition)))
        data += definition
    return elf_file([Sec("maps", data)], symbols, byte_order=order)


def read(data: bytes, *, path: str = "test.o", maps_abi: str | None = None) -> ObjectSpec:
    return read_object_bytes(data, path=path, maps_abi=maps_abi)


def ends_in_our_error(data: bytes) -> bool:
    """Whether ``data`` is refused; any other exception than ours passes through and fails the test."""
    try:
        read(data)
    except ObjectFileError:
        return True
    return False
