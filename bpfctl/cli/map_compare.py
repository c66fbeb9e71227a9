"""``map diff`` and ``map copy``."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import Facts, value_text
from bpfctl.cli.grammar.reference import maybe_reference, parse_reference
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.cli.map_dump import check_has_elements
from bpfctl.cli.map_load import guess, opened, pieces
from bpfctl.cli.map_words import FLAGS, MAP, open_target, parse_shape
from bpfctl.cli.progress import Progress
from bpfctl.inventory.compare import Difference, check_alike, copy, differences, differences_from_blocks
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.textforms import ElementReader
from bpfctl.inventory.typed import Types, map_types
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


@words_command(
    "diff",
    f"{MAP} {{ {MAP[2:-2]} | file FILE }} [ key as VIEW ] [ value as VIEW ]",
    "id pinned name file key value as",
)
def diff(app: App, words: list[str]) -> None:
    """Print the elements that two maps, or a map and a file of "map dump", do not have in common.

    "-" stands before what only the first has, "+" before what only the second has, "~" where values differ.
    """
    tokens = Tokens(words)
    with open_target(tokens) as first:
        check_has_elements(first)
        reference = maybe_reference(tokens)
        if reference is None and not tokens.take("file"):
            raise unknown(tokens.peek(), "id N, pinned PATH, name NAME, file FILE")
        path = tokens.value("FILE") if reference is None else ""
        types = parse_shape(tokens, map_types(first))
        tokens.end()
        if reference is None:
            found = _from_file(first, types, path)
        else:
            found = _from_map(first, open_elements(resolved(reference)))
        app.output.records((_record(first, types, item) for item in found), _text)


def _from_map(first: OpenMap, second: OpenMap) -> Iterator[Difference]:
    with second:
        check_alike(first, second)
        yield from differences(first, second)


def _from_file(first: OpenMap, types: Types, path: str) -> Iterator[Difference]:
    with opened(path) as source:
        reader = ElementReader(first, types)
        blocks = (piece.block for piece in pieces(first, reader, source, guess(source)))
        yield from differences_from_blocks(first, blocks)


def _record(target: OpenMap, types: Types, item: Difference) -> Facts:
    record: dict[str, Any] = {"key": types.key.decode(item.key)}
    whole = types.whole_value(target)
    for name, value in (("old", item.old), ("new", item.new)):
        if value is not None:
            record[name] = whole.decode(value)
    return record


def _text(record: Facts) -> str:
    key = value_text(record["key"])
    if "old" in record and "new" in record:
        return f"~ {key}: {value_text(record['old'])} -> {value_text(record['new'])}"
    mark, name = ("-", "old") if "old" in record else ("+", "new")
    return f"{mark} {key}: {value_text(record[name])}"


@words_command(
    "copy",
    f"{MAP} {MAP} [ atomic ] [ any | noexist | exist ]",
    "id pinned name atomic any noexist exist",
)
def copy_(app: App, words: list[str]) -> None:
    """Put the elements of the first map into the second, and print how many.

    Elements that only the second has stay.
    """
    tokens = Tokens(words)
    with open_target(tokens) as source, open_elements(resolved(parse_reference(tokens))) as target:
        atomic, flags = False, 0
        while tokens:
            if tokens.take("atomic", "--atomic"):
                atomic = True
            elif tokens.peek() in FLAGS:
                flags = FLAGS[tokens.next()]
            else:
                raise unknown(tokens.peek(), "atomic, any, noexist, exist")
        check_has_elements(source)
        total = 0 if source.max_entries > 1 << 31 else source.max_entries
        with Progress(total) as progress:
            count = copy(source, target, flags=flags, atomic=atomic, report=progress.advance)
    app.output.record({"copied": count}, lambda record: f"copied {record['copied']}")
