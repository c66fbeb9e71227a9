"""``btf show``."""

from __future__ import annotations

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.inventory import listing
from bpfctl.inventory.records import BtfInfo

_MAX_ID = 0xFFFFFFFF


@words_command("show", "[ id N ]", "id")
def show(app: App, words: list[str]) -> None:
    """Show BTF objects, or the one with that id: size, and the programs and maps that were made with each.

    With -d also which processes hold it.
    """
    tokens = Tokens(words)
    number = tokens.number("id", _MAX_ID) if tokens.take("id") else None
    tokens.end("id N")
    records = listing.list_btf(number, processes=app.options.details)
    if number is None:
        app.output.records(records, _text)
    else:
        app.output.record(next(iter(records)), _text)


def _text(record: BtfInfo) -> str:
    name = f"[{record.name}]" if record.kernel else record.name or "<anon>"
    words = [f"{record.id}: name {name}", f"size {record.size}B"]
    words += [f"prog_ids {','.join(map(str, record.prog_ids))}"] if record.prog_ids else []
    words += [f"map_ids {','.join(map(str, record.map_ids))}"] if record.map_ids else []
    line = "  ".join(words)
    if record.pids:
        line += "\n\tpids " + ", ".join(f"{process.comm}({process.pid})" for process in record.pids)
    return line
