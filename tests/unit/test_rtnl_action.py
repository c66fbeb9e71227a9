"""Actions as bytes: what tc(8) of iproute2 6.1 sent, as strace(1) saw it, and what a kernel answered."""

from __future__ import annotations

import pytest

from bpfctl.cli.actiontext import action_lines, state_records
from bpfctl.cli.app import Options
from bpfctl.kernel.netlink import attribute
from bpfctl.kernel.rtnl_action import Action, ActionState, ActionStats, decode, encode
from bpfctl.kernel.rtnl_tc import FilterOptions, _options

NAME = "act_pass.bpf.o:[action]"
NAME_HEX = "1c000600" + (NAME.encode() + b"\0").hex()

# tc's words, the action that they mean, the payload of TCA_ACT_TAB
SENT = [
    (
        "bpf obj act_pass.bpf.o sec action drop index 667 cookie 0a0b",
        [Action("bpf", 2, 667, b"\x0a\x0b", program_fd=7, name=NAME)],
        "54000100 0800010062706600 40000280 0800050007000000"
        + NAME_HEX
        + "1800 0200 9b020000 00000000 02000000"
        "00000000 00000000 06000600 0a0b0000",
    ),
    (
        "bpf bytecode '1,6 0 0 4294967295'",
        [Action("bpf", 3, bytecode=bytes.fromhex("06000000ffffffff"))],
        "3c000100 0800010062706600 30000280 0600030001000000 0c00040006000000ffffffff"
        "18000200 00000000 00000000 03000000 00000000 00000000",
    ),
    (
        "gact drop",
        [Action("gact", 2)],
        "2c000100 0900010067616374 00000000 1c000280 18000200 00000000 00000000 02000000 00000000 00000000",
    ),
    (
        "gact jump 2 index 3 action goto chain 7",
        [Action("gact", 0x10000002, 3), Action("gact", 0x20000007)],
        "2c000100 0900010067616374 00000000 1c000280 18000200 03000000 00000000 02000010 00000000 00000000"
        "2c000200 0900010067616374 00000000 1c000280 18000200 00000000 00000000 07000020 00000000 00000000",
    ),
    (
        "mirred egress redirect dev v0",
        [Action("mirred", 4, mirred=1, ifindex=3)],
        "34000100 0b0001006d69727265640000 24000280 20000200 00000000 00000000 04000000 00000000 00000000"
        "01000000 03000000",
    ),
]


@pytest.mark.parametrize(("words", "actions", "payload"), SENT, ids=[words for words, *_ in SENT])
def test_as_tc_sends_them(words: str, actions: list[Action], payload: str) -> None:
    assert encode(actions).hex() == bytes.fromhex(payload).hex()


def test_filter_with_bytecode_and_action_as_tc_sends_it() -> None:
    """``bpf bytecode '2,0 0 0 1,6 0 0 0' flowid 1:1 action drop``."""
    bytecode = bytes.fromhex("0000000001000000 0600000000000000")
    options = FilterOptions(-1, classid=0x10001, bytecode=bytecode, actions=encode([Action("gact", 2)]))
    expected = (
        "58000200 0800030001000100 30000100 2c000100 0900010067616374 00000000 1c000280 18000200 00000000"
        "00000000 02000000 00000000 00000000 0600040002000000 14000500 0000000001000000 0600000000000000"
    )
    assert _options(options).hex() == bytes.fromhex(expected).hex()


def test_what_is_sent_is_read_back() -> None:
    actions = [action for _, sent, _ in SENT for action in sent]
    found = list(decode(encode(actions)))
    assert [state.order for state in found] == list(range(1, len(actions) + 1))
    for action, state in zip(actions, found, strict=True):
        kept = ("kind", "control", "number", "cookie", "name", "bytecode", "mirred", "ifindex")
        assert [getattr(state, field) for field in kept] == [getattr(action, field) for field in kept]


# What Linux 6.18 answered to `tc actions get action mirred index 9`: the payload of TCA_ACT_TAB.
ANSWER = bytes.fromhex(
    "b8000100 0b0001006d69727265640000 44000400 14000100 00000000000000000000000000000000"
    "14000700 00000000000000000000000000000000 18000300 0000000000000000000000000000000000000000"
    "06000600abcd0000 0c000900 00000000 03000000 08000a00 00000000 48000200 20000200 09000000 00000000"
    "03000000 01000000 00000000 02000000 03000000 24000100 0a00000000000000 0a00000000000000 0000000000000000"
    "0000000000000000"
)


def test_an_answer() -> None:
    (state,) = decode(ANSWER)
    assert state == ActionState(
        1, "mirred", 3, 9, 1, 0, ActionStats(10, 10), b"\xab\xcd", 0, 0, mirred=2, ifindex=3
    )


@pytest.mark.parametrize("length", range(len(ANSWER)))
def test_an_answer_that_is_cut_off(length: int) -> None:
    """At every byte: an OSError, or an action with less in it."""
    try:
        states = list(decode(ANSWER[:length]))
    except OSError:
        return
    assert states == []


def test_short_attributes_inside() -> None:
    payload = attribute(
        1, attribute(1, b"bpf\0") + attribute(2, attribute(2, b"\1\0\0\0") + attribute(1, b"x"))
    )
    (state,) = decode(payload)
    assert (state.kind, state.number, state.control) == ("bpf", 1, 0)


# --- text ----------------------------------------------------------------------------------------

RETURN_0 = bytes.fromhex("0600000000000000")
TEXTS = [
    (
        ActionState(
            1, "bpf", 3, 667, 2, 1, ActionStats(), name=NAME, bytecode=bytes.fromhex("0600000000000000")
        ),
        [
            f"\taction order 1: bpf {NAME} bytecode '1,6 0 0 0' default-action pipe",
            "\t index 667 ref 2 bind 1",
        ],
    ),
    (
        ActionState(2, "gact", 0x20000007, 1, 1, 0, ActionStats(), gact_random=(2, 2, 5)),
        [
            "\taction order 2: gact action goto chain 7",
            "\t random type determ drop val 5",
            "\t index 1 ref 1 bind 0",
        ],
    ),
    (
        ActionState(1, "gact", -1, 1, 1, 0, ActionStats(), cookie=b"\1", in_hw=0, hw_stats=3),
        [
            "\taction order 1: gact action continue",
            "\t random type none pass val 0",
            "\t index 1 ref 1 bind 0",
            "\tcookie 01",
            "\tnot_in_hw",
            "\tused_hw_stats immediate delayed",
        ],
    ),
    (
        ActionState(3, "police", 0, 0, 0, 0, ActionStats()),
        ["\taction order 3: police"],
    ),
]


@pytest.mark.parametrize(("state", "lines"), TEXTS, ids=[state.kind for state, _ in TEXTS])
def test_text(state: ActionState, lines: list[str]) -> None:
    (record,) = state_records([state], Options())
    assert action_lines(record) == lines
