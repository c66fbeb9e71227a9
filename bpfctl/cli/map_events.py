"""``map events``: what programs send through ring buffers and perf event arrays."""

from __future__ import annotations

from contextlib import suppress

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import value_text
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_words import MAP, open_target
from bpfctl.cli.pace import Pace, emit
from bpfctl.inventory.events import Event, Events, event_codec
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


@words_command(
    "events", f"{MAP} [ as TYPE ] [ count N ] [ duration SECONDS ]", "id pinned name as count duration"
)
def events(app: App, words: list[str]) -> None:
    """Print the records of a ring buffer or perf event array as they come, a line each.

    TYPE is a struct of a program that uses the map; without it they are bytes.  Until Ctrl-C, N records or
    SECONDS have passed.  A record that is read here nobody else reads.
    """
    tokens = Tokens(words)
    with open_target(tokens) as target:
        codec = event_codec(target, tokens.value("TYPE")) if tokens.take("as") else None
        pace = Pace.parse(tokens, with_interval=False)
        with Events(target) as source, suppress(KeyboardInterrupt):
            lost = 0
            for event in source.read(pace.left):
                if source.lost > lost:
                    app.warn(f"{source.lost} records did not fit into the buffers and are lost")
                    lost = source.lost
                emit(app, _record(event, codec), _text)
                if pace.is_last():
                    break
        if source.lost > lost:
            app.warn(f"{source.lost} records did not fit into the buffers and are lost")


def _record(event: Event, codec: Any) -> dict[str, Any]:
    record: dict[str, Any] = {} if event.cpu is None else {"cpu": event.cpu}
    if codec is not None and len(event.data) >= codec.size:
        return record | {"event": codec.decode(event.data[: codec.size])}
    return record | {"bytes": event.data.hex(" ")}


def _text(record: dict[str, Any]) -> str:
    where = f"CPU {record['cpu']}: " if "cpu" in record else ""
    return where + value_text(record.get("event", record.get("bytes")))
