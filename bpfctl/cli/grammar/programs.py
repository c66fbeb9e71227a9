"""Where programs stand in a line whose other words are not known here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpfctl.api.sources import ObjectSource
from bpfctl.attach.lwt import ENDPOINT, HOOK_TYPES
from bpfctl.cli.grammar.link import MODES
from bpfctl.cli.grammar.spec import parse_source
from bpfctl.cli.grammar.tokens import Tokens, matches
from bpfctl.errors import UsageError
from bpfctl.record import NamedTuple
from bpfctl.uapi import ProgramType

_SEPARATOR = "action"


class Place(NamedTuple):
    """A program of an object file: words ``start`` to ``end``, ``program_type`` what its hook takes."""

    start: int
    end: int
    source: ObjectSource
    program_type: int


def in_filter(words: Sequence[str]) -> list[Place]:
    """Those after ``filter add``: the filter's own, and those of its actions."""
    return [*_of_filter(words), *in_actions(words)]


def _of_filter(words: Sequence[str]) -> Iterator[Place]:
    from bpfctl.cli.grammar.filter import parse_to_program

    tokens = Tokens(words, strict=True)
    try:
        start, source = parse_to_program(tokens)
    except UsageError:
        return
    if isinstance(source, ObjectSource):
        yield Place(start, tokens.position, source, ProgramType.SCHED_CLS)


def in_actions(words: Sequence[str]) -> list[Place]:
    """Those after ``action bpf``."""
    found = list[Place]()
    for at, word in enumerate(words[:-1]):
        if matches(word, _SEPARATOR) and words[at + 1] == "bpf":
            run = words[at + 2 : at + 3]
            skipped = 3 if run and matches(run[0], "run") else 2
            found += _parse(words, at + skipped, ProgramType.SCHED_ACT)
    return found


def in_link(words: Sequence[str]) -> list[Place]:
    """The one after ``xdp`` and its like, but for ``xdpoffload``, which is loaded for its device."""
    for at, word in enumerate(words[:-1]):
        found = list(_parse(words, at + 1, ProgramType.XDP)) if word in MODES else []
        if found:
            return [] if word == "xdpoffload" else found
    return []


def in_route(words: Sequence[str]) -> list[Place]:
    """Those of the tunnels of a route or nexthop."""
    found, inside = list[Place](), ""
    for at, word in enumerate(words[:-1]):
        if word == "encap":
            inside = words[at + 1]
        is_hook = word in HOOK_TYPES and (word == ENDPOINT) == (inside == "seg6local")
        if inside in ("bpf", "seg6local") and is_hook and (not found or at >= found[-1].end):
            found += _parse(words, at + 1, HOOK_TYPES[word])
    return found


def _parse(words: Sequence[str], start: int, program_type: int) -> Iterator[Place]:
    """The place that begins at word ``start``, if it is an object's."""
    tokens = Tokens(words[start:], strict=True)
    try:
        source = parse_source(tokens)
    except UsageError:
        return
    if isinstance(source, ObjectSource):
        yield Place(start, start + tokens.position, source, program_type)
