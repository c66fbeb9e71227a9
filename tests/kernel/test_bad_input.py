"""What bad input gets: one line that says what is wrong and where, a status, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import netlab
import pytest
from fixture_types import Cli
from netlab import TESTDATA

from bpfctl.cli import main
from bpfctl.kernel import syscall

pytestmark = pytest.mark.kernel


class Case(NamedTuple):
    """A command line and what its error must say; ``{tmp}`` is a folder with the files of `files`."""

    words: str
    status: int
    message: str
    hint: str = ""


XDP = "link set dev v0 xdp"
TC = "filter add dev v0 ingress bpf da"

CASES = {
    "not-an-elf": Case(f"{XDP} obj {{tmp}}/text", 1, "text: not an ELF file"),
    "empty-file": Case(f"{XDP} obj {{tmp}}/empty", 1, "empty: the file is empty"),
    "wrong-machine": Case(f"{XDP} obj {{tmp}}/machine.o", 1, "machine.o, offset 0x12: made for machine 62"),
    "32-bit": Case(f"{XDP} obj {{tmp}}/32bit.o", 1, "32bit.o, offset 0x4: "),
    "cut-off": Case(f"{XDP} obj {{tmp}}/cut.o", 1, "cut.o, offset "),
    "no-file": Case(f"{XDP} obj {{tmp}}/none.o", 1, "none.o: No such file or directory"),
    "directory": Case(f"{XDP} obj {{tmp}}", 1, "Is a directory"),
    "no-section": Case(
        f"{XDP} obj {{data}}/xdp_pass.bpf.o sec nope", 1, 'no program in a section "nope"', "xdp (xdp_pass)"
    ),
    "no-program": Case(f"{XDP} obj {{data}}/xdp_pass.bpf.o program nope", 1, "nope", "xdp_pass"),
    "several-programs": Case(
        f"{XDP} obj {{data}}/two_in_section.bpf.o",
        1,
        "for type xdp there are 2 programs: xdp_first, xdp_second",
    ),
    "no-licence": Case(
        f"{TC} obj {{data}}/no_license.bpf.o", 2, "refused program needs_gpl", 'SEC("license")'
    ),
    "undefined-symbol": Case(
        f"{TC} obj {{data}}/undefined_symbol.bpf.o", 1, "symbol defined_elsewhere is not defined"
    ),
    "foreign-byte-order": Case(
        f"{TC} obj {{data}}/subprogs_bigendian.bpf.o program sum_up", 1, "the object is big endian"
    ),
    "pin-outside": Case(f"{TC} obj {{data}}/pin_bad_name.bpf.o", 1, "'../escape' is to be pinned"),
    "unknown-pinning": Case(
        f"{TC} obj {{data}}/pin_custom.bpf.o", 1, "map custom has pinning 7", "/etc/iproute2/bpf_pinning"
    ),
    "two-readings": Case(
        f"{TC} obj {{data}}/ambiguous_map.bpf.o", 1, "map either: its 28 bytes can be read", "maps-abi"
    ),
    "verifier": Case(
        f"{XDP} obj {{data}}/verifier_reject.bpf.o", 2, "refused program reads_too_far", "data_end"
    ),
    "core-missing": Case(
        f"{TC} obj {{data}}/core_missing.bpf.o program reads_it",
        2,
        "refused program reads_it",
        "struct net_device.bpfctl_no_such_field (0:0 @ offset 0) has no match in the kernel's BTF",
    ),
    "kfunc-missing": Case(
        f"{TC} obj {{data}}/externs.bpf.o program calls_what_is_missing",
        2,
        "refused program calls_what_is_missing",
        "kernel function bpfctl_no_function is not there",
    ),
    "no-interface": Case(
        "link set dev nope xdp obj {data}/xdp_pass.bpf.o sec xdp", 1, 'no interface "nope"', "lo, v0"
    ),
    "no-native-mode": Case(
        "link set dev lo xdpdrv obj {data}/xdp_pass.bpf.o sec xdp",
        2,
        "Underlying driver does not support XDP in native mode",
        "xdpgeneric",
    ),
    "no-offload": Case(
        "link set dev v0 xdpoffload obj {data}/xdp_pass.bpf.o sec xdp", 2, "refused", "no offloaded programs"
    ),
    "no-qdisc": Case(
        "filter add dev lo ingress bpf da obj {data}/tc_pass.bpf.o",
        2,
        "Parent Qdisc doesn't exists",
        "bpfctl qdisc add dev lo clsact",
    ),
    "nothing-pinned": Case(f"{TC} pinned {{tmp}}/bpf/none", 1, "nothing is pinned at"),
    "no-such-id": Case(f"{TC} id 4000000000", 1, "no program has id 4000000000"),
    "value-missing": Case(f"{XDP} obj", 1, "Command line is not complete"),
    "unknown-word": Case(f"{TC} obj {{data}}/tc_pass.bpf.o bogus", 1, 'What is "bogus"?'),
    "unknown-object": Case("bogus show", 1, 'Object "bogus" is unknown', "known here: link, qdisc, filter"),
    "unknown-option": Case("-bogus link show", 1, 'Option "-bogus" is unknown'),
    "nothing-to-delete": Case("filter del dev v0 ingress pref 77", 1, "no bpf filter pref 77"),
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    good = (TESTDATA / "xdp_pass.bpf.o").read_bytes()
    (tmp_path / "text").write_text("int main(void) { return 0; }\n")
    (tmp_path / "empty").touch()
    (tmp_path / "machine.o").write_bytes(good[:18] + (62).to_bytes(2, "little") + good[20:])
    (tmp_path / "32bit.o").write_bytes(good[:4] + b"\1" + good[5:])
    (tmp_path / "cut.o").write_bytes(good[:-100])
    return tmp_path


@pytest.mark.parametrize("name", CASES)
def test_error_is_one_line_and_nothing_stays(
    name: str, run: Cli, netns: netlab.Lab, bpffs: Path, files: Path
) -> None:
    case = CASES[name]
    run("-n", netns.a.namespace, "qdisc", "add", "dev", "v0", "clsact", status=0)
    words = case.words.format(tmp=files, data=TESTDATA).split()
    done = run("-n", netns.a.namespace, *words, status=case.status)
    first, *rest = done.stderr.splitlines()
    assert first.startswith("Error: ")
    assert case.message in first
    assert case.hint in "\n".join(rest)
    assert done.stdout == ""
    assert [path for path in bpffs.rglob("*") if path.suffix != ".debug"] == []
    shown = run("-n", netns.a.namespace, "-j", "filter", "show", "dev", "v0", status=0)
    assert shown.stdout.strip() == "[]"


def test_no_capabilities_are_named(netns: netlab.Lab) -> None:
    setpriv = shutil.which("setpriv")
    assert setpriv, "util-linux is essential on Debian"
    words = ["filter", "add", "dev", "v0", "ingress", "bpf", "da", "obj", str(TESTDATA / "tc_pass.bpf.o")]
    with netlab.inside(netns.a.namespace):
        done = subprocess.run(
            [setpriv, "--bounding-set=-all", sys.executable, "-m", "bpfctl", *words],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "Operation not permitted" in done.stderr
    assert "lacks CAP_BPF and CAP_NET_ADMIN" in done.stderr


def test_no_bpffs_and_no_right_to_mount(netns: netlab.Lab, tmp_path: Path) -> None:
    words = ["link", "set", "dev", "v0", "xdp", "obj", str(TESTDATA / "proto_counters.bpf.o"), "sec", "xdp"]
    with netlab.inside(netns.a.namespace):
        done = subprocess.run(
            ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "bpfctl", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TC_BPF_MNT": str(tmp_path / "bpf")},
        )
    assert done.returncode == 2
    assert "no bpffs is mounted and mounting one on" in done.stderr
    assert "lacks CAP_SYS_ADMIN" in done.stderr
    assert not (tmp_path / "bpf").exists()


class Unplugging(syscall.System):
    """The real kernel, but the device under test disappears before the first attach request."""

    RTM_SETLINK, RTM_NEWLINK = 19, 16

    def netlink_send(self, fd: int, message: bytes) -> None:
        if int.from_bytes(message[4:6], sys.byteorder) in (self.RTM_SETLINK, self.RTM_NEWLINK):
            from pyroute2 import IPRoute

            with IPRoute() as ip:
                for index in ip.link_lookup(ifname="v0"):
                    ip.link("del", index=index)
        super().netlink_send(fd, message)


def test_interface_that_goes_meanwhile(
    netns: netlab.Lab, bpffs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["link", "set", "dev", "v0", "xdp", "obj", str(TESTDATA / "proto_counters.bpf.o"), "sec", "xdp"]
    with netlab.inside(netns.a.namespace):
        monkeypatch.setattr(syscall, "system", Unplugging())
        status = main.run(words)
    assert status == 1
    assert "v0" in capsys.readouterr().err
    assert [path for path in bpffs.rglob("*") if path.suffix != ".debug"] == []
