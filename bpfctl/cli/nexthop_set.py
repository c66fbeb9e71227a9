"""``nexthop add``, ``replace``, ``del`` and ``show``."""

from __future__ import annotations

from bpfctl.api import routes
from bpfctl.attach import nexthop
from bpfctl.cli import routetext
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.nexthop import parse_id, parse_nexthop
from bpfctl.cli.migration import dry_run
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_USAGE = (
    "id N encap { bpf { in | out | xmit } SPEC ... [ headroom N ]\n"
    "    | seg6local action End.BPF endpoint SPEC } [ via ADDRESS ] [ dev DEV ] [ onlink ] [ proto P ]"
)
_KEYWORDS = (
    "id encap bpf seg6local in out xmit headroom action endpoint via dev onlink proto obj pinned sec program "
    "maps-abi set migrate lossy dry-run verbose"
)


def _set(app: App, words: list[str], how: str) -> None:
    request, tunnel = parse_nexthop(words)
    if not request.gateway:
        request = request._replace(family=app.options.family)
    if tunnel is None:
        raise UsageError("a nexthop without encap runs no program", hint=f"`ip nexthop {how}` does that")
    if dry_run(app, [source for _, source in tunnel.programs]):
        return
    routes.attach_nexthop(request, tunnel, how=how, session=app.session, warn=app.warn)


@words_command("add", _USAGE, _KEYWORDS)
def add(app: App, words: list[str]) -> None:
    """Add a nexthop object, which routes name by `nhid N`."""
    _set(app, words, "add")


@words_command("replace", _USAGE, _KEYWORDS)
def replace(app: App, words: list[str]) -> None:
    """Change a nexthop object in one step, for all of its routes, or add it where there is none."""
    _set(app, words, "replace")


@words_command("del", "id N", "id")
def delete(app: App, words: list[str]) -> None:
    """Delete a nexthop object, and the routes that use it."""
    nexthop.delete(parse_id(words))


@words_command("show", "[ id N ]", "id")
def show(app: App, words: list[str]) -> None:
    """Show the nexthop objects that run programs."""
    number = parse_id(words) if words else 0
    states = [state for state in nexthop.show() if number in (0, state.nexthop.id)]
    records = (routetext.nexthop_record(state, app.options.details) for state in states)
    app.output.records(records, _text)


def _text(record: dict[str, Any]) -> str:
    return " ".join(routetext.words(record))
