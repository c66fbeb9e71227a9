"""``map peek``, ``push``, ``pop``, ``enqueue`` and ``dequeue``: maps without keys."""

from __future__ import annotations

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.element import parse_data, parse_views
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_elements import show_element
from bpfctl.cli.map_words import MAP, open_target, parse_shape
from bpfctl.errors import UsageError
from bpfctl.inventory import maptypes
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.typed import map_types
from bpfctl.uapi import MapType, type_name

_PUT = f"{MAP} value DATA"
_TAKE = f"{MAP} [ value as VIEW ]"
_WORDS = "id pinned name value as hex"


@words_command("peek", _TAKE, _WORDS)
def peek(app: App, words: list[str]) -> None:
    """Print the next element of a queue or stack, and leave it there.

    Of a bloom filter, with "value DATA": whether it may hold that value.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        types = map_types(target)
        if target.map_type == MapType.BLOOM_FILTER:
            value = _value(tokens, target)
            found = target.may_hold(value)
            app.output.record({"found": found}, lambda r: "may be there" if r["found"] else "not there")
            return
        _check(target, maptypes.QUEUES)
        types = parse_shape(tokens, types)
        tokens.end()
        show_element(app, target.lookup(b""), types)


@words_command("push", _PUT, _WORDS)
def push(app: App, words: list[str]) -> None:
    """Put a value on a stack, at the end of a queue, or into a bloom filter."""
    _put(words)


@words_command("enqueue", _PUT, _WORDS)
def enqueue(app: App, words: list[str]) -> None:
    """Put a value at the end of a queue; the same as push."""
    _put(words)


@words_command("pop", _TAKE, _WORDS)
def pop(app: App, words: list[str]) -> None:
    """Take the next value off a stack or queue, and print it."""
    _take(app, words)


@words_command("dequeue", _TAKE, _WORDS)
def dequeue(app: App, words: list[str]) -> None:
    """Take the first value out of a queue, and print it; the same as pop."""
    _take(app, words)


def _put(words: list[str]) -> None:
    tokens = Tokens(words)
    with open_target(tokens) as target:
        _check(target, maptypes.KEYLESS)
        target.update(b"", _value(tokens, target))


def _take(app: App, words: list[str]) -> None:
    tokens = Tokens(words)
    with open_target(tokens) as target:
        _check(target, maptypes.QUEUES)
        types = parse_shape(tokens, map_types(target))
        tokens.end()
        show_element(app, target.take(), types)


def _value(tokens: Tokens, target: OpenMap) -> bytes:
    if not tokens.take("value"):
        raise UsageError("Command line is not complete: value is missing")
    codec = map_types(target).viewed("value", parse_views(tokens)).value
    data = parse_data(tokens, codec, "value")
    tokens.end()
    return data


def _check(target: OpenMap, kinds: frozenset[MapType]) -> None:
    if target.map_type not in kinds:
        names = " or ".join(sorted(type_name(MapType, kind) for kind in kinds))
        raise UsageError(
            f"{target} has keys; {names} is wanted", hint="map lookup, update and delete are for it"
        )
