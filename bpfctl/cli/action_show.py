"""``action show`` and ``get``: tc(8)'s text and keys."""

from __future__ import annotations

from bpfctl.attach import actions
from bpfctl.cli.actiontext import action_lines, state_records
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.action import parse_kind, parse_one
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


@words_command("show", "[ action ] KIND", keywords="action bpf gact mirred")
def show(app: App, words: list[str]) -> None:
    """List the actions of a kind; with -s also when they ran, and for how many packets."""
    found = actions.show(parse_kind(words))
    records = [_records(app, total, states) for total, states in found]
    app.output.records((record for pair in records for record in pair), _text)


@words_command("get", "[ action ] KIND index N", keywords="action bpf gact mirred index")
def get(app: App, words: list[str]) -> None:
    """Show one action."""
    app.output.records(_records(app, 0, actions.get(*parse_one(words))), _text)


def _records(app: App, total: int, states: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"total acts": total}, {"actions": state_records(states, app.options)}


def _text(record: dict[str, Any]) -> str:
    if "actions" not in record:
        return f"total acts {record['total acts']}"
    return "\n".join(line for action in record["actions"] for line in ("", *action_lines(action)))
