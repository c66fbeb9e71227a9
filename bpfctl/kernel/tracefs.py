"""tracefs: where it is, and what it says of tracepoints and of functions that can be traced."""

from __future__ import annotations

import os
from collections.abc import Iterator

USUAL = "/sys/kernel/tracing"


def find_mount() -> str | None:
    """Where tracefs is mounted, the usual place first; None where it is not."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields, _, tail = line.partition(" - ")
            if tail.startswith("tracefs "):
                point = fields.split()[4]
                if point == USUAL:
                    return point
                found = found or point.encode("latin-1", "surrogateescape").decode("unicode_escape")
    return found


def tracepoint_id(mount: str, category: str, name: str) -> int:
    """What perf knows the tracepoint as; FileNotFoundError for one that is not there."""
    with open(f"{mount}/events/{category}/{name}/id", encoding="ascii") as file:
        return int(file.read())


def has_tracepoint(category: str, name: str) -> bool | None:
    """Whether the kernel has it; None where tracefs is not mounted, or may not be read."""
    mount = find_mount()
    if mount is None:
        return None
    try:
        os.stat(f"{mount}/events/{category}/{name}/id")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def traceable_functions(mount: str) -> Iterator[tuple[int, str]]:
    """Address (0 where it is not told) and name of each function that ftrace can stop at.

    Names of functions in modules stand without the module.
    """
    try:
        yield from _functions(f"{mount}/available_filter_functions_addrs", addresses=True)
    except FileNotFoundError:  # before Linux 6.5
        yield from _functions(f"{mount}/available_filter_functions", addresses=False)


def _functions(path: str, *, addresses: bool) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if addresses and len(words) > 1:
                yield int(words[0], 16), words[1]
            elif words and not addresses:
                yield 0, words[0]


def symbol_addresses(names: set[str]) -> dict[str, int]:
    """Addresses of those of the kernel's functions ``names`` that stand for one function only.

    From /proc/kallsyms, which shows addresses as 0 without CAP_SYSLOG.
    """
    found: dict[str, int] = {}
    several: set[str] = set()
    with open("/proc/kallsyms", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) > 2 and words[1] in "tTwW" and words[2] in names:
                if words[2] in found:
                    several.add(words[2])
                found[words[2]] = int(words[0], 16)
    return {name: value for name, value in found.items() if value and name not in several}
