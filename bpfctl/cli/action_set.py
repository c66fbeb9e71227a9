"""``action add``, ``change`` and ``replace``."""

from __future__ import annotations

from bpfctl.api import actions
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.action import parse_list

_USAGE = (
    "{ action ACTION }...\n"
    "    ACTION := { bpf { obj FILE [ sec NAME ] [ program NAME ] [ maps-abi ABI ] [ verbose ]\n"
    "        | pinned PATH | id N | bytecode TEXT | bytecode-file FILE } [ VERDICT ]\n"
    "        | [ gact ] VERDICT [ random { netrand | determ } VERDICT VALUE ]\n"
    "        | police { rate RATE burst SIZE [ peakrate RATE mtu SIZE ] | avrate RATE\n"
    "            | pkts_rate N pkts_burst N } [ mpu SIZE ] [ overhead N ] [ linklayer TYPE ]\n"
    "            [ VERDICT | conform-exceed VERDICT[/VERDICT] ]\n"
    "        | mirred { ingress | egress } { mirror | redirect } dev DEV [ VERDICT ] }\n"
    "        [ index N ] [ cookie HEX ]"
)
_KEYWORDS = (
    "action bpf gact mirred police obj pinned id sec program maps-abi verbose bytecode bytecode-file index "
    "cookie random netrand determ rate burst peakrate mtu avrate pkts_rate pkts_burst mpu overhead linklayer "
    "conform-exceed dev pass ok drop shot reclassify continue pipe stolen trap jump goto"
)


def _set(app: App, words: list[str], how: str) -> None:
    actions.set_actions(parse_list(words), how=how, session=app.session, warn=app.warn)


@words_command("add", _USAGE, _KEYWORDS)
def add(app: App, words: list[str]) -> None:
    """Make actions, each under an index that filters name it by.

    Without index the kernel chooses one.  Without sec and program it is the program in section "action", or
    else the only action of FILE.
    """
    _set(app, words, "add")


@words_command("change", _USAGE, _KEYWORDS)
def change(app: App, words: list[str]) -> None:
    """The same as replace."""
    _set(app, words, "replace")


@words_command("replace", _USAGE, _KEYWORDS)
def replace(app: App, words: list[str]) -> None:
    """Make actions, in the place of those with the same index, for the filters that use them too."""
    _set(app, words, "replace")
