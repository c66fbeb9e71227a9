"""``qdisc { add | del } dev DEV { clsact | ingress }``, ``qdisc show [ dev DEV ]``."""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.errors import UsageError

_KINDS = ("clsact", "ingress")


def parse_change(words: Sequence[str]) -> tuple[str, str]:
    """Device and kind, both of which must be there."""
    device, kind = parse_show(words)
    if device is None:
        raise UsageError("Command line is not complete: dev DEV is missing")
    if not kind:
        raise UsageError("Command line is not complete: the kind, clsact, is missing")
    return device, kind


def parse_show(words: Sequence[str]) -> tuple[str | None, str]:
    """Device, None for all, and kind, "" for any."""
    tokens = Tokens(words)
    device, kind = None, ""
    while tokens:
        if device is None and tokens.take("dev"):
            device = tokens.value("DEV")
        elif not kind and tokens.peek() in _KINDS:
            kind = tokens.next()
        else:
            raise unknown(tokens.peek(), "dev DEV, clsact, ingress")
    return device, kind
