"""One bpffs for bpfctl, tc(8) and ip(8): whoever comes second finds the maps of whoever came first."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import netlab
import programs
import pytest
from click.shell_completion import BashComplete
from fixture_types import Requires
from netlab import TESTDATA, Lab

from bpfctl.cli import main
from bpfctl.cli.clicked import click_root
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.loader import pins
from bpfctl.uapi import MapType, ProgramType

pytestmark = pytest.mark.kernel

Run = Callable[..., None]

# A command by each of the three hooks, for either tool; all of them pin a map by name.
TC = ("filter", "add", "dev", "v0", "egress", "bpf", "da", "obj", TESTDATA / "graft_root.bpf.o")
XDP = ("link", "set", "dev", "v0", "xdpgeneric", "obj", TESTDATA / "xdp_shared.bpf.o", "sec", "xdp")
ROUTE = ("route", "add", "10.9.0.0/16", "encap", "bpf", "out", "obj", TESTDATA / "route_counters.bpf.o",
         "sec", "lwt_out", "dev", "v0")  # fmt: skip
HOOKS = {"tc": (TC, "graft_counters"), "xdp": (XDP, "xdp_shared"), "lwt": (ROUTE, "route_counters")}


@pytest.fixture
def lab(netns: Lab, bpffs: Path, requires: Requires) -> Iterator[Lab]:
    """This thread where v0 has a clsact."""
    requires("tc", "ip")
    with netlab.inside(netns.a.namespace):
        ours("qdisc", "add", "dev", "v0", "clsact")
        yield netns


def ours(*words: object) -> None:
    assert main.run([str(word) for word in words]) == 0


def theirs(*words: object) -> None:
    """iproute2, in this thread's namespaces: with -n it would leave the mount namespace and the pins."""
    tool = "tc" if words[0] == "filter" else "ip"
    done = subprocess.run([tool, *map(str, words)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def take_off(*words: object) -> None:
    if words[0] == "filter":
        ours("filter", "del", "dev", "v0", "egress")
    elif words[0] == "link":
        ours("link", "set", "v0", "xdpgeneric", "off")
    else:
        ours("route", "del", words[2])


def pinned_map(bpffs: Path, name: str, folder: str = "tc/globals") -> int:
    with Fd(bpf.obj_get(str(bpffs / folder / name))) as fd:
        return info.map_info(fd.number).id


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("first", "second"), [(ours, theirs), (theirs, ours)], ids=["ours first", "theirs first"]
)
def test_both_find_one_map(lab: Lab, bpffs: Path, first: Run, second: Run, hook: str) -> None:
    words, name = HOOKS[hook]
    first(*words)
    found = pinned_map(bpffs, name)
    take_off(*words)
    second(*words)
    assert pinned_map(bpffs, name) == found
    take_off(*words)


@pytest.mark.parametrize("first", [ours, theirs])
def test_one_folder_for_all_hooks(lab: Lab, bpffs: Path, first: Run) -> None:
    """The links of either tool serve the other; nobody makes a second folder."""
    for index, (words, _) in enumerate(HOOKS.values()):
        (first if index == 0 else theirs if first is ours else ours)(*words)
    for link in ("xdp", "ip"):
        assert (bpffs / link).is_symlink()
        assert (bpffs / link).resolve() == bpffs / "tc"
    assert sorted(path.name for path in (bpffs / "xdp" / "globals").iterdir()) == [
        "graft_counters", "graft_jumps", "route_counters", "xdp_shared",
    ]  # fmt: skip


def test_legacy_object_meets_the_map_of_tc(lab: Lab, bpffs: Path) -> None:
    """The installed tc reads BTF maps only; an old object shares its map by way of bpfctl."""
    theirs(*TC)
    found = pinned_map(bpffs, "graft_counters")
    ours("filter", "add", "dev", "v0", "ingress", "bpf", "da", "obj", TESTDATA / "graft_root_legacy.bpf.o")
    assert pinned_map(bpffs, "graft_counters") == found


def test_folder_xdp_of_others(lab: Lab, bpffs: Path) -> None:
    """libxdp makes xdp a folder: ours stay in tc/globals, where tc and lwt find them; xdp stays as it is."""
    (bpffs / "xdp").mkdir(mode=0o700)
    (bpffs / "xdp" / "dispatch-1-2").mkdir()
    for words, _ in HOOKS.values():
        ours(*words)
    for _, name in HOOKS.values():
        pinned_map(bpffs, name)
    assert [path.name for path in (bpffs / "xdp").iterdir()] == ["dispatch-1-2"]
    assert (bpffs / "ip").resolve() == bpffs / "tc"


def test_absolute_links_of_tc_are_left(lab: Lab, bpffs: Path) -> None:
    theirs(*TC)
    before = (bpffs / "xdp").readlink()
    assert before.is_absolute()
    ours(*XDP)
    assert (bpffs / "xdp").readlink() == before
    assert pinned_map(bpffs, "xdp_shared", "xdp/globals") == pinned_map(bpffs, "xdp_shared")


@pytest.mark.parametrize("of", ["/etc", "/usr/share"])
def test_namespaces_of_the_object_and_of_the_administrator(
    lab: Lab, bpffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """Where a legacy tc looks for them: by the SHA-1 of the file, and where bpf_pinning says."""
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    monkeypatch.setattr(pins, "PINNING_FILES", (str(etc), str(usr)))
    monkeypatch.setattr(pins.read_pinning_file, "__defaults__", (pins.PINNING_FILES,))
    usr.write_text("7 from/usr # text\n")
    if of == "/etc":
        etc.write_text("# numbers from 3\n0x7 from/etc\n")
    obj = TESTDATA / "pin_object_ns.bpf.o"
    for name, choice in (("pin_object_ns", ("sec", "egress")), ("pin_custom", ())):
        ours("filter", "add", "dev", "v0", "egress", "bpf", "da", "obj", TESTDATA / f"{name}.bpf.o", *choice)
    assert pinned_map(bpffs, "shared", f"ip/{hashlib.sha1(obj.read_bytes()).hexdigest()}")
    assert pinned_map(bpffs, "custom", "from/etc" if of == "/etc" else "from/usr")
    assert sorted(path.name for path in bpffs.iterdir() if path.suffix != ".debug") == [
        "from",
        "ip",
        "tc",
        "xdp",
    ]
    for path in (bpffs / "tc", bpffs / "from", bpffs / "tc" / "globals"):
        assert path.stat().st_mode & 0o777 == 0o700


def test_programs_in_use_by_tc_are_shown(lab: Lab, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a map that tc pinned is read by its m: path."""
    theirs(*TC)
    netlab.send_udp(lab.a, lab.b, 4)
    capsys.readouterr()
    ours("-j", "map", "lookup", "pinned", "m:globals/graft_counters", "key", "0")
    assert json.loads(capsys.readouterr().out)["formatted"]["value"] == 4


def offered(*words: str) -> list[str]:
    """What may stand in the place of the last of ``words``."""
    shell = BashComplete(click_root(), {}, "bpfctl", "_BPFCTL_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_completion_offers_pins(bpffs: Path) -> None:
    """Those of programs for a program, of maps for a map; bash takes the colon for a word."""
    (bpffs / "tc" / "globals").mkdir(parents=True)
    with (
        programs.load(ProgramType.XDP, programs.XDP_PASS, "pinned") as program,
        Fd(bpf.map_create(bpf.MapAttributes(MapType.ARRAY, 4, 4, 1))) as array,
    ):
        bpf.obj_pin(program.number, str(bpffs / "tc" / "running"))
        bpf.obj_pin(program.number, str(bpffs / "elsewhere"))
        bpf.obj_pin(array.number, str(bpffs / "tc" / "globals" / "counters"))
    link = ("link", "set", "lo", "xdp", "pinned")
    assert offered(*link, "m:") == ["m:running"]
    assert offered(*link, f"{bpffs}/") == [f"{bpffs}/elsewhere", f"{bpffs}/tc/running"]
    assert offered(*link, "m", ":") == ["running"]
    assert offered("map", "show", "pinned", "m:g") == ["m:globals/counters"]
    assert offered("map", "show", "pinned", "m", ":", "globals/c") == ["globals/counters"]
    # nothing fits: the shell looks for files
    assert offered(*link, "m:none") == ["m:none"]
