"""``btf show`` and ``btf dump`` of files, of the kernel, and of what is loaded; bpftool and clang judge."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import header_judge
import pytest
from btf_builder import BtfBuilder
from fixture_types import Cli, Requires

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.inventory import type_sources

pytestmark = pytest.mark.kernel

TESTDATA = Path(__file__).parents[2] / "testdata"
VMLINUX = "/sys/kernel/btf/vmlinux"
WITH_TYPES = sorted(path.name for path in TESTDATA.glob("*.bpf.o") if "_nobtf" not in path.name)


def bpftool(*words: object) -> str:
    done = subprocess.run(["bpftool", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout


# --- raw -----------------------------------------------------------------------------------------


def test_raw_of_objects_is_bpftools(run: Cli, requires: Requires, testdata: Path) -> None:
    requires("bpftool")
    for name in ("btf_layouts", "core_user", "kconfig_user", "lpm_blocklist", "proto_counters_bigendian"):
        path = testdata / f"{name}.bpf.o"
        assert run("btf", "dump", "file", path, status=0).stdout == bpftool("btf", "dump", "file", path)
    shown = run("-j", "btf", "dump", "file", testdata / "btf_layouts.bpf.o", status=0).stdout
    assert json.loads(shown) == json.loads(
        bpftool("-j", "btf", "dump", "file", testdata / "btf_layouts.bpf.o")
    )


def test_raw_of_the_kernel_is_bpftools(run: Cli, requires: Requires) -> None:
    requires("bpftool")
    # not by ==, whose report of a difference in 12 MB would take minutes
    same = run("btf", "dump", "kernel", status=0).stdout == bpftool("btf", "dump", "file", VMLINUX)
    assert same


def test_roots_in_raw(run: Cli, testdata: Path) -> None:
    shown = run(
        *("btf", "dump", "file", testdata / "xdp_pass.bpf.o", "root", "xdp_pass", "root_id", 6), status=0
    )
    assert shown.stdout == (
        "[7] FUNC 'xdp_pass' type_id=5 linkage=global\n"
        "[6] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED\n"
    )
    missing = run("btf", "dump", "file", testdata / "xdp_pass.bpf.o", "root", "nothing", status=1)
    assert missing.stderr == "Error: no type is called nothing\n"


def test_split_types_of_a_module(run: Cli, requires: Requires, tmp_path: Path) -> None:
    requires("bpftool")
    vmlinux = type_sources.vmlinux()
    b = BtfBuilder(base=vmlinux)
    device = vmlinux.find("net_device", Kind.STRUCT)
    assert device is not None
    b.struct("bpfctl_private", 8, [("device", b.next_id + 1, 0)])
    b.ptr(device)
    path = tmp_path / "bpfctl_module"
    path.write_bytes(b.blob())
    words = ("btf", "dump", "file", path)
    raw = run(*words, "base", VMLINUX, status=0).stdout
    assert raw == bpftool("-B", VMLINUX, *words)
    c = run(*words, "base", VMLINUX, "format", "c", "root", "bpfctl_private", status=0).stdout
    assert c == "struct net_device;\n\nstruct bpfctl_private {\n\tstruct net_device *device;\n};\n\n"
    alone = run(*words, status=1)
    assert alone.stderr.startswith(f"Error: {path}, offset 0x")


# --- C -------------------------------------------------------------------------------------------


def test_headers_of_objects_compile_to_the_same_layouts(run: Cli, requires: Requires, tmp_path: Path) -> None:
    requires("clang-19")
    compared = 0
    for name in ("btf_layouts", "endpoints", "mixed_sizes", "subprogs_bigendian", "map_types"):
        path = TESTDATA / f"{name}.bpf.o"
        header = tmp_path / f"{name}.h"
        header.write_text(run("btf", "dump", "file", path, "format", "c", status=0).stdout)
        compared += header_judge.assert_same_layouts(header, type_sources.of_file(str(path)).btf)
    assert compared > 20


def test_tags_survive_a_compiler(run: Cli, requires: Requires, tmp_path: Path) -> None:
    requires("clang-19")
    path = TESTDATA / "btf_layouts.bpf.o"
    header = tmp_path / "tags.h"
    header.write_text(run("btf", "dump", "file", path, "format", "c", "root", "tagged", status=0).stdout)
    made = header_judge.compile_header(header, "struct tagged tagged;")
    again = run("btf", "dump", "file", made, "format", "c", "root", "tagged", status=0).stdout
    assert again == header.read_text()


def test_header_of_a_type_of_the_kernel(run: Cli, requires: Requires, tmp_path: Path) -> None:
    """A real one, with a program that uses it, as a start for every commit; all of vmlinux below."""
    requires("clang-19")
    vmlinux = type_sources.vmlinux()
    header = tmp_path / "some.h"
    shown = run("btf", "dump", "kernel", "format", "c", "root", "task_struct", "root", "sk_buff", status=0)
    header.write_text(shown.stdout)
    header_judge.compile_header(header, header_judge.static_asserts(vmlinux, {"task_struct", "sk_buff"}))


@pytest.mark.slow
def test_header_of_the_whole_kernel(run: Cli, requires: Requires, tmp_path: Path) -> None:
    requires("clang-19")
    header = tmp_path / "vmlinux.h"
    header.write_text(run("btf", "dump", "kernel", "format", "c", status=0).stdout)
    asserts = header_judge.static_asserts(type_sources.vmlinux())
    assert asserts.count("\n") > 5_000
    header_judge.compile_header(header, asserts)


def test_c_is_no_json(run: Cli) -> None:
    refused = run("-j", "btf", "dump", "kernel", "format", "c", status=1)
    assert refused.stderr == "Error: a C header is no JSON: leave out -j, or `format c`\n"


# --- what is loaded ------------------------------------------------------------------------------


def test_types_of_what_is_loaded(run: Cli, requires: Requires, bpffs: Path, testdata: Path) -> None:
    requires("bpftool")
    pin = bpffs / "tc" / "inspected"
    run("prog", "load", testdata / "lpm_blocklist.bpf.o", "m:inspected", status=0)
    program = json.loads(run("-j", "prog", "show", "pinned", pin, status=0).stdout)
    btf_id, (map_id,) = program["btf_id"], program["map_ids"]
    for words in (("id", btf_id), ("prog", "pinned", pin), ("map", "id", map_id, "all")):
        assert run("btf", "dump", *words, status=0).stdout == bpftool("btf", "dump", *words)
    for part in ("key", "value", "kv"):
        ours = run("-j", "btf", "dump", "map", "id", map_id, part, status=0)
        assert json.loads(ours.stdout) == json.loads(bpftool("-j", "btf", "dump", "map", "id", map_id, part))
    text = run("btf", "dump", "map", "id", map_id, "key", "format", "c", status=0).stdout
    assert "struct" in text
    record = json.loads(run("-j", "btf", "show", "id", btf_id, status=0).stdout)
    (wanted,) = [r for r in json.loads(bpftool("-j", "btf", "show")) if r["id"] == btf_id]
    assert record == wanted | {"name": ""}
    assert (record["prog_ids"], record["map_ids"]) == ([program["id"]], [map_id])
    listed = run("btf", "show", status=0).stdout.splitlines()
    assert listed[0] == bpftool("btf", "show").splitlines()[0]
    assert (
        f"{btf_id}: name <anon>  size {record['size']}B  prog_ids {program['id']}  map_ids {map_id}" in listed
    )


def test_what_is_not_there(run: Cli, bpffs: Path, testdata: Path) -> None:
    run("prog", "load", testdata / "xdp_pass_nobtf.bpf.o", "m:untyped", status=0)
    pin = bpffs / "tc" / "untyped"
    for words, message in [
        (("prog", "pinned", pin), f"program pinned {pin} was loaded without BTF"),
        (("id", 0xFFFFFFFF), "no BTF object has id 4294967295"),
        (("module", "no-such-module"), "no module no-such-module with BTF is loaded"),
        (("file", testdata / "xdp_pass_nobtf.bpf.o"), f"{testdata}/xdp_pass_nobtf.bpf.o has no section .BTF"),
        (("file", testdata / "bpfctl_test.h"), f"{testdata}/bpfctl_test.h, offset 0x0: not BTF"),
        (("file", "/no/such/file"), "/no/such/file: No such file or directory"),
    ]:
        refused = run("btf", "dump", *words, status=1)
        assert refused.stderr.startswith(f"Error: {message}")
        assert refused.stdout == ""


def test_a_hostile_file_ends_in_an_error(run: Cli, tmp_path: Path) -> None:
    b = BtfBuilder()
    b.add(Kind.STRUCT, "vast", 4, vlen=0xFFFFFF)
    path = tmp_path / "vast.btf"
    path.write_bytes(b.blob())
    for format_ in ("raw", "c"):
        refused = run("btf", "dump", "file", path, "format", format_, status=1)
        assert refused.stderr == (
            f"Error: {path}, offset 0x18: type 1 (struct) runs past the end of the type section\n"
        )


def test_objects_of_the_tests_have_types() -> None:
    """What the loops above go over is what they think it is."""
    assert len(WITH_TYPES) > 30
    assert Btf.from_bytes(Path(VMLINUX).read_bytes()).find("task_struct", Kind.STRUCT)
