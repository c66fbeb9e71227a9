"""``version``: which bpfctl this is, and what it can load."""

from __future__ import annotations

import sys

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.record import NamedTuple
from bpfctl.version import VERSION


class VersionInfo(NamedTuple):
    """The version and the kinds of object file that ``features`` names."""

    version: str
    python: str
    features: tuple[str, ...]


_FEATURES = (
    "legacy-maps",
    "btf-maps",
    "global-data",
    "subprograms",
    "tail-calls",
    "co-re",
    "xdp",
    "cls_bpf",
    "lwt",
)


def show(app: App) -> None:
    """Print the version record."""
    record = VersionInfo(VERSION, ".".join(map(str, sys.version_info[:3])), _FEATURES)
    app.output.record(record, _text)


def _text(record: VersionInfo) -> str:
    return f"bpfctl {record.version} (Python {record.python})\nfeatures: {' '.join(record.features)}"


@words_command("version")
def version(app: App, words: list[str]) -> None:
    """Print the version, and what this version can load and attach."""
    Tokens(words).end()
    show(app)
