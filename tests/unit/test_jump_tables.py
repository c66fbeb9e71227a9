"""Jump tables: places in a function's section -> instruction numbers of the linked program."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import R_BPF_64_32, Reloc, Sec, Sym, bss, call, code, elf_file, exit_, func, load, mov, read

from bpfctl.errors import RelocationError
from bpfctl.insn import decode
from bpfctl.objfile import MapReference, link_program, read_object

TESTDATA = Path(__file__).parents[2] / "testdata"
BODY = load() + mov(1) + exit_()  # 4 slots
SIZE = len(BODY)


def table_object(
    entries: Sequence[int],
    *,
    symbols: Sequence[Sym] = (Sym("table", ".jumptables", 0, 16),),
    order: str = "little",
) -> bytes:
    """``main`` calls ``f``, the second function of .text, which loads the address of ``table``."""
    prefix = "<" if order == "little" else ">"
    body = load(order=order) + mov(1, order=order) + exit_(order=order)
    return elf_file(
        [
            code("xdp", call(order=order) + exit_(order=order), [Reloc(0, "f", R_BPF_64_32)]),
            code(".text", body * 2, [Reloc(SIZE, symbols[0].name)]),
            Sec(".jumptables", struct.pack(f"{prefix}{len(entries)}Q", *entries)),
        ],
        [
            func("main", "xdp", 0, 16),
            func("other", ".text", 0, SIZE),
            func("f", ".text", SIZE, SIZE),
            *symbols,
        ],
        byte_order=order,
    )


@pytest.mark.parametrize("order", ["little", "big"])
def test_targets_count_from_the_start_of_the_program(order: str) -> None:
    linked = link_program(read(table_object([SIZE + 16, SIZE], order=order)), "main")
    assert linked.jump_tables == {".jumptables+0x0": (4, 2)}
    assert linked.references == (MapReference(2, ".jumptables+0x0", 0),)
    assert decode(linked.code, order)[2].src == 2


def test_a_table_in_the_middle_of_the_section() -> None:
    data = table_object([0, SIZE + 24], symbols=(Sym("table", ".jumptables", 8, 8),))
    assert link_program(read(data), "main").jump_tables == {".jumptables+0x8": (5,)}


@pytest.mark.parametrize(
    ("entries", "symbol", "message"),
    [
        ([SIZE, 2 * SIZE], Sym("table", ".jumptables", 0, 16), "leads to 0x40, not into function f"),
        ([SIZE, SIZE - 8], Sym("table", ".jumptables", 0, 16), "leads to 0x18, not into function f"),
        ([SIZE, SIZE + 4], Sym("table", ".jumptables", 0, 16), "leads to 0x24, not into function f"),
        ([SIZE, 1 << 63], Sym("table", ".jumptables", 0, 16), "leads to 0x8000000000000000, not into"),
        ([SIZE, SIZE], Sym("table", ".jumptables", 0, 12), "is no table: 12 bytes at 0x0"),
        ([SIZE, SIZE], Sym("table", ".jumptables", 4, 8), "is no table: 8 bytes at 0x4"),
        ([SIZE, SIZE], Sym("table", ".jumptables", 0, 0), "is no table: 0 bytes at 0x0"),
    ],
)
def test_malformed(entries: list[int], symbol: Sym, message: str) -> None:
    with pytest.raises(RelocationError) as caught:
        link_program(read(table_object(entries, symbols=(symbol,))), "main")
    assert "section .text, offset 0x20: program main, instruction 2: symbol table " in str(caught.value)
    assert message in str(caught.value)


def test_a_section_without_bytes_has_no_table() -> None:
    data = elf_file(
        [code("xdp", BODY, [Reloc(0, "table")]), bss(".jumptables", 8)],
        [func("main", "xdp", 0, SIZE), Sym("table", ".jumptables", 0, 8)],
    )
    with pytest.raises(RelocationError, match="symbol table is a table that ends outside of the 0 bytes"):
        link_program(read(data), "main")


def test_a_table_is_of_one_function() -> None:
    body = load() + call() + exit_()
    data = elf_file(
        [
            code("xdp", body, [Reloc(0, "table"), Reloc(16, "f", R_BPF_64_32)]),
            code(".text", body[:16] + exit_() * 2, [Reloc(0, "table")]),
            Sec(".jumptables", struct.pack("<Q", 0)),
        ],
        [func("main", "xdp", 0, 32), func("f", ".text", 0, 32), Sym("table", ".jumptables", 0, 8)],
    )
    with pytest.raises(RelocationError, match="is a table that another function uses too"):
        link_program(read(data), "main")


def test_a_table_is_taken_by_a_64_bit_load() -> None:
    data = elf_file(
        [code("xdp", mov(0) + exit_(), [Reloc(0, "table")]), Sec(".jumptables", bytes(8))],
        [func("main", "xdp", 0, 16), Sym("table", ".jumptables", 0, 8)],
    )
    with pytest.raises(
        RelocationError, match="symbol table is used by an instruction that is no 64-bit load"
    ):
        link_program(read(data), "main")


def test_a_compiled_switch() -> None:
    linked = link_program(read_object(str(TESTDATA / "jump_table.bpf.o")), "pick")
    assert linked.jump_tables == {".jumptables+0x0": (9, 11)}
