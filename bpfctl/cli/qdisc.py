"""``qdisc``: the clsact qdisc, whose hooks carry filters, in the words of tc(8)."""

from __future__ import annotations

from bpfctl.attach import qdisc as verbs
from bpfctl.attach.qdisc import QdiscInfo
from bpfctl.cli.app import App
from bpfctl.cli.command import Group, words_command
from bpfctl.cli.grammar.classid import classid_text
from bpfctl.cli.grammar.qdisc import parse_change, parse_show
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_USAGE = "dev DEV { clsact | ingress }"
_KEYWORDS = "dev clsact ingress"

qdisc = Group(
    "qdisc",
    {
        name: f"{__name__}:{function}"
        for name, function in (("add", "add"), ("del", "delete"), ("show", "show"))
    },
    grammar=(
        ("add", "add"),
        ("change", ""),
        ("replace", ""),
        ("link", ""),
        ("delete", "del"),
        ("list", "show"),
        ("show", "show"),
        ("lst", "show"),
    ),
    default="show",
    help="The clsact qdisc, whose hooks carry filters.",
)


@words_command("add", _USAGE, _KEYWORDS)
def add(app: App, words: list[str]) -> None:
    """Add a clsact qdisc (hooks ingress and egress), or an ingress qdisc, to DEV."""
    device, kind = parse_change(words)
    verbs.add(device, kind)


@words_command("del", _USAGE, _KEYWORDS)
def delete(app: App, words: list[str]) -> None:
    """Delete the qdisc, and with it all its filters."""
    device, kind = parse_change(words)
    verbs.delete(device, kind)


@words_command("show", "[ dev DEV ] [ clsact | ingress ]", _KEYWORDS)
def show(app: App, words: list[str]) -> None:
    """Show clsact and ingress qdiscs; with -d every other qdisc too."""
    device, kind = parse_show(words)
    found = verbs.show(device, every_kind=app.options.details)
    app.output.records((_record(info) for info in found if kind in ("", info.kind)), _text)


def _record(info: QdiscInfo) -> dict[str, Any]:
    return {
        "kind": info.kind,
        "handle": classid_text(info.handle),
        "dev": info.device,
        "parent": classid_text(info.parent),
        "ingress_block": info.ingress_block or None,
        "egress_block": info.egress_block or None,
    }


def _text(record: dict[str, Any]) -> str:
    words = [f"qdisc {record['kind']} {record['handle']} dev {record['dev']}"]
    parent = record["parent"]
    words.append("root" if parent == "root" else f"parent {parent}")
    words += [f"{key} {record[key]}" for key in ("ingress_block", "egress_block") if record[key]]
    return " ".join(words)
