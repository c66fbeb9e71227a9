"""``map load``: elements from a file into a map."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.cli.map_words import FLAGS, MAP, open_target, parse_shape
from bpfctl.cli.progress import Progress
from bpfctl.errors import BpfctlError, printable
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.textforms import BINARY_MAGIC, ElementReader, NumberedBlock, Source
from bpfctl.inventory.transfer import Piece, write_all
from bpfctl.inventory.typed import map_types
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import BinaryIO

FORMS = ("ndjson", "json", "csv", "binary")


class _Wanted(NamedTuple):
    form: str = ""
    atomic: bool = False
    flags: int = 0


@words_command(
    "load",
    f"{MAP} {{ FILE | - }} [ key as VIEW ] [ value as VIEW ]\n"
    "    [ format { ndjson | json | csv | binary } ] [ atomic ] [ any | noexist | exist ]",
    f"id pinned name key value as format {' '.join(FORMS)} atomic any noexist exist",
)
def load(app: App, words: list[str]) -> None:
    """Put the elements in FILE, or stdin, into a map: what "map dump" prints in a FORMAT, or bpftool's JSON.

    The format shows itself unless it is given.  With atomic all of FILE is checked before the first
    element is written, and what was written is taken back when the kernel refuses one.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        path = tokens.value("FILE")
        types = parse_shape(tokens, map_types(target))
        wanted = _parse(tokens)
        with opened(path, again=wanted.atomic) as source:
            form = wanted.form or guess(source)
            reader = ElementReader(target, types)
            total = 0
            if wanted.atomic:
                total = sum(piece.block.count for piece in pieces(target, reader, source, form))
                source.file.seek(0)
            with Progress(total) as progress:
                count = write_all(
                    target,
                    pieces(target, reader, source, form),
                    flags=wanted.flags,
                    atomic=wanted.atomic,
                    report=progress.advance,
                )
        app.output.record({"loaded": count}, lambda record: f"loaded {record['loaded']}")


def _parse(tokens: Tokens) -> _Wanted:
    wanted = _Wanted()
    while tokens:
        if tokens.take("format"):
            word = tokens.value("FORMAT")
            if word not in FORMS:
                raise unknown(word, ", ".join(FORMS))
            wanted = wanted._replace(form=word)
        elif tokens.take("atomic", "--atomic"):
            wanted = wanted._replace(atomic=True)
        elif tokens.peek() in FLAGS:
            wanted = wanted._replace(flags=FLAGS[tokens.next()])
        else:
            raise unknown(tokens.peek(), "format, atomic, any, noexist, exist")
    return wanted


@contextmanager
def opened(path: str, *, again: bool = False) -> Iterator[Source]:
    """The file ``path``, or stdin for ``-``.  ``again``: it is to be read twice, from a copy if need be."""
    if path == "-":
        yield Source("stdin", _seekable(sys.stdin.buffer) if again else sys.stdin.buffer)
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise BpfctlError(f"cannot open {printable(path, 4096)}: {error.strerror}") from error
    with file:
        yield Source(path, _seekable(file) if again else file)


def _seekable(file: BinaryIO) -> BinaryIO:
    if file.seekable():
        return file
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()  # noqa: SIM115  # gone with the process
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


def guess(source: Source) -> str:
    """The format, by the first bytes that are no blank."""
    peek = getattr(source.file, "peek", None)
    if peek is not None:
        head = bytes(peek(64))
    else:
        head = source.file.read(64)
        source.file.seek(0)
    if head.startswith(BINARY_MAGIC[: len(head)]) and head:
        return "binary"
    first = head.lstrip()[:1]
    return {b"{": "ndjson", b"[": "json", b"": "ndjson"}.get(first, "csv")


def pieces(target: OpenMap, reader: ElementReader, source: Source, form: str) -> Iterator[Piece]:
    """The elements of ``source``, each with its place."""
    if form == "binary":
        from bpfctl.inventory.savefile import SaveReader
        from bpfctl.loader import restore

        saved = SaveReader(source.name, source.file)
        restore.single_map(saved, target)
        yield from restore.pieces(saved, source.name, target)
        return
    for numbered in reader.blocks(source, form):
        yield Piece(numbered.block, _Places(source.name, numbered))


class _Places:
    """Says where an element comes from."""

    def __init__(self, name: str, numbered: NumberedBlock) -> None:
        self._name = printable(name, 4096)
        self._numbered = numbered

    def __call__(self, number: int) -> str:
        return f"{self._name}:{self._numbered.line(number)}"
