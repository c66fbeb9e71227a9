"""``filter CMD PLACE bpf FOPT...``.

PLACE := { dev DEV [ HOOK ] | block N } [ pref N ] [ protocol P ] [ chain N ] [ handle H ]
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.cli.grammar.classid import EGRESS, INGRESS, parse_classid
from bpfctl.cli.grammar.protocol import parse_protocol
from bpfctl.cli.grammar.spec import ProgramOrClassic, parse_source
from bpfctl.cli.grammar.tokens import Tokens, matches, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.attach.actions import ActionRequest

_HOOKS = {"ingress": INGRESS, "egress": EGRESS, "root": 0}  # 0: the interface's own qdisc
_U32 = 0xFFFFFFFF


class FilterCommand(NamedTuple):
    """A filter command as typed; None where the user said nothing.

    ``parent``, ``handle`` and ``classid`` as numbers, ``protocol`` an ETH_P_* number.
    """

    device: str | None = None
    block: int | None = None
    parent: int | None = None
    pref: int | None = None
    protocol: int | None = None
    chain: int | None = None
    handle: int | None = None
    kind: str = ""
    source: ProgramOrClassic | None = None
    classid: int = 0
    direct_action: bool = False
    skip_hw: bool = False
    skip_sw: bool = False
    actions: tuple[ActionRequest, ...] = ()
    police: ActionRequest | None = None


def parse_filter(words: Sequence[str], *, strict: bool = False) -> FilterCommand:
    """The words after ``filter add`` and its like; the kind is "" where none was given.

    ``strict``: in iproute2's order only.
    """
    tokens = Tokens(words, strict=strict)
    command = FilterCommand()
    while tokens:
        found = _parse_place(tokens, command)
        if found is None:
            return _parse_bpf(tokens, command._replace(kind=_parse_kind(tokens)))
        command = found
    return command


def _parse_place(tokens: Tokens, command: FilterCommand) -> FilterCommand | None:
    """One of the words that say which filter is meant; None for a word that is none of them.

    The tests stand in the order of iproute2's (tc/tc_filter.c): ``p`` is preference, ``pro`` protocol.
    """
    if tokens.take("dev"):
        _once(command.device, "dev")
        return command._replace(device=tokens.value("DEV"))
    if tokens.take_prefix("block"):
        _once(command.block, "block")
        return command._replace(block=tokens.number("block", _U32))
    if tokens.peek() in _HOOKS:
        _once(command.parent, tokens.peek())
        return command._replace(parent=_HOOKS[tokens.next()])
    if tokens.take("parent"):
        _once(command.parent, "parent")
        return command._replace(parent=parse_classid(tokens.value("CLASSID")))
    if tokens.take("handle"):
        _once(command.handle, "handle")
        return command._replace(handle=tokens.number("handle", _U32))
    if tokens.take_prefix("preference", "priority"):
        _once(command.pref, "pref")
        return command._replace(pref=tokens.number("pref", 0xFFFF))
    if tokens.take_prefix("chain"):
        _once(command.chain, "chain")
        return command._replace(chain=tokens.number("chain", _U32))
    if tokens.take_prefix("protocol"):
        _once(command.protocol, "protocol")
        return command._replace(protocol=parse_protocol(tokens.value("protocol")))
    return None


def _once(known: object, word: str) -> None:
    if known is not None:
        raise UsageError(f"{shown(word)}: the place was given before, or the word comes twice")


def _parse_kind(tokens: Tokens) -> str:
    kind = tokens.next()
    if kind != "bpf":
        raise unknown(kind, "dev, ingress, egress, parent, handle, pref, chain, protocol, bpf")
    return kind


def _parse_bpf(tokens: Tokens, command: FilterCommand) -> FilterCommand:
    """FOPT: options and spec in any order, tested in the order of iproute2's (tc/f_bpf.c)."""
    while tokens:
        command = _parse_option(tokens, command)
    return command


def _parse_option(tokens: Tokens, command: FilterCommand) -> FilterCommand:
    if tokens.take_prefix("run"):
        return _parse_spec(tokens, command)
    if tokens.take_prefix("classid", "flowid"):
        return command._replace(classid=parse_classid(tokens.value("CLASSID")))
    if tokens.take_prefix("direct-action") or tokens.take("da"):
        return command._replace(direct_action=True)
    if tokens.take_prefix("skip_hw"):
        return command._replace(skip_hw=True)
    if tokens.take_prefix("skip_sw"):
        return command._replace(skip_sw=True)
    if tokens.take_prefix("action"):
        return _parse_actions(tokens, command)
    if tokens.take_prefix("police"):
        return command._replace(police=_parse_police(tokens))
    return _parse_spec(tokens, command)


def parse_to_program(tokens: Tokens) -> tuple[int, ProgramOrClassic | None]:
    """Read a filter's words up to the end of its program: where that begins, and the program."""
    command = FilterCommand()
    start = 0
    while tokens and command.source is None:
        start = tokens.position
        if command.kind:
            command = _parse_option(tokens, command)
        else:
            command = _parse_place(tokens, command) or command._replace(kind=_parse_kind(tokens))
    return start, command.source


def _parse_spec(tokens: Tokens, command: FilterCommand) -> FilterCommand:
    if command.source is not None:
        raise unknown(tokens.peek(), "classid, direct-action, skip_hw, skip_sw, action after the program")
    if not _is_classic(tokens.peek()):
        return command._replace(source=parse_source(tokens))
    from bpfctl.cli.grammar.action import parse_program

    return command._replace(source=parse_program(tokens))


def _is_classic(word: str) -> bool:
    return matches(word, "bytecode-file") or word in ("bc", "bcf")


def _parse_actions(tokens: Tokens, command: FilterCommand) -> FilterCommand:
    from bpfctl.cli.grammar.action import parse_actions

    return command._replace(actions=command.actions + parse_actions(tokens))


def _parse_police(tokens: Tokens) -> ActionRequest:
    from bpfctl.cli.grammar.action import parse_police

    return parse_police(tokens)
