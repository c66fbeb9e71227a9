"""``prog``: programs that are loaded, in the manner of bpftool(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

prog = Group(
    "prog",
    {
        "show": "bpfctl.cli.prog_show:show",
        "load": "bpfctl.cli.prog_load:load",
        "loadall": "bpfctl.cli.prog_load:loadall",
        "pin": "bpfctl.cli.prog_load:pin",
        "dump": "bpfctl.cli.prog_dump:dump",
        "run": "bpfctl.cli.prog_run:run",
        "profile": "bpfctl.cli.prog_profile:profile_",
    },
    grammar=(),
    default="show",
    help="Programs: list, load, pin.",
)
