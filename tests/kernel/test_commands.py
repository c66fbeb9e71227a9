"""Commands as processes on a real kernel; tc, ip and bpftool are the judges of what they print."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA, Lab

from bpfctl.attach.xdp import InterfaceInfo, XdpMode
from bpfctl.cli import link_show
from bpfctl.cli.app import App, Options

pytestmark = pytest.mark.kernel

XDP = TESTDATA / "proto_counters.bpf.o"  # legacy maps, two sections, one pinned map
TC = TESTDATA / "tc_pass.bpf.o"


def judge(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def lines(text: str) -> list[str]:
    """Lines without the blank that iproute2 leaves at the end."""
    return [line.rstrip() for line in text.splitlines()]


# --- link ----------------------------------------------------------------------------------------


OF_OURS = {"map_ids", "run_cnt", "run_time_ns"}  # behind ip's


@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_link_show_as_ip(netns: Lab, bpffs: Path, run: Cli, requires: Requires, mode: str) -> None:
    """With an id, a tag, and what -d and -s add; the second device has no program."""
    requires("ip")
    ns = netns.a.namespace
    run("-n", ns, "link", "set", "dev", "v0", mode, "obj", XDP, "sec", "xdp", status=0)
    for options in ((), ("-d",), ("-s",), ("-s", "-d")):
        theirs = json.loads(judge("ip", "-n", ns, "-j", *options, "link", "show"))
        ours = json.loads(run("-n", ns, "-j", *options, "link", "show", status=0).stdout)
        for mine, real in zip(ours, theirs, strict=True):
            for slot in (mine.get("xdp", {}), *mine.get("xdp", {}).get("attached", ())):
                slot.get("prog", {}).pop("run_cnt", 0), slot.get("prog", {}).pop("run_time_ns", 0)
                assert len(slot.get("prog", {}).pop("map_ids", [0])) == 1
            assert list(mine) == [key for key in real if key in mine]
            assert {"xdp"} & set(mine) == {"xdp"} & set(real)
            assert [json.dumps(mine[key]) for key in mine] == [json.dumps(real[key]) for key in mine]
        shown = lines(run("-n", ns, *options, "link", "show", "dev", "v0", status=0).stdout)
        head, *rest = lines(judge("ip", "-n", ns, *options, "link", "show", "dev", "v0"))
        assert shown[0] == re.sub(
            r"@\S+:|( qdisc \S+)|( mode .*)", lambda part: ":" if part[0][0] == "@" else "", head
        )
        (block,) = [line for line in rest if "prog/xdp" in line]
        assert [re.sub(f" ({'|'.join(OF_OURS)}) \\S+", "", line) for line in shown[1:]] == [block]


def test_link_show_of_several_modes() -> None:
    """As ip(8) showed it when a recvmsg(2) of ours put these slots into the kernel's answer."""
    slots = ((XdpMode.GENERIC, 9999997), (XdpMode.NATIVE, 9999998), (XdpMode.OFFLOAD, 9999999))
    app = cast(App, SimpleNamespace(options=Options(details=True)))
    record = link_show._record(app, InterfaceInfo(3, "v0", 0x1002, 1500, 2, 4, slots))
    shown = '{"mode":4,"attached":[{"mode":2,"prog":{"id":9999997}},{"mode":1,"prog":{"id":9999998}},'
    assert json.dumps(record["xdp"], separators=(",", ":")) == shown + '{"mode":3,"prog":{"id":9999999}}]}'
    assert link_show._text(record).splitlines() == [
        "3: v0: <BROADCAST,MULTICAST> mtu 1500 xdpmulti state DOWN",
        "    prog/xdpgeneric id 9999997",
        "    prog/xdpdrv id 9999998",
        "    prog/xdpoffload id 9999999",
    ]


def test_stats_show_runs(netns: Lab, bpffs: Path, run: Cli) -> None:
    ns = netns.a.namespace
    run("-n", ns, "link", "set", "v0", "xdp", "obj", XDP, "sec", "xdp", status=0)
    (plain,) = json.loads(run("-n", ns, "-j", "link", "show", "v0", status=0).stdout)
    (stats,) = json.loads(run("-n", ns, "-j", "-s", "link", "show", "v0", status=0).stdout)
    assert set(stats["xdp"]["prog"]) - set(plain["xdp"]["prog"]) == {"run_cnt", "run_time_ns"}


def test_xdp_off_says_what_it_did_not_do(netns: Lab, bpffs: Path, run: Cli) -> None:
    ns = netns.a.namespace
    run("-n", ns, "link", "set", "v0", "xdpgeneric", "obj", XDP, "sec", "xdp", status=0)
    refused = run("-n", ns, "link", "set", "v0", "xdpdrv", "off", status=1)
    assert "is attached as xdpgeneric" in refused.stderr
    run("-n", ns, "link", "set", "v0", "xdpgeneric", "off", status=0)
    run("-n", ns, "link", "set", "v0", "xdp", "off", status=0)
    (record,) = json.loads(run("-n", ns, "-j", "link", "show", "v0", status=0).stdout)
    assert "xdp" not in record


def test_taken_slot_needs_force(netns: Lab, bpffs: Path, run: Cli) -> None:
    ns = netns.a.namespace
    run("-n", ns, "link", "set", "v0", "xdp", "obj", XDP, "sec", "xdp", status=0)
    other = TESTDATA / "xdp_pass.bpf.o"
    refused = run("-n", ns, "link", "set", "v0", "xdp", "obj", other, status=2)
    assert 'count_protocols" is attached as xdpdrv' in refused.stderr
    assert refused.stderr.endswith("Hint: `bpfctl -force` replaces it\n")
    run("-force", "-n", ns, "link", "set", "v0", "xdp", "obj", other, status=0)
    (record,) = json.loads(run("-n", ns, "-j", "link", "show", "v0", status=0).stdout)
    assert record["xdp"]["prog"]["name"] == "xdp_pass"


# --- qdisc and filter ----------------------------------------------------------------------------


@pytest.fixture
def filters(netns: Lab, bpffs: Path, run: Cli) -> str:
    """A namespace with a clsact on v0 and a filter at each hook."""
    ns = netns.a.namespace
    run("-n", ns, "qdisc", "add", "dev", "v0", "clsact", status=0)
    run("-n", ns, "filter", "add", "dev", "v0", "ingress", "bpf", "da", "obj", TC, status=0)
    place = ("dev", "v0", "egress", "pref", "7", "protocol", "ip", "handle", "0x5")
    run("-n", ns, "filter", "add", *place, "bpf", "obj", TC, "classid", "1:a", status=0)
    return ns


def test_qdisc_show_as_tc(filters: str, run: Cli, requires: Requires) -> None:
    requires("tc")
    theirs = [
        q for q in json.loads(judge("tc", "-n", filters, "-j", "qdisc", "show")) if q["kind"] == "clsact"
    ]
    for qdisc in theirs:
        del qdisc["options"]
    assert json.loads(run("-n", filters, "-j", "qdisc", "show", status=0).stdout) == theirs
    assert run("-n", filters, "q", status=0).stdout == "qdisc clsact ffff: dev v0 parent ffff:fff1\n"


@pytest.mark.parametrize("hook", ["ingress", "egress"])
@pytest.mark.parametrize("more", [(), ("-d",)])
def test_filter_show_as_tc(
    filters: str, run: Cli, requires: Requires, hook: str, more: tuple[str, ...]
) -> None:
    requires("tc")
    words = ("filter", "show", "dev", "v0", hook)
    theirs = json.loads(judge("tc", "-n", filters, "-j", *more, *words))
    ours = json.loads(run("-n", filters, "-j", *more, *words, status=0).stdout)
    for entry in ours:
        assert entry.get("options", {}).get("prog", {}).pop("map_ids", []) == []
    assert ours == theirs
    text = lines(judge("tc", "-n", filters, *more, *words))
    assert lines(run("-n", filters, *more, *words, status=0).stdout) == text


def test_filter_show_without_a_hook_shows_all(filters: str, run: Cli) -> None:
    of_device = json.loads(run("-n", filters, "-j", "filter", "show", "dev", "v0", status=0).stdout)
    assert [(f.get("ingress"), f.get("egress"), f["pref"]) for f in of_device if "options" in f] == [
        (True, None, 49152),
        (None, True, 7),
    ]
    everywhere = json.loads(run("-n", filters, "-j", "filter", "show", status=0).stdout)
    assert everywhere == [{"dev": "v0", **entry} for entry in of_device]


def test_filter_replace_and_delete(filters: str, run: Cli) -> None:
    def programs() -> list[int]:
        shown = json.loads(
            run("-n", filters, "-j", "filter", "show", "dev", "v0", "ingress", status=0).stdout
        )
        return [entry["options"]["prog"]["id"] for entry in shown if "options" in entry]

    before = programs()
    run("-n", filters, "filter", "replace", "dev", "v0", "ingress", "bpf", "da", "obj", TC, status=0)
    after = programs()
    assert len(before) == len(after) == 1
    assert before != after
    run("-n", filters, "filter", "del", "dev", "v0", "ingress", status=0)
    assert programs() == []
    run("-n", filters, "filter", "delete", "dev", "v0", "egress", "pref", "7", "handle", "5", "bpf", status=0)
    run("-n", filters, "filter", "del", "dev", "v0", "egress", "pref", "7", status=1)


# --- prog and map --------------------------------------------------------------------------------


def test_load_pin_and_attach_by_reference(netns: Lab, bpffs: Path, run: Cli) -> None:
    ns = netns.a.namespace
    run("prog", "load", TESTDATA / "xdp_pass.bpf.o", bpffs / "one", status=0)
    record = json.loads(run("-j", "prog", "show", "pinned", bpffs / "one", status=0).stdout)
    assert (record["type"], record["name"], record["pinned"]) == ("xdp", "xdp_pass", [str(bpffs / "one")])
    run("prog", "pin", "id", record["id"], bpffs / "two", status=0)
    for word, value in (("pinned", bpffs / "two"), ("id", record["id"])):
        run("-force", "-n", ns, "link", "set", "v0", "xdp", word, value, status=0)
        (shown,) = json.loads(run("-n", ns, "-j", "link", "show", "v0", status=0).stdout)
        assert shown["xdp"]["prog"]["id"] == record["id"]
    taken = run("prog", "pin", "id", record["id"], bpffs / "two", status=2)
    assert taken.stderr.startswith(f"Error: cannot pin to {bpffs / 'two'}: File exists (EEXIST)\n")


@pytest.fixture
def endpoints(bpffs: Path, run: Cli) -> Path:
    """The pin of a hash map, keys of 4 bytes, values of 32."""
    words = ("prog", "load", TESTDATA / "endpoints.bpf.o", bpffs / "p", "type", "sched_cls")
    run(*words, "sec", "to-container", status=0)
    return bpffs / "tc" / "globals" / "endpoints"


def test_map_elements_as_bpftool(endpoints: Path, run: Cli, requires: Requires) -> None:
    requires("bpftool")
    value = " ".join(f"{n:02x}" for n in range(32))
    pinned = ("pinned", endpoints)
    run("map", "update", *pinned, "key", "10", "0", "0", "1", "value", "hex", *value.split(), status=0)
    run("map", "update", *pinned, "key", "0x2", "value", "hex", value.replace(" ", ""), "noexist", status=0)
    ours = json.loads(run("-j", "map", "dump", *pinned, status=0).stdout)
    assert {tuple(e["key"]): e.pop("formatted") for e in ours} == {
        ("0x0a", "0x00", "0x00", "0x01"): {"key": int.from_bytes(b"\x0a\0\0\1", sys.byteorder)},
        tuple(f"{b:#04x}" for b in (2).to_bytes(4, sys.byteorder)): {"key": 2},
    }
    assert ours == json.loads(judge("bpftool", "-j", "map", "dump", "pinned", str(endpoints)))
    shown = run("map", "lookup", *pinned, "key", "10", "0", "0", "1", status=0).stdout
    number = int.from_bytes(b"\x0a\0\0\1", sys.byteorder)
    assert shown == f"key: 0a 00 00 01 ({number})  value: {value}\n"
    run("map", "delete", *pinned, "key", "2", status=0)
    gone = run("map", "delete", *pinned, "key", "2", status=1)
    assert gone.stderr.endswith("(endpoints) has no such element\n")


def test_map_show_and_pin(endpoints: Path, bpffs: Path, run: Cli) -> None:
    second = bpffs / "again"
    run("map", "pin", "pinned", endpoints, second, status=0)
    record = json.loads(run("-j", "map", "show", "pinned", "m:globals/endpoints", status=0).stdout)
    assert sorted(record["pinned"]) == sorted((str(second), str(endpoints)))
    assert (record["type"], record["bytes_key"], record["bytes_value"]) == ("hash", 4, 32)
    listed = json.loads(run("-j", "-d", "map", "show", status=0).stdout)
    assert record.pop("entries") == 0  # only where one map is named
    assert [r for r in listed if r["id"] == record["id"]] == [record | {"pids": []}]


def test_values_for_each_cpu(bpffs: Path, run: Cli) -> None:
    run("prog", "load", XDP, bpffs / "p", "sec", "xdp", status=0)
    pinned = ("pinned", bpffs / "tc" / "globals" / "proto_counters")
    run("map", "update", *pinned, "key", "3", "value", "hex", "01" + 31 * "00", status=0)
    element = json.loads(run("-j", "map", "lookup", *pinned, "key", "3", status=0).stdout)
    assert [slot["cpu"] for slot in element["values"]] == list(range(len(element["values"])))
    assert {tuple(slot["value"]) for slot in element["values"]} == {("0x01", *["0x00"] * 31)}
    text = run("map", "lookup", *pinned, "key", "3", status=0).stdout
    assert len(text.splitlines()) == 1 + len(element["values"])  # plain bytes: there is no total


# --- the process ---------------------------------------------------------------------------------


def test_batch_keeps_descriptors_flat(netns: Lab, bpffs: Path, tmp_path: Path) -> None:
    """The batch reads from a pipe: between two lines the test looks at the descriptors of the process."""
    words = [sys.executable, "-m", "bpfctl", "-n", netns.a.namespace, "-b", "-"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def descriptors_after(batch: str) -> int:
            process.stdin.write(f"{batch}\nversion\n")
            process.stdin.flush()
            while not process.stdout.readline().startswith("features"):
                pass
            return len(os.listdir(f"/proc/{process.pid}/fd"))

        line = f"filter replace dev v0 ingress pref 1 bpf da obj {TC}\nfilter show dev v0\nprog show\n"
        first = descriptors_after(f"qdisc add dev v0 clsact\n{line}")
        assert descriptors_after(200 * line) == first
    assert process.returncode == 0


def test_reader_that_goes_away_is_no_error(filters: str) -> None:
    words = [sys.executable, "-m", "bpfctl", "-n", filters, "-b", "-"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        process.stdin.write("link show\n")
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_signals_end_it_quietly(number: signal.Signals, status: int) -> None:
    words = [sys.executable, "-m", "bpfctl", "-b", "-"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("version\n")
        process.stdin.flush()
        process.stdout.readline()  # it is up, and waits for the next line
        process.send_signal(number)
        assert process.stderr.read() == ""
    assert process.returncode == status


def test_namespace_that_is_not_there(run: Cli) -> None:
    refused = run("-n", "no-such-namespace", "link", "show", status=1)
    assert refused.stderr.startswith('Error: no network namespace "no-such-namespace"\n')


def test_the_api_does_what_the_commands_do(bpffs: Path) -> None:
    import bpfctl

    source = bpfctl.ObjectSource(str(TESTDATA / "xdp_pass.bpf.o"))
    record: Any = bpfctl.load_program(source, str(bpffs / "p"))
    assert bpfctl.find_program(bpfctl.Reference("id", str(record.id))).pinned == (str(bpffs / "p"),)
    assert abs(record.loaded_at - time.time()) < 60
