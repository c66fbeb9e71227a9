"""``map lookup``, ``update``, ``delete``, ``next`` and ``clear``: elements, by the types of the map."""

from __future__ import annotations

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import Facts, element_record, element_text, hex_list, value_text
from bpfctl.cli.grammar.element import parse_views
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_words import MAP, open_target, parse_flags, parse_key, parse_shape, parse_value
from bpfctl.errors import UsageError
from bpfctl.inventory import maptypes
from bpfctl.inventory.elements import Element, OpenMap
from bpfctl.inventory.typed import Types, map_types

_WORDS = "id pinned name key value as hex"


@words_command("lookup", f"{MAP} [ key DATA ] [ value as VIEW ]", _WORDS)
def lookup(app: App, words: list[str]) -> None:
    """Print one element; queues and stacks, which have no keys, show the next one.

    DATA is a value of the key's type (192.0.2.7, 10.0.0.0/8, a number), FIELD=VALUE for each field of a
    struct, JSON, a number for each byte, or "hex" and digits.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        types = map_types(target)
        types, key = _parse_key(tokens, target, types, "value")
        types = parse_shape(tokens, types)
        tokens.end()
        show_element(app, target.lookup(key), types)


def show_element(app: App, element: Element, types: Types) -> None:
    """Print one."""
    app.output.record(element_record(element, types), lambda record: element_text(record, types))


def _parse_key(tokens: Tokens, target: OpenMap, types: Types, *stop: str) -> tuple[Types, bytes]:
    """The key; a view given for it also shows it."""
    if target.key_size and tokens.peek() == "key":
        ahead = tokens.copy()
        ahead.next()
        types = types.viewed("key", parse_views(ahead))
    return types, parse_key(tokens, target, types, *stop)


@words_command(
    "update", f"{MAP} [ key DATA ] value VALUE [ any | noexist | exist ]", f"{_WORDS} any noexist exist"
)
def update(app: App, words: list[str]) -> None:
    """Set an element; in a per-CPU map for every CPU.

    VALUE is DATA as in "map lookup"; for a program array or a map of maps it is
    { id N | pinned PATH | name NAME | tag TAG }.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        types = map_types(target)
        key = parse_key(tokens, target, types, "value")
        value = parse_value(tokens, target, types)
        flags = parse_flags(tokens)
        if isinstance(value, bytes):
            target.update(key, value, flags)
        else:
            target.update_reference(key, value, flags)


@words_command("delete", f"{MAP} key DATA", _WORDS)
def delete(app: App, words: list[str]) -> None:
    """Delete an element."""
    tokens = Tokens(words)
    with open_target(tokens) as target:
        key = parse_key(tokens, target, map_types(target))
        tokens.end()
        target.delete(key)


@words_command("next", f"{MAP} [ key DATA ]", _WORDS)
def next_(app: App, words: list[str]) -> None:
    """Print the key after another one, or the first.

    After a key that is not there comes the first.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        types = map_types(target)
        types, key = _parse_key(tokens, target, types) if tokens else (types, None)
        tokens.end()
        found = target.next_key(key)
        record: Facts = {} if key is None else {"key": hex_list(key)}
        record |= {"next_key": hex_list(found), "formatted": {"next_key": types.key.decode(found)}}
        app.output.record(record, lambda r: f"next key: {value_text(r['formatted']['next_key'])}")


@words_command("clear", MAP, "id pinned name")
def clear(app: App, words: list[str]) -> None:
    """Delete every element; in an array set every value to zero.

    Prints how many there were.  What others put in meanwhile may stay.
    """
    from bpfctl.inventory.batch import clear as clear_all

    tokens = Tokens(words)
    with open_target(tokens) as target:
        tokens.end()
        if target.map_type in maptypes.WITHOUT_ELEMENTS | {*maptypes.KEYLESS} - maptypes.QUEUES:
            raise UsageError(f"{target} has no elements that could be deleted")
        count = clear_all(target)
        app.output.record({"deleted": count}, lambda record: f"deleted {record['deleted']}")
