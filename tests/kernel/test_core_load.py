"""CO-RE against the running kernel: fitted, attached, and a refusal that says what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import netlab
import pytest
from btf_builder import BtfBuilder
from conftest import TESTDATA, Cli

from bpfctl.errors import BpfctlError, BtfError, VerifierError
from bpfctl.insn import decode
from bpfctl.kernel import kernel_btf
from bpfctl.loader import LoadedObject, LoadRequest, Session, Transaction, load
from bpfctl.objfile import read_object

pytestmark = pytest.mark.kernel

USER, MISSING = TESTDATA / "core_user.bpf.o", TESTDATA / "core_missing.bpf.o"
WHY = "struct net_device.bpfctl_no_such_field (0:0 @ offset 0) has no match in the kernel's BTF"


def load_one(path: Path, program: str, *, verbose: bool = False, btf: Path | None = None) -> LoadedObject:
    request = LoadRequest((program,), verbose=verbose, btf_path=str(btf) if btf else None)
    with Transaction() as transaction:
        return load(read_object(str(path)), request, transaction)


def test_a_fitted_program_is_attached(run: Cli, netns: netlab.Lab) -> None:
    filter_ = ["filter", "add", "dev", "v0", "ingress", "bpf", "da", "obj", USER]
    run("-n", netns.a.namespace, "qdisc", "add", "dev", "v0", "clsact", status=0)
    done = run("-n", netns.a.namespace, *filter_, status=0)
    assert done.stderr == ""
    shown = run("-n", netns.a.namespace, "filter", "show", "dev", "v0", "ingress", status=0)
    assert "core_user.bpf.o:[classifier]" in shown.stdout


def test_poison_behind_a_question_does_not_matter() -> None:
    with load_one(MISSING, "asks_first") as loaded:
        assert [why.endswith(WHY) for why in loaded.program("asks_first").linked.poisoned.values()] == [True]


def test_poison_that_can_be_reached_is_explained() -> None:
    with pytest.raises(VerifierError) as caught:
        load_one(MISSING, "reads_it")
    assert caught.value.details[-1].endswith(WHY)
    assert "unknown#" not in "\n".join(caught.value.details)
    assert "bpf_core_field_exists()" in (caught.value.hint or "")
    assert "function read_field" in caught.value.details[0]


def test_poison_in_the_whole_log_is_explained_below_it() -> None:
    with pytest.raises(VerifierError) as caught:
        load_one(MISSING, "reads_it", verbose=True)
    assert any("invalid func unknown#195896080" in line for line in caught.value.details)
    assert caught.value.details[-1].endswith(WHY)


def test_types_of_another_kernel(tmp_path: Path) -> None:
    b = BtfBuilder()
    b.struct("net_device", 1024, [("ifindex", b.int(), 8 * 1000)])
    (tmp_path / "btf").write_bytes(b.blob())
    with load_one(USER, "reads_ifindex", btf=tmp_path / "btf") as loaded:
        assert 1000 in [i.imm for i in decode(loaded.program("reads_ifindex").linked.code)]


def test_a_bad_file_of_types_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no types")
    (tmp_path / "empty").touch()
    for name, kind in (("text", BtfError), ("empty", BtfError), ("none", BpfctlError)):
        with pytest.raises(kind, match=f"/{name}(: |, offset 0x0: )"):
            load_one(USER, "reads_ifindex", btf=tmp_path / name)


def test_a_session_opens_the_kernels_types_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[kernel_btf.BtfSource] = []
    real = kernel_btf.vmlinux

    def vmlinux() -> kernel_btf.BtfSource:
        opened.append(real())
        return opened[-1]

    monkeypatch.setattr(kernel_btf, "vmlinux", vmlinux)
    wanted = [(USER, "reads_ifindex"), (TESTDATA / "tc_pass.bpf.o", "tc_pass"), (MISSING, "asks_first")]
    with Session() as session:
        for path, program in wanted:
            with Transaction() as transaction:
                session.load(session.read(str(path)), LoadRequest((program,)), transaction)
    assert len(opened) == 1


def test_other_objects_do_not_pay_for_core() -> None:
    """A new process, since this one has long imported everything."""
    script = """
import sys
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.objfile import read_object
with Transaction() as transaction, load(read_object(sys.argv[1]), LoadRequest(("tc_pass",)), transaction):
    print(*(name for name in sys.modules if name.startswith(("bpfctl.btf.core", "bpfctl.kernel.kernel_btf"))))
"""
    words = [sys.executable, "-c", script, str(TESTDATA / "tc_pass.bpf.o")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "\n"
