"""A template prints what the codec shows, and takes its own lines back."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from types_of_c import Types, anything

from bpfctl.btf.scalars import Codec
from bpfctl.btf.templates import Layout, LinePrinter, LineReader
from bpfctl.btf.views import plain_codec, view

LINE = '{"key":{{key}},"value":{{value}}}'


def printer(key: Codec, value: Codec, form: str = LINE, *, bare: bool = False) -> LinePrinter:
    style = "bare" if bare else "json"
    return LinePrinter(Layout(key, "little", style=style), Layout(value, "little", style=style), form)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_prints_what_the_codec_shows(data: st.DataObject) -> None:
    t = Types()
    type_id, size = anything(data.draw, t, 3)
    codec = t.codec(type_id)
    rows = data.draw(st.lists(st.binary(min_size=size, max_size=size), max_size=3))
    if not size:
        return
    lines = printer(plain_codec(4, "little"), codec)
    text = "\n".join(lines.pieces(bytes(4 * len(rows)), b"".join(rows), "\n"))
    assert [json.loads(line) for line in text.splitlines()] == [
        {"key": 0, "value": json.loads(json.dumps(codec.decode(row)))} for row in rows
    ]
    reader = LineReader(Layout(plain_codec(4, "little"), "little"), Layout(codec, "little"), LINE, "little")
    if reader.usable and rows:
        meaningful = [bytes(a & b for a, b in zip(row, codec.mask(), strict=True)) for row in rows]
        assert reader.read(f"{text}\n".encode()) == (len(rows), bytes(4 * len(rows)), b"".join(meaningful))


def traffic() -> Codec:
    t = Types()
    members = [("packets", t.u64, 0), ("delta", t.s32, 64), ("port", t.u16, 128), ("on", t.u8, 144)]
    return t.codec(t.struct("traffic", 24, members))


def rows(count: int) -> tuple[bytes, bytes]:
    import struct

    keys = b"".join(struct.pack("<I", n) for n in range(count))
    values = b"".join(struct.pack("<QixxxxHB5x", n << 40, -n, n & 0xFFFF, n & 0xFF) for n in range(count))
    return keys, values


@pytest.mark.parametrize("count", [1, 256, 1000])
def test_takes_its_own_lines_back(count: int) -> None:
    key, value = plain_codec(4, "little"), traffic()
    keys, values = rows(count)
    text = ("\n".join(printer(key, value).pieces(keys, values, "\n")) + "\n").encode()
    reader = LineReader(Layout(key, "little"), Layout(value, "little"), LINE, "little")
    assert reader.read(text) == (count, keys, values)
    assert reader.read(b"") == (0, b"", b"")


@pytest.mark.parametrize(
    "line",
    [
        b'{"key": 1,"value":{"packets":1,"delta":1,"port":1,"on":1}}\n',  # a blank
        b'{"key":1,"value":{"packets":1,"delta":1,"port":1}}\n',  # a member less
        b'{"key":1,"value":{"packets":1,"delta":1,"port":65536,"on":1}}\n',  # too large
        b'{"key":-1,"value":{"packets":1,"delta":1,"port":1,"on":1}}\n',  # below zero
        b'{"key":01,"value":{"packets":1,"delta":1,"port":1,"on":1}}\n',  # no JSON
        b'{"key":1,"value":{"packets":1,"delta":1,"port":1,"on":1}}',  # no end of line
        b'{"key":%b,"value":{"packets":1,"delta":1,"port":1,"on":1}}\n' % (b"9" * 5000),  # too long for int()
    ],
)
def test_leaves_other_lines_to_the_codec(line: bytes) -> None:
    key, value = plain_codec(4, "little"), traffic()
    assert LineReader(Layout(key, "little"), Layout(value, "little"), LINE, "little").read(line) is None


def test_names_with_digits() -> None:
    t = Types()
    value = t.codec(t.struct("s", 8, [("tx-2", t.u32, 0), ("100%", t.u32, 32)]))
    key = plain_codec(2, "little")
    keys, values = b"\1\0\2\0", bytes(range(16))
    text = ("\n".join(printer(key, value).pieces(keys, values, "\n")) + "\n").encode()
    reader = LineReader(Layout(key, "little"), Layout(value, "little"), LINE, "little")
    assert reader.usable
    assert reader.read(text) == (2, keys, values)


def test_types_that_are_no_plain_numbers_are_left_to_the_codec() -> None:
    t = Types()
    for type_id in (t.bool, t.array(t.char, 4), t.enum("e", {"A": 1})):
        codec = t.codec(type_id)
        assert not LineReader(Layout(codec, "little"), Layout(codec, "little"), LINE, "little").usable


def test_hex_and_bare_text() -> None:
    key = view(plain_codec(4, "little"), "ipv4", "little")
    value = view(plain_codec(3, "little"), "string", "little")
    form = "{{key_hex}} {{key}} {{value_hex}} {{value}}"
    data = b"\xc0\0\2\7\0\0\0\0", b"ab\0\0\1\0"
    assert "\n".join(printer(key, value, form, bare=True).pieces(*data, "\n")).splitlines() == [
        '"0xc0","0x00","0x02","0x07" 192.0.2.7 "0x61","0x62","0x00" ab',
        '"0x00","0x00","0x00","0x00" 0.0.0.0 "0x00","0x01","0x00" ' + '"\\\\x00\\u0001"',
    ]


def test_hex_alone() -> None:
    form = '{"key":[{{key_hex}}],"value":[{{value_hex}}]}'
    lines = printer(plain_codec(1, "little"), plain_codec(2, "little"), form)
    assert "".join(lines.pieces(b"\1\xfe", b"\2\3\4\5", ",")) == (
        '{"key":["0x01"],"value":["0x02","0x03"]},{"key":["0xfe"],"value":["0x04","0x05"]}'
    )
    assert list(lines.pieces(b"", b"", ",")) == []


def test_csv_names_its_columns() -> None:
    t = Types()
    inner = t.struct("in", 4, [("a", t.u16, 0), ("b", t.array(t.u8, 2), 16)])
    codec = t.codec(t.struct("s", 12, [("in", inner, 0), ("name", t.array(t.char, 8), 32)]))
    layout = Layout(codec, "little", style="csv", name="value")
    assert layout.names == ["value.in.a", "value.in.b[0]", "value.in.b[1]", "value.name"]
    text = LinePrinter(
        Layout(plain_codec(1, "little"), "little", style="csv", name="key"), layout, "{{key}},{{value}}"
    )
    lines = list(text.pieces(b"\7", b"\1\0\2\3" + b'a,"b\0\0\0\0', "\n"))
    assert lines == ['7,1,2,3,"a,""b"']


def test_braces_of_json_behind_a_value() -> None:
    form = '{"key":[{{key_hex}}],"value":[{{value_hex}}],"formatted":{"key":{{key}},"value":{{value}}}}'
    lines = printer(plain_codec(1, "little"), plain_codec(2, "little"), form)
    (text,) = lines.pieces(b"\1\2", b"\1\0\2\0", ",")
    assert json.loads(f"[{text}]") == [
        {"key": [f"0x0{n}"], "value": [f"0x0{n}", "0x00"], "formatted": {"key": n, "value": n}}
        for n in (1, 2)
    ]
