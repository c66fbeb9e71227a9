"""``{ id N | pinned PATH | name NAME | tag TAG }``: a program or map, the same for every command."""

from __future__ import annotations

from bpfctl.cli.grammar.tokens import Tokens, parse_number, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.inventory.reference import Reference

FORMS = "id N, pinned PATH, name NAME, tag TAG"

_WORDS = ("id", "pinned", "name", "tag")
_MAX_ID = 0xFFFFFFFF
_TAG_DIGITS = 16


def parse_reference(tokens: Tokens) -> Reference:
    """A reference, which must be there."""
    word = tokens.value("id, pinned, name or tag")
    if word not in _WORDS:
        raise unknown(word, FORMS)
    return reference(word, tokens.value(word))


def maybe_reference(tokens: Tokens) -> Reference | None:
    """A reference if the next word begins one."""
    return parse_reference(tokens) if tokens.peek() in _WORDS else None


def reference(by: str, value: str) -> Reference:
    """The checked reference; UsageError for an id that is no number, a tag that is not 16 hex digits."""
    if by == "id":
        number = parse_number(value)
        if not number or number > _MAX_ID:
            raise UsageError(f"Illegal id {shown(value)}: a number from 1 is wanted")
        value = str(number)
    elif by == "tag":
        value = value.lower()
        if len(value) != _TAG_DIGITS or not set(value) <= set("0123456789abcdef"):
            raise UsageError(f"Illegal tag {shown(value)}: 16 hex digits are wanted")
    elif not value:
        raise UsageError(f'Illegal {by} ""')
    return Reference(by, value)
