"""``filter show``: tc(8)'s words and keys, but every hook of the device when none is named."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.attach import tc, xdp
from bpfctl.attach.tc import FilterState
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.filter_set import request
from bpfctl.cli.grammar.classid import EGRESS, INGRESS, ROOT, classid_text
from bpfctl.cli.grammar.filter import FilterCommand, parse_filter
from bpfctl.cli.grammar.protocol import protocol_name
from bpfctl.cli.progtext import bytecode_record, bytecode_text, facts_text, program_facts
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_HOOKS = {INGRESS: "ingress", EGRESS: "egress", ROOT: "root"}
_SKIP_HW, _SKIP_SW, _IN_HW, _NOT_IN_HW = 1, 2, 4, 8  # TCA_CLS_FLAGS_*
_FLAGS = ((_SKIP_HW, "skip_hw"), (_SKIP_SW, "skip_sw"), (_IN_HW, "in_hw"))


@words_command(
    "show",
    "[ dev DEV [ ingress | egress | root | parent CLASSID ] | block N ] [ pref N ] [ protocol P ]\n"
    "    [ chain N ] [ handle H ]",
    keywords="dev block ingress egress root parent pref protocol chain handle",
)
def show(app: App, words: list[str]) -> None:
    """Show filters: of all hooks of DEV unless one is named, of all interfaces without DEV.

    What the command line already says is left out of the lines, as tc(8) does.
    """
    command = parse_filter(words)
    records = (_record(app, command, device, state) for device, state in _found(command))
    app.output.records(records, _text)


@words_command(
    "get",
    "{ dev DEV { ingress | egress | root | parent CLASSID } | block N } pref N handle H\n"
    "    [ protocol P ] [ chain N ] bpf",
    keywords="dev block ingress egress root parent pref handle protocol chain bpf",
)
def get(app: App, words: list[str]) -> None:
    """Show the one filter of this pref and handle, with all that says where it is but the device."""
    command = parse_filter(words)
    wanted = request(command)
    if not (command.pref and command.handle):
        raise UsageError("Command line is not complete: pref and handle say which filter is meant")
    state = tc.get(wanted)
    place = FilterCommand(device=command.device, block=command.block)
    app.output.records([_record(app, place, command.device or "", state)], _text)


def _found(command: FilterCommand) -> Iterator[tuple[str, FilterState]]:
    if command.block:
        for state in tc.show(request(command)):
            yield "", state
        return
    devices = [command.device] if command.device else [link.name for link in xdp.list_interfaces()]
    for device in devices:
        wanted = request(command._replace(device=device))
        for state in tc.show(wanted, every_hook=command.parent is None):
            yield device, state


def _record(app: App, command: FilterCommand, device: str, state: FilterState) -> dict[str, Any]:
    record: dict[str, Any] = {} if command.device or command.block else {"dev": device}
    if state.block and not command.block:
        record["block"] = state.block
    elif command.parent is None and not command.block:
        hook = _HOOKS.get(state.parent)
        record |= {hook: True} if hook else {"parent": classid_text(state.parent)}
    if command.protocol != state.protocol and state.protocol:
        record["protocol"] = protocol_name(state.protocol)
    if not command.pref and state.pref:
        record["pref"] = state.pref
    record["kind"] = state.kind
    if command.chain is None:
        record["chain"] = state.chain
    if state.handle:
        record["options"] = _options(app, state)
    if app.options.stats and state.stats:
        record["stats"] = dict(zip(("bytes", "packets", "drops", "overlimits"), state.stats, strict=True))
    return record


def _options(app: App, state: FilterState) -> dict[str, Any]:
    options: dict[str, Any] = {"handle": f"{state.handle:#x}"}
    if state.kind != "bpf":
        return options
    if state.classid:
        options["flowid"] = classid_text(state.classid)
    if state.name:
        options["bpf_name"] = state.name
    if state.direct_action:
        options["direct-action"] = True
    flags = [word for bit, word in _FLAGS if state.flags_gen & bit]
    if state.flags_gen & (_IN_HW | _NOT_IN_HW) == _NOT_IN_HW:
        flags.append("not_in_hw")
    options |= dict.fromkeys(flags, True)
    if state.bytecode:
        options["bytecode"] = bytecode_record(state.bytecode)
    if state.program_id:
        facts = program_facts(state.program_id, app.options)
        options["prog"] = facts
        if "tag" not in facts and state.tag:
            options["tag"] = state.tag
    if state.police:
        from bpfctl.cli.actiontext import police_record

        options |= police_record(state.police, app.options)
    if state.actions:
        from bpfctl.cli.actiontext import action_records

        options["actions"] = action_records(state.actions, app.options)
    return options


def _text(record: dict[str, Any]) -> str:
    words = ["filter"]
    for key, value in record.items():
        if key == "kind":
            words.append(value)
        elif key == "options":
            words += _option_words(value)
        elif key != "stats":
            words.append(key if value is True else f"{key} {value}")
    options = record.get("options", {})
    actions = options.get("actions", ())
    if not (actions or "kind" in options or "stats" in record):
        return " ".join(words)
    from bpfctl.cli.actiontext import action_lines, police_lines, stats_line

    lines = [" ".join(words)]
    if "kind" in options:
        lines += [*police_lines(options), ""]
    for action in actions:
        lines += [*action_lines(action), ""]
    lines += [stats_line(record["stats"])] if "stats" in record else []
    return "\n".join(lines)


def _option_words(options: dict[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if key == "kind":  # a policer, which has lines of its own
            return
        if key == "bpf_name":
            yield value
        elif key == "prog":
            yield facts_text(value)
        elif key == "bytecode":
            yield bytecode_text(value)
        elif key != "actions":
            yield key if value is True else f"{key} {value}"
