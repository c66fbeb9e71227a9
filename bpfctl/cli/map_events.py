"""``map events``: what programs send through ring buffers and perf event arrays."""

from __future__ import annotations

from contextlib import suppress

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import value_text
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_words import MAP, open_target
from bpfctl.cli.pace import Pace, emit
from bpfctl.errors import Note
from bpfctl.inventory.events import Event, Events
from bpfctl.inventory.record_types import named_codec, record_types
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from bpfctl.btf.scalars import Codec
    from bpfctl.inventory.elements import OpenMap

    CodecOf = Callable[[int], Codec | None]  # by the length of a record


@words_command(
    "events", f"{MAP} [ as TYPE ] [ count N ] [ duration SECONDS ]", "id pinned name as count duration"
)
def events(app: App, words: list[str]) -> None:
    """Print the records of a ring buffer or perf event array as they come, a line each.

    TYPE is a struct of a program that uses the map; without it, the only one that has the size of a record,
    or else bytes are shown.  Until Ctrl-C, N records or SECONDS have passed.  A record that is read here
    nobody else reads.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        name = tokens.value("TYPE") if tokens.take("as") else None
        pace = Pace.parse(tokens, with_interval=False)
        with Events(target) as source, suppress(KeyboardInterrupt):
            codec_of = _by_name(target, name) if name else _by_size(app, target)
            lost = 0
            for event in source.read(pace.left):
                if source.lost > lost:
                    app.warn(f"{source.lost} records did not fit into the buffers and are lost")
                    lost = source.lost
                emit(app, _record(event, codec_of), _text)
                if pace.is_last():
                    break
        if source.lost > lost:
            app.warn(f"{source.lost} records did not fit into the buffers and are lost")


def _by_name(target: OpenMap, name: str) -> CodecOf:
    codec = named_codec(target, name)
    return lambda length: codec if length >= codec.size else None


def _by_size(app: App, target: OpenMap) -> CodecOf:
    """The type is found out; what was found is told."""
    types = record_types(target)
    for size, candidates in sorted(types.by_size.items()):
        names = sorted(candidate.name for candidate in candidates)
        if not names:
            what = "no type of their program has that size; `as TYPE` names another"
        elif len(names) > 1 or not types.certain:
            what = f"they may be {', '.join(names)}: `as TYPE` chooses"
        else:
            what = f"shown as {names[0]}, the only type of that size; `as TYPE` names another"
        app.warn(Note(f"records of {size} bytes: {what}"))
    if not types.by_size:
        app.warn(
            Note("the records are shown in hex: no program tells their size; `as TYPE` names their type")
        )
    return types.codec


def _record(event: Event, codec_of: CodecOf) -> dict[str, Any]:
    record: dict[str, Any] = {} if event.cpu is None else {"cpu": event.cpu}
    codec = codec_of(len(event.data))
    if codec is not None:
        return record | {"event": codec.decode(event.data[: codec.size])}
    return record | {"bytes": event.data.hex(" ")}


def _text(record: dict[str, Any]) -> str:
    where = f"CPU {record['cpu']}: " if "cpu" in record else ""
    return where + value_text(record.get("event", record.get("bytes")))
