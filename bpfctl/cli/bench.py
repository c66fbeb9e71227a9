"""``bpfctl bench``: what things cost on this machine."""

from __future__ import annotations

from bpfctl.cli.command import Group

bench = Group(
    "bench",
    {"maps": "bpfctl.cli.bench_maps:maps"},
    help="Measure what things cost on this machine.",
)
