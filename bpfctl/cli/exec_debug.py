"""``exec bpf debug``: what programs print."""

from __future__ import annotations

import sys

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.inventory.trace import read_trace


@words_command("debug")
def debug(app: App, words: list[str]) -> None:
    """Copy what programs print with bpf_trace_printk() to standard error, until interrupted."""
    Tokens(words).end()
    for chunk in read_trace(lambda: print("Running! Hang up with ^C!\n", file=sys.stderr, flush=True)):
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()


@words_command("dbg")
def dbg(app: App, words: list[str]) -> None:
    """The same as debug."""
    debug.run(app, words)
