"""``action``: actions of traffic control, in the words of tc(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

_SET, _SHOW, _DELETE = (f"bpfctl.cli.action_{part}" for part in ("set", "show", "del"))

action = Group(
    "action",
    {
        "add": f"{_SET}:add",
        "change": f"{_SET}:change",
        "replace": f"{_SET}:replace",
        "get": f"{_SHOW}:get",
        "del": f"{_DELETE}:delete",
        "flush": f"{_DELETE}:flush",
        "show": f"{_SHOW}:show",
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
        ("flush", "flush"),
    ),
    help="Actions of traffic control: programs that filters of any kind can share.",
)
