"""Actions, behind a filter or alone.

    ACTIONS := ACTION [ action ACTION ]...
    ACTION := { bpf [ run ] SPEC [ CONTROL ] | [ gact ] CONTROL [ RANDOM ] | police OPTION...
              | mirred WAY DO dev DEV [ CONTROL ] } [ index N ] [ cookie HEX ]
    RANDOM := random { netrand | determ } CONTROL VALUE

iproute2 tc/m_action.c, m_bpf.c, m_gact.c and m_mirred.c.  Words of a kind that is not known here are a
UsageError that names the kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.attach.actions import CHANCES, CONTROLS, GOTO_CHAIN, JUMP, MIRRED, ActionRequest
from bpfctl.cli.grammar.classic import parse_file, parse_text
from bpfctl.cli.grammar.spec import ProgramOrClassic, parse_source
from bpfctl.cli.grammar.tokens import Tokens, matches, shown, unknown
from bpfctl.errors import UsageError

KINDS = "bpf, gact, mirred, police"
# Kinds of tc(8) that are none of ours.
_OTHERS = (
    *("connmark", "csum", "ct", "ctinfo", "gate", "ife", "mpls", "nat", "pedit", "sample", "simple"),
    *("skbedit", "skbmod", "tunnel_key", "vlan", "xt"),
)

_U32 = 0xFFFFFFFF
_MOST_JUMPS = 0x0FFFFFFF  # TC_ACT_EXT_VAL_MASK
_MOST_RANDOM = 10000  # MAX_RAND, net/sched/act_gact.c
_LONGEST_COOKIE = 16  # bytes, TC_COOKIE_MAX_SIZE
_PIPE, _STOLEN = CONTROLS["pipe"], CONTROLS["stolen"]


def parse_actions(tokens: Tokens) -> tuple[ActionRequest, ...]:
    """The words after ``action``, up to the first that is none of an action."""
    actions = [_parse_action(tokens)]
    while tokens.take("action"):
        actions.append(_parse_action(tokens))
    return tuple(actions)


def _parse_action(tokens: Tokens) -> ActionRequest:
    word = tokens.value(f"the kind of action ({KINDS}) or a verdict")
    if word == "bpf":
        action = _parse_bpf(tokens)
    elif word == "mirred":
        action = _parse_mirred(tokens)
    elif word == "police":
        action = parse_police(tokens)
    elif word in _OTHERS:
        raise UsageError(f"action {word}: not one of bpfctl's ({KINDS})", hint="tc(8) itself has it")
    else:
        control = _control(tokens.value("a verdict") if word == "gact" else word, tokens)
        if control is None:
            raise unknown(word, f"{KINDS}, {', '.join(CONTROLS)}, jump N, goto chain N")
        action = ActionRequest("gact", control, random=_parse_random(tokens))
    if tokens.take_prefix("index"):
        action = action._replace(number=tokens.number("index", _U32))
    if tokens.take("cookie"):
        action = action._replace(cookie=_parse_cookie(tokens.value("cookie")))
    return action


def parse_police(tokens: Tokens) -> ActionRequest:
    """The words after ``police``."""
    from bpfctl.cli.grammar import police

    return police.parse_police(tokens, _control)


def _parse_random(tokens: Tokens) -> tuple[int, int, int]:
    """``random { netrand | determ } VERDICT VALUE``, if it comes next."""
    if not tokens.take_prefix("random"):
        return 0, 0, 0
    word = tokens.value("netrand or determ")
    chance = next((n for n, name in enumerate(CHANCES) if n and matches(word, name)), 0)
    if not chance:
        raise unknown(word, ", ".join(CHANCES[1:]))
    verdict = _control(tokens.value("a verdict"), tokens)
    if verdict is None:
        raise unknown(tokens.peek(), ", ".join(CONTROLS))
    return chance, verdict, tokens.number("random", _MOST_RANDOM)


def _parse_bpf(tokens: Tokens) -> ActionRequest:
    tokens.take_prefix("run")
    source = parse_program(tokens)
    return ActionRequest("bpf", _optional_control(tokens, _PIPE), source=source)


def parse_program(tokens: Tokens) -> ProgramOrClassic:
    """SPEC, or a classic program."""
    if tokens.take_prefix("bytecode") or tokens.take("bc"):
        return parse_text(tokens.value("bytecode"))
    if tokens.take_prefix("bytecode-file") or tokens.take("bcf"):
        return parse_file(tokens.value("FILE"))
    return parse_source(tokens)


def _parse_mirred(tokens: Tokens) -> ActionRequest:
    way, do = tokens.value("ingress or egress"), tokens.value("mirror or redirect")
    if (way, do) not in MIRRED:
        raise unknown(f"{way} {do}", "ingress or egress, then mirror or redirect")
    number = tokens.number("index", _U32) if tokens.take_prefix("index") else 0
    if not tokens.take("dev"):
        raise UsageError("Command line is not complete: dev DEV is missing")
    device = tokens.value("DEV")
    control = _optional_control(tokens, _STOLEN if do == "redirect" else _PIPE)
    return ActionRequest("mirred", control, number, mirred=MIRRED[way, do], device=device)


def _optional_control(tokens: Tokens, default: int) -> int:
    word = tokens.peek()
    if word not in CONTROLS and word not in ("jump", "goto"):
        return default
    control = _control(tokens.next(), tokens)
    assert control is not None
    return control


def _control(word: str, tokens: Tokens) -> int | None:
    """The verdict that begins with ``word``; None if none does."""
    if word == "jump":
        return JUMP | tokens.number("jump", _MOST_JUMPS)
    if word == "goto":
        if not tokens.take("chain"):
            raise unknown(tokens.peek(), "chain")
        return GOTO_CHAIN | tokens.number("chain", _MOST_JUMPS)
    return CONTROLS.get(word)


def _parse_cookie(word: str) -> bytes:
    try:
        cookie = bytes.fromhex(word)
    except ValueError:
        cookie = b""
    if not 0 < len(cookie) <= _LONGEST_COOKIE or len(word) != 2 * len(cookie):
        raise UsageError(f"Illegal cookie {shown(word)}: up to {_LONGEST_COOKIE} bytes in hex are wanted")
    return cookie


# --- actions that stand alone ---


def parse_list(words: Sequence[str], *, strict: bool = False) -> tuple[ActionRequest, ...]:
    """The words after ``action add``: one action or more, each after the word ``action``."""
    tokens = Tokens(words, strict=strict)
    if not tokens.take("action"):
        raise unknown(tokens.peek(), "action")
    actions = parse_actions(tokens)
    tokens.end("index, cookie, action")
    return actions


def parse_kind(words: Sequence[str]) -> str:
    """``[ action ] KIND``."""
    tokens = Tokens(words)
    kind = _kind(tokens)
    tokens.end()
    return kind


def parse_one(words: Sequence[str]) -> tuple[str, int]:
    """``[ action ] KIND index N``."""
    tokens = Tokens(words)
    kind = _kind(tokens)
    if not tokens.take_prefix("index"):
        raise UsageError("Command line is not complete: index N is missing")
    number = tokens.number("index", _U32)
    tokens.end()
    return kind, number


def _kind(tokens: Tokens) -> str:
    tokens.take("action")
    return tokens.value(f"the kind of action ({KINDS})")
