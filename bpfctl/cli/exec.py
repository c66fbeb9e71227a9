"""``exec bpf``: program arrays in use, maps from hand to hand, the trace pipe; in the words of tc(8)."""

from __future__ import annotations

from bpfctl.cli.command import Group

exec_ = Group("exec", {"bpf": "bpfctl.cli.exec:bpf"}, help="What tc(8) does under exec.")

bpf = Group(
    "bpf",
    {
        "graft": "bpfctl.cli.exec_graft:graft",
        "import": "bpfctl.cli.exec_import:import_",
        "debug": "bpfctl.cli.exec_debug:debug",
        "dbg": "bpfctl.cli.exec_debug:dbg",
    },
    # iproute2's order (tc/e_bpf.c)
    grammar=(("import", "import"), ("debug", "debug"), ("dbg", "dbg"), ("graft", "graft")),
    help="Program arrays, maps of other processes, and what programs print.",
)
