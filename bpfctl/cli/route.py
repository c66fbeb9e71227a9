"""``route``: programs in the lightweight tunnels of routes, in the words of ip(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

_SET = "bpfctl.cli.route_set"

route = Group(
    "route",
    {
        "add": f"{_SET}:add",
        "append": f"{_SET}:append",
        "prepend": f"{_SET}:prepend",
        "change": f"{_SET}:change",
        "replace": f"{_SET}:replace",
        "del": f"{_SET}:delete",
        "show": "bpfctl.cli.route_show:show",
    },
    # iproute2's order (ip/iproute.c, do_iproute)
    grammar=(
        ("list", "show"),
        ("show", "show"),
        ("lst", "show"),
        ("get", ""),
        ("add", "add"),
        ("change", "change"),
        ("chg", "change"),
        ("replace", "replace"),
        ("prepend", "prepend"),
        ("append", "append"),
        ("test", ""),
        ("delete", "del"),
    ),
    default="show",
    help="Programs in the lightweight tunnels of routes.",
)
