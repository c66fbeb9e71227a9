"""``map dump``: all elements, as text, JSON, or in a form that ``map load`` takes back."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import element_record, element_text, says_more
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.cli.map_words import MAP, open_target, parse_shape
from bpfctl.errors import KernelError, UsageError
from bpfctl.inventory import maptypes
from bpfctl.inventory.batch import Block, Bulk
from bpfctl.inventory.elements import Element, OpenMap
from bpfctl.inventory.readahead import read_ahead
from bpfctl.inventory.textforms import line_form
from bpfctl.inventory.typed import Types, map_types, split_cpus
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.btf.templates import LinePrinter

FORMATS = ("json", "ndjson", "csv", "binary")
_TEXT_LINE = "key: {{key}}  value: {{value}}"


@words_command(
    "dump",
    f"{MAP} [ key as VIEW ] [ value as VIEW ]\n    [ format {{ json | ndjson | csv | binary }} ]",
    f"id pinned name key value as format {' '.join(FORMATS)}",
)
def dump(app: App, words: list[str]) -> None:
    """Print every element, by the types of the map; without types as bytes and numbers.

    Values of per-CPU maps are printed for each CPU, and added up.  "map load" takes every FORMAT back.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        types = parse_shape(tokens, map_types(target))
        chosen = _parse_format(tokens)
        tokens.end()
        check_has_elements(target)
        if chosen in ("ndjson", "json"):
            app.output.stream(typed_chunks(target, types, array=chosen == "json"))
        elif chosen == "binary":
            from bpfctl.cli.map_save import write_maps

            write_maps([target], "-")
        elif chosen == "csv":
            app.output.stream(csv_chunks(target, types))
        else:
            _dump_records(app, target, types)


def _parse_format(tokens: Tokens) -> str:
    if not tokens.take("format"):
        return ""
    word = tokens.value("FORMAT")
    if word not in FORMATS:
        raise unknown(word, ", ".join(FORMATS))
    return word


def check_has_elements(target: OpenMap) -> None:
    """UsageError for a map that cannot be walked through."""
    if target.map_type in maptypes.KEYLESS:
        raise UsageError(f"{target} has no keys to go by", hint="map peek and map pop show its next element")
    if target.map_type in maptypes.WITHOUT_ELEMENTS:
        raise UsageError(f"{target} has no elements", hint="map show shows the map")


def _dump_records(app: App, target: OpenMap, types: Types) -> None:
    output = app.output
    blocks = None if target.per_cpu or output.pretty else readable_blocks(target)
    if blocks is None or not (types.typed or output.json):
        records = (element_record(element, types) for element in elements(target))
        output.records(records, lambda record: element_text(record, types))
    elif output.json:
        output.stream(_json_array(blocks, line_printer(types, _json_line(types))))
    else:
        printer = line_printer(types, _TEXT_LINE, bare=True)
        output.stream(_lines(blocks, printer))


def _json_line(types: Types) -> str:
    """bpftool's bytes, and what says more than they do."""
    shown = [what for what in ("key", "value") if says_more(getattr(types, what))]
    formatted = ",".join(f'"{what}":{{{{{what}}}}}' for what in shown)
    return '{"key":[{{key_hex}}],"value":[{{value_hex}}],"formatted":{' + formatted + "}}"


def _json_array(blocks: Iterator[Block], printer: LinePrinter) -> Iterator[str]:
    before = "["
    for block in blocks:
        for piece in printer.pieces(block.keys, block.values, ","):
            yield before + piece
            before = ","
    yield "]\n" if before == "," else "[]\n"


def _lines(blocks: Iterator[Block], printer: LinePrinter) -> Iterator[str]:
    for block in blocks:
        for piece in printer.pieces(block.keys, block.values, "\n"):
            yield piece + "\n"


def line_printer(types: Types, form: str, *, bare: bool = False) -> LinePrinter:
    """The printer of lines of ``form`` for these types."""
    from bpfctl.btf.templates import Layout, LinePrinter

    order, style = sys.byteorder, "bare" if bare else "json"
    return LinePrinter(Layout(types.key, order, style=style), Layout(types.value, order, style=style), form)


def readable_blocks(target: OpenMap) -> Iterator[Block] | None:
    """The blocks of ``target``; None where its values cannot be read."""
    from itertools import chain

    from bpfctl.uapi import ENOTSUPP

    blocks = _watched(target)
    try:
        first = next(blocks, None)
    except KernelError as error:
        if error.errno in (ENOTSUPP, errno.EOPNOTSUPP, errno.ENOSPC):  # ENOSPC: sockmaps
            return None
        raise
    return iter(()) if first is None else chain([first], blocks)


def _watched(target: OpenMap) -> Iterator[Block]:
    """The blocks of ``target``; progress is shown while the output goes to a file or another program."""
    from bpfctl.cli.progress import Progress

    with Progress(shown=not sys.stdout.isatty()) as progress:
        for block in read_ahead(Bulk(target).blocks()):
            yield block
            progress.advance(block.count)


def elements(target: OpenMap) -> Iterator[Element]:
    """Elements one by one, read in blocks; those whose values cannot be read with an error."""
    blocks = readable_blocks(target)
    if blocks is None:
        yield from target.elements()
        return
    for block in blocks:
        yield from block_elements(target, block)


def block_elements(target: OpenMap, block: Block) -> Iterator[Element]:
    """The elements of one block."""
    size, width = target.key_size, target.value_bytes
    for number in range(block.count):
        value = block.values[number * width : (number + 1) * width]
        key = block.keys[number * size : (number + 1) * size]
        yield Element(key, tuple(split_cpus(target, value)) if target.per_cpu else value)


def typed_chunks(target: OpenMap, types: Types, *, array: bool = False) -> Iterator[str]:
    """A line for each element: ``{"key":...,"value":...}``, or ``"values"`` for all CPUs.

    ``array``: with brackets around the lines and commas between them, one JSON document.
    """
    start, between, end = ("[", ",\n", "]\n") if array else ("", "\n", "")
    printer = line_printer(types._replace(value=types.whole_value(target)), line_form(target))
    before = start
    for block in _watched(target):
        for piece in printer.pieces(block.keys, block.values, between):
            yield before + piece
            before = between
    if before == start:
        yield start + end
    else:
        yield end or "\n"


def csv_chunks(target: OpenMap, types: Types) -> Iterator[str]:
    """A column for each plain part of key and value, named by its path in the first line."""
    from bpfctl.btf.templates import Layout, LinePrinter

    key = Layout(types.key, sys.byteorder, style="csv", name="key")
    name = "values" if target.per_cpu else "value"
    value = Layout(types.whole_value(target), sys.byteorder, style="csv", name=name)
    printer = LinePrinter(key, value, "{{key}},{{value}}")
    yield ",".join([*key.names, *value.names]) + "\n"
    yield from _lines(_watched(target), printer)
