"""``action del`` and ``flush``."""

from __future__ import annotations

from bpfctl.attach import actions
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.action import parse_kind, parse_one


@words_command("del", "[ action ] KIND index N", keywords="action bpf gact mirred index")
def delete(app: App, words: list[str]) -> None:
    """Delete one action, if no filter uses it."""
    actions.delete(*parse_one(words))


@words_command("flush", "[ action ] KIND", keywords="action bpf gact mirred")
def flush(app: App, words: list[str]) -> None:
    """Delete all actions of a kind, if no filter uses any."""
    actions.flush(parse_kind(words))
