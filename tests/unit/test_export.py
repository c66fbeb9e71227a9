"""The datagram that hands maps over: byte for byte iproute2's; anything else is refused in words."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.objfile import read_object
from bpfctl.objfile.export import (
    LARGEST_MESSAGE,
    ExportedMap,
    ExportMessage,
    exported_maps,
    pack_export,
    parse_export,
)

TESTDATA = Path(__file__).parents[2] / "testdata"
ONE = ExportedMap(2, 4, 8, 16, 0, 7, 2, 0, 0)


def message(count: int = 1, total: int = 1, path: str = "x.o") -> ExportMessage:
    return ExportMessage(total, path, 0x11, 0x22, (ONE,) * count)


def test_every_byte() -> None:
    """Three maps are 196 bytes."""
    data = pack_export(message(3, 3))
    assert len(data) == 196
    assert data[:4] == struct.pack("=HH", 1, 3)
    assert data[4:72] == b"x.o" + bytes(65)
    assert data[72:88] == struct.pack("=QQ", 0x11, 0x22)
    assert data[88:] == struct.pack("=9I", 2, 4, 8, 16, 0, 7, 2, 0, 0) * 3
    assert parse_export(data) == message(3, 3)


def test_long_path_is_cut() -> None:
    assert parse_export(pack_export(message(path="p" * 100))).path == "p" * 63
    raw = os.fsdecode(b"\xff\xfe.o")
    assert parse_export(pack_export(message(path=raw))).path == raw


def test_maps_of_a_legacy_object_are_its_structs() -> None:
    """In the order of the section, and as they stand there."""
    obj = read_object(str(TESTDATA / "map_in_map_legacy.bpf.o"))
    found = [tuple(exported) for _, exported in exported_maps(list(obj.maps.values()))]
    inner = (2, 4, 8, 4, 0)
    assert found == [
        (*inner, 42, 0, 0, 0),
        (*inner, 42, 0, 0, 2),
        (12, 4, 4, 4, 0, 0, 2, 42, 0),
        (*inner, 43, 0, 0, 0xFFFFFFFF),
        (13, 4, 4, 8, 0, 0, 0, 43, 0),
    ]


def test_btf_maps_are_numbered_and_data_is_none() -> None:
    obj = read_object(str(TESTDATA / "graft_root.bpf.o"))
    found = [
        (spec.name, exported.id, exported.pinning)
        for spec, exported in exported_maps(list(obj.maps.values()))
    ]
    assert found == [("graft_jumps", 1, 2), ("graft_counters", 2, 2)]
    legacy = read_object(str(TESTDATA / "graft_root_legacy.bpf.o"))
    both = [*legacy.maps.values(), *obj.maps.values()]
    both[0].id = 1
    assert [exported.id for _, exported in exported_maps(both)] == [1, 7, 2, 3]
    assert exported_maps(list(read_object(str(TESTDATA / "subprogs.bpf.o")).maps.values())) == []


HEADER = struct.pack("=HH64s4xQQ", 1, 2, b"x.o", 1, 2)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes, where a header and a map are 124"),
        (HEADER, "88 bytes, where"),
        (HEADER + bytes(35), "123 bytes, where"),
        (HEADER + bytes(37), "no whole number of maps"),
        (HEADER + bytes(36 * 65), "no whole number of maps up to 64"),
        (HEADER + bytes(36 * 3), "3 maps, where 2 are announced"),
        (b"\2" + HEADER[1:] + bytes(36), "version 2, where 1 is known"),
        (b"\0\1" + HEADER[2:] + bytes(36), "version 256"),
        (HEADER[:2] + b"\0\0" + HEADER[4:] + bytes(36), "1 maps, where 0 are announced"),
    ],
)
def test_what_is_no_export(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_export(data)


@given(st.binary(max_size=LARGEST_MESSAGE + 1))
def test_any_bytes_parse_or_end_in_valueerror(data: bytes) -> None:
    for whole in (data, HEADER + data):
        try:
            found = parse_export(whole)
        except ValueError:
            continue
        assert 1 <= len(found.maps) <= found.total
