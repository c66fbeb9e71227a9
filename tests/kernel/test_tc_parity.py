"""What filter show and action show print is what tc prints: line by line, key by key, in order."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA, Lab, ping

pytestmark = pytest.mark.kernel

TC = TESTDATA / "tc_pass.bpf.o"
MIRROR, REDIRECT = "mirred egress mirror dev v0", "mirred ingress redirect dev v0"
FILTERS = [
    f"dev v0 ingress pref 1 bpf da obj {TC}",
    f"dev v0 ingress pref 2 handle 7 protocol 802.1q bpf obj {TC} classid 1:a skip_hw",
    "dev v0 ingress pref 3 bpf bytecode '1,6 0 0 0' flowid 1:1",
    f"dev v0 ingress pref 4 bpf bc '2,40 0 0 12,6 0 0 4294967295' action {MIRROR} pipe",
    f"dev v0 ingress pref 5 chain 3 protocol ip bpf obj {TC} action {MIRROR} index 70 cookie 0a0b",
    f"dev v0 ingress pref 6 bpf bc '1,6 0 0 0' action {MIRROR} action {REDIRECT} goto chain 3 action {MIRROR}"
    " jump 1",
    f"dev v0 egress bpf obj {TC} action {REDIRECT} drop",
    f"dev v0 egress protocol 0x1234 bpf da obj {TC}",
    f"block 22 pref 3 bpf da obj {TC}",
    f"dev v0 parent 1: pref 9 bpf obj {TC} classid 1:2",
    "dev v0 parent 1: pref 9 bpf bc '1,6 0 0 1'",
]
SHOWS = [
    "filter show dev v0 ingress",
    "filter show dev v0 egress",
    "filter show block 22",
    "filter show dev v2 ingress",
    "filter show dev v0 parent 1:",
    "filter show dev v0 ingress pref 5",
    "filter show dev v0 ingress chain 3",
    "filter show dev v0 ingress protocol all",
    "filter get dev v0 ingress pref 6 handle 1 protocol all bpf",
    "filter get dev v0 ingress chain 3 pref 5 handle 1 protocol ip bpf",
    "action show action mirred",
    "actions list action mirred",
    "action get action mirred index 70",
    "action show action gact",
]
OURS_ONLY = {"map_ids", "run_cnt", "run_time_ns"}  # documented, behind tc's


POLICED = [
    "action police rate 1mbit burst 10k conform-exceed drop",
    "police rate 8gbit burst 1m mtu 9000 drop",
    "action police rate 40gbit burst 1m peakrate 50gbit mtu 64k overhead 14 linklayer atm pipe",
    "action police pkts_rate 1000 pkts_burst 50 index 77 action drop random determ pass 3",
    "action police mtu 1000 continue action police index 77 cookie aa",
]
# tc's JSON leaves them out.
POLICE_ONLY = OURS_ONLY | {"rate", "burst", "mtu", "peakrate", "avrate"}


def words(line: str) -> list[str]:
    return shlex.split(line)


@pytest.fixture
def namespace(netns: Lab, bpffs: Path, run: Cli, requires: Requires) -> str:
    """clsact and htb on v0, a block on v2, FILTERS in all of them, and some packets."""
    requires("tc", "ip")
    name = netns.a.namespace
    for line in (
        "qdisc add dev v0 clsact",
        "qdisc add dev v0 root handle 1: htb",
        "class add dev v0 parent 1: classid 1:2 htb rate 1mbit",
    ):
        judge(name, line)
    subprocess.run(["ip", "-n", name, "link", "add", "v2", "type", "veth", "peer", "name", "v3"], check=True)
    judge(name, "qdisc add dev v2 ingress_block 22 clsact")
    run("-n", name, "-batch", "-", stdin="".join(f"filter add {line}\n" for line in FILTERS), status=0)
    ping(netns.b, netns.a, 3)
    judge(name, "action show action mirred")  # from now on the kernel reports hardware statistics
    return name


def judge(name: str, line: str, *options: str) -> str:
    command = ["tc", "-n", name, *options, *words(line)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def without_ours(value: Any, ours: set[str] = OURS_ONLY) -> Any:
    if isinstance(value, dict):
        return {key: without_ours(member, ours) for key, member in value.items() if key not in ours}
    return [without_ours(member, ours) for member in value] if isinstance(value, list) else value


def text(shown: str) -> list[str]:
    """Lines without blanks at their ends, without what is ours, and without the seconds that pass."""
    shown = re.sub(rf" (?:{'|'.join(OURS_ONLY)}) \S+", "", shown)
    shown = re.sub(r"(installed|used|firstused) \d+ sec", r"\1 N sec", shown)
    return [line.rstrip() for line in shown.rstrip(" ").splitlines()]


def test_show(namespace: str, run: Cli) -> None:
    for options in ((), ("-d",), ("-s",), ("-s", "-d")):
        check_shows(namespace, run, options)


def check_shows(namespace: str, run: Cli, options: tuple[str, ...]) -> None:
    batch = "\n".join(SHOWS)
    ours = run("-n", namespace, *options, "-batch", "-", stdin=batch, status=0).stdout
    assert text(ours) == text(judge_all(namespace, *options))
    ours = run("-n", namespace, "-j", *options, "-batch", "-", stdin=batch, status=0).stdout
    theirs = judge_all(namespace, "-j", *options)
    mine, real = documents(ours), documents(theirs)
    assert len(mine) == len(SHOWS)
    for line, shown, expected in zip(SHOWS, mine, real, strict=True):
        assert list_of_pairs(without_ours(shown)) == list_of_pairs(expected), (options, line)


def judge_all(name: str, *options: str) -> str:
    """What tc shows, each line by a process of its own: in a batch it keeps what an earlier line said."""
    return "".join(judge(name, line, *options) for line in SHOWS)


def documents(shown: str) -> list[Any]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(shown.rstrip()):
        document, at = decoder.raw_decode(shown, at)
        found.append(document)
        at += len(shown[at:]) - len(shown[at:].lstrip())
    return found


def list_of_pairs(value: Any) -> Any:
    """``value`` with objects as lists of pairs, so that their order counts; seconds that pass masked."""
    if isinstance(value, dict):
        passing = ("installed", "last_used", "first_used")
        return [(key, None if key in passing else list_of_pairs(member)) for key, member in value.items()]
    return [list_of_pairs(member) for member in value] if isinstance(value, list) else value


def test_every_hook(namespace: str, run: Cli) -> None:
    shown = json.loads(run("-n", namespace, "-j", "filter", "show", "dev", "v0", status=0).stdout)
    handles = [record for record in shown if record.get("options", {}).get("handle")]
    assert len(handles) == len(FILTERS) - 1  # the one of the block is not v0's


def test_actions_alone(namespace: str, run: Cli) -> None:
    run("-n", namespace, "action", "add", "action", *words(MIRROR), "index", "9", status=0)
    taken = run("-n", namespace, "action", "add", "action", *words(MIRROR), "index", "9", status=2)
    assert "`action replace` takes its place" in taken.stderr
    run("-n", namespace, "action", "replace", "action", *words(REDIRECT), "index", "9", status=0)
    shown = judge(namespace, "actions get action mirred index 9")
    assert "Ingress Redirect to device v0" in shown
    assert text(run("-n", namespace, "action", "get", "mirred", "index", "9", status=0).stdout) == text(shown)
    run("-n", namespace, "action", "del", "action", "mirred", "index", "9", status=0)
    gone = run("-n", namespace, "action", "del", "action", "mirred", "index", "9", status=1)
    assert gone.stderr == (
        "Error: cannot delete action mirred index 9: TC action with specified index not found\n"
    )
    used = run("-n", namespace, "action", "flush", "mirred", status=2)
    assert "Hint: a filter uses one of them" in used.stderr


def test_replacing_keeps_or_drops_actions_as_said(namespace: str, run: Cli) -> None:
    place = "dev v0 ingress pref 6"
    run("-n", namespace, *words(f"filter replace {place} bpf bc '1,6 0 0 5' action {MIRROR}"), status=0)
    show = f"filter show {place}"
    shown = text(run("-n", namespace, *words(show), status=0).stdout)
    assert shown == text(judge(namespace, show))
    assert sum("action order" in line for line in shown) == 1


# --- refusals ------------------------------------------------------------------------------------

ADD = "filter add dev v0 ingress"
REFUSED = [
    (f"{ADD} bpf bc '1,5 0 0 7'", "Invalid argument (EINVAL)", "a classic filter ends with"),
    (f"{ADD} bpf bc '1,6 0 0'", 'bytecode, instruction 1: "6 0 0" is not', "code up to 65535"),
    (f"{ADD} bpf bc '2,6 0 0 1'", "bytecode: 1 instructions where the count says 2", ""),
    (f"{ADD} bpf bcf /none", "cannot read bytecode file /none: No such file", ""),
    (f"{ADD} bpf obj {TC} classid 1:12345", 'Illegal class "1:12345"', ""),
    (f"{ADD} bpf obj {TC} action mirred egress mirror dev v9", 'no interface "v9"', "here: lo"),
    (f"filter add dev v0 parent 5: bpf obj {TC}", "cannot attach the filter", "a clsact qdisc take"),
    (f"filter add dev v3 ingress bpf obj {TC}", "Parent Qdisc doesn't exists", "`bpfctl qdisc add"),
    (f"filter add block 99 bpf obj {TC}", "block 99: cannot attach the filter", ""),
    (f"{ADD} pref 3 handle 1 bpf bc '1,6 0 0 0'", "a classic filter, is there", "`filter replace`"),
    ("filter get dev v0 ingress pref 77 handle 1 bpf", "no bpf filter pref 77", "there are pref 1 bpf"),
    ("action get action mirred index 12345", "TC action with specified index not found", ""),
]


def test_refusals(namespace: str, run: Cli) -> None:
    batch = "\n".join(line for line, *_ in REFUSED)
    done = run("-n", namespace, "-force", "-batch", "-", stdin=batch)
    assert done.returncode == 2  # of the first
    parts = re.split(r"^Error: stdin:(\d+): ", done.stderr, flags=re.MULTILINE)[1:]
    assert parts[::2] == [str(number) for number in range(1, len(REFUSED) + 1)]
    for (line, message, hint), shown in zip(REFUSED, parts[1::2], strict=True):
        error, _, rest = shown.partition("\n")
        assert message in error, line
        assert hint in rest, line


@pytest.mark.kernels
def test_a_kernel_without_the_action(namespace: str, run: Cli, requires: Requires) -> None:
    try:
        requires("act_bpf")
    except pytest.skip.Exception:
        done = run("-n", namespace, "action", "add", "action", "bpf", "bc", "1,6 0 0 0", status=2)
        assert "Failed to load TC action module" in done.stderr
        assert "CONFIG_NET_ACT_BPF" in done.stderr
        return
    action = TESTDATA / "act_pass.bpf.o"
    run("-n", namespace, "action", "add", "action", "bpf", "obj", action, "index", "667", status=0)
    drops = "action add action drop index 5 action jump 2 random netrand ok 9"
    run("-n", namespace, *words(drops), status=0)
    for line in ("actions list action bpf", "actions get action bpf index 667", "actions list action gact"):
        for options in ((), ("-d",), ("-s",), ("-j",), ("-j", "-d")):
            ours = run("-n", namespace, *options, *words(line), status=0).stdout
            if "-j" in options:
                mine, theirs = without_ours(json.loads(ours)), json.loads(judge(namespace, line, *options))
                assert list_of_pairs(mine) == list_of_pairs(theirs), line
            else:
                assert text(ours) == text(judge(namespace, line, *options)), line
    run("-n", namespace, "action", "flush", "bpf", status=0)
    lines = [
        f"bpf obj {TC} action bpf obj {action} pipe action drop",
        *(f"bpf obj {TC} {p}" for p in POLICED),
    ]
    for pref, line in enumerate(lines, 40):
        run("-n", namespace, *words(f"filter add dev v0 ingress pref {pref} {line}"), status=0)
    for line in ("filter show dev v0 ingress", "actions list action police", "actions list action gact"):
        for options in ((), ("-d",), ("-s",) if line.startswith("actions") else ()):
            ours = run("-n", namespace, *options, *words(line), status=0).stdout
            assert text(ours) == text(judge(namespace, line, *options)), line
            ours = run("-n", namespace, "-j", *options, *words(line), status=0).stdout
            theirs = json.loads(judge(namespace, line, "-j", *options))
            mine = without_ours(json.loads(ours), POLICE_ONLY)
            assert list_of_pairs(mine) == list_of_pairs(theirs), line
