"""``link set``: attach, replace and take off XDP programs."""

from __future__ import annotations

from bpfctl.api import hooks
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.link import parse_set
from bpfctl.cli.migration import dry_run


@words_command(
    "set",
    "[ dev ] DEV { xdp | xdpgeneric | xdpdrv | xdpoffload }\n"
    "    { off | none | obj FILE [ sec NAME ] [ program NAME ] [ maps-abi ABI ]\n"
    "      [ set NAME=VALUE ]... [ migrate [ lossy ] ] [ dry-run ] [ verbose ]\n"
    "    | pinned PATH | id N }",
    keywords="dev xdp xdpgeneric xdpdrv xdpoffload off obj pinned id sec program maps-abi set "
    "migrate lossy dry-run verbose",
)
def set_(app: App, words: list[str]) -> None:
    """Attach an XDP program to DEV, or take it off.

    The program in place is replaced only with -force, and always without losing a packet.  Without sec
    and program it is the one in section "prog", or else the only XDP program of FILE.
    """
    command = parse_set(words)
    if command.source is None:
        hooks.detach_xdp(command.device, mode=command.mode)
    elif not dry_run(app, [command.source]):
        hooks.attach_xdp(
            command.device,
            command.source,
            mode=command.mode,
            force=app.options.force,
            session=app.session,
            warn=app.warn,
        )
