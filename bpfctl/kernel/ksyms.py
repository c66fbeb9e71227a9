"""Addresses of kernel symbols: /proc/kallsyms, 5 to 20 MB of text, read only when an object wants one."""

from __future__ import annotations

from collections.abc import Iterable

_PLACE = "/proc/kallsyms"


def addresses(names: Iterable[str]) -> dict[str, list[int]]:
    """The distinct addresses of each of ``names``, in the order of the file; no entry for unknown ones.

    All are 0 for a process that may not see them (kernel.kptr_restrict).  Raises OSError.
    """
    wanted = [name for name in names if name]
    if not wanted:
        return {}
    with open(_PLACE, "rb") as file:
        text = b"\n" + file.read() + b"\n"
    return {name: found for name in wanted if (found := _find(text, name.encode()))}


def _find(text: bytes, name: bytes) -> list[int]:
    """Lines are ``ADDRESS TYPE NAME``, with a tab and ``[MODULE]`` for those of modules.

    A local variable (type d) that the compiler's link-time optimisation moved has a suffix.
    """
    found: dict[int, None] = {}
    key = b" " + name
    at = text.find(key)
    while at >= 0:
        end = at + len(key)
        is_whole = text[end : end + 1] in (b"\n", b"\t", b" ")
        is_moved = text[at - 2 : at] == b" d" and text[end : end + 6] == b".llvm."
        if is_whole or is_moved:
            start = text.rfind(b"\n", 0, at) + 1
            words = text[start:at].split()
            if len(words) == 2:
                found[int(words[0], 16)] = None
        at = text.find(key, end)
    return list(found)
