"""``nexthop``: nexthop objects with programs in their lightweight tunnels, in the words of ip(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

_COMMANDS = "bpfctl.cli.nexthop_set"

nexthop = Group(
    "nexthop",
    {
        "add": f"{_COMMANDS}:add",
        "replace": f"{_COMMANDS}:replace",
        "del": f"{_COMMANDS}:delete",
        "show": f"{_COMMANDS}:show",
    },
    # iproute2's order (ip/ipnexthop.c, do_ipnh)
    grammar=(
        ("add", "add"),
        ("replace", "replace"),
        ("delete", "del"),
        ("list", "show"),
        ("show", "show"),
        ("lst", "show"),
        ("get", ""),
        ("flush", ""),
    ),
    default="show",
    help="Nexthop objects whose packets pass programs.",
)
