"""``feature``: what the running kernel can do."""

from __future__ import annotations

from bpfctl.cli.command import Group

feature = Group(
    "feature",
    {"probe": "bpfctl.cli.feature_probe:probe"},
    help="What the running kernel can do.",
)
