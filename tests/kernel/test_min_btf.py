"""``obj min-btf``: programs are fitted to a part of the kernel's types as to all; bpftool judges the part."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from fixture_types import Cli, Requires

from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.objfile import link_program, read_object

pytestmark = pytest.mark.kernel

VMLINUX = "/sys/kernel/btf/vmlinux"
OBJECTS = ("core_kinds", "core_user", "core_missing")


def test_programs_are_fitted_the_same(run: Cli, testdata: Path, tmp_path: Path) -> None:
    out = tmp_path / "min.btf"
    out.write_text("something older")
    paths = [testdata / f"{name}.bpf.o" for name in OBJECTS]
    shown = run("-j", "obj", "min-btf", VMLINUX, out, *paths, status=0)
    assert json.loads(shown.stdout)["bytes"] == out.stat().st_size < 2000
    assert list(tmp_path.iterdir()) == [out]
    for path in paths:
        obj = read_object(str(path))
        for name in obj.programs:
            whole = link_program(obj, name, KernelTypes().relocator(obj))
            part = link_program(obj, name, KernelTypes(str(out)).relocator(obj))
            assert (part.code, part.poisoned) == (whole.code, whole.poisoned)


def test_the_part_is_bpftools(run: Cli, requires: Requires, testdata: Path, tmp_path: Path) -> None:
    requires("bpftool")
    path = testdata / "core_kinds.bpf.o"
    ours, theirs = tmp_path / "ours.btf", tmp_path / "theirs.btf"
    assert run("obj", "min-btf", VMLINUX, ours, path, status=0).stdout == ""
    subprocess.run(["bpftool", "gen", "min_core_btf", VMLINUX, theirs, path], check=True)
    assert 0.5 < ours.stat().st_size / theirs.stat().st_size < 2
    dumps = [
        json.loads(run("-j", "btf", "dump", "file", file, status=0).stdout)["types"]
        for file in (ours, theirs)
    ]
    names = [{(t["kind"], t["name"]) for t in types} for types in dumps]
    assert names[0] == names[1]


def test_what_cannot_be_done_leaves_nothing(run: Cli, testdata: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    no_btf = testdata / "xdp_pass_nobtf.bpf.o"
    for words, message in [
        ((VMLINUX, out, no_btf), f"Error: {no_btf} has no BTF, so no CO-RE relocations"),
        ((testdata / "bpfctl_test.h", out, no_btf), f"Error: {testdata}/bpfctl_test.h, offset 0x0: not BTF"),
        ((VMLINUX, tmp_path / "no" / "out", testdata / "core_user.bpf.o"), "Error: cannot write"),
        ((VMLINUX, tmp_path, testdata / "core_user.bpf.o"), f"Error: cannot write {tmp_path}: it exists"),
        ((VMLINUX, out), "Error: Command line is not complete: FILE is missing"),
    ]:
        assert run("obj", "min-btf", *words, status=1).stderr.startswith(message)
    assert list(tmp_path.iterdir()) == []
    plain = run("obj", "min-btf", VMLINUX, out, testdata / "xdp_pass.bpf.o", status=0)
    assert plain.stderr == f"Warning: {testdata}/xdp_pass.bpf.o has no CO-RE relocations\n"
    assert run("btf", "dump", "file", out, status=0).stdout == ""
