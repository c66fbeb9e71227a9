"""``route add``, ``append``, ``prepend``, ``change``, ``replace`` and ``del``."""

from __future__ import annotations

from bpfctl.api import routes
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.route import in_family, parse_route
from bpfctl.cli.migration import dry_run
from bpfctl.errors import UsageError

_USAGE = (
    "[ TYPE ] PREFIX encap { bpf { in | out | xmit } SPEC ... [ headroom N ]\n"
    "    | seg6local action End.BPF endpoint SPEC } [ via [ inet | inet6 ] ADDRESS ] [ dev DEV ] [ onlink ]\n"
    "    [ table T ] [ metric N ] [ src ADDRESS ] [ scope S ] [ proto P ] [ tos T ] [ pref P ]\n"
    "    [ expires S ] [ mtu [ lock ] N ... ]\n"
    "    [ nexthop encap ... [ via ADDRESS ] [ dev DEV ] [ weight N ] ] ..."
)
_PLACE = "via dev table metric src scope proto tos onlink"
_KEYWORDS = (
    f"encap bpf seg6local in out xmit headroom action endpoint {_PLACE} pref expires mtu advmss hoplimit "
    "nexthop weight nhid obj pinned id sec program maps-abi set migrate lossy dry-run "
    "verbose"
)


def _set(app: App, words: list[str], how: str) -> None:
    command = in_family(parse_route(words), app.options.family)
    if not any(command.tunnels):
        raise UsageError("a route without encap runs no program", hint=f"`ip route {how}` does that")
    programs = [source for tunnel in command.tunnels if tunnel for _, source in tunnel.programs]
    if dry_run(app, programs):
        return
    routes.attach_route(command.request, command.tunnels, how=how, session=app.session, warn=app.warn)


@words_command("add", _USAGE, _KEYWORDS)
def add(app: App, words: list[str]) -> None:
    """Add a route whose packets pass programs.

    SPEC is obj FILE [ sec NAME ] [ program NAME ], pinned PATH or id N.  Without sec and program it is the
    program in section "prog", or else the only one of FILE for the hook.
    """
    _set(app, words, "add")


@words_command("append", _USAGE, _KEYWORDS)
def append(app: App, words: list[str]) -> None:
    """Add a route behind those to the same destination."""
    _set(app, words, "append")


@words_command("prepend", _USAGE, _KEYWORDS)
def prepend(app: App, words: list[str]) -> None:
    """Add a route before those to the same destination."""
    _set(app, words, "prepend")


@words_command("change", _USAGE, _KEYWORDS)
def change(app: App, words: list[str]) -> None:
    """Change a route that is there, in one step."""
    _set(app, words, "change")


@words_command("replace", _USAGE, _KEYWORDS)
def replace(app: App, words: list[str]) -> None:
    """Change a route in one step, or add it where there is none."""
    _set(app, words, "replace")


@words_command(
    "del", f"[ TYPE ] PREFIX [ encap ... ] {''.join(f'[ {w} ... ] ' for w in _PLACE.split())}", _KEYWORDS
)
def delete(app: App, words: list[str]) -> None:
    """Delete the one route with programs that fits.

    An encap compares the names that route show prints; nothing is loaded.
    """
    command = in_family(parse_route(words), app.options.family)
    routes.delete_route(command.request, command.tunnels, session=app.session)
