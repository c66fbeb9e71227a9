"""What the commands of ``map`` that work on elements share: the map they name, and the words for its data."""

from __future__ import annotations

from bpfctl.api.sources import resolved
from bpfctl.cli.grammar.element import parse_data, parse_views
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.errors import UsageError
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.typed import Types
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import BPF_ANY, BPF_EXIST, BPF_NOEXIST

if TYPE_CHECKING:
    from bpfctl.inventory.reference import Reference

FLAGS = {"any": BPF_ANY, "noexist": BPF_NOEXIST, "exist": BPF_EXIST}
MAP = "{ id N | pinned PATH | name NAME }"


def open_target(tokens: Tokens) -> OpenMap:
    """The map that the next words name."""
    return open_elements(resolved(parse_reference(tokens)))


def parse_shape(tokens: Tokens, types: Types) -> Types:
    """``[ key as VIEW ] [ value as VIEW ]``: how to show elements."""
    while tokens.peek() in ("key", "value"):
        what = tokens.next()
        views = parse_views(tokens)
        if not views:
            raise UsageError(f"Command line is not complete: {what} as KIND")
        types = types.viewed(what, views)
    return types


def parse_key(tokens: Tokens, target: OpenMap, types: Types, *stop: str) -> bytes:
    """``key DATA``, in a map that has keys."""
    if not target.key_size:
        return b""
    if not tokens.take("key"):
        raise UsageError("Command line is not complete: key is missing")
    codec = types.viewed("key", parse_views(tokens)).key
    return parse_data(tokens, codec, "key", stop)


def parse_value(tokens: Tokens, target: OpenMap, types: Types) -> bytes | Reference:
    """``value VALUE``: bytes, or what a program array or map of maps is to hold."""
    if not tokens.take("value"):
        raise UsageError("Command line is not complete: value is missing")
    if target.holds:
        return resolved(parse_reference(tokens))
    codec = types.viewed("value", parse_views(tokens)).value
    return parse_data(tokens, codec, "value", tuple(FLAGS))


def parse_flags(tokens: Tokens) -> int:
    """``[ any | noexist | exist ]``, the end of the line."""
    word = tokens.next() if tokens else "any"
    if word not in FLAGS:
        raise unknown(word, ", ".join(FLAGS))
    tokens.end()
    return FLAGS[word]
