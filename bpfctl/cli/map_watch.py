"""``map watch`` and ``map top``: what changes in a map, as it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import value_text
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_dump import check_has_elements
from bpfctl.cli.map_words import MAP, open_target, parse_shape
from bpfctl.cli.pace import Pace, Screen, emit
from bpfctl.inventory.typed import map_types
from bpfctl.inventory.watching import Change, Watcher
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_ROWS = 20
_KEYWORDS = "id pinned name key value as interval count duration"
_SHAPE = "[ key as VIEW ] [ value as VIEW ]"
_PACE = "[ interval MS ] [ count N ] [ duration SECONDS ]"


@words_command("watch", f"{MAP} {_SHAPE} {_PACE}", _KEYWORDS)
def watch(app: App, words: list[str]) -> None:
    """Print the elements that changed since the last look, with the rates of their numbers.

    Looks every second, or every MS milliseconds, until Ctrl-C, N lines or SECONDS have passed.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        check_has_elements(target)
        types = parse_shape(tokens, map_types(target))
        pace = Pace.parse(tokens)
        watcher = Watcher(target, types)
        with suppress(KeyboardInterrupt):  # enough seen
            for _ in pace.looks():
                for change in watcher.look():
                    emit(app, _record(change), _text)
                    if pace.is_last():
                        return


def _record(change: Change) -> dict[str, Any]:
    kind = "added" if change.old is None else "deleted" if change.new is None else "changed"
    record = {"change": kind, "key": change.key, "old": change.old, "new": change.new}
    return {name: value for name, value in record.items() if value is not None} | {"rates": change.rates}


def _text(record: dict[str, Any]) -> str:
    mark = {"added": "+", "deleted": "-", "changed": "~"}[record["change"]]
    value = record.get("new", record.get("old"))
    return f"{mark} {value_text(record['key'])}: {value_text(value)}{_rates_text(record['rates'])}"


def _rates_text(rates: dict[str, float]) -> str:
    return "".join(f"  {path}{' ' if path else ''}{rate:+g}/s" for path, rate in rates.items())


@words_command("top", f"{MAP} {_SHAPE} [ by FIELD ] {_PACE}", f"{_KEYWORDS} by")
def top(app: App, words: list[str]) -> None:
    """Show the elements whose numbers count fastest, those of all CPUs added up.

    They are in the order of FIELD, or of the first number that counts.  On a terminal the screen is drawn
    anew each second, or every MS milliseconds; elsewhere table follows table, N in all.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        check_has_elements(target)
        types = parse_shape(tokens, map_types(target))
        field = tokens.value("FIELD") if tokens.take("by") else None
        pace = Pace.parse(tokens)
        watcher = Watcher(target, types)
        with Screen(on=not app.output.json) as screen, suppress(KeyboardInterrupt):
            for _ in pace.looks():
                fastest = sorted(_counting(watcher.look(), field), key=lambda item: -_speed(item, field))
                table = {"elements": [_row(change) for change in fastest[: screen.rows or _ROWS]]}
                screen.begin()
                emit(app, table, _table_text)
                if pace.is_last():
                    return


def _counting(changes: Iterator[Change], field: str | None) -> Iterator[Change]:
    for change in changes:
        if change.new is not None and (change.rates if field is None else field in change.rates):
            yield change


def _speed(change: Change, field: str | None) -> float:
    return change.rates[field] if field is not None else next(iter(change.rates.values()))


def _row(change: Change) -> dict[str, Any]:
    return {"key": change.key, "value": change.new, "rates": change.rates}


def _table_text(table: dict[str, Any]) -> str:
    from bpfctl.cli.output import columns

    rows = table["elements"]
    if not rows:
        return "nothing counts"
    paths = list(dict.fromkeys(path for row in rows for path in row["rates"]))
    head = ("key", *(f"{path or 'value'}/s" for path in paths))
    cells = [(value_text(row["key"]), *(f"{row['rates'].get(path, 0):g}" for path in paths)) for row in rows]
    return columns([head, *cells])
