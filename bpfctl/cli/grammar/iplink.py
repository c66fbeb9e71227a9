"""``ip link set`` as a whole: our words, and those that the real tool is to do.

iproute2 ip/iplink.c puts all of a line into one message, and the kernel does XDP as the last part of it
(net/core/rtnetlink.c, do_setlink).
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.cli.grammar.link import MODES, LinkSet, parse_device
from bpfctl.cli.grammar.spec import parse_source
from bpfctl.cli.grammar.tokens import Tokens, matches, shown
from bpfctl.errors import UsageError
from bpfctl.record import NamedTuple

_ALONE = ("up", "down", "nomaster")
_WITH_VALUE = (
    "name index mtu netns alias master vrf txqueuelen txqlen qlen address broadcast brd link promisc "
    "multicast allmulticast arp carrier dynamic trailers group mode state numtxqueues numrxqueues "
    "addrgenmode link-netns link-netnsid protodown gso_max_size gso_max_segs gro_max_size"
)
_MAY_BE_CUT = ("address", "broadcast", "master", "dynamic", "link")
_REST_IS_THEIRS = ("type", "vf")


class MixedLine(NamedTuple):
    """``ours``: the XDP part, the device under the name that it has in the end.  ``others``: words for ip."""

    ours: LinkSet
    others: list[str]


def parse_line(words: Sequence[str]) -> MixedLine:
    """The words after ``link set``, in iproute2's order only.  ``others`` is empty but for other changes."""
    tokens = Tokens(words, strict=True)
    device = renamed = mode = None
    source = None
    changes = False
    others: list[str] = []
    while tokens:
        word, start = tokens.peek(), tokens.position
        if word in MODES:
            mode = _only(mode, tokens.next())
            if mode == "xdpoffload" and device is None:
                raise UsageError("Command line is not complete: xdpoffload needs the device before it")
            is_off = tokens.peek() in ("off", "none") and tokens.position == len(words) - 1
            source = None if is_off and tokens.next() else parse_source(tokens)
            continue
        if word in _REST_IS_THEIRS:
            others += words[start:]
            changes = True
            break
        if _skip_change(tokens):
            changes = True
            renamed = words[start + 1] if word == "name" else renamed
        else:
            device = parse_device(tokens, device)
        others += words[start : tokens.position]
    if device is None or mode is None:
        raise UsageError("Command line is not complete: device or XDP mode is missing")
    if changes and "netns" in others:
        raise UsageError('"netns": a device that moves takes no program along: use two commands')
    return MixedLine(LinkSet(renamed or device, mode, source), others if changes else [])


def _only(known: str | None, mode: str) -> str:
    if known is not None:
        raise UsageError(f"{shown(mode)}: one XDP mode is enough, {known} came before")
    return mode


def _skip_change(tokens: Tokens) -> bool:
    """Read a word of ``ip link set`` with its value; False if the next word is none."""
    word = tokens.peek()
    if word in _ALONE or matches(word, "nomaster"):
        tokens.next()
        return True
    if word in _WITH_VALUE.split() or any(matches(word, full) for full in _MAY_BE_CUT):
        tokens.next()
        tokens.value(f"the value of {shown(word)}")
        return True
    return False
