"""``link show``: what is attached to the XDP slots of interfaces."""

from __future__ import annotations

from bpfctl.attach import xdp
from bpfctl.attach.xdp import InterfaceInfo, XdpMode
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.link import parse_show
from bpfctl.cli.progtext import facts_text, program_facts
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_NUMBERS = {XdpMode.NATIVE: 1, XdpMode.GENERIC: 2, XdpMode.OFFLOAD: 3}  # IFLA_XDP_ATTACHED
_WORDS = {1: "xdp", 2: "xdpgeneric", 3: "xdpoffload", 4: "xdpmulti"}
_SEVERAL = 4

_UP, _RUNNING = 0x1, 0x40
# IFF_* in the order in which ip(8) prints them.
_FLAGS = (
    (0x8, "LOOPBACK"),
    (0x2, "BROADCAST"),
    (0x10, "POINTOPOINT"),
    (0x1000, "MULTICAST"),
    (0x80, "NOARP"),
    (0x200, "ALLMULTI"),
    (0x100, "PROMISC"),
    (0x400, "MASTER"),
    (0x800, "SLAVE"),
    (0x4, "DEBUG"),
    (0x8000, "DYNAMIC"),
    (0x4000, "AUTOMEDIA"),
    (0x2000, "PORTSEL"),
    (0x20, "NOTRAILERS"),
    (_UP, "UP"),
    (0x10000, "LOWER_UP"),
    (0x20000, "DORMANT"),
    (0x40000, "ECHO"),
)
# IF_OPER_*, RFC 2863
_STATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")


@words_command("show", "[ [ dev ] DEV ]", keywords="dev")
def show(app: App, words: list[str]) -> None:
    """Show interfaces and their XDP programs: mode, id, name, tag; with -d load time, owner and maps.

    With -s also how often they ran and for how long, if kernel.bpf_stats_enabled is set.
    """
    interfaces = xdp.list_interfaces(parse_show(words))
    app.output.records((_record(app, interface) for interface in interfaces), _text)


def _record(app: App, interface: InterfaceInfo) -> dict[str, Any]:
    """The fields of ``ip -j link`` that concern us; ``xdp`` only where something is attached."""
    record: dict[str, Any] = {
        "ifindex": interface.ifindex,
        "ifname": interface.name,
        "flags": _flag_words(interface.flags),
        "mtu": interface.mtu,
    }
    attached = [
        {"mode": _NUMBERS[mode], "prog": program_facts(number, app.options)}
        for mode, number in interface.programs
    ]
    if attached:
        first = {} if interface.attached == _SEVERAL else {"prog": attached[0]["prog"]}
        record["xdp"] = {"mode": interface.attached, **first, "attached": attached}
    state = interface.operstate
    record["operstate"] = _STATES[state] if state < len(_STATES) else str(state)
    return record


def _flag_words(flags: int) -> list[str]:
    words = ["NO-CARRIER"] if flags & _UP and not flags & _RUNNING else []
    return words + [word for bit, word in _FLAGS if flags & bit]


def _text(record: dict[str, Any]) -> str:
    xdp_facts = record.get("xdp", {"mode": 0, "attached": ()})
    mode = xdp_facts["mode"]
    word = f" {_WORDS.get(mode, f'xdp[{mode}]')}" if mode else ""
    lines = [
        f"{record['ifindex']}: {record['ifname']}: <{','.join(record['flags'])}> mtu {record['mtu']}{word}"
        f" state {record['operstate']}"
    ]
    for slot in xdp_facts["attached"]:
        label = _slot_word(slot["mode"]) if mode == _SEVERAL else "xdp"
        lines.append(f"    prog/{label} {facts_text(slot['prog'])}")
    return "\n".join(lines)


def _slot_word(number: int) -> str:
    return next(str(mode) for mode, known in _NUMBERS.items() if known == number)
