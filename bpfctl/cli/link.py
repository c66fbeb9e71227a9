"""``link``: XDP programs of network interfaces, in the words of ip(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

link = Group(
    "link",
    {"set": "bpfctl.cli.link_set:set_", "show": "bpfctl.cli.link_show:show"},
    grammar=(
        ("add", ""),
        ("set", "set"),
        ("change", "set"),
        ("replace", ""),
        ("delete", ""),
        ("show", "show"),
        ("list", "show"),
        ("lst", "show"),
    ),
    default="show",
    help="XDP programs on network interfaces.",
)
