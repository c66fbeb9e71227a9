"""``link set [dev] DEV { xdp | xdpgeneric | xdpdrv | xdpoffload } { off | none | SPEC }``."""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.api.sources import ProgramSource
from bpfctl.cli.grammar.spec import parse_source
from bpfctl.cli.grammar.tokens import Tokens, shown
from bpfctl.errors import UsageError
from bpfctl.record import NamedTuple

MODES = ("xdp", "xdpgeneric", "xdpdrv", "xdpoffload")
# Words of `ip link set` that an operator may put into the same command.
_OTHERS = frozenset(
    ("up", "down", "mtu", "address", "name", "alias", "master", "nomaster", "netns", "txqueuelen", "promisc")
)


class LinkSet(NamedTuple):
    """What is to happen: ``mode`` is one of MODES, ``source`` None takes the program off."""

    device: str
    mode: str
    source: ProgramSource | None


def parse_set(words: Sequence[str]) -> LinkSet:
    """The words after ``link set``."""
    tokens = Tokens(words)
    device = mode = None
    source = None
    while tokens:
        if tokens.peek() in MODES:
            if mode is not None:
                raise UsageError(f"{shown(tokens.peek())}: one XDP mode is enough, {mode} came before")
            mode = tokens.next()
            source = None if tokens.take("off", "none") else parse_source(tokens)
        elif device is not None and tokens.peek() in _OTHERS:
            raise UsageError(f"{shown(tokens.peek())} is none of bpfctl's work", hint="ip link set does that")
        else:
            device = parse_device(tokens, device)
    if device is None:
        raise UsageError("Command line is not complete: dev DEV is missing")
    if mode is None:
        raise UsageError(
            f"Command line is not complete: nothing to set on {device}", hint=f"one of {', '.join(MODES)}"
        )
    return LinkSet(device, mode, source)


def parse_show(words: Sequence[str]) -> str | None:
    """The words after ``link show``: the device, or None for all."""
    tokens = Tokens(words)
    device = None
    while tokens:
        device = parse_device(tokens, device)
    return device


def parse_device(tokens: Tokens, known: str | None) -> str:
    """``[ dev ] DEV``; iproute2 takes any word that it does not know for a device."""
    word = tokens.next()
    if known is not None:
        raise UsageError(f'either "dev" is duplicate, or {shown(word)} is garbage')
    if word == "dev":
        word = tokens.value("DEV")
    if not word:
        raise UsageError('Illegal device ""')
    return word
