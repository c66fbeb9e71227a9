"""Reading .BTF.ext: records by section, moved into programs, and broken ones."""

from __future__ import annotations

import struct

import pytest
from btf_builder import BtfBuilder, ext_area, ext_blob
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.btf.ext import BtfExt, CoreRelocation
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError


def _words(data: bytes, prefix: str = "<") -> list[int]:
    return [word for (word,) in struct.iter_unpack(f"{prefix}I", data)]


def _strings(*texts: str) -> tuple[Btf, list[int]]:
    b = BtfBuilder()
    offsets = [b.string(text) for text in texts]
    return b.btf(), offsets


@pytest.mark.parametrize(("byte_order", "prefix"), [("little", "<"), ("big", ">")])
def test_records_move_into_a_program(byte_order: str, prefix: str) -> None:
    b = BtfBuilder(byte_order)
    text = b.string(".text")
    records = [(0, 7), (16, 8), (40, 9)]
    ext = BtfExt.from_bytes(ext_blob(ext_area(8, [(text, records)], prefix), prefix=prefix), b.btf())
    assert ext.func_info.record_size == 8
    # the function at bytes 16...39 of .text becomes instruction 100 of the program
    assert _words(ext.func_info_for(".text", 16, 24, 100), prefix) == [100, 8]
    assert _words(ext.func_info_for(".text", 16, 32, 100), prefix) == [100, 8, 103, 9]
    assert _words(ext.func_info_for(".text", 16, 24, 0), prefix) == [0, 8]
    assert ext.func_info_for(".text", 48, 8, 0) == b""
    assert ext.func_info_for("xdp", 0, 8, 0) == b""
    assert ext.line_info.record_size == 0
    assert ext.line_info_for(".text", 0, 100, 0) == b""


def test_longer_records_of_a_newer_compiler_travel_whole() -> None:
    btf, (xdp,) = _strings("xdp")
    line = ext_area(24, [(xdp, [(8, 1, 2, 3, 0xAA, 0xBB)])])
    ext = BtfExt.from_bytes(ext_blob(line_info=line), btf)
    assert ext.line_info.record_size == 24
    assert _words(ext.line_info_for("xdp", 8, 64, 6)) == [6, 1, 2, 3, 0xAA, 0xBB]


def test_blocks_of_one_section_join_and_come_in_order() -> None:
    btf, (xdp, tc) = _strings("xdp", "tc")
    area = ext_area(8, [(xdp, [(32, 3), (40, 4)]), (tc, [(0, 9)]), (xdp, [(0, 1), (8, 2)])])
    ext = BtfExt.from_bytes(ext_blob(area), btf)
    assert _words(ext.func_info_for("xdp", 0, 64, 0)) == [0, 1, 1, 2, 4, 3, 5, 4]
    assert _words(ext.func_info_for("tc", 0, 64, 0)) == [0, 9]


def test_core_relocations() -> None:
    btf, (xdp, access) = _strings("xdp", "0:1:2")
    area = ext_area(16, [(xdp, [(8, 5, access, 0), (16, 6, access, 2)])])
    ext = BtfExt.from_bytes(ext_blob(core=area), btf)
    assert ext.core_relocations_for("xdp", 0, 16) == [CoreRelocation(8, 5, "0:1:2", 0)]
    assert ext.core_relocations_for("xdp", 16, 8) == [CoreRelocation(16, 6, "0:1:2", 2)]
    assert ext.core_relocations_for("tc", 0, 64) == []


def test_core_relocation_inside_an_instruction() -> None:
    btf, (xdp, access) = _strings("xdp", "0")
    ext = BtfExt.from_bytes(ext_blob(core=ext_area(16, [(xdp, [(12, 5, access, 0)])])), btf)
    with pytest.raises(BtfError, match="inside an instruction, at 0xc of xdp"):
        ext.core_relocations_for("xdp", 0, 64)


def test_empty_areas() -> None:
    btf, _ = _strings()
    ext = BtfExt.from_bytes(ext_blob(), btf)
    assert (ext.func_info.record_size, ext.core_relocations.record_size) == (0, 0)


_GOOD = ext_blob(ext_area(8, [(1, [(0, 1)])]))


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "not BTF", 0),
        (_GOOD[:16], "cut off inside the header", 16),
        (_GOOD[:2] + b"\2" + _GOOD[3:], "version 2, flags 0x0 are unknown", 2),
        (_GOOD[:3] + b"\1" + _GOOD[4:], "version 1, flags 0x1 are unknown", 2),
        (_GOOD[:4] + b"\x08" + _GOOD[5:], "header of 8 bytes", 4),
        (_GOOD[:4] + b"\xff" + _GOOD[5:], "header of 255 bytes", 4),
        (_GOOD[:8] + b"\x02" + _GOOD[9:], "area at 0x2 is not aligned", 8),
        (_GOOD[:-4], "area 0x0.* runs past the end", 8),
        (ext_blob(line_info=ext_area(16, [(1, [(0, 1, 2, 3)])]) + b"\0"), "not whole words", 24),
        (ext_blob(ext_area(8, [])), "func_info: no sections", 24),
        (ext_blob(ext_area(4, [(1, [(0,)])])), "record size 4, at least 8", 24),
        (ext_blob(ext_area(9, [(1, [(0, 1)])])), "record size 9", 24),
        (ext_blob(ext_area(8, [(1, [])])), "a section without records", 28),
        (ext_blob(ext_area(8, [(1, [(0, 1)])]) + bytes(4)), "cut off inside a section header", 44),
        (ext_blob(ext_area(8, [(1, [(0, 1), (8,)])])), "2 records run past the end", 28),
        (ext_blob(line_info=ext_area(12, [(1, [(0, 1, 2)])])), "line_info: record size 12", 24),
        (ext_blob(core=ext_area(8, [(1, [(0, 1)])])), "core_relo: record size 8", 32),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken(data: bytes, message: str, offset: int) -> None:
    btf, _ = _strings("xdp")
    with pytest.raises(BtfError, match=message) as caught:
        BtfExt.from_bytes(data, btf, path="broken.o")
    assert (caught.value.path, caught.value.section, caught.value.offset) == ("broken.o", ".BTF.ext", offset)


def test_a_count_of_4_billion_ends_at_once() -> None:
    btf, _ = _strings("xdp")
    area = struct.pack("<III", 8, 1, 0xFFFFFFFF)
    with pytest.raises(BtfError, match="4294967295 records run past the end"):
        BtfExt.from_bytes(ext_blob(area), btf)


def test_section_name_past_the_strings() -> None:
    btf, _ = _strings("xdp")
    nowhere = [(1000, [(0, 1, 0, 0)])]
    ext = BtfExt.from_bytes(ext_blob(ext_area(16, nowhere), core=ext_area(16, nowhere)), btf)
    assert ext.func_info_for("xdp", 0, 8, 0) == b""
    with pytest.raises(BtfError, match="CO-RE relocations of a section without a name"):
        ext.core_relocations_for("xdp", 0, 8)


def test_nothing_about_a_function_whose_start_has_no_record() -> None:
    btf, (xdp,) = _strings("xdp")
    ext = BtfExt.from_bytes(ext_blob(ext_area(8, [(xdp, [(8, 1)])])), btf)
    assert ext.func_info_for("xdp", 0, 64, 0) == b""
    assert _words(ext.func_info_for("xdp", 8, 8, 0)) == [0, 1]


_WHOLE = ext_blob(
    ext_area(8, [(1, [(0, 1), (8, 2)])]),
    ext_area(16, [(1, [(0, 1, 1, 1024), (8, 1, 1, 2048)])]),
    ext_area(16, [(1, [(0, 1, 1, 0)])]),
)


@given(
    st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(_WHOLE)),
)
def test_mutations_raise_nothing_but_btf_errors(flips: list[tuple[int, int]], length: int) -> None:
    btf, _ = _strings("xdp")
    data = bytearray(_WHOLE)
    for position, value in flips:
        data[position] = value
    try:
        ext = BtfExt.from_bytes(bytes(data[:length]), btf)
        ext.func_info_for("xdp", 0, 64, 1)
        ext.line_info_for("xdp", 8, 64, 1)
        ext.core_relocations_for("xdp", 0, 64)
    except BtfError:
        return
