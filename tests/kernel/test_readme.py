"""What README.md and the manual show works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import manual
import netlab
import pytest
from fixture_types import Requires
from netlab import TESTDATA
from pyroute2 import IPRoute

pytestmark = pytest.mark.kernel

RECIPE = "".join(manual.readme_blocks("bash", "In CI"))
TOUR = "".join(manual.readme_blocks("sh", "A quick tour"))
PYTHON = "".join(manual.readme_blocks("python", "From Python"))
SCRIPTS = {page: manual.examples(page) for page in manual.PAGES if manual.examples(page)}


@pytest.fixture
def _bpfctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ``bpfctl``, of this source tree, for scripts; and the package for Python."""
    command = tmp_path / "bpfctl"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bpfctl "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(manual.ROOT))


@pytest.fixture
def eth0(netns: netlab.Lab, bpffs: Path) -> Iterator[None]:
    """This thread in a namespace with two devices of our own, called eth0 and eth1."""
    with netlab.inside(netns.a.namespace):
        with IPRoute() as ip:
            index = ip.link_lookup(ifname=netns.a.device)[0]
            ip.link("set", index=index, state="down")
            ip.link("set", index=index, ifname="eth0", state="up")
            ip.link("add", ifname="eth1", kind="veth", peer={"ifname": "eth1-peer"})
        yield


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=60)


def namespaces() -> set[str]:
    return {path.name for path in netlab.NETNS_DIRECTORY.glob("*")}


@pytest.mark.usefixtures("_bpfctl")
class TestRecipe:
    """The recipe for CI."""

    def test_runs_and_cleans_up(self, requires: Requires) -> None:
        requires("ip")
        before = namespaces()
        done = run_script(RECIPE, manual.ROOT)
        assert (done.returncode, done.stderr) == (0, "")
        assert namespaces() == before

    @pytest.mark.parametrize(
        ("right", "wrong"), [("== 10'", "== 11'"), ('"count_protocols"', '"another"'), ("sec xdp", "sec x")]
    )
    def test_fails_when_something_is_wrong(self, requires: Requires, right: str, wrong: str) -> None:
        requires("ip")
        assert RECIPE.count(right) == 1
        before = namespaces()
        assert run_script(RECIPE.replace(right, wrong), manual.ROOT).returncode != 0
        assert namespaces() == before


def _in_small(script: str) -> str:
    """``script`` with benchmarks of a second: the last word of a kind is the one that counts."""
    return re.sub(r"^(bpfctl bench maps.*)$", r"\1 sizes 16 rounds 1", script, flags=re.MULTILINE)


@pytest.mark.usefixtures("_bpfctl", "eth0")
class TestExamples:
    """What is to be typed on a machine with eth0, in the folder of the objects."""

    def test_tour(self) -> None:
        done = run_script(TOUR, TESTDATA)
        assert (done.returncode, done.stderr) == (0, "")
        assert "name count_protocols" in done.stdout
        assert "proto_report.bpf.o:[tc]" in done.stdout

    @pytest.mark.parametrize("page", SCRIPTS)
    def test_manual(self, page: str) -> None:
        done = run_script(_in_small(SCRIPTS[page]), TESTDATA)
        assert (done.returncode, done.stderr) == (0, "")

    def test_python(self) -> None:
        command = [sys.executable, "-W", "error", "-c", PYTHON]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=TESTDATA)
        assert (done.returncode, done.stderr) == (0, "")
        definition, attached, counted = done.stdout.splitlines()
        assert definition == "proto_counters 4 32 256"
        assert re.fullmatch(r"count_protocols [0-9a-f]{16} uses maps \(\d+,\)", attached)
        assert counted == "256 counters"


# --- the keys of real output ---------------------------------------------------------------------

SETUP = """\
bpfctl link set dev eth0 xdp obj proto_counters.bpf.o sec xdp
bpfctl qdisc add dev eth0 clsact
bpfctl filter add dev eth0 egress pref 10 bpf da classid 1:1 skip_hw obj legacy_globals.bpf.o
bpfctl filter add dev eth0 ingress bpf da obj proto_report.bpf.o
bpfctl nexthop add id 5 encap bpf xmit obj lwt.bpf.o via 10.77.0.2 dev eth0
bpfctl route add 10.9.1.0/24 encap bpf in obj lwt.bpf.o out obj lwt.bpf.o dev eth0 mtu lock 1400 src 10.77.0.1
bpfctl route add 10.9.2.0/24 nexthop encap bpf out obj lwt.bpf.o dev eth0 nexthop via 10.77.0.2 metric 7
bpfctl filter add dev eth0 ingress bpf bytecode '1,6 0 0 0' action mirred egress mirror dev eth1 cookie 01
bpfctl action add action mirred egress mirror dev eth1 index 7
"""
OUTPUTS = [
    ("bpfctl-link.8", "", "link show"),
    ("bpfctl-qdisc.8", "", "-d qdisc show"),
    ("bpfctl-filter.8", "", "-d -s filter show"),
    ("bpfctl-action.8", "", "-d -s action show action mirred"),
    ("bpfctl-route.8", "", "-d route show table all"),
    ("bpfctl-nexthop.8", "", "-d nexthop show"),
    ("bpfctl-prog.8", "Programs", "-d prog show"),
    ("bpfctl-map.8", "bpfctl map show", "-d map show"),
    ("bpfctl-btf.8", "", "-d btf show"),
    ("bpfctl-map.8", "bpfctl map dump, lookup", "map dump pinned m:globals/proto_counters"),
    ("bpfctl-map.8", "bpfctl map dump, lookup", "map lookup pinned m:globals/lengths key 0"),
    ("bpfctl-obj.8", "", "obj show map_in_map_legacy.bpf.o"),
    ("bpfctl-obj.8", "", "obj show xdp_root.bpf.o"),
    ("bpfctl.8", "bpfctl version", "version"),
]


@pytest.mark.usefixtures("_bpfctl", "eth0")
def test_keys_and_types_are_in_the_manual() -> None:
    assert run_script(SETUP, TESTDATA).returncode == 0
    for page, subsection, words in OUTPUTS:
        done = run_script(f"bpfctl -j {words}", TESTDATA)
        assert done.returncode == 0, done.stderr
        documented = manual.documented_keys(page, subsection)
        if page == "bpfctl-filter.8":
            behind = manual.documented_keys("bpfctl-action.8")
            documented |= {f"options.{key}": kind for key, kind in behind.items()}
        found = manual.shape(json.loads(done.stdout))
        assert found
        for key, kind in found.items():
            if not _is_inside_of_any(key, documented):
                known = documented[_as_documented(key)]
                assert kind in ("", known), (page, key)


def _is_inside_of_any(key: str, documented: dict[str, str]) -> bool:
    """Whether the type of a map says what stands there."""
    return any(
        kind == "any" and key.startswith(known) and key[len(known) :][:1] in ("", ".", "[")
        for known, kind in documented.items()
    )


def _as_documented(key: str) -> str:
    """The facts of a program, of a map inside a map, and of one way of a route stand in one place each."""
    for inner, name in (("prog.", "prog."), ("maps[].inner.", "maps[]."), ("nexthops[].", "")):
        at = key.rfind(inner)
        if at >= 0:
            return name + key[at + len(inner) :]
    return key
