"""The words of ``advise``, each once and in any order; those of ours may be written as options.

{ FILE | id N | pinned PATH | name NAME | live } [ format { text | json | sarif } ] [ strict ]
[ bench FILE ] [ pedantic ] [ maps-abi ABI ]
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.inventory.reference import Reference

KEYWORDS = "id pinned name tag live format strict bench pedantic maps-abi"
_REFERENCES = KEYWORDS.split()[:4]
FORMATS = ("text", "json", "sarif")


class AdviseCommand(NamedTuple):
    """What was asked for.  ``subject``: a file, a reference to a program, or None: every program loaded."""

    subject: str | Reference | None = None
    format: str = "text"
    strict: bool = False
    bench: str | None = None
    pedantic: bool = False
    maps_abi: str | None = None


def parse_advise(words: Sequence[str]) -> AdviseCommand:
    """UsageError for what cannot be understood, or contradicts itself."""
    tokens = Tokens([_undashed(word) for word in words])
    command, subjects = AdviseCommand(), 0
    while tokens:
        if tokens.take("format"):
            command = command._replace(format=_format(tokens))
        elif tokens.take("strict"):
            command = command._replace(strict=True)
        elif tokens.take("bench"):
            command = command._replace(bench=tokens.value("FILE"))
        elif tokens.take("pedantic"):
            command = command._replace(pedantic=True)
        elif tokens.take("maps-abi"):
            command = command._replace(maps_abi=_abi(tokens))
        elif subjects:
            raise unknown(tokens.peek(), ", ".join(KEYWORDS.split()[5:]))
        else:
            subjects = 1
            command = command._replace(subject=_subject(tokens))
    if not subjects:
        raise UsageError(
            "Command line is not complete: nothing is named to advise about",
            hint="one of: FILE, id N, pinned PATH, name NAME, live",
        )
    return command


def _subject(tokens: Tokens) -> str | Reference | None:
    if tokens.take("live"):
        return None
    if tokens.peek() in _REFERENCES:
        from bpfctl.cli.grammar.reference import parse_reference

        return parse_reference(tokens)
    path = tokens.next()
    if not path:
        raise UsageError('Illegal object file ""')
    return path


def _abi(tokens: Tokens) -> str:
    from bpfctl.cli.grammar.spec import parse_abi

    return parse_abi(tokens)


def _format(tokens: Tokens) -> str:
    word = tokens.value("format")
    if word not in FORMATS:
        raise unknown(word, ", ".join(FORMATS))
    return word


def _undashed(word: str) -> str:
    bare = word.removeprefix("--")
    return bare if bare in KEYWORDS.split() else word
