"""The file of `map save`: whatever is in it, it reads back or ends in our error, in bounded memory."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from typing import Any

import pytest

from bpfctl.errors import BpfctlError
from bpfctl.inventory.batch import Block
from bpfctl.inventory.savefile import Header, SavedMap, SaveReader, SaveWriter
from bpfctl.inventory.textforms import BINARY_MAGIC
from bpfctl.uapi import MapType

HASH = SavedMap("eip", MapType.HASH, 4, 8, 100, 0, 0, False, 0, 1, 2, ["/sys/fs/bpf/eip"])
COUNTS = SavedMap("counts", MapType.PERCPU_ARRAY, 4, 4, 2, 0, 0, True, None, 0, 0, [])
HEADER = Header("little", 2, [HASH, COUNTS], [b"types"])
BLOCKS = [
    (0, Block(2, b"aaaabbbb", b"1" * 16)),
    (1, Block(1, bytes(4), b"2" * 16)),  # a value of 4 bytes is 8 for each of 2 CPUs
    (0, Block(1, b"cccc", b"3" * 8)),
]


def written() -> bytes:
    file = io.BytesIO()
    writer = SaveWriter(file, HEADER)
    for number, block in BLOCKS:
        writer.block(number, block)
    writer.end()
    return file.getvalue()


def read(data: bytes) -> tuple[Header, list[tuple[int, Block]]]:
    reader = SaveReader("x", io.BytesIO(data))
    return reader.header, list(reader.blocks())


def test_comes_back() -> None:
    assert read(written()) == (HEADER, BLOCKS)


def test_every_cut_is_noticed() -> None:
    data = written()
    for end in range(len(data)):
        with pytest.raises(BpfctlError, match=r"^x: .*\(offset 0x[0-9a-f]+\)$"):
            read(data[:end])


def test_every_flipped_byte_is_noticed() -> None:
    data = written()
    blob = data.index(b"types")
    for at in range(len(data)):
        if not blob <= at < blob + 5:  # the types have no checksum: the kernel checks them
            with pytest.raises(BpfctlError):
                read(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])


def with_header(**changes: Any) -> bytes:
    """A file of a header alone, with members changed; those of the first map as ``map_NAME``."""
    facts: dict[str, Any] = {
        "byte_order": "little",
        "cpus": 2,
        "btf": [],
        "maps": [HASH._asdict() | {"btf": None}],
    }
    for name, value in changes.items():
        part, key = (facts["maps"][0], name[4:]) if name.startswith("map_") else (facts, name)
        part[key] = value
    text = json.dumps(facts).encode()
    return BINARY_MAGIC + struct.pack("<II", 1, len(text)) + text + struct.pack("<I", zlib.crc32(text))


HOSTILE = [
    ({"maps": []}, "the header lists no maps"),
    ({"maps": [1]}, "a map of the header has other members"),
    ({"maps": [HASH._asdict()] * 5000}, "the header lists no maps, or too many"),
    ({"btf": [1 << 30]}, "btf of the header is no list of sizes"),
    ({"btf": [-1]}, "btf of the header is no list of sizes"),
    ({"btf": "x"}, "btf of the header is no list of sizes"),
    ({"cpus": 0}, "no number of CPUs"),
    ({"cpus": 1 << 40}, "no number of CPUs"),
    ({"byte_order": "middle"}, "no byte order"),
    ({"map_key_size": -1}, "does not hold together"),
    ({"map_key_size": "4"}, "does not hold together"),
    ({"map_name": "\x1b[2J"}, "the file is cut off"),  # shown nowhere but escaped
    ({"map_name": "x" * 64}, "does not hold together"),
    ({"map_btf": 7}, "does not hold together"),
    ({"map_pins": [1]}, "does not hold together"),
    ({"map_more": 1}, "a map of the header has other members"),
    ({"map_value_size": 0xFFFFFFFF}, "elements of more than 1 GiB"),
]


@pytest.mark.parametrize(("changes", "message"), HOSTILE)
def test_hostile_header(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BpfctlError, match=message):
        read(with_header(**changes))


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{", b"[]", b"\xff\xfe"])
def test_header_that_is_no_object(text: bytes) -> None:
    data = BINARY_MAGIC + struct.pack("<II", 1, len(text)) + text + struct.pack("<I", zlib.crc32(text))
    with pytest.raises(BpfctlError, match="the header is no JSON"):
        read(data)


def test_promises_cost_no_memory() -> None:
    """A block, a header and an element that claim to be huge: what is not there is not allocated."""
    huge_element = with_header(map_value_size=1 << 29) + struct.pack("<III", 0, 1, 0) + b"x" * 100
    huge_block = with_header() + struct.pack("<III", 0, 0xFFFFFFF0, 0)
    huge_header = BINARY_MAGIC + struct.pack("<II", 1, 0xFFFFFFFF)
    tracemalloc.start()
    for data in (huge_element, huge_block, huge_header):
        with pytest.raises(BpfctlError):
            read(data)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_newer_version() -> None:
    data = bytearray(written())
    data[8] = 2
    with pytest.raises(BpfctlError, match="version 2 is newer than this program, which knows 1"):
        read(bytes(data))


def test_blocks_of_maps_that_are_not_there() -> None:
    with pytest.raises(BpfctlError, match="elements of map 1, and there are 1 maps"):
        read(with_header() + struct.pack("<III", 1, 1, 0))


def test_more_behind_the_end() -> None:
    with pytest.raises(BpfctlError, match="behind the end"):
        read(written() + b"x")
