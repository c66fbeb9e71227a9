"""Actions as bytes: what tc(8) of iproute2 6.1 sent, as strace(1) saw it, and what a kernel answered."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from types import SimpleNamespace
from typing import cast
from zlib import crc32

import pytest

from bpfctl.api.actions import open_actions
from bpfctl.cli import filter_show
from bpfctl.cli.actiontext import action_lines, police_lines, police_record, state_records
from bpfctl.cli.app import App, Options
from bpfctl.cli.filter_set import request
from bpfctl.cli.grammar.filter import FilterCommand, parse_filter
from bpfctl.kernel.netlink import attribute, attribute_text, parse_attributes
from bpfctl.kernel.rtnl_action import Action, ActionState, ActionStats, decode, decode_police, encode
from bpfctl.kernel.rtnl_police import Police
from bpfctl.kernel.rtnl_tc import INGRESS, FilterOptions, _options, _parse_filter
from bpfctl.loader import Transaction

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


# tc's words behind `bpf bc '1,6 0 0 0'`; TCA_ACT_OPTIONS of the action, tables as their checksums.
POLICED = [
    (
        "action police rate 1mbit burst 10k conform-exceed drop/ok",
        [
            (1, "00000000 02000000 00000000 00881300 00000000 03010000 ffff0000 48e80100" + "00" * 24),
            (2, 0xACFBCA16),
        ],
    ),
    (
        "action police rate 1mbit buffer 10kb conform-exceed pass/pipe",
        [
            (1, "00000000 00000000 00000000 00881300 00000000 03010000 ffff0000 48e80100" + "00" * 24),
            (2, 0xACFBCA16),
            (5, "03000000"),
        ],
    ),
    (
        "action police rate 40gbit burst 1m peakrate 50gbit mtu 64k overhead 14 linklayer atm mpu 64"
        " conform-exceed pipe",
        [
            (
                1,
                "00000000 03000000 00000000 c10c0000 00000100 09020e00 ffff4000 ffffffff 09020e00 ffff4000"
                "ffffffff" + "00" * 12,
            ),
            (2, 0xA8881243),
            (8, "00f2052a01000000"),
            (3, 0x8FAFFF55),
            (9, "806e877401000000"),
        ],
    ),
    (
        "action police pkts_rate 1000 pkts_b 50 index 77",
        [(1, "4d000000 01000000" + "00" * 48), (10, "e803000000000000"), (11, "c2eb0b0000000000")],
    ),
    ("action police avrate 1mbit", [(1, "00000000 01000000" + "00" * 48), (4, "48e80100")]),
    (
        "action police mtu 1000 continue",
        [(1, "00000000 ffffffff 00000000 00000000 e8030000" + "00" * 36)],
    ),
    (
        "action police rate 10kbps burst 2k/8 conform-exceed drop",
        [
            (1, "00000000 02000000 00000000 00d43000 00000000 03010000 ffff0000 10270000" + "00" * 24),
            (2, 0xD0E1815C),
        ],
    ),
    (
        "action gact drop random determ pass 3",
        [(2, "00000000 00000000 02000000 00000000 00000000"), (3, "02000300 00000000")],
    ),
    (
        "action drop random netrand goto chain 4 10000 index 9",
        [(2, "09000000 00000000 02000000 00000000 00000000"), (3, "01001027 04000020")],
    ),
]


@pytest.mark.parametrize(("words", "attributes"), POLICED, ids=[words for words, _ in POLICED])
def test_policers_and_chances_as_tc_sends_them(words: str, attributes: list[tuple[int, str | int]]) -> None:
    command = parse_filter(["dev", "v0", "bpf", "bc", "1,6 0 0 0", *words.split()], strict=True)
    (request,), _ = open_actions(command.actions, Transaction(), ExitStack(), None, print)
    (encoded,) = parse_attributes(encode([request])).values()
    options = parse_attributes(parse_attributes(encoded)[2])
    found = [(kind, crc32(data) if len(data) == 1024 else data.hex()) for kind, data in options.items()]
    assert found == [(kind, d if isinstance(d, int) else d.replace(" ", "")) for kind, d in attributes]


def test_the_old_way_to_police_as_tc_sends_it() -> None:
    """``bpf bc '1,6 0 0 0' police rate 8gbit burst 1m mtu 9000 drop``: a part of the filter."""
    line = "dev v0 bpf bc 1,6_0_0_0 police rate 8gbit burst 1m mtu 9000 drop"
    command = parse_filter([word.replace("_", " ") if "," in word else word for word in line.split()])
    sent = request(command).options(-1).police
    known = "00000000 02000000 00000000 f73f0000 28230000 06010000 ffff0000 00ca9a3b" + "00" * 24
    assert sent[:60].hex() == "3c000100" + known.replace(" ", "")
    assert decode_police(sent).police == Police(rate=10**9, burst=1048000, mtu=9000)
    assert police_lines({"not_in_hw": True} | police_record(sent, Options())) == [
        " police 0x0 rate 8Gbit burst 1048000b mtu 9000b action drop overhead 0b",
        "\tref 0 bind 0",
    ]
    body = bytes(4) + struct.pack("=iIII", 2, 1, INGRESS, 1 << 16 | 0x300) + attribute_text(1, "bpf")
    body += attribute(2, attribute(2, sent)) + attribute(3, struct.pack("=QIIIIIII", 84, 1, 2, 3, 0, 0, 0, 0))
    app = cast(App, SimpleNamespace(options=Options(stats=True)))
    record = filter_show._record(app, FilterCommand("v0", parent=INGRESS), "v0", _parse_filter(body))
    assert list(record["stats"].values()) == [84, 1, 2, 3]
    assert filter_show._text(record).splitlines() == [
        "filter protocol all pref 1 bpf chain 0 handle 0x1",
        " police 0x0 rate 8Gbit burst 1048000b mtu 9000b action drop overhead 0b",
        "\tref 0 bind 0",
        "",
        " Sent 84 bytes 1 pkts (dropped 2, overlimits 3)",
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
ODD = Police(5 * 10**9, 1040000, 2**32 - 1, 64, 14, 2, 6250 * 10**6, 1500, 5, 1, result=3)
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
        ActionState(3, "police", 2, 4, 1, 1, ActionStats(), police=Police(125000, 10240, 2047)),
        [
            "\taction order 3:  police 0x4 rate 1Mbit burst 10Kb mtu 2Kb action drop overhead 0b",
            "\tref 1 bind 1",
        ],
    ),
    (
        ActionState(1, "police", 0, 10, 1, 1, ActionStats(), hw_stats=0, asked_hw_stats=0, police=ODD),
        [
            "\taction order 1:  police 0xa rate 40Gbit burst 1040000b mtu 4096Mb peakrate 50Gbit"
            " avrate 12Kbit pkts_rate 5 pkts_burst 1 action pass/pipe overhead 14b linklayer atm",
            "\tref 1 bind 1",
            "\thw_stats disabled",
            "\tused_hw_stats disabled",
        ],
    ),
]


@pytest.mark.parametrize(("state", "lines"), TEXTS, ids=[state.kind for state, _ in TEXTS])
def test_text(state: ActionState, lines: list[str]) -> None:
    (record,) = state_records([state], Options())
    assert action_lines(record) == lines
