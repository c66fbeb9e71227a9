"""Patterns of function names: ``*`` is any number of characters, ``?`` is one."""

from __future__ import annotations

from collections.abc import Callable


def is_pattern(text: str) -> bool:
    """Whether ``text`` can fit more than itself."""
    return "*" in text or "?" in text


def matcher(pattern: str) -> Callable[[str], bool]:
    """A test of whole names, whose time does not grow beyond the product of both lengths.

    >>> [name for name in ("tcp_rcv", "tcp_v4_rcv", "udp_rcv") if matcher("tcp_*rc?")(name)]
    ['tcp_rcv', 'tcp_v4_rcv']
    """
    if "*" not in pattern:
        return lambda name: len(name) == len(pattern) and _fits_at(name, 0, pattern)
    first, *middle, last = pattern.split("*")
    shortest = len(pattern.replace("*", ""))

    def fits(name: str) -> bool:
        end = len(name) - len(last)
        if len(name) < shortest or not _fits_at(name, 0, first) or not _fits_at(name, end, last):
            return False
        start = len(first)
        for piece in middle:
            start = _find(name, piece, start, end)
            if start < 0:
                return False
        return True

    return fits


def _find(name: str, piece: str, start: int, end: int) -> int:
    """Where the first place of ``piece`` between ``start`` and ``end`` ends; -1 for none."""
    if "?" not in piece:
        found = name.find(piece, start, end)
        return found if found < 0 else found + len(piece)
    places = range(start, end - len(piece) + 1)
    found = next((place for place in places if _fits_at(name, place, piece)), -1)
    return found if found < 0 else found + len(piece)


def _fits_at(name: str, start: int, piece: str) -> bool:
    """Whether ``piece``, of letters and ``?``, stands at ``start`` of ``name``."""
    if "?" not in piece:
        return name.startswith(piece, start)
    part = name[start : start + len(piece)]
    return len(part) == len(piece) and all(p in ("?", c) for p, c in zip(piece, part, strict=True))
