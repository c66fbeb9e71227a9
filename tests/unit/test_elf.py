"""The ELF reader: what it finds, judged by pyelftools, and how it refuses what is malformed."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from builders import (
    Reloc,
    Sec,
    Sym,
    bss,
    call,
    code,
    elf_file,
    ends_in_our_error,
    exit_,
    func,
    load,
    mov,
    read,
    words,
)
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfctl.errors import BpfctlError, ObjectFileError
from bpfctl.objfile import link_program, read_object, relocations
from bpfctl.objfile.elf import SHT_RELA, Elf

TESTDATA = sorted((Path(__file__).parents[2] / "testdata").glob("*.o"))

CODE = load() + call() + exit_()
SMALL = elf_file(
    [
        code("xdp", CODE, [Reloc(0, "counters"), Reloc(16, "helper", 10)]),
        code(".text", mov(1) + exit_()),
        Sec("maps", words(2, 4, 8, 1, 0)),
        Sec(".data", b"\x01\x02\x03\x04"),
        Sec("license", b"GPL\0"),
    ],
    [func("main", "xdp", 0, 32), func("helper", ".text", 0, 16), Sym("counters", "maps", 0, 20)],
)

# Byte offsets in the header.
E_TYPE, E_MACHINE, E_SHOFF, E_SHENTSIZE, E_SHNUM, E_SHSTRNDX = 16, 18, 40, 58, 60, 62


# --- what is there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TESTDATA, ids=lambda path: path.name)
def test_sections_symbols_and_relocations_agree_with_pyelftools(path: Path) -> None:
    elf = Elf(path.read_bytes(), str(path))
    with path.open("rb") as stream:
        judge = ELFFile(stream)
        assert elf.byte_order == ("little" if judge.little_endian else "big")
        table = judge.get_section_by_name(".symtab")
        assert [(s.name, s.offset, s.size, s.link, s.info, s.entsize) for s in elf.sections] == [
            (s.name, s["sh_offset"], s["sh_size"], s["sh_link"], s["sh_info"], s["sh_entsize"])
            for s in judge.iter_sections()
        ]
        assert [(s.value, s.size, s.type) for s in elf.symbols] == [
            (s["st_value"], s["st_size"], _number(s["st_info"]["type"])) for s in table.iter_symbols()
        ]
        named = [(elf.name(s), s.value) for s in elf.symbols if s.name_offset]
        assert named == [(s.name, s["st_value"]) for s in table.iter_symbols() if s.name]
        for section in judge.iter_sections():
            if isinstance(section, RelocationSection):
                assert [tuple(entry) for entry in elf.relocations(section["sh_info"])] == sorted(
                    (r["r_offset"], r["r_info_type"], r["r_info_sym"]) for r in section.iter_relocations()
                )


def _number(name: str) -> int:
    return ["STT_NOTYPE", "STT_OBJECT", "STT_FUNC", "STT_SECTION", "STT_FILE"].index(name)


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_read_alike(order: str) -> None:
    text = load(order=order) + exit_(order=order)
    obj = read(
        elf_file(
            [code("xdp", text, [Reloc(0, "m")]), Sec("maps", words(1, 4, 8, 16, 1, order=order))],
            [func("main", "xdp", 0, 24), Sym("m", "maps", 0, 20)],
            byte_order=order,
        )
    )
    assert obj.byte_order == order
    assert (obj.maps["m"].map_type, obj.maps["m"].max_entries, obj.maps["m"].flags) == (1, 16, 1)
    assert [(r.section, r.offset, r.type, r.symbol) for r in relocations(obj)] == [("xdp", 0, 1, "m")]


def test_machine_none_of_old_compilers_is_bpf() -> None:
    assert read(elf_file(machine=0)).programs == {}


def test_sha1_is_that_of_the_file() -> None:
    assert read(SMALL).sha1 == hashlib.sha1(SMALL).hexdigest()


def test_more_sections_than_the_header_can_count() -> None:
    """e_shnum 0 and e_shstrndx 0xffff: the numbers stand in the header of section 0."""
    data = bytearray(SMALL)
    (table,) = struct.unpack_from("<Q", data, E_SHOFF)
    count, names = struct.unpack_from("<HH", data, E_SHNUM)
    struct.pack_into("<HH", data, E_SHNUM, 0, 0xFFFF)
    struct.pack_into("<Q", data, table + 32, count)
    struct.pack_into("<I", data, table + 40, names)
    assert [s.name for s in read(bytes(data)).sections] == [s.name for s in read(SMALL).sections]


def test_name_that_is_not_utf8_is_escaped() -> None:
    data = SMALL.replace(b"counters\0", b"count\xff\x1bs\0")
    assert list(read(data).maps) == ["count\\xff\x1bs", ".data"]


# --- what is refused --------------------------------------------------------------------------------


def _patched(offset: int, layout: str, *values: int) -> bytes:
    data = bytearray(SMALL)
    struct.pack_into("<" + layout, data, offset, *values)
    return bytes(data)


def _section_patched(name: str, field: int, layout: str, value: int) -> bytes:
    """SMALL with the field at byte ``field`` of the section header ``name`` replaced."""
    (table,) = struct.unpack_from("<Q", SMALL, E_SHOFF)
    index = next(s.index for s in Elf(SMALL, "").sections if s.name == name)
    return _patched(table + index * 64 + field, layout, value)


SH_TYPE, SH_FLAGS, SH_OFFSET, SH_SIZE, SH_LINK, SH_INFO, SH_ENTSIZE = 4, 8, 24, 32, 40, 44, 56

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "not an ELF": (b"#!/bin/sh\n", "not an ELF file"),
    "only the magic": (b"\x7fELF", "ELF header cut off: the file has 4 bytes"),
    "32-bit": (_patched(4, "B", 1), "offset 0x4: a 32-bit ELF file"),
    "byte order 3": (_patched(5, "B", 3), "offset 0x5: unknown byte order 3"),
    "executable": (_patched(E_TYPE, "H", 2), "offset 0x10: ELF type 2, not a relocatable object"),
    "x86-64": (_patched(E_MACHINE, "H", 62), "offset 0x12: made for machine 62 (x86-64), not for BPF"),
    "machine 9999": (_patched(E_MACHINE, "H", 9999), "made for machine 9999 (unknown)"),
    "version": (_patched(20, "I", 2), "ELF version 2, not 1"),
    "no section table": (_patched(E_SHOFF, "Q", 0), "section table outside of the file"),
    "section table far away": (_patched(E_SHOFF, "Q", 1 << 63), "section table outside of the file"),
    "section header size": (_patched(E_SHENTSIZE, "H", 40), "section headers of 40 bytes"),
    "too many sections": (_patched(E_SHNUM, "H", 9999), "section table of 9999 headers outside"),
    "section names": (_patched(E_SHSTRNDX, "H", 1), "section 1 is no string table"),
    "section names far away": (_patched(E_SHSTRNDX, "H", 999), "section 999 is no string table"),
    "section name offset": (_section_patched("maps", 0, "I", 1 << 30), "name of section 3 is not inside"),
    "section beyond the end": (_section_patched("maps", SH_SIZE, "Q", 1 << 40), "section 3 (1099511627776 b"),
    "symbol size": (_section_patched(".symtab", SH_ENTSIZE, "Q", 16), "section .symtab: not made of symbols"),
    "symbol table cut": (_section_patched(".symtab", SH_SIZE, "Q", 25), "not made of symbols of 24 bytes"),
    "symbol strings": (_section_patched(".symtab", SH_LINK, "I", 1), "its string table, section 1, is none"),
    "no symbol table": (elf_file(symbol_tables=0), "no symbol table"),
    "two symbol tables": (elf_file(symbol_tables=2), "section .symtab: a second symbol table"),
    "compressed maps": (_section_patched("maps", SH_FLAGS, "Q", 0x800), "section maps: compressed"),
    "bss of 4 GB": (elf_file([bss(".bss", 1 << 32)]), "4294967296 bytes without contents is too large"),
    "symbol outside": (
        elf_file([Sec(".data", b"1234")], [Sym("x", ".data", 2, 8)]),
        "symbol 2: it ends at 0xa, outside of section 1",
    ),
    "function between instructions": (
        elf_file([code("xdp", CODE)], [func("f", "xdp", 4, 8)]),
        "section xdp, offset 0x4: function f (8 bytes) is not aligned",
    ),
    "functions overlap": (
        elf_file([code("xdp", CODE)], [func("f", "xdp", 0, 16), func("g", "xdp", 8, 16)]),
        "section xdp, offset 0x8: function g overlaps function f",
    ),
    "code of 12 bytes": (
        elf_file([code("xdp", bytes(12))]),
        "section xdp: its 12 bytes are no whole number of instructions",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, text = REFUSED[name]
    with pytest.raises(ObjectFileError) as caught:
        read(data)
    assert str(caught.value).startswith("test.o")
    assert text in str(caught.value)


def _linked(data: bytes) -> object:
    return link_program(read(data), "main")


RELOCATIONS_REFUSED: dict[str, tuple[bytes, str]] = {
    "entry size": (
        _section_patched(".relxdp", SH_ENTSIZE, "Q", 24),
        "section .relxdp: not made of relocations",
    ),
    "cut": (_section_patched(".relxdp", SH_SIZE, "Q", 17), "section .relxdp: not made of relocations"),
    "with addends": (
        _section_patched(".relxdp", SH_TYPE, "I", SHT_RELA),
        "section .relxdp: relocations with addends",
    ),
    "other symbol table": (
        _section_patched(".relxdp", SH_LINK, "I", 2),
        "its symbol table, section 2, is none",
    ),
    "no such symbol": (
        SMALL.replace(struct.pack("<QQ", 0, 8 << 32 | 1), struct.pack("<QQ", 0, 99 << 32 | 1)),
        "section .relxdp, offset 0x0: relocation 0 names symbol 99 of 9",
    ),
    "outside of the section": (
        SMALL.replace(struct.pack("<QQ", 0, 8 << 32 | 1), struct.pack("<QQ", 1 << 60, 8 << 32 | 1)),
        "lies outside of its target of 32 bytes",
    ),
    "twice": (
        SMALL.replace(struct.pack("<QQ", 16, 7 << 32 | 10), struct.pack("<QQ", 0, 7 << 32 | 10)),
        "section xdp, offset 0x0: relocated twice",
    ),
}


@pytest.mark.parametrize("name", RELOCATIONS_REFUSED)
def test_relocations_refused(name: str) -> None:
    data, text = RELOCATIONS_REFUSED[name]
    for use in (_linked, lambda data: relocations(read(data))):
        with pytest.raises(ObjectFileError) as caught:
            use(data)
        assert text in str(caught.value)


def test_overlapping_sections_cannot_multiply_the_file() -> None:
    """A thousand data sections over the same bytes would become a thousand maps of that size."""
    data = bytearray(elf_file([Sec(f".data.{n}", b"x" if n else bytes(4096)) for n in range(50)]))
    (table,) = struct.unpack_from("<Q", data, E_SHOFF)
    first = struct.unpack_from("<Q", data, table + 64 + SH_OFFSET)[0]
    for index in range(2, 51):
        struct.pack_into("<QQ", data, table + index * 64 + SH_OFFSET, first, 4096)
    with pytest.raises(ObjectFileError, match="overlap"):
        read(bytes(data))


def test_every_cut_off_prefix_is_refused() -> None:
    assert all(ends_in_our_error(SMALL[:size]) for size in range(len(SMALL)))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_bytes_end_in_our_error_or_are_harmless(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for offset, value in changes:
        data[offset] = value
    with suppress(ObjectFileError):
        obj = read(bytes(data))
        for name in obj.programs:
            with suppress(ObjectFileError):
                link_program(obj, name)
        relocations(obj)


# --- files ------------------------------------------------------------------------------------------


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _file(path: Path) -> Path:
    path.touch()
    return path


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path / "none.o", "No such file or directory (ENOENT)"),
        (lambda path: path, "Is a directory (EISDIR)"),
        (lambda path: _file(path / "f") / "x.o", "Not a directory (ENOTDIR)"),
        (lambda path: _fifo(path / "fifo"), "not a regular file"),
        (lambda path: Path("/dev/zero"), "not a regular file"),
        (lambda path: path / ("n" * 300), "File name too long (ENAMETOOLONG)"),
        (lambda path: path / "a\0b", "embedded null byte"),
    ],
)
def test_file_that_cannot_be_read(make: Callable[[Path], Path], text: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(BpfctlError) as caught:
        read_object(str(path))
    assert "cannot read object file" in str(caught.value)
    assert text in str(caught.value)
    assert str(caught.value).isprintable()


def test_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "small.o"
    path.write_bytes(SMALL)
    assert read_object(str(path)).license == "GPL"
