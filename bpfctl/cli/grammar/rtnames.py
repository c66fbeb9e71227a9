"""Names of routing tables, protocols, scopes and route types: ip(8)'s own, and those of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache

from bpfctl.cli.grammar.tokens import parse_number, shown
from bpfctl.errors import UsageError

TABLES = {"default": 253, "main": 254, "local": 255}
PROTOCOLS = {
    "unspec": 0,
    "redirect": 1,
    "kernel": 2,
    "boot": 3,
    "static": 4,
    "gated": 8,
    "ra": 9,
    "mrt": 10,
    "zebra": 11,
    "bird": 12,
    "dnrouted": 13,
    "xorp": 14,
    "ntk": 15,
    "dhcp": 16,
    "keepalived": 18,
    "babel": 42,
    "bgp": 186,
    "isis": 187,
    "ospf": 188,
    "rip": 189,
    "eigrp": 192,
}
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
TYPES = {
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "anycast": 4,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
    "throw": 9,
    "nat": 10,
}
PREFERENCES = {"medium": 0, "high": 1, "low": 3}  # ICMPV6_ROUTER_PREF_*

_DIRECTORIES = ("/etc/iproute2", "/usr/share/iproute2")
_LARGEST_FILE = 1 << 20  # bytes


def parse_name(word: str, names: Mapping[str, int], what: str, limit: int, file: str = "") -> int:
    """The number that ``word`` is or names, at most ``limit``; ``file`` of iproute2's adds names."""
    number = parse_number(word)
    if number is None:
        number = names.get(word)
    if number is None and file:
        number = _names_of(file).get(word)
    if number is None or number > limit:
        raise UsageError(
            f"Illegal {what} {shown(word)}: a number up to {limit}, or one of {', '.join(names)}"
        )
    return number


def name_of(number: int, names: Mapping[str, int], file: str = "") -> str:
    """The name of ``number``, else its digits."""
    for known in (_names_of(file) if file else {}), names:
        for name, value in known.items():
            if value == number:
                return name
    return str(number)


@cache
def _names_of(file: str) -> dict[str, int]:
    """Names in ``rt_tables`` and its like, and in what lies in its directory; lines ``NUMBER NAME``."""
    names: dict[str, int] = {}
    for path in _files(file):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as lines:
                text = lines.read(_LARGEST_FILE)
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            number = parse_number(words[0]) if len(words) > 1 else None
            if number is not None:
                names[words[1]] = number
    return names


def _files(file: str) -> Iterator[str]:
    """The first ``file`` of iproute2's directories, then the .conf files of each ``file``.d."""
    yield from [f"{d}/{file}" for d in _DIRECTORIES if os.path.isfile(f"{d}/{file}")][:1]
    for directory in _DIRECTORIES:
        try:
            entries = sorted(os.listdir(f"{directory}/{file}.d"))
        except OSError:
            continue
        yield from (f"{directory}/{file}.d/{entry}" for entry in entries if entry.endswith(".conf"))
