"""Handles of qdiscs and classes, ``MAJOR:MINOR`` in hexadecimal (iproute2 tc/tc_util.c)."""

from __future__ import annotations

from bpfctl.cli.grammar.tokens import shown
from bpfctl.errors import UsageError

ROOT = 0xFFFFFFFF  # TC_H_ROOT
INGRESS = 0xFFFFFFF2  # parents of the two hooks of clsact
EGRESS = 0xFFFFFFF3
CLSACT = 0xFFFFFFF1

_HEX = frozenset("0123456789abcdefABCDEF")


def parse_classid(word: str) -> int:
    """``root``, ``none``, ``MAJOR:``, ``MAJOR:MINOR`` or a whole handle; UsageError for anything else."""
    if word in ("root", "none"):
        return ROOT if word == "root" else 0
    major, colon, minor = word.partition(":")
    digits_fit = set(major + minor) <= _HEX and (major or minor)
    if not digits_fit or len(major) > 8 or len(minor) > 8:
        raise _illegal(word)
    if not colon:
        return int(major, 16)
    high, low = int(major or "0", 16), int(minor or "0", 16)
    if max(high, low) > 0xFFFF:
        raise _illegal(word)
    return high << 16 | low


def _illegal(word: str) -> UsageError:
    return UsageError(f"Illegal class {shown(word)}: MAJOR:MINOR in hexadecimal, root or none")


def classid_text(handle: int) -> str:
    """As tc(8) prints it.

    >>> classid_text(0x10001), classid_text(0xFFFF0000), classid_text(5), classid_text(0)
    ('1:1', 'ffff:', ':5', 'none')
    """
    if handle in (0, ROOT):
        return "root" if handle else "none"
    major, minor = handle >> 16, handle & 0xFFFF
    if not major:
        return f":{minor:x}"
    return f"{major:x}:{minor:x}" if minor else f"{major:x}:"
