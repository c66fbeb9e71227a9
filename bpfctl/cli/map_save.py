"""``map save`` and ``map restore``: definitions, types and elements of maps in a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import maybe_reference, parse_reference
from bpfctl.cli.grammar.spec import parse_abi
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_load import opened
from bpfctl.cli.map_words import MAP
from bpfctl.cli.progress import Progress
from bpfctl.errors import BpfctlError, NotFoundError, printable
from bpfctl.inventory import saving
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.savefile import SaveReader
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

    from bpfctl.inventory.saving import Saved
    from bpfctl.loader.restore import Restored


@words_command(
    "save",
    f"{{ {MAP[2:-2]} | prog PROGRAM | under DIRECTORY |\n"
    "    obj OBJECT [ pinmaps DIRECTORY ] [ maps-abi ABI ] } { FILE | - }",
    "id pinned name prog tag under obj pinmaps maps-abi",
)
def save(app: App, words: list[str]) -> None:
    """Write a map, all maps that a program uses, or all that are pinned under DIRECTORY, to FILE.

    Of an object file those that are pinned where loading it pins them, or finds them.  With types, sizes and
    elements; FILE is there only when it is complete.
    """
    tokens = Tokens(words)
    with ExitStack() as stack:
        targets = _targets(app, tokens, stack)
        path = tokens.value("FILE")
        tokens.end()
        targets = saving.with_inner_maps(targets, stack)
        saved = write_maps(targets, path)
    if path == "-":
        return
    app.output.records(saved, _saved_text)


def _targets(app: App, tokens: Tokens, stack: ExitStack) -> list[OpenMap]:
    if tokens.take("prog"):
        return saving.maps_of_program(resolved(parse_reference(tokens)), stack)
    if tokens.take("under"):
        return saving.maps_under(_directory(tokens), stack)
    if tokens.take("obj"):
        return _of_object(app, tokens, stack)
    return [stack.enter_context(open_elements(resolved(parse_reference(tokens))))]


def _of_object(app: App, tokens: Tokens, stack: ExitStack) -> list[OpenMap]:
    from bpfctl.loader.pins import possible_pins

    path, abi, rest = tokens.value("OBJECT"), None, None
    while tokens.peek() in ("pinmaps", "maps-abi"):
        if tokens.next() == "pinmaps":
            rest = _directory(tokens)
        else:
            abi = parse_abi(tokens)
    places = possible_pins(app.session.read(path, abi), rest)
    targets, missing = saving.maps_at(places, stack)
    if not targets:
        looked = ", ".join(sorted({path for paths in places.values() for path in paths}))
        raise NotFoundError(
            f"no map of {printable(path, 4096)} is pinned",
            hint=f"looked for: {looked}"
            if looked
            else "it pins none: `pinmaps DIRECTORY` says where they are",
        )
    for name in missing:
        where = f"nothing is pinned at {' or '.join(places[name])}" if places[name] else "it has no pin"
        app.warn(f"map {printable(name)} is left out: {where}")
    return targets


def _directory(tokens: Tokens) -> str:
    from bpfctl.inventory.reference import Reference

    return resolved(Reference("pinned", tokens.value("DIRECTORY"))).value


def write_maps(targets: Sequence[OpenMap], path: str) -> list[Saved]:
    """Save ``targets`` in file ``path``, or to stdout."""
    with _output(path) as file, Progress() as progress:
        return saving.save(targets, file, progress.advance)


@contextmanager
def _output(path: str) -> Iterator[BinaryIO]:
    """A file that takes its name when it is complete."""
    if path == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    pending = f"{path}.{os.getpid()}.tmp"
    try:
        file = open(pending, "xb")  # noqa: SIM115
    except OSError as error:
        raise BpfctlError(f"cannot write {printable(path, 4096)}: {error.strerror}") from error
    try:
        with file:
            yield file
        os.replace(pending, path)
    except OSError as error:
        os.unlink(pending)
        raise BpfctlError(f"cannot write {printable(path, 4096)}: {error.strerror}") from error
    except BaseException:
        os.unlink(pending)
        raise


def _saved_text(record: Saved) -> str:
    count = "not its elements" if record.elements is None else f"{record.elements} elements"
    return f"{record.type} map {record.name}, id {record.id}: {count}"


@words_command("restore", f"{{ FILE | - }} [ {MAP[2:-2]} | under DIRECTORY ]", "id pinned name under")
def restore(app: App, words: list[str]) -> None:
    """Put maps of "map save" back where they were pinned, or under DIRECTORY, or one into a map.

    Maps that are not there are made, with their types; maps that are there have to be as the saved ones
    were, and keep elements that the file does not have.
    """
    from bpfctl.loader import restore as restoring

    tokens = Tokens(words)
    path = tokens.value("FILE")
    reference = maybe_reference(tokens)
    directory = _directory(tokens) if reference is None and tokens.take("under") else None
    tokens.end("id N, pinned PATH, name NAME, under DIRECTORY")
    with opened(path, again=True) as source, Progress() as progress:
        holdings = restoring.survey(SaveReader(source.name, source.file))  # a damaged file changes nothing
        source.file.seek(0)
        reader = SaveReader(source.name, source.file)
        if reference is None:
            found = restoring.restore_all(reader, source.name, directory, holdings, progress.advance)
        else:
            with open_elements(resolved(reference)) as target:
                found = [restoring.restore_into(reader, source.name, target, progress.advance)]
    app.output.records(found, _restored_text)


def _restored_text(record: Restored) -> str:
    where = f" pinned {record.path}" if record.path else ""
    made = ", made" if record.made else ""
    return f"{record.type} map {record.name}, id {record.id}{where}: {record.elements} elements{made}"
