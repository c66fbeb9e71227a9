"""``encap``: programs in the lightweight tunnel of a route or nexthop.

ENCAP := bpf [ in SPEC ] [ out SPEC ] [ xmit SPEC ] [ headroom N ]
       | seg6local action End.BPF endpoint SPEC
"""

from __future__ import annotations

from bpfctl.api.routes import Tunnel
from bpfctl.api.sources import ProgramSource
from bpfctl.attach.lwt import ENDPOINT
from bpfctl.cli.grammar.spec import parse_source
from bpfctl.cli.grammar.tokens import Tokens, shown, unknown
from bpfctl.errors import UsageError

_HOOKS = ("in", "out", "xmit")
_ACTION = "End.BPF"


def parse_encap(tokens: Tokens) -> Tunnel:
    """What follows ``encap``; the words after it are the route's."""
    kind = tokens.value("bpf or seg6local")
    if kind == "bpf":
        return _parse_bpf(tokens)
    if kind == "seg6local":
        return _parse_seg6local(tokens)
    raise UsageError(f"encap {shown(kind)} runs no program", hint="`ip route` knows the other tunnels")


def _parse_bpf(tokens: Tokens) -> Tunnel:
    programs: dict[str, ProgramSource] = {}
    headroom = 0
    while tokens:
        if tokens.peek() in _HOOKS:
            hook = tokens.next()
            if hook in programs:
                raise UsageError(f"{shown(hook)} comes twice")
            programs[hook] = parse_source(tokens)
        elif tokens.take("headroom"):
            size = tokens.number("headroom", 0xFFFFFFFF)
            if not size:
                raise UsageError("Illegal headroom: a number of bytes from 1 is wanted")
            headroom = headroom or size  # the first one counts, as in iproute2
        else:
            break
    if not programs:
        raise UsageError(
            "Command line is not complete: encap bpf without a program", hint="in, out or xmit, and a program"
        )
    if headroom and "xmit" not in programs:
        raise UsageError("headroom is for the xmit program, and there is none")
    return Tunnel(tuple(programs.items()), headroom)


def _parse_seg6local(tokens: Tokens) -> Tunnel:
    if not tokens.take("action"):
        raise unknown(tokens.value("action"), "action")
    action = tokens.value("the action")
    if action != _ACTION:
        raise UsageError(f"seg6local action {shown(action)} runs no program", hint=f"{_ACTION} does")
    if not tokens.take("endpoint"):
        raise unknown(tokens.value("endpoint"), "endpoint")
    return Tunnel(((ENDPOINT, parse_source(tokens)),))
