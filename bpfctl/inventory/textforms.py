"""Elements from files: NDJSON, JSON and CSV, read in blocks of bytes as the kernel takes them.

Whatever the size of a file, a block, and one line or element, are all that is in memory.  Lines that a
template has printed are taken back by its pattern; all others go through the JSON parser and the codecs,
which say what is wrong with which line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bpfctl.btf.aggregates import CpuValues, Place, write_place
from bpfctl.btf.paths import find_place
from bpfctl.btf.scalars import Codec
from bpfctl.btf.templates import Layout, LineReader
from bpfctl.errors import BpfctlError, TypedValueError, UsageError, printable
from bpfctl.inventory.batch import Block
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.typed import Types
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, BinaryIO

_CHUNK = 1 << 20  # bytes
_SHORTEST_LIMIT = 1 << 16  # bytes of a line
_TEXT_OF_A_BYTE = 64  # characters: the name of a member, mostly
BINARY_MAGIC = b"\x89BPFMAP\n"  # of savefile.py


def line_form(target: OpenMap) -> str:
    """The form of a line of NDJSON."""
    return '{"key":{{key}},"values":{{value}}}' if target.per_cpu else '{"key":{{key}},"value":{{value}}}'


class Source(NamedTuple):
    """A file to read elements from; ``name`` for messages."""

    name: str
    file: BinaryIO


class NumberedBlock(NamedTuple):
    """A block, and where its elements come from: their ``lines``, or one line each from ``first`` on."""

    block: Block
    first: int
    lines: list[int] | None = None

    def line(self, number: int) -> int:
        """The line of element ``number``."""
        return self.lines[number] if self.lines is not None else self.first + number


class ElementReader:
    """Reads elements of ``target`` from files, by ``types``."""

    def __init__(self, target: OpenMap, types: Types) -> None:
        self.target = target
        self._key = types.key
        self._value = types.value
        self._whole = types.whole_value(target)
        size = target.key_size + target.value_bytes
        self._limit = _SHORTEST_LIMIT + _TEXT_OF_A_BYTE * size

    def blocks(self, source: Source, form: str) -> Iterator[NumberedBlock]:
        """All of ``source``, which is ``ndjson``, ``json`` or ``csv``.

        Raises BpfctlError with file and line for what is not an element of the map.
        """
        readers = {"ndjson": self._ndjson, "json": self._json, "csv": self._csv}
        return readers[form](source)

    # --- NDJSON ---

    def _ndjson(self, source: Source) -> Iterator[NumberedBlock]:
        order = sys.byteorder
        reader = LineReader(
            Layout(self._key, order), Layout(self._whole, order), line_form(self.target), order
        )
        number = 1
        for lines in self._whole_lines(source):
            found = reader.read(lines)
            if found is not None:
                count = found[0]
                if count:
                    yield NumberedBlock(Block(*found), number)
                number += count
                continue
            split = lines.split(b"\n")
            if not split[-1]:
                split.pop()
            block = self._slow_lines(source, split, number)
            if block.block.count:
                yield block
            number += len(split)

    def _whole_lines(self, source: Source) -> Iterator[bytes]:
        """Chunks that end with a line, the last one perhaps without its end."""
        rest = b""
        number = 1
        while chunk := source.file.read(_CHUNK):
            head, newline, tail = chunk.rpartition(b"\n")
            if newline:
                lines = rest + head + newline
                self._check_lines(source, lines, number)
                number += lines.count(b"\n")
                yield lines
                rest = tail
            else:
                rest += chunk
            if len(rest) > self._limit:
                raise self._too_long(source, number)
        if rest:
            yield rest

    def _check_lines(self, source: Source, lines: bytes, number: int) -> None:
        """No line of a chunk is longer than the limit: only the first may be, or all of a long chunk."""
        if len(lines) <= self._limit:
            return
        for offset, line in enumerate(lines.split(b"\n")):
            if len(line) > self._limit:
                raise self._too_long(source, number + offset)

    def _too_long(self, source: Source, number: int) -> BpfctlError:
        return _error(source, number, f"the line is longer than {self._limit} bytes")

    def _slow_lines(self, source: Source, lines: list[bytes], first: int) -> NumberedBlock:
        numbers, keys, values = [], [], []
        for number, line in enumerate(lines, first):
            if line.strip():
                key, value = self._element(source, number, _json_of(source, number, line))
                numbers.append(number)
                keys.append(key)
                values.append(value)
        return NumberedBlock(Block(len(keys), b"".join(keys), b"".join(values)), first, numbers)

    def _element(self, source: Source, number: int, record: Any) -> tuple[bytes, bytes]:
        try:
            return self._encoded(record)
        except (TypedValueError, UsageError) as error:
            raise _error(source, number, error.message) from error

    def _encoded(self, record: Any) -> tuple[bytes, bytes]:
        """``{"key": ..., "value": ...}``; ``values`` for each CPU; ``formatted`` is passed over."""
        if not isinstance(record, dict):
            raise UsageError('an object with "key" and "value" is wanted')
        for name in record:
            if name not in ("key", "value", "values", "formatted"):
                raise UsageError(f'{printable(name)}: "key" and "value" are what an element has')
        if "value" in record and "values" in record:
            raise UsageError('"value" and "values" exclude each other')
        key = encode_value(self._key, record["key"], "key") if "key" in record else b""
        if len(key) != self.target.key_size:
            raise UsageError('"key" is missing')
        return key, self._encoded_value(record)

    def _encoded_value(self, record: dict[str, Any]) -> bytes:
        if "value" in record:
            value = encode_value(self._value, record["value"], "value")
            return value.ljust(self.target.stride, b"\0") * self.target.cpus
        if "values" not in record:
            raise UsageError('"value" is missing')
        if not isinstance(self._whole, CpuValues):
            raise UsageError('"values" is for maps with a value for each CPU')
        values = record["values"]
        if isinstance(values, list) and values and all(_has_cpu(item) for item in values):
            values = [item["value"] for item in values]  # bpftool's
            values = [raw if (raw := raw_bytes(v, self.target.value_size)) is not None else v for v in values]
            if all(isinstance(value, bytes) for value in values) and len(values) == self.target.cpus:
                return b"".join(value.ljust(self.target.stride, b"\0") for value in values)
        return self._whole.encode(values, "values")

    # --- JSON ---

    def _json(self, source: Source) -> Iterator[NumberedBlock]:
        """An array, of which one element at a time is parsed."""
        numbers: list[int] = []
        keys: list[bytes] = []
        values: list[bytes] = []
        for number, record in _JsonArray(source, self._limit).elements():
            key, value = self._element(source, number, record)
            numbers.append(number)
            keys.append(key)
            values.append(value)
            if len(keys) >= 4096:
                yield NumberedBlock(Block(len(keys), b"".join(keys), b"".join(values)), 0, numbers)
                numbers, keys, values = [], [], []
        if keys:
            yield NumberedBlock(Block(len(keys), b"".join(keys), b"".join(values)), 0, numbers)

    # --- CSV ---

    def _csv(self, source: Source) -> Iterator[NumberedBlock]:
        import csv

        csv.field_size_limit(self._limit)
        lines = self._text_lines(source)
        reader = csv.reader(lines, strict=True)
        places: list[tuple[str, str, Place]] | None = None
        numbers: list[int] = []
        keys: list[bytes] = []
        values: list[bytes] = []
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise _error(source, reader.line_num, str(error)) from None
            if row is None or len(keys) >= 4096:
                if keys:
                    yield NumberedBlock(Block(len(keys), b"".join(keys), b"".join(values)), 0, numbers)
                numbers, keys, values = [], [], []
            if row is None:
                return
            if not row:
                continue
            if places is None:
                places = self._columns(source, row)
                continue
            try:
                key, value = self._row(places, row)
            except (TypedValueError, UsageError) as error:
                raise _error(source, reader.line_num, error.message) from error
            numbers.append(reader.line_num)
            keys.append(key)
            values.append(value)

    def _text_lines(self, source: Source) -> Iterator[str]:
        number = 0
        while line := source.file.readline(self._limit + 1):
            number += 1
            if len(line) > self._limit:
                raise self._too_long(source, number)
            yield line.decode("utf-8", "surrogateescape")

    def _columns(self, source: Source, header: list[str]) -> list[tuple[str, str, Place]]:
        """(column, "key" or "value", place) of each column of the header."""
        columns = []
        value_name = "values" if isinstance(self._whole, CpuValues) else "value"
        for name in header:
            part, codec = ("key", self._key) if name.startswith("key") else (value_name, self._whole)
            rest = name.removeprefix(part)
            if not name.startswith(part) or rest[:1] not in ("", ".", "["):
                raise _error(
                    source, 1, f"column {printable(name)}: key or {value_name} is what it begins with"
                )
            try:
                place = find_place(codec, rest.removeprefix("."), part)
            except TypedValueError as error:
                raise _error(source, 1, error.message) from error
            columns.append((name, part, place))
        return columns

    def _row(self, columns: list[tuple[str, str, Place]], row: list[str]) -> tuple[bytes, bytes]:
        if len(row) != len(columns):
            raise UsageError(f"there are {len(row)} cells, the header has {len(columns)}")
        key, value = bytearray(self.target.key_size), bytearray(self.target.value_bytes)
        for (name, part, place), cell in zip(columns, row, strict=True):
            if cell:
                image = key if part == "key" else value
                shown: Any = parse_json(cell) if cell[0] in "[{" and _takes_json(place.codec) else cell
                write_place(image, place, sys.byteorder, shown, name)
        return bytes(key), bytes(value)


def _takes_json(codec: Codec) -> bool:
    from bpfctl.btf.aggregates import ArrayOf, Record

    return isinstance(codec, (ArrayOf, Record))


def parse_json(text: str) -> Any:
    """``text`` as JSON; UsageError for what is none, or nested too deep."""
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"no JSON: {error}") from None


def _json_of(source: Source, number: int, line: bytes) -> Any:
    try:
        return parse_json(line.decode("utf-8", "surrogateescape"))
    except UsageError as error:
        raise _error(source, number, error.message) from error


class _JsonArray:
    """One array, element by element: no more than an element, of at most ``limit`` characters, is parsed."""

    def __init__(self, source: Source, limit: int) -> None:
        import json
        from codecs import getincrementaldecoder

        self._source = source
        self._limit = limit
        self._decode = json.JSONDecoder().raw_decode
        self._utf8 = getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0
        self._line = 1
        self._ended = False

    def elements(self) -> Iterator[tuple[int, Any]]:
        """(line, element)."""
        if self._mark() != "[":
            raise self._error("an array is wanted")
        self._at += 1
        mark = self._mark()
        while mark != "]":
            yield self._line, self._value()
            mark = self._mark()
            if mark not in (",", "]"):
                raise self._error("the array does not end" if not mark else "between elements is no comma")
            self._at += mark == ","
        self._at += 1
        if self._mark():
            raise self._error("there is something behind the array")

    def _mark(self) -> str:
        """The next character that is no blank; "" at the end of the file."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in " \t\r\n":
                    return character
                self._line += character == "\n"
                self._at += 1
            if self._ended:
                return ""
            self._refill()

    def _value(self) -> Any:
        self._mark()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError:
                raise self._error("its JSON is nested too deep") from None
            except ValueError as error:
                if self._ended or len(self._text) - self._at > self._limit:
                    raise self._error(f"no JSON: {error}") from None
            else:
                if self._ended or end < len(self._text):  # else a number may go on
                    self._line += self._text.count("\n", self._at, end)
                    self._at = end
                    return value
            self._refill()

    def _refill(self) -> None:
        chunk = self._source.file.read(_CHUNK)
        self._ended = not chunk
        self._text = self._text[self._at :] + self._utf8.decode(chunk, self._ended)
        self._at = 0

    def _error(self, message: str) -> BpfctlError:
        return _error(self._source, self._line, message)


def _has_cpu(item: Any) -> bool:
    return isinstance(item, dict) and set(item) == {"cpu", "value"}


def _error(source: Source, line: int, message: str) -> BpfctlError:
    return BpfctlError(f"{printable(source.name, 4096)}:{line}: {message}")


def raw_bytes(value: Any, size: int) -> bytes | None:
    """bpftool's ``["0x0a", "0x00"]`` of ``size`` bytes; None for anything else."""
    if not isinstance(value, list) or len(value) != size or not size:
        return None
    if not all(isinstance(item, str) and item.startswith("0x") and len(item) <= 4 for item in value):
        return None
    try:
        return bytes(int(item, 16) for item in value)
    except ValueError:
        return None


def encode_value(codec: Codec, value: Any, path: str) -> bytes:
    """A value of JSON: typed, or bpftool's list of bytes."""
    data = raw_bytes(value, codec.size)
    return codec.encode(value, path) if data is None else data
