"""``-batch FILE``: a command a line, in one process.

Lines are split as iproute2 does it: words between blanks, quotes around a word that holds blanks, ``#``
begins a comment, a backslash at the end of a line joins the next one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from bpfctl.cli.app import App
from bpfctl.cli.errors import report
from bpfctl.errors import BpfctlError, UsageError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

_BLANKS = " \t\r\n"


def run_batch(app: App, path: str, run: Callable[[list[str]], None]) -> int:
    """Run each line of ``path`` (``-``: stdin); the status of the first that failed, else 0.

    The first error ends the batch, unless ``-force`` was given.
    """
    from bpfctl.attach.session import shared_socket

    gc.enable()  # exceptions hold cycles: a long batch would pile them up
    status = 0
    name = "stdin" if path == "-" else path
    with _opened(path) as file, shared_socket():
        for number, line in logical_lines(file):
            app.position = f"{name}:{number}"
            failed = _run_line(app, line, run)
            status = status or failed
            if failed and not app.options.force:
                break
    return status


def _run_line(app: App, line: str, run: Callable[[list[str]], None]) -> int:
    try:
        words = split_line(line)
        if words:
            run(words)
            sys.stdout.flush()
    except BpfctlError as error:
        return report(error, app.position)
    return 0


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdin
        return
    try:
        file = open(path, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except OSError as error:
        raise BpfctlError(f"cannot open the batch file {path}: {error.strerror}") from error
    with file:
        yield file


def logical_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) with continued lines joined."""
    pending, first = "", 0
    for number, line in enumerate(lines, 1):
        first = first if pending else number
        text = pending + line.rstrip("\r\n")
        if text.endswith("\\"):
            pending = text[:-1] + " "
            continue
        pending = ""
        yield first, text
    if pending:
        yield first, pending


def split_line(line: str) -> list[str]:
    """The words of a line, without its comment; UsageError for a quote that nothing ends."""
    if not any(mark in line for mark in "#'\""):
        return line.split()
    words = []
    at, end = 0, len(line)
    while at < end and line[at] != "#":
        if line[at] in _BLANKS:
            at += 1
            continue
        word, at = _next_word(line, at)
        words.append(word)
    return words


def _next_word(line: str, start: int) -> tuple[str, int]:
    """The word that begins at ``start``, and the place after it."""
    if line[start] in "'\"":
        close = line.find(line[start], start + 1)
        if close < 0:
            raise UsageError("Unterminated quoted string")
        return line[start + 1 : close], close + 1
    at = start
    while at < len(line) and line[at] not in _BLANKS + "#":
        at += 1
    return line[start:at], at
