"""``prog load`` and ``prog pin``."""

from __future__ import annotations

from bpfctl import api
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.spec import parse_object, parse_options
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.uapi import ProgramType


@words_command(
    "load",
    "FILE PATH [ type TYPE ] [ sec NAME ] [ program NAME ] [ maps-abi ABI ] [ verbose ]",
    keywords="type sec program maps-abi verbose",
)
def load(app: App, words: list[str]) -> None:
    """Load a program of FILE and pin it at PATH, a name on a bpffs.

    Its type is what the section's name says, unless TYPE (xdp, sched_cls, ...) is given.  The maps are
    made, reused and pinned as FILE says.  Nothing is attached.
    """
    tokens = Tokens(words)
    file = tokens.value("FILE")
    path = tokens.value("PATH")
    source = parse_object(file, tokens)
    program_type = None
    if tokens.take("type"):
        program_type = _parse_type(tokens.value("TYPE"))
        source = parse_options(tokens, source)
    tokens.end()
    record = api.load_program(source, path, program_type=program_type, session=app.session, warn=app.warn)
    if app.output.json:
        app.output.record(record, str)


def _parse_type(word: str) -> int:
    known = {kind.name.lower(): int(kind) for kind in ProgramType if kind}
    if word not in known:
        raise unknown(word, ", ".join(known))
    return known[word]


@words_command("pin", "{ id N | pinned PATH | name NAME | tag TAG } PATH", "id pinned name tag")
def pin(app: App, words: list[str]) -> None:
    """Pin a loaded program at PATH, a name on a bpffs; "m:NAME" is NAME in iproute2's folder."""
    tokens = Tokens(words)
    reference = parse_reference(tokens)
    path = tokens.value("PATH")
    tokens.end()
    api.pin_program(reference, path)
