"""``exec bpf graft``: put a program into a slot of a pinned program array."""

from __future__ import annotations

from bpfctl.api import hooks
from bpfctl.api.sources import ObjectSource, ProgramSource
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.spec import parse_options, parse_source
from bpfctl.cli.grammar.tokens import Tokens, matches, unknown
from bpfctl.cli.migration import dry_run
from bpfctl.uapi import ProgramType

# iproute2's words, in the order of its tests; each may be cut.
_TYPES = (
    ("cls", ProgramType.SCHED_CLS),
    ("act", ProgramType.SCHED_ACT),
    ("xdp", ProgramType.XDP),
    ("lwt_in", ProgramType.LWT_IN),
    ("lwt_out", ProgramType.LWT_OUT),
    ("lwt_xmit", ProgramType.LWT_XMIT),
    ("lwt_seg6local", ProgramType.LWT_SEG6LOCAL),
)
_U32 = 0xFFFFFFFF


@words_command(
    "graft",
    "MAP [ key N ] { obj FILE [ type TYPE ] [ sec NAME ] [ program NAME ] [ maps-abi ABI ] [ verbose ]\n"
    "    | pinned PATH | id N }",
    keywords="key obj pinned id type sec program maps-abi set migrate lossy dry-run verbose",
)
def graft(app: App, words: list[str]) -> None:
    """Put a program into slot N of the program array pinned at MAP, in one step.

    MAP may begin with "m:".  Without key it is the second number of a section called ID/KEY.  TYPE is
    what the array holds: cls (the default), act, xdp, lwt_in, lwt_out, lwt_xmit or lwt_seg6local.
    """
    tokens = Tokens(words)
    path = tokens.value("MAP")
    key = tokens.number("key", _U32) if tokens.take_prefix("key") else None
    source, program_type = _parse_source(tokens)
    tokens.end("key before the program, and type, sec, program, verbose")
    if dry_run(app, [source]):
        return
    hooks.graft(path, source, key=key, program_type=program_type, session=app.session, warn=app.warn)


def _parse_source(tokens: Tokens) -> tuple[ProgramSource, ProgramType]:
    source = parse_source(tokens)
    if not tokens.take_prefix("type"):
        return source, ProgramType.SCHED_CLS
    word = tokens.value("TYPE")
    kind = next((kind for name, kind in _TYPES if matches(word, name)), None)
    if kind is None:
        raise unknown(word, ", ".join(name for name, _ in _TYPES))
    options = parse_options(tokens, source if isinstance(source, ObjectSource) else ObjectSource(""))
    return (options if isinstance(source, ObjectSource) else source), kind
