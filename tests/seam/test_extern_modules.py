"""Externs of vmlinux and of modules: whose BTF, which descriptor, and its place in the array of a load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from scripted_modules import Modules

from bpfctl.btf.kinds import Kind
from bpfctl.errors import MissingExternError, ObjectFileError
from bpfctl.insn import decode
from bpfctl.kernel import kconfig, ksyms, syscall
from bpfctl.kernel.kernel_btf import BtfSource
from bpfctl.loader import kconfig as loader_kconfig
from bpfctl.loader import kernel_types
from bpfctl.loader.externs import resolve
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.objfile import link_program, read_object

TESTDATA = Path(__file__).parents[2] / "testdata"
CONFIG = {"CONFIG_BPF_SYSCALL": "y", "CONFIG_BPF": "y", "CONFIG_NET": "m", "CONFIG_HZ": "100"}


def vmlinux() -> BtfBuilder:
    b = BtfBuilder()
    b.func("bpf_rcu_read_lock", b.func_proto(0))
    return b


def module(*functions: str, arguments: int = 0, variable: Kind | None = None) -> bytes:
    b = BtfBuilder(base=vmlinux().btf())
    number = b.int()
    proto = b.func_proto(0, [("n", number)] * arguments)
    for function in functions:
        b.func(function, proto)
    if variable:
        b.var("runqueues", b.struct("rq", 4, kind=variable))
    return b.blob()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KernelTypes]:
    (tmp_path / "kallsyms").write_text("ffffffff81000010 T schedule\n")
    monkeypatch.setattr(ksyms, "_PLACE", str(tmp_path / "kallsyms"))
    known = CONFIG | {"CONFIG_CC_VERSION_TEXT": '"cc"'}
    monkeypatch.setattr(kconfig, "config_values", lambda names: ("/proc/config.gz", known))
    source = BtfSource("vmlinux", vmlinux().blob())
    monkeypatch.setattr(kernel_types.kernel_btf, "vmlinux", lambda: source)
    opened = KernelTypes()
    yield opened
    opened.close()


def modules(monkeypatch: pytest.MonkeyPatch, **blobs: bytes) -> Modules:
    system = Modules(*((name, blob, True) for name, blob in blobs.items()))
    monkeypatch.setattr(syscall, "system", system)
    virtual = ("LINUX_KERNEL_VERSION", "LINUX_HAS_BPF_COOKIE", "LINUX_HAS_SYSCALL_WRAPPER")
    monkeypatch.setattr(loader_kconfig, "_ASKED", dict.fromkeys(virtual, lambda: 1))
    return system


def test_functions_and_variables_of_modules(kernel: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    tun = module("bpfctl_no_function", arguments=1, variable=Kind.STRUCT)
    system = modules(monkeypatch, veth=module("bpf_rcu_read_unlock"), tun=tun)
    obj = read_object(str(TESTDATA / "externs.bpf.o"))
    answers = resolve(obj, kernel)
    assert [system._open[fd][0] for fd in answers.fd_array[1:]] == ["veth"]
    assert answers.fd_array[0] == 0
    calls = [i for i in decode(answers.apply(link_program(obj, "calls_what_is_there")).code) if i.src == 2]
    assert [(i.off, i.code) for i in calls] == [(0, 0x85), (1, 0x85)]
    code = decode(answers.apply(link_program(obj, "takes_a_variable")).code)
    (place,) = (number for number, i in enumerate(code) if (i.code, i.src) == (0x18, 3))
    assert system._open[code[place + 1].imm][0] == "tun"


def test_what_no_module_has(kernel: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    obj = read_object(str(TESTDATA / "externs.bpf.o"))
    modules(monkeypatch, tun=module(variable=Kind.STRUCT))
    with pytest.raises(
        MissingExternError, match=r"no function \(kfunc\) called bpf_rcu_read_unlock___flavour"
    ):
        resolve(obj, kernel)


def test_what_is_declared_otherwise(kernel: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    obj = read_object(str(TESTDATA / "externs.bpf.o"))
    modules(monkeypatch, veth=module("bpf_rcu_read_unlock", arguments=2, variable=Kind.STRUCT))
    message = r"___flavour is declared as void \(void\), the kernel has void \(int, int\)"
    with pytest.raises(ObjectFileError, match=message):
        resolve(obj, kernel)
    kernel.close()
    other = KernelTypes()
    modules(monkeypatch, veth=module("bpf_rcu_read_unlock", variable=Kind.UNION))
    with pytest.raises(ObjectFileError, match="runqueues is declared as struct rq, the kernel has union rq"):
        resolve(obj, other)
    other.close()


def test_an_object_is_answered_once(kernel: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    modules(monkeypatch, veth=module("bpf_rcu_read_unlock", variable=Kind.STRUCT))
    obj = read_object(str(TESTDATA / "externs.bpf.o"))
    answers = kernel.externs(obj)
    assert kernel.externs(obj) is answers
    kernel.close()
    assert kernel.externs(obj) is not answers, "its descriptors were closed"
