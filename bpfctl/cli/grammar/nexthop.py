"""``nexthop CMD id N WORDS``: ip-nexthop(8)'s words, as far as programs need them."""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.api.routes import Tunnel
from bpfctl.attach.nexthop import NexthopRequest
from bpfctl.cli.grammar.encap import parse_encap
from bpfctl.cli.grammar.route import parse_gateway, parse_protocol
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.errors import UsageError

_U32 = 0xFFFFFFFF


def parse_nexthop(words: Sequence[str], *, strict: bool = False) -> tuple[NexthopRequest, Tunnel | None]:
    """The words after ``nexthop add`` and its like; ``strict`` as in ``parse_route``."""
    tokens = Tokens(words, strict=strict)
    request, tunnel = NexthopRequest(0), None
    while tokens:
        if tokens.take("id"):
            request = request._replace(id=_number(tokens))
        elif tokens.take("via"):
            request = request._replace(gateway=parse_gateway(tokens))
        elif tokens.take("dev"):
            request = request._replace(device=tokens.value("DEV"))
        elif tokens.take("encap"):
            tunnel = parse_encap(tokens)
        elif tokens.take("onlink"):
            request = request._replace(onlink=True)
        elif tokens.take_prefix("protocol"):
            request = request._replace(protocol=parse_protocol(tokens.value("PROTO")))
        else:
            raise unknown(tokens.peek(), "id, encap, via, dev, onlink, proto")
    if not request.id:
        raise UsageError("Command line is not complete: id N is missing")
    return request, tunnel


def parse_id(words: Sequence[str]) -> int:
    """``id N``, and nothing else."""
    tokens = Tokens(words)
    if not tokens.take("id"):
        raise unknown(tokens.value("id"), "id N")
    number = _number(tokens)
    tokens.end()
    return number


def _number(tokens: Tokens) -> int:
    number = tokens.number("id", _U32)
    if not number:
        raise UsageError("Illegal id: a number from 1 is wanted")
    return number
