"""``prog run``: verdicts, packets and contexts of real programs, and what makes it a test for CI."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path

import pytest
from fixture_types import Cli
from programs import load

from bpfctl.errors import KernelError, NotSupportedError, UsageError
from bpfctl.inventory import prog_run
from bpfctl.inventory.prog_run import RunRequest
from bpfctl.inventory.reference import Reference
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import AttachType, ProgramType

pytestmark = pytest.mark.kernel

PACKET = bytes.fromhex("020000000001 020000000002 0800") + bytes(range(46))


@pytest.fixture
def pinned(run: Cli, bpffs: Path, testdata: Path) -> Path:
    """A program that drops UDP over IPv4 from sources that a map blocks; it blocks none."""
    run("prog", "load", testdata / "xdp_pass.bpf.o", "m:runs", status=0)
    return bpffs / "tc" / "runs"


def test_verdict_and_packet(run: Cli, pinned: Path, tmp_path: Path) -> None:
    packet, out = tmp_path / "packet", tmp_path / "out"
    packet.write_bytes(PACKET)
    words = ("prog", "run", "pinned", pinned, "data_in", packet, "data_out", out, "repeat", 10)
    record = json.loads(run("-j", *words, status=0).stdout)
    duration = record.pop("duration")
    assert isinstance(duration, int)
    assert record == {
        "type": "xdp",
        "retval": 2,
        "verdict": "XDP_PASS",
        "repeat": 10,
        "data_out": PACKET.hex(),
    }
    assert out.read_bytes() == PACKET
    text = run(*words, status=0).stdout
    assert text.startswith("returned XDP_PASS (2)  duration ")
    assert text.endswith(f"repeat 10  data_out {len(PACKET)}B\n")


@pytest.mark.parametrize("verdict", ["XDP_PASS", "pass", "2", "0x2"])
def test_the_expected_verdict(run: Cli, pinned: Path, verdict: str) -> None:
    run("prog", "run", "pinned", pinned, "data_in", "hex", PACKET.hex(), "expect", verdict, status=0)


def test_what_is_not_expected_is_the_exit_status(run: Cli, pinned: Path, tmp_path: Path) -> None:
    words = ("prog", "run", "pinned", pinned, "data_in", "hex", PACKET.hex(" "))
    refused = run(*words, "expect", "drop", status=1)
    assert refused.stderr == "Error: expected XDP_DROP (1), the program returned XDP_PASS (2)\n"
    assert refused.stdout.startswith("returned XDP_PASS")
    same = tmp_path / "same"
    same.write_bytes(PACKET)
    run(*words, "expect", "pass", "expect_data", same, status=0)
    other = PACKET[:20] + b"\xff" + PACKET[21:]
    differing = run(*words, "expect_data", "hex", other.hex(), status=1)
    assert differing.stderr.splitlines() == [
        "Error: the packet is not the expected one: it differs from byte 20 on",
        f"  expected 60 bytes, there: ff {PACKET[21:36].hex(' ')}",
        f"  found    60 bytes, there: {PACKET[20:36].hex(' ')}",
    ]
    cut = run(*words, "expect_data", "hex", PACKET[:-1].hex(), status=1)
    assert "it differs from byte 59 on\n  expected 59 bytes, there: the end\n" in cut.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a program of type xdp needs a packet: data_in is missing"),
        (("data_in", "hex", "00"), "the packet has 1 bytes, less than an Ethernet header (14)"),
        (("data_in", "hex", "0g"), 'Illegal data_in "0g": pairs of hex digits are wanted'),
        (("data_in", "/no/such"), "cannot read /no/such: No such file or directory (ENOENT)"),
        (("data_in", "hex", "00" * 14, "expect", "shot"), 'Illegal verdict "shot"'),
        (("data_inn",), 'What is "data_inn"?'),
    ],
)
def test_mistakes(run: Cli, pinned: Path, words: tuple[str, ...], message: str) -> None:
    refused = run("prog", "run", "pinned", pinned, *words, status=1)
    assert refused.stderr.splitlines()[0] == f"Error: {message}"
    assert refused.stdout == ""


def test_a_context_in_and_out(run: Cli, bpffs: Path, testdata: Path, tmp_path: Path) -> None:
    run("prog", "load", testdata / "tc_pass.bpf.o", "m:tc", status=0)
    context = bytearray(192)  # struct __sk_buff
    struct.pack_into("=I", context, 8, 77)  # mark
    out = tmp_path / "ctx"
    words = ("data_in", "hex", PACKET.hex(), "ctx_in", "hex", context.hex(), "ctx_out", out, "expect", "ok")
    run("prog", "run", "pinned", bpffs / "tc" / "tc", *words, status=0)
    assert struct.unpack_from("=I", out.read_bytes(), 8) == (77,)


def test_a_context_that_the_kernel_refuses_is_explained(run: Cli, pinned: Path) -> None:
    words = ("data_in", "hex", PACKET.hex(), "ctx_in", "hex", "01" * 24)
    refused = run("prog", "run", "pinned", pinned, *words, status=2)
    assert refused.stderr.splitlines()[1].startswith("Hint: ctx_in is a struct xdp_md")


def test_a_packet_from_stdin(run: Cli, pinned: Path) -> None:
    shown = run("prog", "run", "pinned", pinned, "data_in", "-", status=0, stdin="fourteen bytes")
    assert shown.stdout.endswith("data_out 14B\n")


# --- by type -------------------------------------------------------------------------------------

WITH_A_PACKET = [
    (ProgramType.SOCKET_FILTER, 14, None),
    (ProgramType.SCHED_CLS, 2, "TC_ACT_SHOT"),
    (ProgramType.SCHED_CLS, -1, "TC_ACT_UNSPEC"),
    (ProgramType.SCHED_ACT, 3, "TC_ACT_PIPE"),
    (ProgramType.XDP, 1, "XDP_DROP"),
    (ProgramType.CGROUP_SKB, 1, None),
    (ProgramType.LWT_IN, 2, "BPF_DROP"),
    (ProgramType.LWT_XMIT, 0, "BPF_OK"),
    (ProgramType.FLOW_DISSECTOR, 2, "BPF_DROP"),
]


@pytest.mark.parametrize(
    ("kind", "value", "verdict"), WITH_A_PACKET, ids=lambda v: getattr(v, "name", str(v))
)
def test_a_type_that_takes_a_packet(kind: ProgramType, value: int, verdict: str | None) -> None:
    with load(kind, value) as fd:
        reference = Reference("id", str(info.prog_info(fd.number).id))
        result = prog_run.run(reference, RunRequest(PACKET))
    assert (result.type, result.retval, result.verdict) == (kind.name.lower(), value, verdict)


def test_a_type_that_takes_a_context_only() -> None:
    code = bytes.fromhex("b700000001000000 9500000000000000")
    attach = int(AttachType.SK_LOOKUP)
    attributes = bpf.ProgAttributes(ProgramType.SK_LOOKUP, code, "GPL", expected_attach_type=attach)
    with Fd(bpf.prog_load(attributes)) as fd:
        reference = Reference("id", str(info.prog_info(fd.number).id))
        with pytest.raises(UsageError, match="takes no packet"):
            prog_run.run(reference, RunRequest(PACKET))
        with pytest.raises(KernelError) as refused:
            prog_run.run(reference, RunRequest(ctx=bytes(72)))
        assert "struct bpf_sk_lookup" in str(refused.value.hint)
        context = struct.pack("=Q2I", 0, socket.AF_INET, socket.IPPROTO_TCP).ljust(72, b"\0")
        result = prog_run.run(reference, RunRequest(ctx=context, repeat=3))
    assert (result.retval, result.verdict, result.data_out) == (1, "SK_PASS", None)


def test_a_type_that_cannot_be_repeated() -> None:
    with load(ProgramType.RAW_TRACEPOINT, 0) as fd:
        reference = Reference("id", str(info.prog_info(fd.number).id))
        with pytest.raises(UsageError, match="cannot be repeated"):
            prog_run.run(reference, RunRequest(repeat=2))
        result = prog_run.run(reference, RunRequest())
    assert (result.retval, result.verdict, result.duration) == (0, None, None)


def test_a_type_that_the_kernel_does_not_run() -> None:
    with load(ProgramType.SOCK_OPS, 0) as fd:
        reference = Reference("id", str(info.prog_info(fd.number).id))
        with pytest.raises(NotSupportedError, match="does not run programs of type sock_ops by hand"):
            prog_run.run(reference, RunRequest())
