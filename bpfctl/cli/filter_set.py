"""``filter add``, ``replace`` and ``change``."""

from __future__ import annotations

from bpfctl.api import hooks
from bpfctl.attach.tc import FilterRequest
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.filter import FilterCommand, parse_filter
from bpfctl.cli.migration import dry_run
from bpfctl.errors import UsageError

_USAGE = (
    "{ dev DEV { ingress | egress | root | parent CLASSID } | block N } [ pref N ] [ protocol P ]\n"
    "    [ chain N ] [ handle H ] bpf [ run ]\n"
    "    { obj FILE [ sec NAME ] [ program NAME ] [ maps-abi ABI ] [ set NAME=VALUE ]...\n"
    "      [ migrate [ lossy ] ] [ dry-run ] [ export SOCKET ] [ verbose ]\n"
    "    | pinned PATH | id N | bytecode TEXT | bytecode-file FILE }\n"
    "    [ direct-action | da ] [ classid CLASSID ] [ skip_hw | skip_sw ] [ action ACTION ]...\n"
    "    [ police OPTION... ]"
)
_KEYWORDS = (
    "dev block ingress egress root parent pref protocol chain handle bpf obj pinned id sec program maps-abi "
    "set migrate lossy dry-run export verbose bytecode bytecode-file direct-action da "
    "classid flowid skip_hw skip_sw action police"
)


def request(command: FilterCommand) -> FilterRequest:
    """What the words say of a filter, for the verbs."""
    if command.block and (command.device is not None or command.parent is not None):
        raise UsageError('"block": a shared block has no device and no hook of its own')
    if command.device is None and not command.block:
        raise UsageError("Command line is not complete: dev DEV is missing")
    return FilterRequest(
        device=command.device or "",
        block=command.block or 0,
        parent=command.parent or 0,
        pref=command.pref or 0,
        protocol=command.protocol,
        chain=command.chain,
        handle=command.handle or 0,
        classid=command.classid,
        direct_action=command.direct_action,
        skip_hw=command.skip_hw,
        skip_sw=command.skip_sw,
        police=command.police,
    )


def _attach(app: App, words: list[str], how: str) -> None:
    command = parse_filter(words)
    wanted = request(command)
    if not command.kind:
        raise UsageError("Command line is not complete: the filter's kind, bpf, is missing")
    if command.source is None:
        raise UsageError("Command line is not complete: no program is named after bpf")
    if dry_run(app, [command.source]):
        return
    hooks.attach_filter(
        wanted, command.source, how=how, actions=command.actions, session=app.session, warn=app.warn
    )


@words_command("add", _USAGE, _KEYWORDS)
def add(app: App, words: list[str]) -> None:
    """Add a filter that runs a program.

    A clsact qdisc has to be on DEV for ingress and egress.  Without pref, protocol and handle the kernel
    chooses the first and last, and the protocol is all.  Without sec and program it is the program in
    section "classifier", or else the only classifier of FILE.
    """
    _attach(app, words, "add")


@words_command("replace", _USAGE, _KEYWORDS)
def replace(app: App, words: list[str]) -> None:
    """Exchange the program of a filter without a gap, or add the filter where there is none.

    Without a handle the only filter that fits is replaced; tc(8) would add another one.
    """
    _attach(app, words, "replace")


@words_command("change", _USAGE, _KEYWORDS)
def change(app: App, words: list[str]) -> None:
    """Exchange the program of a filter that is there."""
    _attach(app, words, "change")
