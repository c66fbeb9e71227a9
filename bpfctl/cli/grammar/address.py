"""IP addresses and prefixes as ip(8) reads them."""

from __future__ import annotations

from _socket import AF_INET6, inet_pton

from bpfctl.attach.address import AF_INET, Prefix, family_of
from bpfctl.cli.grammar.tokens import shown
from bpfctl.errors import UsageError

_EVERYTHING = ("default", "all", "any")


def parse_address(word: str, family: int = 0) -> bytes:
    """An IPv4 or IPv6 address in network byte order; ``family`` 0 takes either."""
    address = _address(word)
    if address is None or family not in (0, family_of(address)):
        wanted = {0: "address", AF_INET: "IPv4 address"}.get(family, "IPv6 address")
        raise UsageError(f"Illegal {wanted} {shown(word)}")
    return address


def parse_prefix(word: str) -> Prefix:
    """``default``, an address, or ADDRESS/LENGTH; the length of IPv4 may be a netmask."""
    if word in _EVERYTHING:
        return Prefix()
    head, slash, tail = word.partition("/")
    address = _address(head)
    if address is None:
        raise UsageError(f"Illegal prefix {shown(word)}: ADDRESS, ADDRESS/LENGTH or default is wanted")
    length = _length(tail, 8 * len(address)) if slash else 8 * len(address)
    if length is None:
        raise UsageError(f"Illegal prefix {shown(word)}: a length from 0 to {8 * len(address)} is wanted")
    return Prefix(family_of(address), address if length else b"", length)


def _address(word: str) -> bytes | None:
    if ":" in word:
        try:
            return inet_pton(AF_INET6, word)
        except (OSError, ValueError):
            return None
    parts = word.split(".")
    if len(parts) > 4 or not all(part.isascii() and part.isdigit() and int(part[:4]) < 256 for part in parts):
        return None
    return bytes([int(part) for part in parts] + [0] * (4 - len(parts)))  # 10.9 is 10.9.0.0


def _length(word: str, limit: int) -> int | None:
    if word.isascii() and word.isdigit():
        return int(word) if len(word) <= 3 and int(word) <= limit else None
    mask = _address(word) if limit == 32 and "." in word else None
    if mask is None:
        return None
    bits = f"{int.from_bytes(mask, 'big'):032b}"
    return bits.count("1") if "01" not in bits else None
