"""``filter``: cls_bpf filters on tc hooks, in the words of tc(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

_CHANGE = "bpfctl.cli.filter_set"

filter_ = Group(
    "filter",
    {
        "add": f"{_CHANGE}:add",
        "change": f"{_CHANGE}:change",
        "replace": f"{_CHANGE}:replace",
        "del": "bpfctl.cli.filter_del:delete",
        "get": "bpfctl.cli.filter_show:get",
        "show": "bpfctl.cli.filter_show:show",
    },
    grammar=(
        ("add", "add"),
        ("change", "change"),
        ("replace", "replace"),
        ("delete", "del"),
        ("get", "get"),
        ("list", "show"),
        ("show", "show"),
        ("lst", "show"),
    ),
    default="show",
    help="cls_bpf filters on the hooks of traffic control.",
)
