"""``obj``: object files; nothing is loaded to stay."""

from __future__ import annotations

from bpfctl.cli.command import Group

obj = Group(
    "obj",
    {
        "show": "bpfctl.cli.obj_show:show",
        "min-btf": "bpfctl.cli.obj_min_btf:min_btf",
        "check": "bpfctl.cli.obj_check:check_",
    },
    help="Object files: look inside, and ask whether they fit a kernel.",
)
