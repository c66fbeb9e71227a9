"""Typed values: whatever bytes a type can hold come back; what does not fit names field and type."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from types_of_c import Types, anything, section

from bpfctl.btf.aggregates import CpuValues
from bpfctl.btf.kinds import Kind
from bpfctl.btf.paths import assign, find_place
from bpfctl.btf.scalars import Number
from bpfctl.btf.views import KINDS, plain_codec, prefix_codec, view, view_at
from bpfctl.errors import BtfError, TypedValueError

BYTE_ORDERS = ["little", "big"]


# --- any value of any type survives ---------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_dump_load_dump(data: st.DataObject) -> None:
    t = Types(data.draw(st.sampled_from(BYTE_ORDERS)))
    type_id, size = anything(data.draw, t, 3) if data.draw(st.booleans()) else section(data.draw, t)
    codec = t.codec(type_id)
    assert codec.size == size
    cpus = data.draw(st.integers(0, 2))
    if cpus:  # as the kernel copies the values of a per-CPU map
        stride = -(-size // 8) * 8
        codec, size = CpuValues(codec, stride, cpus), stride * cpus
    raw = data.draw(st.binary(min_size=size, max_size=size))
    meaningful = bytes(a & b for a, b in zip(raw, codec.mask(), strict=True))
    shown = codec.decode(raw)
    assert codec.encode(json.loads(json.dumps(shown)), "value") == meaningful
    assert codec.decode(meaningful) == shown


@given(st.binary(max_size=40))
def test_text_is_lossless(data: bytes) -> None:
    t = Types()
    codec = t.codec(t.array(t.char, 40))
    text = codec.decode(data.ljust(40, b"\0"))
    assert "\0" not in text
    assert codec.encode(text) == data.ljust(40, b"\0")


# --- each kind ------------------------------------------------------------------------------------


def kinds() -> list[tuple[str, int, bytes, Any]]:
    """(name, type, bytes, value)."""
    t = TYPES
    in_addr = t.struct("in_addr", 4, [("s_addr", t.u32, 0)])
    proto = t.enum("proto", {"TCP": 6, "UDP": 17})
    mode = t.enum("mode", {"OFF": -1 & 0xFF, "ON": 1}, signed=True, size=1)
    pair = t.struct("", 8, [("lo", t.u32, 0), ("hi", t.u32, 32)])
    both = t.union("both", 8, [("whole", t.u64, 0), ("", pair, 0)])
    return [
        ("unsigned", t.u32, b"\xff\xff\xff\xff", 0xFFFFFFFF),
        ("signed", t.s32, b"\xff\xff\xff\xff", -1),
        ("wide", t.int("__int128", 16), b"\xff" * 16, "-0x1"),
        ("true", t.bool, b"\1", True),
        ("no bool", t.bool, b"\2", 2),
        ("char", t.char, b"a", 97),
        ("text", t.array(t.char, 8), b"ab\0c\\\xff\0\0", "ab\\x00c\\\\\\xff"),
        ("bytes", t.array(t.u8, 3), b"\1\2\3", [1, 2, 3]),
        ("enum", proto, b"\6\0\0\0", "TCP"),
        ("no enumerator", proto, b"\7\0\0\0", 7),
        ("signed enum", mode, b"\xff", -1),
        ("enum64", t.enum64("e", {"BIG": 1 << 40}), (1 << 40).to_bytes(8, "little"), "BIG"),
        ("pointer", t.ptr(0), b"\x10" + bytes(7), "0x10"),
        ("float", t.add(Kind.FLOAT, "float", 4), struct.pack("<f", 0.5), 0.5),
        ("infinity", t.add(Kind.FLOAT, "double", 8), struct.pack("<d", float("-inf")), "-inf"),
        ("NaN", t.add(Kind.FLOAT, "float", 4), b"\1\0\xa0\x7f", "0x7fa00001"),
        ("port", t.typedef("__be16", t.u16), b"\x1f\x90", 8080),
        ("address", t.typedef("__be32", t.u32), b"\xc0\0\2\7", "192.0.2.7"),
        ("in_addr", in_addr, b"\xc0\0\2\7", "192.0.2.7"),
        ("union", both, b"\1\0\0\0\2\0\0\0", {"whole": 1 | 2 << 32, "lo": 1, "hi": 2}),
        ("var", t.var("counter", t.u16), b"\5\0", 5),
    ]


TYPES = Types()
KIND_CASES = kinds()


@pytest.mark.parametrize(
    ("type_id", "data", "value"), [c[1:] for c in KIND_CASES], ids=[c[0] for c in KIND_CASES]
)
def test_kind(type_id: int, data: bytes, value: Any) -> None:
    codec = TYPES.codec(type_id)
    assert codec.decode(data) == value
    assert codec.encode(value) == data


@pytest.mark.parametrize("byte_order", BYTE_ORDERS)
def test_bit_fields(byte_order: str) -> None:
    """Bits count from the least significant one on, on a big-endian machine from the most significant."""
    t = Types(byte_order)
    codec = t.codec(t.bitfields("b", 2, [("a", t.u32, 0, 3), ("b", t.s32, 3, 9), ("c", t.u32, 12, 4)]))
    value = {"a": 5, "b": -2, "c": 9}
    number = {"little": 5 | (-2 & 0x1FF) << 3 | 9 << 12, "big": 5 << 13 | (-2 & 0x1FF) << 4 | 9}[byte_order]
    data = number.to_bytes(2, byte_order)  # type: ignore[arg-type]
    assert codec.decode(data) == value
    assert codec.encode(value) == data


def test_integers_of_few_bits() -> None:
    """What compilers of old wrote for a bit-field: the width is the integer's."""
    t = Types()
    three = t.add(Kind.INT, "u", 4, words=[2 << 16 | 3])
    codec = t.codec(t.struct("s", 4, [("a", three, 0), ("b", three, 5)]))
    assert codec.encode({"a": 1, "b": 7}) == (1 << 2 | 7 << 7).to_bytes(4, "little")
    assert t.codec(three).decode(b"\x1c\0\0\0") == 7


def test_data_section() -> None:
    t = Types()
    a, b = t.var("count", t.u32, 0), t.var("count", t.u16, 0)
    codec = t.codec(t.datasec(".bss", [(a, 0, 4), (b, 8, 2)], 10))
    assert codec.decode(b"\1\0\0\0\xff\xff\xff\xff\2\0") == {"count": 1, "count#2": 2}


# --- words of people ------------------------------------------------------------------------------

WORDS = [
    ("u32", "0x10", 16),
    ("u32", "010", 8),
    ("s32", "-5", -5),
    ("bool", "true", 1),
    ("char", "x", ord("x")),
]


@pytest.mark.parametrize(("kind", "word", "number"), WORDS)
def test_words_for_numbers(kind: str, word: str, number: int) -> None:
    codec = TYPES.codec(getattr(TYPES, kind))
    assert codec.encode(word) == number.to_bytes(codec.size, "little", signed=number < 0)


def test_words_for_bytes() -> None:
    mac, numbers = TYPES.array(TYPES.u8, 6), TYPES.array(TYPES.u16, 3)
    for word in ("02:00:00:00:00:01", "020000000001", "2,0,0,0,0,1", ["0x02", 0, 0, 0, 0, "1"]):
        assert TYPES.codec(mac).encode(word) == b"\2\0\0\0\0\1"
    assert TYPES.codec(numbers).encode("1, 2") == b"\1\0\2\0\0\0"
    assert TYPES.codec(TYPES.array(TYPES.u8, 4)).encode("192.0.2.7") == b"\xc0\0\2\7"
    assert TYPES.codec(TYPES.array(TYPES.u8, 16)).encode("::1") == bytes(15) + b"\1"


def test_struct_around_one_member_takes_its_value() -> None:
    key = TYPES.struct("key", 4, [("addr", TYPES.typedef("__be32", TYPES.u32), 0)])
    assert TYPES.codec(key).encode("192.0.2.7") == b"\xc0\0\2\7"


# --- what does not fit ----------------------------------------------------------------------------


def config(t: Types) -> int:
    peer = t.struct("peer", 8, [("port", t.u16, 0), ("ids", t.array(t.u16, 2), 16)])
    union = t.union("", 4, [("n", t.u32, 0), ("b", t.array(t.u8, 4), 0)])
    bits = t.bitfields("bits", 1, [("lo", t.u8, 0, 4), ("hi", t.u8, 4, 4)])
    return t.struct(
        "cfg",
        32,
        [
            ("rate", t.u32, 0),
            ("peer", peer, 32),
            ("", union, 96),
            ("name", t.array(t.char, 8), 128),
            ("proto", t.enum("proto", {"TCP": 6, "UDP": 17}), 192),
            ("bits", bits, 224),
            ("on", t.bool, 232),
        ],
    )


CONFIG = config(TYPES)
U32 = "__u32 from 0 to 4294967295"
TEXT = "char[8], text of at most 8 bytes"
WRONG = [
    ({"rate": -1}, "rate: -1 does not fit", U32),
    ({"rate": 1 << 32}, "rate: 4294967296 does not fit", U32),
    ({"rate": 1.5}, "rate: 1.5 does not fit", U32),
    ({"rate": "many"}, "rate: 'many' does not fit", U32),
    ({"rate": None}, "rate: None does not fit", U32),
    ({"peer": {"ids": [1, 70000]}}, "peer.ids[1]: 70000 does not fit", "__u16 from 0 to 65535"),
    ({"peer": {"ids": [1, 2, 3]}}, "peer.ids: there are 3 elements", "__u16[2]"),
    ({"peer": {"sort": 1}}, "peer.sort: there is no such member", "struct peer, an object with port, ids"),
    (
        {"n": 1, "b": [2, 0, 0, 0]},
        "b: another member of the union has other bytes here",
        "one of them",
    ),
    ({"name": "too long a name"}, "name: 'too long a name' has 15 bytes", TEXT),
    ({"name": "\\"}, "name: '\\\\' does not fit", TEXT),
    ({"proto": "SCTP"}, "proto: 'SCTP' does not fit", "enum proto (TCP, UDP)"),
    ({"bits": {"hi": 16}}, "bits.hi: 16 does not fit", "__u8 from 0 to 15"),
    ({"on": "maybe"}, "on: 'maybe' does not fit", "true or false"),
    ({"peer": [1]}, "peer: [1] does not fit", "struct peer, an object with port, ids"),
]


@pytest.mark.parametrize(("value", "problem", "wanted"), WRONG, ids=[problem for _, problem, _ in WRONG])
def test_wrong_value(value: Any, problem: str, wanted: str) -> None:
    with pytest.raises(TypedValueError) as caught:
        TYPES.codec(CONFIG).encode(value, "value")
    assert caught.value.message == f"value.{problem}; {wanted} is wanted"


# --- parts by path --------------------------------------------------------------------------------


def test_assign_changes_one_part() -> None:
    codec = TYPES.codec(CONFIG)
    image = bytearray(b"\xff" * 32)
    assign(codec, image, "peer.ids[1]", "7", "cfg")
    assign(codec, image, "bits.hi", 0, "cfg")
    changed = {at: image[at] for at in range(32) if image[at] != 0xFF}
    assert changed == {8: 7, 9: 0, 28: 0x0F}


PATHS = [
    ("peer.sort", "cfg.peer.sort: there is no such member; struct peer, an object with port, ids is wanted"),
    ("peer.ids[2]", "cfg.peer.ids[2]: there is no such element; __u16[2] is wanted"),
    ("peer.ids[", "cfg.peer.ids[: there is no such element; __u16[2] is wanted"),
    ("rate.x", "cfg.rate.x: there is no such part; __u32 from 0 to 4294967295 is wanted"),
    ("rate", "cfg.rate: 'x' does not fit; __u32 from 0 to 4294967295 is wanted"),
]


@pytest.mark.parametrize(("path", "message"), PATHS)
def test_no_such_part(path: str, message: str) -> None:
    with pytest.raises(TypedValueError) as caught:
        assign(TYPES.codec(CONFIG), bytearray(32), path, "x", "cfg")
    assert caught.value.message == message


def test_names_of_variables_may_have_dots() -> None:
    t = Types()
    codec = t.codec(t.datasec(".bss", [(t.var("f", t.u32), 0, 4), (t.var("f.count", t.u32), 4, 4)], 8))
    assert find_place(codec, "f.count").offset == 32


# --- as KIND --------------------------------------------------------------------------------------

VIEWS = [
    ("ipv4", b"\xc0\0\2\7", "192.0.2.7"),
    ("ipv6", bytes(15) + b"\1", "::1"),
    ("mac", b"\2\0\0\0\0\1", "02:00:00:00:00:01"),
    ("be16", b"\x1f\x90", 8080),
    ("be32", b"\0\0\1\0", 256),
    ("be64", bytes(7) + b"\5", 5),
    ("int", b"\xff\xff", -1),
    ("uint", b"\xff\xff", 65535),
    ("bytes", b"\1\2\3", [1, 2, 3]),
    ("hex", b"\1\2\3", "01 02 03"),
    ("string", b"ab\0", "ab"),
]


@pytest.mark.parametrize(("kind", "data", "value"), VIEWS)
def test_view(kind: str, data: bytes, value: Any) -> None:
    codec = view(plain_codec(len(data), "little"), kind, "little")
    assert codec.decode(data) == value
    assert codec.encode(value) == data


def test_every_view_is_tested() -> None:
    assert {kind for kind, _, _ in VIEWS} == set(KINDS)


def test_view_of_a_part() -> None:
    codec = view_at(TYPES.codec(CONFIG), "peer.ids", "be16", "little", "value")
    codec = view_at(codec, "rate", "ipv4", "little", "value")
    data = b"\xc0\0\2\7" + b"\0\0\0\1\1\0" + bytes(22)
    shown = codec.decode(data)
    assert (shown["rate"], shown["peer"]["ids"]) == ("192.0.2.7", [1, 256])
    with pytest.raises(TypedValueError, match=r"value.rate: __u32 has 4 bytes; 6 for mac is wanted"):
        view_at(codec, "rate", "mac", "little", "value")


PREFIXES = [
    (8, b"\x08\0\0\0\x0a\0\0\0", "10.0.0.0/8"),
    (20, b"\x20\0\0\0\x20\x01\x0d\xb8" + bytes(12), "2001:db8::/32"),
]


@pytest.mark.parametrize(("size", "data", "text"), PREFIXES)
def test_prefix(size: int, data: bytes, text: str) -> None:
    codec = prefix_codec(plain_codec(size, "little"), "little")
    assert codec.decode(data) == text
    assert codec.encode(text) == data


def test_what_is_no_prefix_stays() -> None:
    codec = prefix_codec(plain_codec(8, "little"), "little")
    assert codec.decode(b"\x21" + bytes(7)) == 0x21
    for wrong in ("10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "/8"):
        with pytest.raises(TypedValueError):
            codec.encode(wrong)
    other = TYPES.struct("k", 8, [("len", TYPES.u32, 0), ("a", TYPES.u16, 32), ("b", TYPES.u16, 48)])
    assert prefix_codec(TYPES.codec(other), "little").decode(bytes(8)) == {"len": 0, "a": 0, "b": 0}


# --- hostile types --------------------------------------------------------------------------------


def test_types_without_values() -> None:
    t = Types()
    proto = t.func_proto(t.s32)
    for type_id in (0, proto, t.func("f", proto), t.add(Kind.FWD, "fwd")):
        with pytest.raises(BtfError):
            t.codec(type_id)


def test_a_struct_inside_of_itself() -> None:
    t = Types()
    itself = t.next_id
    t.struct("s", 4, [("a", itself, 0), ("b", itself, 0)])
    with pytest.raises(BtfError, match="nested deeper"):
        t.codec(itself)


def test_members_outside_of_the_struct() -> None:
    t = Types()
    for member in (("a", t.u64, 0), ("a", t.u32, 8), ("", t.u32, 3)):
        with pytest.raises(BtfError):
            t.codec(t.struct("s", 4, [member]))


def test_types_that_grow_without_end_are_bounded() -> None:
    """2 ** 31 anonymous structs, 2 ** 30 empty elements, 2 ** 30 leaves: fast, and bytes or an error."""
    start = time.monotonic()
    t = Types()
    inner = t.struct("", 0)
    for _ in range(31):
        inner = t.struct("", 0, [("", inner, 0), ("", inner, 0)])
    with pytest.raises(BtfError, match="without a name"):
        t.codec(inner)
    empty = t.array(t.struct("", 0), 1 << 30)
    assert t.codec(empty).decode(b"") == ""
    wide = t.array(t.u8, 1 << 10)
    for _ in range(4):
        wide = t.union("u", 1 << 10, [(f"m{n}", wide, 0) for n in range(64)])
    assert t.codec(wide).leaves <= 1 << 20
    assert time.monotonic() - start < 2


def test_huge_numbers_are_refused_quickly() -> None:
    with pytest.raises(TypedValueError):
        Number(8, "__u64", "little").encode("9" * 100_000, "value")
