"""IP addresses and prefixes as text."""

from __future__ import annotations

# The C half of the socket module: a tenth of its import time, and all that is needed here.
from _socket import inet_ntop

from bpfctl.kernel.rtnl_route import AF_INET, AF_INET6, family_of
from bpfctl.record import NamedTuple

__all__ = ["AF_INET", "AF_INET6", "Prefix", "address_text", "family_of", "prefix_text"]


class Prefix(NamedTuple):
    """A destination: ``address`` in network byte order; no address is the default route.

    ``family`` is AF_INET or AF_INET6, or 0 for a default route of whatever family its gateway has.
    """

    family: int = 0
    address: bytes = b""
    length: int = 0

    def __str__(self) -> str:
        return prefix_text(self.address, self.length)


def address_text(address: bytes) -> str:
    """``10.0.0.1`` or ``fc00::1``."""
    return inet_ntop(family_of(address), address) if len(address) in (4, 16) else address.hex(":")


def prefix_text(address: bytes, length: int) -> str:
    """``default``, ``10.0.0.1`` for a host, else ``10.0.0.0/24``, as ip(8) prints a destination."""
    if not address:
        return f"0/{length}" if length else "default"
    host = length == 8 * len(address)
    return address_text(address) if host else f"{address_text(address)}/{length}"
