"""``filter del``."""

from __future__ import annotations

from bpfctl.attach import tc
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.filter_set import request
from bpfctl.cli.grammar.filter import parse_filter


@words_command(
    "del",
    "{ dev DEV { ingress | egress | root | parent CLASSID } | block N } [ pref N ] [ protocol P ]\n"
    "    [ chain N ] [ handle H ] [ bpf ]",
    keywords="dev block ingress egress root parent pref protocol chain handle bpf",
)
def delete(app: App, words: list[str]) -> None:
    """Delete a filter, all filters of a pref, or all of a hook.

    With a handle that one filter; with a pref only, all bpf filters of that pref; with neither and
    without "bpf", every filter of the hook, as tc(8) does.
    """
    command = parse_filter(words)
    wanted = request(command)
    if command.kind or command.pref or command.handle or command.protocol is not None:
        tc.delete(wanted)
    else:
        tc.flush(wanted)
