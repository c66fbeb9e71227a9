"""Values of one type by the million: a ``struct`` format takes the bytes apart, a ``%`` template prints them.

A :class:`Layout` is compiled once from a codec and then prints JSON at some hundred nanoseconds a value; what
no format can take apart (text, floats, unions, long arrays) goes through the codec, a part at a time.  Read
backwards, the template of a type whose parts are numbers is a pattern for the lines that it prints:
:class:`LineReader` takes such lines back as quickly.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import chain

from bpfctl.btf.aggregates import ArrayOf, Field, Padded, Record, read_place
from bpfctl.btf.scalars import Boolean, Codec, Enum, Ipv4, Mac, NetworkNumber, Number, Pointer
from bpfctl.btf.views import PlainNumber
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Convert: TypeAlias = "Callable[[Any], object]"

_CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}
_CODES |= {(size, True): code.lower() for (size, _), code in _CODES.items()}
_LONGEST_ARRAY = 64  # elements with a place of their own in the template
_BOOLEANS = ("false", "true", *map(str, range(2, 256)))
_ROWS = 256  # values that are taken apart or put together at once
_HIGH_DIGIT = b"".join(b"%x" % (byte >> 4) for byte in range(256))
_LOW_DIGIT = b"0123456789abcdef" * 16
_NUMBER = rb"(?:0|-?[1-9][0-9]{0,19})"  # as many digits as 64 bits have: more may be too many for int()


def dumps(value: object) -> str:
    """``value`` as compact JSON, in ASCII."""
    import json

    return json.dumps(value, separators=(",", ":"))


class Slot(NamedTuple):
    """One ``%`` of the template: the column of the unpacked struct that it prints, after ``convert``."""

    column: int
    convert: Convert | None = None


class Layout:
    """``codec`` compiled, to be printed as JSON, or in another ``style``.

    ``bare``: as JSON, but a string that is the whole value has no quotes.  ``csv``: plain parts with commas
    between; ``names`` are their paths, which begin with ``name``.
    """

    def __init__(self, codec: Codec, byte_order: str, *, style: str = "json", name: str = "") -> None:
        self.codec = codec
        self.names: list[str] = []
        self._csv = style == "csv"
        self._path = name
        self.slots: list[Slot] = []
        self._format: list[str] = []
        self._columns = 0
        self._literals = [""]  # what stands before, between and behind the slots
        self._forms: list[str] = []  # "%d" and its like
        self._order = byte_order
        self._quote = "" if style == "bare" else '"'
        self._emit(codec)
        self.format = "".join(self._format)
        self._struct = struct.Struct(("<" if byte_order == "little" else ">") + self.format)
        assert self._struct.size == codec.size
        self._wide = struct.Struct(self._struct.format[:1] + self.format * _ROWS)

    @cached_property
    def template(self) -> str:
        """With one ``%`` for each slot."""
        literals = [literal.replace("%", "%%") for literal in self._literals]
        return "".join(chain.from_iterable(zip(literals, self._forms, strict=False))) + literals[-1]

    def columns(self, data: bytes) -> list[Iterable[object]]:
        """One column a slot over all values in ``data``."""
        flat: list[Any] = []
        whole = len(data) // self._wide.size * self._wide.size if self._columns else 0
        for at in range(0, whole, self._wide.size):
            flat += self._wide.unpack_from(data, at)
        for row in self._struct.iter_unpack(memoryview(data)[whole:]) if self._columns else ():
            flat += row
        width = self._columns
        return [flat[c::width] if f is None else map(f, flat[c::width]) for c, f in self.slots]

    def pattern(self) -> bytes | None:
        """What the template prints, as a regular expression; None where a part is not a plain number."""
        if any(form != "%d" or slot.convert for form, slot in zip(self._forms, self.slots, strict=True)):
            return None
        import re

        return _NUMBER.join(re.escape(literal).encode() for literal in self._literals)

    # --- compiling ---

    def _emit(self, codec: Codec) -> None:
        quote = "" if self._csv else self._quote
        self._quote = '"'
        if isinstance(codec, Padded):
            self._emit(codec.inner)
            self._pad(codec.size - codec.inner.size)
        elif isinstance(codec, ArrayOf) and 0 < codec.count <= _LONGEST_ARRAY and codec.element.size:
            self._array(codec)
        elif isinstance(codec, Record) and codec.fields and _ascending(codec):
            self._record(codec)
        else:
            self._part(self._path)
            self._plain(codec, quote)

    def _part(self, path: str) -> None:
        """In CSV, a column begins."""
        if self._csv:
            self._text("," if self.names else "")
            self.names.append(path)

    def _plain(self, codec: Codec, quote: str) -> None:
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
        else:
            self._by_codec(codec, bare=not quote)

    def _brace(self, literal: str) -> None:
        """What JSON has around and between parts, and CSV has not."""
        if not self._csv:
            self._text(literal)

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
        path = self._path
        for number in range(codec.count):
            self._brace("," if number else "[")
            self._path = f"{path}[{number}]"
            self._emit(codec.element)
        self._path = path
        self._brace("]")

    def _record(self, codec: Record) -> None:
        self._brace("{")
        at = 0
        fields = list(codec.fields.values())
        while fields:
            group = _bit_group(fields)
            start = group[0].offset // 8
            self._pad(start - at)
            at = self._bit_fields(codec, group, start) if group[0].bits else self._member(group[0], start)
            del fields[: len(group)]
            self._brace("," if fields else "}")
        self._pad(codec.size - at)

    def _pad(self, count: int) -> None:
        if count:
            self._format.append(f"{count}x")

    def _member(self, field: Field, start: int) -> int:
        path = self._path
        self._path = f"{path}.{field.name}"
        self._brace(dumps(field.name) + ":")
        self._emit(field.codec)
        self._path = path
        return start + field.codec.size

    def _bit_fields(self, record: Record, group: list[Field], start: int) -> int:
        """Bit-fields that share bytes: one column of bytes, a slot each."""
        end = max((field.offset + field.bits + 7) // 8 for field in group)
        column = self._column(f"{end - start}s")
        for number, field in enumerate(group):
            self._brace(("," if number else "") + dumps(field.name) + ":")
            self._part(f"{self._path}.{field.name}")
            moved = field._replace(offset=field.offset - start * 8)
            self._slot("%s", column, _Bits(moved, record.byte_order).__getitem__)
        return end

    def _by_codec(self, codec: Codec, *, bare: bool) -> None:
        decode = codec.decode
        if self._csv:
            self._bytes(codec.size, lambda data: csv_cell(decode(data)))
        elif bare:
            self._bytes(codec.size, lambda data: _bare(decode(data)))
        else:
            self._bytes(codec.size, lambda data: dumps(decode(data)))


def csv_cell(value: object) -> str:
    """``value`` as RFC 4180 has it: in quotes where it holds a comma, a quote, or the end of a line."""
    text = value if isinstance(value, str) else dumps(value)
    if not text.isprintable() or any(mark in text for mark in ',"') or text != text.strip():
        text = '"' + text.replace('"', '""') + '"'
    return text


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
    """Text for pairs of key and value, a piece of many lines by one ``%``.

    ``form`` has ``{{key}}`` and ``{{value}}`` for the values, ``{{key_hex}}`` and ``{{value_hex}}`` for bytes
    in the manner of ``"0x0a","0x00"``.  Those have one width in all lines: their digits are put into the
    template, a column of all of its lines at a time.
    """

    def __init__(self, key: Layout, value: Layout, form: str) -> None:
        self._layouts = {"key": key, "value": value}
        self._shown: list[str] = []  # "key", "value", in the order of ``form``
        self._hex: list[tuple[str, int]] = []  # and those in hex, with the place of their first digit
        literal, _, rest = form.partition("{{")
        self._line = literal.replace("%", "%%")  # the template of a line
        while rest:
            name, _, rest = rest.partition("}}")
            self._add(name)
            literal, _, rest = rest.partition("{{")
            self._line += literal.replace("%", "%%")
        self._templates: dict[tuple[int, str], str] = {}  # of so many lines

    def _add(self, name: str) -> None:
        if name in self._layouts:
            self._shown.append(name)
            self._line += self._layouts[name].template
            return
        name = name.removesuffix("_hex")
        self._hex.append((name, len(self._line) + len('"0x')))
        self._line += ",".join(['"0x00"'] * self._layouts[name].codec.size)

    def pieces(self, keys: bytes, values: bytes, separator: str) -> Iterator[str]:
        """A line for each pair, with ``separator`` between them, but not between one piece and the next."""
        left, right = (layout.codec.size for layout in self._layouts.values())
        count = len(keys) // left if left else len(values) // max(right, 1)
        for at in range(0, count, _ROWS):
            part = {
                "key": keys[at * left : (at + _ROWS) * left],
                "value": values[at * right : (at + _ROWS) * right],
            }
            yield self._piece(part, min(_ROWS, count - at), separator)

    def _piece(self, data: dict[str, bytes], count: int, separator: str) -> str:
        """So many lines that all of their text stays in the processor's cache."""
        columns = [column for name in self._shown for column in self._layouts[name].columns(data[name])]
        arguments: list[object] = [None] * (len(columns) * count)
        for number, column in enumerate(columns):
            arguments[number :: len(columns)] = column
        if (count, separator) not in self._templates:
            if len(self._templates) > 2:
                self._templates.clear()  # but for the last ones, all pieces have the same number of lines
            self._templates[count, separator] = separator.join([self._line] * count)
        template = self._templates[count, separator]
        return (self._with_hex(template, data, separator) if self._hex else template) % tuple(arguments)

    def _with_hex(self, template: str, data: dict[str, bytes], separator: str) -> str:
        text, width = bytearray(template, "ascii"), len(self._line + separator)
        for name, place in self._hex:
            size = self._layouts[name].codec.size
            for number in range(size):
                column, at = data[name][number::size], place + number * len('"0x00",')
                text[at::width] = column.translate(_HIGH_DIGIT)
                text[at + 1 :: width] = column.translate(_LOW_DIGIT)
        return text.decode("ascii")


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
