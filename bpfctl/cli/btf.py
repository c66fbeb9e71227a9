"""``btf``: types, of files, of the kernel, and of what is loaded."""

from __future__ import annotations

from bpfctl.cli.command import Group

btf = Group(
    "btf",
    {
        "show": "bpfctl.cli.btf_show:show",
        "dump": "bpfctl.cli.btf_dump:dump",
    },
    default="show",
    help="BTF, the types of programs and of the kernel: list, print.",
)
