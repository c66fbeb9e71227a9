"""``map``: maps and their elements, in the manner of bpftool(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

_ELEMENTS = "bpfctl.cli.map_elements"

map_ = Group(
    "map",
    {
        "show": "bpfctl.cli.map_show:show",
        "dump": f"{_ELEMENTS}:dump",
        "lookup": f"{_ELEMENTS}:lookup",
        "update": f"{_ELEMENTS}:update",
        "delete": f"{_ELEMENTS}:delete",
        "pin": "bpfctl.cli.map_show:pin",
    },
    default="show",
    help="Maps: list, read, change, pin.",
)
