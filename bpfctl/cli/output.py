"""All output of commands: one record feeds both JSON and text.

Records are NamedTuples, or dicts where a key has to be spelled as another tool's.  In JSON the keys are
the fields, without those that are None.  For text a renderer gets the same record with every string made
safe for a terminal, so that no renderer can forget.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from bpfctl.errors import printable
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeVar

    Record = TypeVar("Record")


_LONGEST = 4096  # characters of one string in text, PATH_MAX


class Output:
    """Writes to stdout: text, or with ``json`` one document a command, indented when ``pretty``."""

    def __init__(self, json: bool, pretty: bool) -> None:
        self.json = json
        self.pretty = json and pretty
        self._indent = 4 if pretty else None

    def records(self, records: Iterable[Record], render: Callable[[Record], str]) -> None:
        """A list: a JSON array, or the text of each record.  Takes a generator one record at a time."""
        if self.json:
            self._array(map(self._encode, records))
            return
        for record in records:
            self.text(render(_safe(record)))

    def record(self, record: Record, render: Callable[[Record], str]) -> None:
        """One record: a JSON object, or its text."""
        if self.json:
            self.text(self._encode(record))
        else:
            self.text(render(_safe(record)))

    def document(self, key: str, records: Iterable[object]) -> None:
        """A JSON object with only ``key``, which holds a list of plain dicts, written one at a time."""
        import json

        separators = None if self._indent else (",", ":")
        encode = json.JSONEncoder(indent=self._indent, separators=separators).encode
        sys.stdout.write(f'{{"{key}":')
        self._array(map(encode, records), "}\n")

    def text(self, text: str) -> None:
        """``text``, already safe, and a newline; nothing at all for ""."""
        if text:
            sys.stdout.write(text + "\n")

    def stream(self, chunks: Iterable[str]) -> None:
        """Text that is ready, as it comes: for more than fits into memory."""
        for chunk in chunks:
            sys.stdout.write(chunk)

    def _array(self, texts: Iterable[str], end: str = "\n") -> None:
        separator = "["
        for text in texts:
            sys.stdout.write(separator + text)
            separator = ","
        sys.stdout.write(("]" if separator == "," else "[]") + end)

    def _encode(self, record: object) -> str:
        return to_json(record, self._indent)


def columns(rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Rows as aligned columns, two blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def to_json(record: object, indent: int | None = None) -> str:
    """A record as a JSON document."""
    import json

    return json.dumps(_plain(record), indent=indent, separators=None if indent else (",", ":"))


def _plain(value: Any) -> Any:
    """``value`` as JSON knows it."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items() if member is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    return value


def _safe(value: Any) -> Any:
    """``value`` with every string in it printable; types stay."""
    if isinstance(value, str):
        return printable(value, _LONGEST)
    if isinstance(value, dict):
        return {key: _safe(member) for key, member in value.items()}
    if hasattr(value, "_make"):
        return value._make(map(_safe, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(_safe, value))
    return value
