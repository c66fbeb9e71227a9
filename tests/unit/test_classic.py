"""Classic BPF as text, and words of actions."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpfctl.api.sources import ClassicSource, ObjectSource
from bpfctl.attach.actions import ActionRequest
from bpfctl.cli.grammar.action import parse_list
from bpfctl.cli.grammar.classic import parse_file, parse_text
from bpfctl.cli.grammar.filter import parse_filter
from bpfctl.errors import BpfctlError

RETURN_1 = bytes.fromhex("0600000001000000")
LOAD = bytes.fromhex("280000000c000000")
LONGEST = "4096," + ",".join(["6 0 0 1"] * 4096)
X = ObjectSource("x.o")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("1,6 0 0 1", RETURN_1),
        ("1,6 0 0 1,", RETURN_1),
        ("2,40 0 0 12,6 0 0 1", LOAD + RETURN_1),
        (" 2 , 40 0  0 12 , 6 0 0 1 ", LOAD + RETURN_1),
        ("1,65535 255 255 4294967295", b"\xff" * 8),
        (LONGEST, 4096 * RETURN_1),
    ],
    ids=lambda value: str(value)[:30],
)
def test_text(text: str, code: bytes) -> None:
    assert parse_text(text) == ClassicSource(code)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'the count "" is no number from 1 to 4096'),
        ("0,", 'the count "0" is no number'),
        ("4097,6 0 0 1", 'the count "4097" is no number from 1 to 4096'),
        ("x,6 0 0 1", 'the count "x"'),
        ("-1,6 0 0 1", 'the count "-1"'),
        ("1", "0 instructions where the count says 1"),
        ("1,", "0 instructions where the count says 1"),
        ("2,6 0 0 1", "1 instructions where the count says 2"),
        ("1,6 0 0 1,6 0 0 1", "2 instructions where the count says 1"),
        ("1,6 0 0", 'instruction 1: "6 0 0" is not `code jt jf k`'),
        ("2,6 0 0 1,6 0 0 1 1", 'instruction 2: "6 0 0 1 1" is not'),
        ("2,6 0 0 1,,", 'instruction 2: "" is not'),
        ("1,65536 0 0 1", 'instruction 1: "65536 0 0 1" is not'),
        ("1,6 256 0 1", "instruction 1"),
        ("1,6 0 0 4294967296", "instruction 1"),
        ("1,6 0 0 " + "9" * 10000, "instruction 1"),
        ("1,6 0 0 0x1", "instruction 1"),
        ("1,6 0 0 \u0661", "instruction 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_text_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(BpfctlError) as caught:
        parse_text(text)
    assert f"bytecode: {message}" in caught.value.message or f"bytecode, {message}" in caught.value.message


@pytest.mark.parametrize(
    "text", ["2,40 0 0 12,6 0 0 1\n", "2\n40 0 0 12\n6 0 0 1\n", "2,\n40 0 0 12,\n\n6  0 0 1,\n"]
)
def test_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "code"
    file.write_text(text)
    assert parse_file(str(file)) == ClassicSource(LOAD + RETURN_1)


def test_file_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(BpfctlError, match=r"cannot read bytecode file .*/none: No such file"):
        parse_file(str(tmp_path / "none"))
    file = tmp_path / "code"
    wrong = ((b"\xff\n", "the count"), (b"1,6 0 0", "instruction 1"), (b" " * (1 << 21), "more than"))
    for data, message in wrong:
        file.write_bytes(data)
        with pytest.raises(BpfctlError, match=message):
            parse_file(str(file))


# --- actions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "actions"),
    [
        ("bpf obj x.o", [ActionRequest("bpf", 3, source=X)]),
        ("bpf run obj x.o sec a drop index 7", [ActionRequest("bpf", 2, 7, source=X._replace(section="a"))]),
        ("bpf bc 1,6_0_0_1 ok", [ActionRequest("bpf", 0, source=ClassicSource(RETURN_1))]),
        ("gact drop", [ActionRequest("gact", 2)]),
        ("shot index 0x10 cookie 0aFF", [ActionRequest("gact", 2, 16, b"\x0a\xff")]),
        ("continue", [ActionRequest("gact", -1)]),
        ("jump 3", [ActionRequest("gact", 0x10000003)]),
        ("goto chain 7 i 9", [ActionRequest("gact", 0x20000007, 9)]),
        ("mirred egress redirect dev v0", [ActionRequest("mirred", 4, mirred=1, device="v0")]),
        ("mirred ingress mirror index 4 dev v0", [ActionRequest("mirred", 3, 4, mirred=4, device="v0")]),
        ("mirred egress mirror dev v0 drop", [ActionRequest("mirred", 2, mirred=2, device="v0")]),
        ("ok action pipe", [ActionRequest("gact", 0), ActionRequest("gact", 3)]),
    ],
)
def test_actions(line: str, actions: list[ActionRequest]) -> None:
    words = [word.replace("_", " ") for word in line.split()]
    assert parse_list(["action", *words]) == tuple(actions)
    behind = parse_filter(["dev", "v0", "bpf", "obj", "x.o", "action", *words])
    assert behind.actions == tuple(actions)
    assert behind.source == X


def test_filter_with_a_classic_program() -> None:
    command = parse_filter(["block", "5", "bpf", "bytecode", "1,6 0 0 1", "flowid", "1:1"])
    assert (command.block, command.source, command.classid) == (5, ClassicSource(RETURN_1), 0x10001)
