"""Values of one type by the million: a ``struct`` format takes the bytes apart, a ``%`` template prints them.

A :class:`Layout` is compiled once from a codec and then prints JSON at some hundred nanoseconds a value; what
no format can take apart (text, floats, unions, long arrays) goes through the codec, a part at a time.  Read
backwards, the template of a type whose parts are numbers is a pattern for the lines that it prints:
:class:`LineReader` takes such lines back as quickly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from bpfctl.btf.aggregates import ArrayOf, Field, Record, read_place
from bpfctl.btf.scalars import Boolean, Codec, Enum, Ipv4, Mac, NetworkNumber, Number, Pointer
from bpfctl.btf.views import PlainNumber

Convert = Callable[[Any], object]

_CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}
_CODES |= {(size, True): code.lower() for (size, _), code in _CODES.items()}
_LONGEST_ARRAY = 64  # elements with a place of their own in the template
_BOOLEANS = ("false", "true", *map(str, range(2, 256)))
_NUMBER = rb"(?:0|-?[1-9][0-9]*)"


def dumps(value: object) -> str:
    """``value`` as compact JSON, in ASCII."""
    import json

    return json.dumps(value, separators=(",", ":"))


class Slot(NamedTuple):
    """One ``%`` of the template: the column of the unpacked struct that it prints, after ``convert``."""

    column: int
    convert: Convert | None = None


class Layout:
    """``codec`` compiled.  ``bare``: a value that is no object or array is printed without quotes."""

    def __init__(self, codec: Codec, byte_order: str, *, bare: bool = False) -> None:
        self.codec = codec
        self.slots: list[Slot] = []
        self._format: list[str] = []
        self._columns = 0
        self._literals = [""]  # what stands before, between and behind the slots
        self._forms: list[str] = []  # "%d" and its like
        self._order = byte_order
        self._quote = "" if bare else '"'
        self._emit(codec)
        self.format = "".join(self._format)
        self._struct = struct.Struct(("<" if byte_order == "little" else ">") + self.format)
        assert self._struct.size == codec.size

    @property
    def template(self) -> str:
        """With one ``%`` for each slot."""
        literals = [literal.replace("%", "%%") for literal in self._literals]
        return "".join(chain.from_iterable(zip(literals, self._forms, strict=False))) + literals[-1]

    def columns(self, data: bytes) -> list[Iterable[object]]:
        """One column a slot over all values in ``data``."""
        if not data:
            return [() for _ in self.slots]
        columns = list(zip(*self._struct.iter_unpack(data), strict=True))
        return [columns[c] if f is None else map(f, columns[c]) for c, f in self.slots]

    def pattern(self) -> bytes | None:
        """What the template prints, as a regular expression; None where a part is not a plain number."""
        if any(form != "%d" or slot.convert for form, slot in zip(self._forms, self.slots, strict=True)):
            return None
        import re

        return _NUMBER.join(re.escape(literal).encode() for literal in self._literals)

    # --- compiling ---

    def _emit(self, codec: Codec) -> None:
        self._quote, quote = '"', self._quote
        if (
            type(codec) in (Number, PlainNumber)
            and isinstance(codec, Number)
            and (codec.size, codec.signed) in _CODES
        ):
            self._scalar(codec, "%d")
        elif isinstance(codec, Pointer):
            self._scalar(codec, "0x%x", quote=quote)
        elif isinstance(codec, Boolean) and codec.size == 1:
            self._scalar(codec, "%s", _BOOLEANS.__getitem__)
        elif isinstance(codec, Enum) and (codec.size, codec.signed) in _CODES:
            self._scalar(codec, "%s", _Printed(codec, bare=not quote).__getitem__)
        elif isinstance(codec, NetworkNumber) and codec.size in (2, 4, 8):
            self._bytes(codec.size, lambda data: int.from_bytes(data, "big"), "%d")
        elif isinstance(codec, Ipv4):
            self._numbers(4, "%d", ".", quote)
        elif isinstance(codec, Mac):
            self._numbers(6, "%02x", ":", quote)
        elif isinstance(codec, ArrayOf) and 0 < codec.count <= _LONGEST_ARRAY and codec.element.size:
            self._array(codec)
        elif isinstance(codec, Record) and codec.fields and _ascending(codec):
            self._record(codec)
        else:
            self._by_codec(codec, bare=not quote)

    def _text(self, literal: str) -> None:
        self._literals[-1] += literal

    def _slot(self, form: str, column: int, convert: Convert | None = None) -> None:
        self._forms.append(form)
        self._literals.append("")
        self.slots.append(Slot(column, convert))

    def _column(self, code: str) -> int:
        self._format.append(code)
        self._columns += 1
        return self._columns - 1

    def _scalar(self, codec: Number, form: str, convert: Convert | None = None, quote: str = "") -> None:
        before, _, _ = form.partition("%")
        self._text(quote + before)
        self._slot(form[len(before) :], self._column(_CODES[codec.size, codec.signed]), convert)
        self._text(quote)

    def _bytes(self, size: int, convert: Convert, form: str = "%s") -> None:
        self._slot(form, self._column(f"{size}s"), convert)

    def _numbers(self, count: int, form: str, separator: str, quote: str) -> None:
        """Bytes one by one, as addresses are printed."""
        self._text(quote)
        for number in range(count):
            self._text(separator if number else "")
            self._slot(form, self._column("B"))
        self._text(quote)

    def _array(self, codec: ArrayOf) -> None:
        for number in range(codec.count):
            self._text("," if number else "[")
            self._emit(codec.element)
        self._text("]")

    def _record(self, codec: Record) -> None:
        self._text("{")
        at = 0
        fields = list(codec.fields.values())
        while fields:
            group = _bit_group(fields)
            start = group[0].offset // 8
            self._pad(start - at)
            at = self._bit_fields(codec, group, start) if group[0].bits else self._member(group[0], start)
            del fields[: len(group)]
            self._text("," if fields else "}")
        self._pad(codec.size - at)

    def _pad(self, count: int) -> None:
        if count:
            self._format.append(f"{count}x")

    def _member(self, field: Field, start: int) -> int:
        self._text(dumps(field.name) + ":")
        self._emit(field.codec)
        return start + field.codec.size

    def _bit_fields(self, record: Record, group: list[Field], start: int) -> int:
        """Bit-fields that share bytes: one column of bytes, a slot each."""
        end = max((field.offset + field.bits + 7) // 8 for field in group)
        column = self._column(f"{end - start}s")
        for number, field in enumerate(group):
            self._text(("," if number else "") + dumps(field.name) + ":")
            moved = field._replace(offset=field.offset - start * 8)
            self._slot("%s", column, _Bits(moved, record.byte_order).__getitem__)
        return end

    def _by_codec(self, codec: Codec, *, bare: bool) -> None:
        decode = codec.decode
        if bare:
            self._bytes(codec.size, lambda data: _bare(decode(data)))
        else:
            self._bytes(codec.size, lambda data: dumps(decode(data)))


def _bare(value: object) -> str:
    """A string as it is, but for what is not fit for a terminal; all else as JSON."""
    return value if isinstance(value, str) and value.isprintable() else dumps(value)


class _Printed(dict[int, str]):
    """Numbers of an enum as printed, each worked out once."""

    def __init__(self, codec: Enum, *, bare: bool) -> None:
        super().__init__()
        self._codec = codec
        self._bare = bare

    def __missing__(self, number: int) -> str:
        value = self._codec.present(number)
        printed = _bare(value) if self._bare else dumps(value)
        if len(self) < 1 << 16:
            self[number] = printed
        return printed


class _Bits(dict[bytes, str]):
    """Bit-fields by the bytes that they are in, each worked out once."""

    def __init__(self, field: Field, byte_order: str) -> None:
        super().__init__()
        self._field = field
        self._order = byte_order

    def __missing__(self, data: bytes) -> str:
        printed = dumps(read_place(data, self._field, self._order))
        if len(self) < 1 << 16:
            self[data] = printed
        return printed


def _ascending(record: Record) -> bool:
    """Whether the members stand in the order of their bytes and share none."""
    at = 0
    for field in record.fields.values():
        if field.offset < at:
            return False
        at = field.offset + (field.bits or field.codec.size * 8)
    groups = list(record.fields.values())
    while groups:  # a plain member may begin in the bytes of a bit-field only by hand
        group = _bit_group(groups)
        last = group[-1]
        end = (last.offset + (last.bits or last.codec.size * 8) + 7) // 8
        del groups[: len(group)]
        if groups and groups[0].offset // 8 < end:
            return False
    return True


def _bit_group(fields: list[Field]) -> list[Field]:
    """The first member; of bit-fields also those that follow in the same bytes."""
    group = [fields[0]]
    if not fields[0].bits:
        return group
    for field in fields[1:]:
        if not field.bits or field.offset // 8 >= (group[-1].offset + group[-1].bits + 7) // 8:
            break
        group.append(field)
    return group


class LinePrinter:
    """Lines for pairs of key and value.

    ``form`` has ``{key}`` and ``{value}`` for the values, ``{key_hex}`` and ``{value_hex}`` for bytes in the
    manner of ``"0x0a","0x00"``.
    """

    def __init__(self, key: Layout, value: Layout, form: str) -> None:
        self._key = key
        self._value = value
        self._parts: list[str] = []
        template, rest = "", form
        while rest:
            literal, brace, rest = rest.partition("{{")
            template += literal.replace("%", "%%")
            if brace:
                name, _, rest = rest.partition("}}")
                self._parts.append(name)
                template += {"key": key.template, "value": value.template}.get(name, "%s")
        self._template = template

    def lines(self, keys: bytes, values: bytes) -> Iterator[str]:
        """One line for each pair."""
        columns: list[Iterable[object]] = []
        for part in self._parts:
            layout, data = (self._key, keys) if part.startswith("key") else (self._value, values)
            columns += _hex_column(data, layout.codec.size) if part.endswith("hex") else layout.columns(data)
        return map(self._template.__mod__, zip(*columns, strict=True))


def _hex_column(data: bytes, size: int) -> list[Iterable[object]]:
    """``"0x0a","0x00"`` for each ``size`` bytes: cut from one long string, 7 characters a byte."""
    text = data.hex(" ").replace(" ", '","0x')
    width = 7 * size
    return [[f'"0x{text[at : at + width - 5]}"' for at in range(0, max(len(text), 1), width)]]


class LineReader:
    """Takes lines that a :class:`LinePrinter` of ``form`` has printed back, a block of lines at a time."""

    def __init__(self, key: Layout, value: Layout, form: str, byte_order: str) -> None:
        self._sizes = key.codec.size, value.codec.size
        patterns = key.pattern(), value.pattern()
        self._row = struct.Struct(("<" if byte_order == "little" else ">") + key.format + value.format)
        self._wide = struct.Struct(self._row.format[:1] + (key.format + value.format) * _ROWS)
        self._numbers = len(key.slots) + len(value.slots)
        self.usable = patterns[0] is not None and patterns[1] is not None and self._numbers > 0
        if not self.usable:
            return
        import re

        assert patterns[0] is not None
        assert patterns[1] is not None
        line = re.escape(form).encode()
        line = line.replace(re.escape("{{key}}").encode(), patterns[0])
        line = line.replace(re.escape("{{value}}").encode(), patterns[1])
        self._fits = re.compile(b"(?:" + line + b"\r?\n)*").fullmatch
        literals = form + "".join(key._literals + value._literals)
        plain = not any(c.isdigit() or c == "-" for c in literals.replace("{{key}}", ""))
        self._blank = bytes(c if chr(c) in "0123456789-" else 32 for c in range(256)) if plain else None
        self._find = re.compile(line.replace(_NUMBER, b"(" + _NUMBER + b")")).findall

    def read(self, lines: bytes) -> tuple[int, bytes, bytes] | None:
        """(count, keys, values) of whole ``lines``; None where one of them looks or is different."""
        if not self.usable or not self._fits(lines):
            return None
        if self._blank is not None:
            words: Iterable[bytes] = lines.translate(self._blank).split()
        else:
            found = self._find(lines)
            words = chain.from_iterable(found) if self._numbers > 1 else found
        numbers = list(map(int, words))
        try:
            return self._packed(numbers)
        except struct.error:  # one does not fit its type
            return None

    def _packed(self, numbers: list[int]) -> tuple[int, bytes, bytes]:
        count = len(numbers) // self._numbers
        step = self._numbers * _ROWS
        whole = len(numbers) // step * step
        parts = [self._wide.pack(*numbers[at : at + step]) for at in range(0, whole, step)]
        parts += [
            self._row.pack(*numbers[at : at + self._numbers])
            for at in range(whole, len(numbers), self._numbers)
        ]
        return (count, *_split_columns(b"".join(parts), *self._sizes))


_ROWS = 256


def _split_columns(rows: bytes, left: int, right: int) -> tuple[bytes, bytes]:
    """Rows of ``left`` and ``right`` bytes as all the left parts and all the right ones."""
    width = left + right
    count = len(rows) // width
    keys, values = bytearray(count * left), bytearray(count * right)
    for at in range(left):
        keys[at::left] = rows[at::width]
    for at in range(right):
        values[at::right] = rows[left + at :: width]
    return bytes(keys), bytes(values)
