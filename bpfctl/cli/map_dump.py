"""``map dump``: all elements, as text, JSON, or typed JSON."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import element_record, element_text, says_more
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.cli.map_words import MAP, open_target, parse_shape
from bpfctl.errors import KernelError, UsageError
from bpfctl.inventory import maptypes
from bpfctl.inventory.batch import Block, Bulk
from bpfctl.inventory.elements import Element, OpenMap
from bpfctl.inventory.typed import Types, map_types, split_cpus

if TYPE_CHECKING:
    from bpfctl.btf.templates import LinePrinter

FORMATS = ("json", "ndjson")
NDJSON_LINE = '{"key":{{key}},"value":{{value}}}'
_TEXT_LINE = "key: {{key}}  value: {{value}}"


@words_command(
    "dump",
    f"{MAP} [ key as VIEW ] [ value as VIEW ]\n    [ format {{ json | ndjson }} ]",
    f"id pinned name key value as format {' '.join(FORMATS)}",
)
def dump(app: App, words: list[str]) -> None:
    """Print every element, by the types of the map; without types as bytes and numbers.

    Values of per-CPU maps are printed for each CPU, and added up.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        types = parse_shape(tokens, map_types(target))
        chosen = _parse_format(tokens)
        tokens.end()
        check_has_elements(target)
        if chosen in ("ndjson", "json"):
            app.output.stream(typed_chunks(target, types, array=chosen == "json"))
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
        output.stream("\n".join([*printer.lines(b.keys, b.values), ""]) for b in blocks)


def _json_line(types: Types) -> str:
    """bpftool's bytes, and what says more than they do."""
    shown = [what for what in ("key", "value") if says_more(getattr(types, what))]
    formatted = ",".join(f'"{what}":{{{{{what}}}}}' for what in shown)
    return '{"key":[{{key_hex}}],"value":[{{value_hex}}],"formatted":{' + formatted + "}}"


def _json_array(blocks: Iterator[Block], printer: LinePrinter) -> Iterator[str]:
    before = "["
    for block in blocks:
        yield before + ",".join(printer.lines(block.keys, block.values))
        before = ","
    yield "]\n" if before == "," else "[]\n"


def line_printer(types: Types, form: str, *, bare: bool = False) -> LinePrinter:
    """The printer of lines of ``form`` for these types."""
    from bpfctl.btf.templates import Layout, LinePrinter

    order = sys.byteorder
    return LinePrinter(Layout(types.key, order, bare=bare), Layout(types.value, order, bare=bare), form)


def readable_blocks(target: OpenMap) -> Iterator[Block] | None:
    """The blocks of ``target``; None where its values cannot be read."""
    from itertools import chain

    from bpfctl.uapi import ENOTSUPP

    blocks = Bulk(target).blocks()
    try:
        first = next(blocks, None)
    except KernelError as error:
        if error.errno in (ENOTSUPP, errno.EOPNOTSUPP, errno.ENOSPC):  # ENOSPC: sockmaps
            return None
        raise
    return iter(()) if first is None else chain([first], blocks)


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
    before = start
    for lines in _typed_lines(target, types):
        yield before + between.join(lines)
        before = between
    yield end if before == between and array else "\n" if before == between else start + end


def _typed_lines(target: OpenMap, types: Types) -> Iterator[Iterator[str]]:
    """The lines of each block."""
    if not target.per_cpu:
        printer = line_printer(types, NDJSON_LINE)
        for block in Bulk(target).blocks():
            yield printer.lines(block.keys, block.values)
        return
    from bpfctl.btf.templates import dumps

    for block in Bulk(target).blocks():
        yield (dumps(_per_cpu_record(element, types)) for element in block_elements(target, block))


def _per_cpu_record(element: Element, types: Types) -> dict[str, Any]:
    values = [types.value.decode(value) for value in element.value or ()]  # type: ignore[arg-type]
    return {"key": types.key.decode(element.key), "values": values}
