"""``map``: maps and their elements, in the manner of bpftool(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

_ELEMENTS = "bpfctl.cli.map_elements"
_QUEUE = "bpfctl.cli.map_queue"

map_ = Group(
    "map",
    {
        "show": "bpfctl.cli.map_show:show",
        "create": "bpfctl.cli.map_create:create",
        "dump": "bpfctl.cli.map_dump:dump",
        "load": "bpfctl.cli.map_load:load",
        "lookup": f"{_ELEMENTS}:lookup",
        "update": f"{_ELEMENTS}:update",
        "delete": f"{_ELEMENTS}:delete",
        "next": f"{_ELEMENTS}:next_",
        "clear": f"{_ELEMENTS}:clear",
        "peek": f"{_QUEUE}:peek",
        "push": f"{_QUEUE}:push",
        "pop": f"{_QUEUE}:pop",
        "enqueue": f"{_QUEUE}:enqueue",
        "dequeue": f"{_QUEUE}:dequeue",
        "copy": "bpfctl.cli.map_compare:copy_",
        "diff": "bpfctl.cli.map_compare:diff",
        "globals": "bpfctl.cli.map_globals:globals_",
        "save": "bpfctl.cli.map_save:save",
        "restore": "bpfctl.cli.map_save:restore",
        "watch": "bpfctl.cli.map_watch:watch",
        "top": "bpfctl.cli.map_watch:top",
        "events": "bpfctl.cli.map_events:events",
        "freeze": "bpfctl.cli.map_create:freeze",
        "pin": "bpfctl.cli.map_show:pin",
    },
    default="show",
    help="Maps: list, make, read, change, pin.",
)
