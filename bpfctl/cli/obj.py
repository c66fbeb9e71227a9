"""``obj``: object files, without touching the kernel."""

from __future__ import annotations

from bpfctl.cli.command import Group

obj = Group(
    "obj",
    {
        "show": "bpfctl.cli.obj_show:show",
        "min-btf": "bpfctl.cli.obj_min_btf:min_btf",
    },
    help="Object files: look inside, without touching the kernel.",
)
