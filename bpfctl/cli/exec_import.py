"""``exec bpf import``: wait for another process's maps, and run a command that has them."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import ExitStack

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens, shown
from bpfctl.errors import BpfctlError, NotFoundError, printable
from bpfctl.inventory.imports import Imported, become, receive

_SHELL = "/bin/sh"
_LONGEST_WAIT = 1_000_000  # seconds


@words_command("import", "SOCKET [ timeout S ] [ run COMMAND [ ARGUMENT ... ] ]", keywords="timeout run")
def import_(app: App, words: list[str]) -> None:
    """Wait at SOCKET for the maps that a filter's or action's `export SOCKET` hands over, then run COMMAND.

    COMMAND (a shell without run) finds each map as an open descriptor: BPF_NUM_MAPS says how many there
    are, BPF_MAP<id> is the descriptor of the map with that id in the object.
    """
    tokens = Tokens(words)
    path = tokens.value("SOCKET")
    timeout = tokens.number("timeout", _LONGEST_WAIT) if tokens.take("timeout") else None
    command = [_SHELL]
    if tokens.take_prefix("run"):
        command = [tokens.value("COMMAND")]
        while tokens:
            command.append(tokens.next())
    tokens.end("timeout, run")
    with ExitStack() as stack:
        found = receive(path, stack, timeout=timeout, notice=lambda: _notice(path))
        _run(app, command, found)


def _notice(path: str) -> None:
    if sys.stderr.isatty():
        print(f"waiting for maps at {printable(path, 4096)} ...", file=sys.stderr, flush=True)


def _run(app: App, command: list[str], found: list[Imported]) -> None:
    for number, count in Counter(one.definition.id for one in found).items():
        if count > 1:
            app.warn(f"{count} maps have id {number}: BPF_MAP{number} is the last of them")
    environment = dict(os.environ) | {"BPF_NUM_MAPS": str(len(found))}
    environment |= {f"BPF_MAP{one.definition.id}": str(one.fd.number) for one in found}
    sys.stdout.flush()
    try:
        become(command, environment, found)
    except FileNotFoundError as error:
        raise NotFoundError(f"no command {shown(command[0])}") from error
    except OSError as error:
        raise BpfctlError(f"cannot run {shown(command[0])}: {error.strerror}") from error
