"""Scripts for ip and tc with bpfctl in their place: the real tools are the judges, word for word."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import programs
import pytest
from fixture_types import Requires
from netlab import TESTDATA, Lab, inside

from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import MapType, ProgramType

pytestmark = pytest.mark.kernel

TC, XDP = TESTDATA / "tc_pass.bpf.o", TESTDATA / "xdp_pass.bpf.o"
LEGACY = TESTDATA / "proto_counters.bpf.o"  # with section maps: the real tools refuse it
LWT = TESTDATA / "lwt.bpf.o"
DROP = TESTDATA / "xdp_drop.bpf.o"
BIG_ENDIAN = TESTDATA / "subprogs_bigendian.bpf.o"
REJECTED = TESTDATA / "verifier_reject.bpf.o"


class Tools:
    """The commands ip and tc in a network namespace, ours or the real ones."""

    def __init__(self, namespace: str, path: str) -> None:
        self._namespace = namespace
        self._path = path

    def __call__(self, line: str, stdin: str = "", path: str = "") -> subprocess.CompletedProcess[str]:
        tool, *words = (word.replace("_", " ") if "," in word else word for word in line.split())
        return subprocess.run(
            [tool, "-n", self._namespace, *words],
            env={**os.environ, "PATH": path or self._path},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def script(self, text: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """``text`` run by sh(1) inside the namespace."""
        with inside(self._namespace):
            return subprocess.run(
                ["sh", "-c", text],
                env={**os.environ, "PATH": path or self._path},
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )

    def shows(self, line: str) -> Any:
        """What the real tool shows."""
        tool, _, rest = line.partition(" ")
        return json.loads(self(f"{tool} -j {rest}", path=os.environ["PATH"]).stdout)


@pytest.fixture
def tools(netns: Lab, bpffs: Path, requires: Requires, tmp_path: Path) -> tuple[Tools, Tools]:
    """Ours, in namespace a with a clsact on v0; the real ones, in namespace b with the same on v1."""
    requires("ip", "tc")
    script = tmp_path / "bpfctl-shim"
    script.write_text(f"#!{sys.executable}\nfrom bpfctl.cli.main import main\nmain()\n")
    script.chmod(0o755)
    for name in ("ip", "tc"):
        (tmp_path / name).symlink_to(script)
    path = os.environ["PATH"]
    ours, theirs = Tools(netns.a.namespace, f"{tmp_path}:{path}"), Tools(netns.b.namespace, path)
    theirs("ip link set v1 down")  # by itself: Linux 5.10 renames before it takes down
    theirs("ip link set v1 name v0")
    theirs("ip link set v0 up")
    for side in (ours, theirs):
        assert side("tc qdisc add dev v0 clsact").returncode == 0
    return ours, theirs


# --- single lines --------------------------------------------------------------------------------

# What both tools do alike: exit status, and what show says afterwards.
LINES = [
    f"tc filter add dev v0 ingress bpf da obj {TC} sec classifier",
    f"tc fil ad dev v0 egress pr 7 pro ip handle 5 bpf obj {TC} s classifier flowid 1:a",
    f"tc filter replace dev v0 ingress pref 5 handle 3 bpf o {TC} s classifier v da",
    f"tc filter add dev v0 parent ffff:fff3 prio 9 chain 4 bpf run object-file {TC} direct-action",
    f"tc filter add dev v0 ingress pref 5 protocol 802.1q bpf da obj {TC} skip_hw",
    "tc filter add dev v0 ingress pref 5 bpf da obj /no/such/file",
    f"tc filter add dev v0 ingress bpf da obj {TC} sec no-such",
    f"tc filter add dev v0 ingress bpf da obj {REJECTED}",
    f"tc filter add dev v0 ingress bpf da obj {TC} verb sec classifier",
    f"tc filter add dev nodev ingress bpf da obj {TC} sec classifier",
    f"tc filter add dev v0 parent 7: bpf da obj {TC} sec classifier",
    f"tc filter change dev v0 ingress pref 5 handle 3 bpf da obj {TC} sec classifier",
    "tc filter add dev v0 ingress bpf da pinned /no/such/pin",
    "tc filter add dev v0 ingress bpf da",
    "tc filter del dev v0 ingress pref 5 bpf",
    "tc filter show dev v0 ingress",
    "tc filter get dev v0 ingress pref 1 protocol all handle 1 bpf",
    f"ip link set dev v0 xdp obj {XDP} sec xdp",
    f"ip l s v0 xdpgeneric o {XDP} s xdp v",
    f"ip -force link set v0 alias xdp xdpgeneric obj {XDP} sec xdp mtu 1400",
    "ip link set v0 xdp off",
    "ip link set v0 xdp off up",
    "ip link set v0 up xdp off",
    "ip link set v0 xdp obj /no/such/file",
    f"ip link set v0 xdp obj {XDP} sec no-such",
    f"ip link set dev nodev xdp obj {XDP} sec xdp",
    f"ip link set v0 mtu 1000000000 xdpgeneric obj {XDP} sec xdp",
    "ip link set v0 xdp pinned /no/such/pin",
    "ip link set v0 xdp bytecode 1,6",
    "ip link set v0 xdp",
    "ip link show v0",
    f"ip route add 10.9.1.0/24 encap bpf out obj {LWT} sec lwt_out dev v0",
    f"ip route add 10.9.1.0/24 encap bpf out obj {LWT} sec lwt_out dev v0",
    f"ip r chg 10.9.1.0/24 encap bpf in obj {LWT} sec lwt_in out obj {LWT} sec lwt_out dev v0",
    f"ip route add 10.9.2.0/24 encap bpf out obj {LWT} sec no-such dev v0",
    f"ip route add 10.9.2.0/24 encap bpf out obj {LWT} sec lwt_out dev nodev",
    "ip route add 10.9.3.0/24 encap bpf headroom 0 dev v0",
    f"ip nexthop add id 5 encap bpf xmit obj {LWT} sec lwt_xmit headroom 14 dev v0",
    f"ip nex replace id 5 encap bpf out obj {LWT} sec lwt_out dev v0",
    "ip route show",
]


def masked(value: Any) -> Any:
    """``value`` without what differs from load to load, and from namespace to namespace."""
    if isinstance(value, dict):
        hidden = ("id", "ifindex", "address", "link_netnsid", "link_index", "broadcast")
        return {key: masked(member) for key, member in value.items() if key not in hidden}
    return [masked(member) for member in value] if isinstance(value, list) else value


def state(side: Tools) -> Any:
    shows = ("ip -d link show v0", "tc filter show dev v0 ingress", "tc filter show dev v0 egress")
    routes = ("ip route show 10.9.0.0/16", "ip nexthop show")
    found = masked([side.shows(line) for line in shows + routes])
    for link in found[0]:
        for slot in link.get("xdp", {}).get("attached", ()):
            slot["prog"].pop("load_time", None), slot["prog"].pop("btf_id", None)
        for name in ("load_time", "btf_id"):
            link.get("xdp", {}).get("prog", {}).pop(name, None)
    return found


def test_same_status_and_same_effect(tools: tuple[Tools, Tools]) -> None:
    ours, theirs = tools
    for line in LINES:
        mine, real = ours(line), theirs(line)
        assert mine.returncode == real.returncode, (mine, real)
        assert bool(mine.stderr) == bool(real.stderr), (mine, real)
        if real.returncode == 2 and line.startswith("tc"):
            assert mine.stderr.endswith("We have an error talking to the kernel\n")
        assert state(ours) == state(theirs), line


def test_taken_slot(tools: tuple[Tools, Tools]) -> None:
    for side in tools:
        assert side(f"ip link set v0 xdp obj {XDP} sec xdp").returncode == 0
        assert side(f"ip link set v0 xdp obj {DROP} sec xdp").returncode == 2
        assert side(f"ip -force link set v0 xdp obj {DROP} sec xdp").returncode == 0


def test_the_first_of_a_section(tools: tuple[Tools, Tools]) -> None:
    """iproute2 takes it without a word; here a note says what else there is."""
    two = TESTDATA / "two_in_section.bpf.o"
    for line, first in (
        (f"ip link set v0 xdp obj {two} sec xdp", "xdp_first"),
        (f"tc filter add dev v0 ingress pref 1 bpf da obj {two} sec classifier", "tc_first"),
        (f"tc filter add dev v0 egress pref 1 bpf da obj {two}", "tc_first"),
        (f"tc filter add dev v0 egress pref 2 bpf da obj {two} program tc_second", ""),
        (f"ip route add 10.9.1.0/24 encap bpf out obj {LWT} sec lwt_out dev v0", ""),
    ):
        mine, real = (side(line) for side in tools)
        assert (mine.returncode, real.returncode, real.stderr) == (0, 0, "")
        note = f"Note: {two}: program {first} is the first of 2 in section"
        assert mine.stderr.startswith(note) if first else mine.stderr == "", mine
    assert state(tools[0]) == state(tools[1])


def test_what_the_real_tools_cannot_load(tools: tuple[Tools, Tools]) -> None:
    ours, theirs = tools
    for line in (
        f"ip link set v0 xdp obj {LEGACY} sec xdp",
        f"tc filter add dev v0 egress bpf da obj {LEGACY}",
    ):
        assert theirs(line).returncode in (1, 255)
    assert ours(f"ip link set v0 xdp obj {LEGACY} sec xdp").returncode == 0
    (link,) = ours.shows("ip link show v0")
    assert link["xdp"]["prog"]["name"] == "count_protocols"


def test_the_rest_of_a_line_comes_first_and_decides(tools: tuple[Tools, Tools]) -> None:
    ours, _ = tools
    refused = ours(f"ip link set v0 mtu 1000000000 xdp obj {LEGACY} sec xdp")
    assert refused.returncode == 2
    assert refused.stderr.endswith("Error: v0: nothing is attached, since the rest of the line was refused\n")
    pins = list(Path(os.environ["TC_BPF_MNT"]).rglob("proto_counters"))
    assert pins == []
    assert ours(f"ip link set v0 name w0 alias xdp xdp obj {LEGACY} sec xdp").returncode == 0
    (link,) = ours.shows("ip link show w0")
    assert (link["ifalias"], link["xdp"]["prog"]["name"]) == ("xdp", "count_protocols")


# A kind of word that is not known here, in a kernel that has little of what tc knows.
FOREIGN = "action mirred egress mirror dev {} hw_stats disabled"


def test_a_program_is_lent_for_words_that_are_not_known_here(
    tools: tuple[Tools, Tools], bpffs: Path, tmp_path: Path
) -> None:
    """The same status and effect as the real tool's, but for where the program is said to come from."""
    ours, theirs = tools
    filter_, route = "tc filter add dev v0 ingress pref 3 bpf", "ip route add 10.9.1.0/24 dev v0 rto_min 5ms"
    for line, status in (
        (f"{filter_} da obj {TC} sec classifier {FOREIGN.format('v0')}", 0),
        (f"{filter_} da obj {TC} sec classifier {FOREIGN.format('v9')}", 1),
        (f"{filter_} obj {TC} sec classifier {FOREIGN.format('v0')} classid 1:7", 0),
        (f"{filter_} obj {TC} verb sec classifier {FOREIGN.format('v0')}", 1),
        (f"{filter_} obj {TC} sec classifier nonsense", 1),
        (f"{filter_} obj {TC} sec no-such {FOREIGN.format('v0')}", 1),
        (f"{filter_} handle 1 obj {TC} {FOREIGN.format('v0')}", 1),
        (f"{route} encap bpf in obj {LWT} sec lwt_in out obj {LWT} sec lwt_out", 0),
        (f"{route} encap bpf in obj {LWT} sec lwt_in xmit obj {LWT} sec lwt_xmit headroom 16", 2),
        (f"{route} encap bpf xmit obj {LWT} sec lwt_xmit headroom", 255),
        (f"ip link set group 0 xdp obj {XDP} sec nothing", 255),
    ):
        mine, real = ours(line), theirs(line)
        assert (mine.returncode, real.returncode) == (status, status), (mine, real)
        if "sec no" not in line and "verb" not in line:
            assert mine.stderr == real.stderr
    assert ":[*fsobj]" in json.dumps(state(ours))
    assert json.loads(json.dumps(state(ours)).replace(":[*fsobj]", "")) == state(theirs)


def test_maps_of_a_program_that_is_lent(tools: tuple[Tools, Tools], bpffs: Path, tmp_path: Path) -> None:
    """They are pinned with the filter, and not without; `export` sends them once it is there."""
    ours, _ = tools
    legacy, path = TESTDATA / "legacy_globals.bpf.o", tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        line = f"tc filter add dev v0 ingress bpf obj {legacy} sec classifier export {path} "
        assert ours(line + FOREIGN.format("v9")).returncode == 1
        assert not list(bpffs.rglob("lengths"))
        done = ours(line + FOREIGN.format("v0"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        _, fds, _, _ = socket.recv_fds(receiver, 4096, 8)
    for fd in fds:
        os.close(fd)
    assert len(fds) == 1
    assert len(list(bpffs.rglob("lengths"))) == 1
    (shown,) = (found for found in ours.shows("tc filter show dev v0 ingress") if "options" in found)
    assert shown["options"]["bpf_name"] == "legacy_globals.bpf.o:[classifier]:[*fsobj]"
    assert [action["kind"] for action in shown["options"]["actions"]] == ["mirred"]


@pytest.mark.kernels
def test_filters_and_actions_of_other_kinds(
    tools: tuple[Tools, Tools], bpffs: Path, requires: Requires
) -> None:
    requires("act_bpf")
    ours, _ = tools
    legacy, action = TESTDATA / "legacy_globals.bpf.o", TESTDATA / "act_pass.bpf.o"
    for pref, (line, kinds) in enumerate(
        (
            (f"bpf obj {legacy} action skbedit mark 7 action bpf obj {action}", ["skbedit", "bpf"]),
            (f"bpf obj {legacy} action vlan push id 5 pipe action csum ip", ["vlan", "csum"]),
            (f"matchall action bpf obj {legacy} sec classifier pipe action drop", ["bpf", "gact"]),
            (f"protocol ip flower ip_proto icmp action bpf obj {action}", ["bpf"]),
            (f"protocol ip u32 match u32 0 0 action bpf run obj {action} index 3", ["bpf"]),
        ),
        1,
    ):
        done = ours(f"tc filter add dev v0 egress pref {pref} {line}")
        assert (done.returncode, done.stderr) == (0, ""), line
        shown = ours.shows("tc filter show dev v0 egress")
        options = [found["options"] for found in shown if found["pref"] == pref and "options" in found]
        assert [found["kind"] for found in options[-1]["actions"]] == kinds
    done = ours(f"tc actions add action bpf obj {action} index 9 action skbedit mark 4 index 9")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "act_pass.bpf.o:[action]:[*fsobj]"
        in ours("tc actions show action bpf", path=os.environ["PATH"]).stdout
    )
    assert len(list(bpffs.rglob("lengths"))) == 1


def test_graft(tools: tuple[Tools, Tools], bpffs: Path) -> None:
    """A slot of a pinned program array, by tc exec; a failure has status 255, as tc's."""
    ours, _ = tools
    pin = bpffs / "array"
    with Fd(bpf.map_create(bpf.MapAttributes(MapType.PROG_ARRAY, 4, 4, 4))) as array:
        bpf.obj_pin(array.number, str(pin))
        grafted = ours(f"tc exec bpf graft {pin} key 3 obj {TC} sec classifier")
        assert (grafted.returncode, grafted.stderr) == (0, "")
        failed = ours(f"tc exec bpf graft {pin} key 77 obj {TC} sec classifier")
    assert failed.returncode == 255
    assert failed.stderr.startswith("Error: ")
    assert ours(f"tc exec bpf graft {pin} key 1 obj /none").returncode == 255


def test_off_in_another_mode_is_no_silent_success(tools: tuple[Tools, Tools]) -> None:
    ours, theirs = tools
    for side, status in ((ours, 2), (theirs, 0)):
        assert side(f"ip link set v0 xdpgeneric obj {XDP} sec xdp").returncode == 0
        assert side("ip link set v0 xdpdrv off").returncode == status
        assert "xdp" in side.shows("ip link show v0")[0]


# --- what iproute2 says, and what is wrong --------------------------------------------------------

ONE_MAP = struct.pack("<9I", MapType.ARRAY, 4, 8, 64, 0, 0, 0, 0, 0)  # struct bpf_elf_map
FILTER = "tc filter add dev v0 ingress bpf da"
# What the real tool says; a line; words of our error, "" where it loads.
CATALOGUE = [
    ("Cannot initialize ELF context!", f"{FILTER} obj {{tmp}}/text", "text: not an ELF file"),
    ("Cannot initialize ELF context!", f"{FILTER} obj {{tmp}}/empty", "empty: the file is empty"),
    ("Cannot initialize ELF context!", f"{FILTER} obj {{tmp}}/none.o", "none.o: No such file or directory"),
    ("ELF file not for eBPF?", f"{FILTER} obj {{tmp}}/machine.o", "offset 0x12: made for machine 62"),
    ("We are little endian", f"{FILTER} obj {BIG_ENDIAN} program sum_up", "the object is big endian"),
    ("ERROR: opening BPF object file failed", f"{FILTER} obj {TESTDATA}/legacy_globals.bpf.o", ""),
    ("object file doesn't contain sec no", f"{FILTER} obj {TC} sec no", 'no program in a section "no"'),
    ("object file doesn't contain prog no", f"{FILTER} obj {TC} program no", 'no program "no"'),
    ("Unable to load program", f"{FILTER} obj {REJECTED}", "the verifier refused program reads_too_far_tc"),
    ("Unable to load program", f"{FILTER} skip_sw obj {TC} sec classifier", "takes no offloaded programs"),
    ("legacy map definitions", f"{FILTER} obj {TESTDATA}/ambiguous_map.bpf.o", "map either: its 28 bytes"),
    ("legacy map definitions", f"{FILTER} obj {TESTDATA}/pin_custom.bpf.o", "map custom has pinning 7"),
    ("ERROR: opening BPF object", f"{FILTER} obj {TESTDATA}/undefined_symbol.bpf.o", "is not defined"),
    ("Unable to load program", f"{FILTER} obj {TESTDATA}/no_license.bpf.o", 'SEC("license")'),
    (
        "GPL-restricted function",
        "ip link set v0 xdp obj {tmp}/licence.o program to_perf",
        "of a longer one the kernel reads 127 bytes",
    ),
    ("Error parsing section 6!", f"{FILTER} obj {{tmp}}/maps.o", ""),
    (
        "Error fetching ELF ancillary data!",
        f"{FILTER} obj {{tmp}}/part.o",
        "ends at 0x24, outside of section 6",
    ),
    ("RTNETLINK answers: Invalid argument", FILTER, "the filter has no program"),
    ("failed to load: -22", f"ip link set v0 xdpoffload obj {XDP} sec xdp", "takes no offloaded programs"),
    ("Couldn't retrieve pinned program", f"{FILTER} pinned /sys/fs/bpf/none", "nothing is pinned at"),
    ("Unable to parse bpf command line", f"{FILTER} bc 2,6_0_0_0", "1 instructions where the count says 2"),
    ("Cannot fopen", f"{FILTER} bcf /none", "cannot read bytecode file /none: No such file"),
    ("Invalid argument", f"{FILTER} bc 1,5_0_0_9", "a classic filter ends with a return"),
    ("Invalid argument", f"{FILTER} pinned {{bpffs}}/other", "is of type xdp, not sched_cls"),
    (
        "Parent Qdisc doesn't exists",
        f"tc filter add dev lo ingress bpf da obj {TC}",
        "qdisc add dev lo clsact",
    ),
    ('Illegal "classid"', f"{FILTER} obj {TC} classid 1:12345", 'Illegal "classid"'),
    ('What is "sec"?', f"{FILTER} obj {TC} verb sec classifier", 'What is "sec"?'),
    ('What mode is "sect-x"?', "ip link set v0 xdp sect-x", 'What mode is "sect-x"?'),
    ('either "dev" is duplicate', f"ip link set v0 xdp obj {DROP} verb sec xdp", 'either "dev" is duplicate'),
    (
        "Failed to parse eBPF program",
        "ip route add 10.9.9.0/24 encap bpf out obj /none dev v0",
        "/none: No such",
    ),
    ("Cannot find device", f"ip link set dev nodev xdp obj {XDP} sec xdp", 'no interface "nodev"'),
    ("already attached", f"ip link set v0 xdp obj {XDP} sec xdp", '"other", pinned at'),
]


def with_section(file: str, name: bytes, content: bytes) -> bytes:
    """The object ``file`` with ``content`` in section ``name``."""
    data = (TESTDATA / file).read_bytes()
    (table,) = struct.unpack_from("<Q", data, 40)  # struct elf64_hdr
    count, names = struct.unpack_from("<HH", data, 60)
    (strings,) = struct.unpack_from("<Q", data, table + 64 * names + 24)
    changed = bytearray(data + content)
    for header in range(table, table + 64 * count, 64):
        at = strings + struct.unpack_from("<I", data, header)[0]
        if data.startswith(name + b"\0", at):
            struct.pack_into("<QQ", changed, header + 24, len(data), len(content))
    return bytes(changed)


def test_errors_name_the_cause(tools: tuple[Tools, Tools], bpffs: Path, tmp_path: Path) -> None:
    ours, theirs = tools
    (tmp_path / "text").write_text("int main(void) { return 0; }\n")
    (tmp_path / "empty").touch()
    good = TC.read_bytes()
    (tmp_path / "licence.o").write_bytes(with_section("event_feed.bpf.o", b"license", b"GPL " * 40 + b"\0"))
    (tmp_path / "maps.o").write_bytes(with_section("legacy_globals.bpf.o", b"maps", ONE_MAP + bytes(1 << 16)))
    (tmp_path / "part.o").write_bytes(with_section("legacy_globals.bpf.o", b"maps", ONE_MAP[:5]))
    (tmp_path / "machine.o").write_bytes(good[:18] + (62).to_bytes(2, "little") + good[20:])
    with programs.load(ProgramType.XDP, programs.XDP_PASS, "other") as program:
        bpf.obj_pin(program.number, str(bpffs / "other"))
        for side in tools:
            assert side(f"ip link set v0 xdp pinned {bpffs}/other").returncode == 0
    wrong = []
    for said, line, named in CATALOGUE:
        words = line.format(tmp=tmp_path, bpffs=bpffs)
        real, mine = theirs(words), ours(words)
        as_named = named in mine.stderr and mine.returncode == real.returncode
        loads = (mine.returncode, mine.stderr) == (0, "")
        if said not in real.stderr or not (as_named if named else loads):
            wrong.append((real, mine))
    assert not wrong, "\n\n".join(f"{real}\n{mine}" for real, mine in wrong)


# --- deployment scripts --------------------------------------------------------------------------

SCRIPTS = [
    f"""\
        ip link add d0 type veth peer name d1
        ip link set d0 up && ip link set d1 up
        tc qdisc add dev d0 root handle 1: htb default 20
        for minor in 10 20; do
            tc class add dev d0 parent 1: classid 1:$minor htb rate ${{minor}}mbit ceil 1gbit burst 15k
        done
        tc filter add dev d0 parent 1: protocol ip prio 5 u32 match ip dport 22 0xffff flowid 1:10
        tc filter add dev d0 parent 1: protocol ip prio 7 bpf obj {TC} sec classifier classid 1:20
        tc filter add dev d0 parent 1: protocol ip prio 9 bpf bytecode '1,6 0 0 4294967295' flowid 1:10
        tc filter show dev d0 parent 1:
        tc filter del dev d0 parent 1: prio 7
        tc filter replace dev d0 parent 1: protocol ip prio 9 handle 1 bpf obj {TC} flowid 1:10
        tc -s -d filter show dev d0 parent 1:
        tc qdisc del dev d0 root
        tc qdisc show dev d0
    """,
    f"""\
        ip link add d0 type veth peer name d1
        ip link set dev d0 up
        tc qdisc replace dev d0 clsact
        tc -batch - <<END
        filter add dev d0 ingress pref 1 handle 1 bpf da obj {TC} sec classifier
        # what it lets through
        filter add dev d0 ingress pref 2 protocol ip u32 match u32 0 0 \\
            action mirred egress mirror dev d1
        filter add dev d0 egress pref 1 handle 1 bpf direct-action object-file {TC} \\
            section classifier
        filter show dev d0 egress
END
        tc filter replace dev d0 ingress pref 1 handle 1 bpf da obj {TC} sec classifier
        if tc filter add dev d0 ingress pref 1 handle 1 bpf da obj {TC} 2>/dev/null; then exit 9; fi
        tc -j filter show dev d0 ingress | python3 -c '
import json, sys
print([f["options"]["bpf_name"] for f in json.load(sys.stdin) if "bpf_name" in f.get("options", {{}})])'
        tc -s -d filter show dev d0 ingress
        tc filter get dev d0 ingress pref 1 handle 1 protocol all bpf
        tc filter del dev d0 egress
        ip link set dev d0 xdpgeneric obj {XDP} sec xdp
        ip -d link show dev d0 | grep -o 'xdpgeneric\\|prog/xdp .* jited'
        ip -force link set dev d0 xdpgeneric obj {DROP} sec xdp
        ip link show dev d0 | grep -o 'tag .* jited'
        ip link set dev d0 xdpgeneric off
        ip link show dev d0 | grep -c xdp || true
    """,
    f"""\
        ip link add d0 type veth peer name d1
        ip addr add 10.99.0.1/24 dev d0
        ip link set d0 up && ip link set d1 up
        ip route add 10.99.1.0/24 encap bpf out obj {LWT} sec lwt_out via 10.99.0.2
        ip route replace 10.99.1.0/24 encap bpf xmit obj {LWT} sec lwt_xmit headroom 14 \
            via 10.99.0.2 dev d0 mtu 1400
        ip -j route show 10.99.1.0/24 | python3 -c 'import json, sys; print(json.load(sys.stdin))'
        ip route show dev d0
        ip route get 10.99.1.1 | head -1
        ip route del 10.99.1.0/24
        tc qdisc add dev d1 ingress
        tc filter add dev d1 parent ffff: bpf da obj {TC} sec classifier
        tc -s -d filter show dev d1 parent ffff:
        tc filter add dev d1 parent ffff: bpf da obj {TC} sec no-such 2>/dev/null || echo refused $?
        tc filter add dev d1 parent 7: bpf da obj {TC} sec classifier 2>&1 | tail -1
        ip link set dev d1 xdp obj /no/such/file 2>/dev/null
        echo not reached
    """,
]


def left_behind(text: str) -> str:
    """``text`` without numbers that differ from load to load, and the blanks at the ends of lines."""
    return re.sub(r"\b(id|load_time|btf_id|installed|used|uid) \d+| +$", r"\1", text, flags=re.MULTILINE)


def test_deployment_scripts(tools: tuple[Tools, Tools]) -> None:
    """What they print, how they end, and what is there afterwards."""
    shows = "ip route show dev d0; tc qdisc show; for d in d0 d1; do ip -d link show $d | grep -o 'xdp.*'; "
    shows += "for p in ingress egress; do tc filter show dev $d $p; done; done"
    for number, script in enumerate(SCRIPTS):
        seen = []
        for side in tools:
            ran = side.script(f"set -e\n{script}")
            seen.append(
                (
                    ran.returncode,
                    left_behind(ran.stdout),
                    ran.stderr,
                    left_behind(side.script(shows, os.environ["PATH"]).stdout),
                )
            )
            side("ip link del d0")
        assert seen[0] == seen[1], number
        assert seen[0][0] == (255 if "not reached" in script else 0), seen
        assert "not reached\n" not in seen[0][1]


# --- batches -------------------------------------------------------------------------------------

U32 = "protocol ip u32 match u32 0 0 flowid 1:1"
BATCH = f"""\
# what follows is numbered from 2
filter add dev v0 ingress pref 1 {U32}

filter add dev v0 ingress pref 2 bpf da obj {TC} \\
    sec classifier
filter show dev v0 ingress
filter add dev v0 ingress pref 3 {U32}
filter add dev nodev ingress pref 3 {U32}
filter add dev v0 ingress pref 4 bpf da obj /no/such/file
filter add dev v0 ingress pref 5 bpf da obj {TC} verb sec x
filter add dev v0 ingress pref 6 bpf da obj {TC} sec classifier # the end
filter del dev v0 ingress pref 2 bpf
filter add dev v0 ingress pref 2 {U32}"""


def outcome(side: Tools, line: str, stdin: str) -> tuple[int, list[str], Any]:
    """Status, the lines that say where it failed, and the filters that are there in the end."""
    done = side(line, stdin)
    failed = [text for text in done.stderr.splitlines() if text.startswith("Command failed ")]
    return done.returncode, failed, state(side)


@pytest.mark.parametrize("force", ["", "-force "])
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_mixed_batch(tools: tuple[Tools, Tools], tmp_path: Path, force: str, how: str) -> None:
    file = tmp_path / "batch"
    file.write_text(BATCH)
    name = str(file) if how == "file" else "-"
    ours, theirs = (outcome(side, f"tc {force}-b {name}", BATCH) for side in tools)
    assert ours == theirs
    numbers = [text.rpartition(":")[2] for text in ours[1]]
    assert numbers == (["8", "9", "10"] if force else ["8"])


def test_output_of_a_batch_keeps_its_order(tools: tuple[Tools, Tools]) -> None:
    lines = [
        f"filter add dev v0 ingress pref {n} bpf da obj {TC} sec classifier\nfilter show dev v0 ingress"
        for n in range(1, 9)
    ]
    ours, theirs = (side("tc -b -", "\n".join(lines)) for side in tools)
    assert (ours.returncode, ours.stderr) == (0, "")
    prefs = [[line.split()[4] for line in done.stdout.splitlines()] for done in (ours, theirs)]
    assert prefs[0] == prefs[1]
    assert len(prefs[0]) == 2 * sum(range(1, 9))


def test_batch_of_ip(tools: tuple[Tools, Tools]) -> None:
    batch = (
        f"link set v0 mtu 1400\nlink set v0 xdp obj {XDP} sec xdp alias one\nlink set v0 mtu 1300 xdp off\n"
    )
    ours, theirs = (outcome(side, "ip -batch -", batch) for side in tools)
    assert ours == theirs
    bad = f"link set v0 mtu 1200\nlink set v0 xdp obj {XDP} sec no-such\nlink set v0 mtu 1100\n"
    ours, theirs = (outcome(side, "ip -batch -", bad) for side in tools)
    assert (ours[0], ours[2]) == (theirs[0], theirs[2])
    assert ours[0] == 255


def test_many_lines(tools: tuple[Tools, Tools]) -> None:
    """More than a pipe holds, and errors enough to fill another."""
    ours, _ = tools
    lines = [f"filter del dev v0 ingress pref {n} {U32}" for n in range(1, 4001)]
    lines[2000] = f"filter add dev v0 ingress pref 2001 bpf da obj {TC} sec classifier"
    done = ours("tc -force -b -", "\n".join(lines))
    assert done.returncode == 1
    assert done.stderr.count("Command failed -:") == 3999
    assert len(ours.shows("tc filter show dev v0 ingress")) == 2
