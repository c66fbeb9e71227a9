"""Interfaces by name."""

from __future__ import annotations

import errno

from bpfctl.attach import refusals
from bpfctl.errors import NoInterfaceError, printable
from bpfctl.kernel import rtnl_link
from bpfctl.kernel.netlink import NetlinkSocket

_NAMES_SHOWN = 10


def interface_index(netlink: NetlinkSocket, name: str) -> int:
    """``ifindex`` of ``name``; NoInterfaceError with the names that there are."""
    try:
        return rtnl_link.find_index(netlink, name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise refusals.general(printable(name), error) from error
    raise NoInterfaceError(f'no interface "{printable(name)}"', hint=_suggestion(netlink, name))


def _suggestion(netlink: NetlinkSocket, wanted: str) -> str | None:
    from difflib import get_close_matches

    try:
        names = [link.name for link in rtnl_link.list_links(netlink)]
    except OSError:
        return None
    similar = get_close_matches(wanted, names)
    if similar:
        return f"similar names: {', '.join(similar)}"
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"interfaces here: {shown}" + (f" and {more} more" if more > 0 else "")
