"""BTF of kernel modules, given by a scripted kernel: which are taken, and what a bad one does."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from scripted_modules import Modules

from bpfctl.btf.kinds import Kind
from bpfctl.errors import BtfError, KernelError
from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.kernel_btf import BtfSource
from bpfctl.loader import LoadedObject, LoadRequest, Transaction, kernel_types, struct_ops
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.maps import MapMaker
from bpfctl.loader.pins import PinPlan
from bpfctl.objfile import read_object
from bpfctl.objfile.struct_ops import with_member
from bpfctl.uapi import Command, MapFlag

TESTDATA = Path(__file__).parents[2] / "testdata"


def vmlinux() -> BtfBuilder:
    b = BtfBuilder()
    b.struct("core", 4, [("x", b.int(), 0)])
    return b


def module(name: str) -> bytes:
    b = BtfBuilder(base=vmlinux().btf())
    b.struct(name, 4)
    return b.blob()


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Iterator[KernelTypes]:
    source = BtfSource("vmlinux", vmlinux().blob())
    monkeypatch.setattr(kernel_types.kernel_btf, "vmlinux", lambda: source)
    opened = KernelTypes()
    yield opened
    opened.close()


def test_modules_are_those_of_the_kernel_but_vmlinux(
    types: KernelTypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        ("vmlinux", vmlinux().blob(), True),
        ("program", b"", False),
        ("veth", module("veth_priv"), True),
        ("tun", module("tun_struct"), True),
    ]
    monkeypatch.setattr(syscall, "system", Modules(*entries))
    assert [(btf.path, btf.name(len(btf) - 1)) for btf in types.modules()] == [
        ("veth", "veth_priv"),
        ("tun", "tun_struct"),
    ]
    assert types.new_warnings() == []
    monkeypatch.setattr(syscall, "system", Modules())
    assert len(types.modules()) == 2, "they are read once"


def test_a_corrupt_module_is_a_warning(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [("bad", b"rubbish", True), ("good", module("fine"), True)]
    monkeypatch.setattr(syscall, "system", Modules(*entries))
    assert [btf.path for btf in types.modules()] == ["good"]
    (warning,) = types.new_warnings()
    assert warning.startswith("BTF of module bad is left out: not BTF")
    assert types.new_warnings() == []


@pytest.mark.parametrize("command", [Command.BTF_GET_NEXT_ID, Command.BTF_GET_FD_BY_ID])
def test_who_may_not_look_sees_no_modules(
    command: Command, types: KernelTypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Modules(("veth", module("veth_priv"), True), refusals={command: errno.EPERM})
    monkeypatch.setattr(syscall, "system", system)
    assert types.modules() == []
    assert types.new_warnings() == []


def test_a_module_that_goes_meanwhile_is_passed_over(
    types: KernelTypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Modules(("veth", b"", True), refusals={Command.BTF_GET_FD_BY_ID: errno.ENOENT})
    monkeypatch.setattr(syscall, "system", system)
    assert types.modules() == []


def test_any_other_refusal_is_a_warning(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Modules(("veth", b"", True), refusals={Command.OBJ_GET_INFO_BY_FD: errno.ENOMEM})
    monkeypatch.setattr(syscall, "system", system)
    assert types.modules() == []
    assert "ENOMEM" in types.new_warnings()[0]


def test_vmlinux_that_is_no_btf_is_an_error(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_types.kernel_btf, "vmlinux", lambda: BtfSource("vmlinux", b"rubbish"))
    with pytest.raises(BtfError, match=r"vmlinux.*not BTF"):
        types.vmlinux()


# --- types by name ---------------------------------------------------------------------------------


def test_a_type_is_vmlinuxs_or_the_first_modules(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [("first", module("shared"), True), ("second", module("shared"), True)]
    monkeypatch.setattr(syscall, "system", Modules(*entries))
    assert types.find("core", Kind.STRUCT) == (types.vmlinux(), 2)
    assert types.find("shared", Kind.STRUCT) == (types.modules()[0], 3)
    assert types.find("shared", Kind.UNION) is None
    assert KernelTypes("/a/file").running is not types.running is types


def test_modules_are_read_one_by_one_as_they_are_asked_for(
    types: KernelTypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [("first", module("one"), True), ("second", module("two"), True), ("bad", b"rubbish", True)]
    system = Modules(*entries)
    monkeypatch.setattr(syscall, "system", system)
    found = types.find("two", Kind.STRUCT)
    assert found is not None
    assert (found[0].path, found[0].name(found[1])) == ("second", "two")
    assert types.find("core", Kind.STRUCT, "second") is None, "the base's types are not the module's"
    assert types.find("one", Kind.STRUCT, "seco") is None, "a module is named in full"
    assert types.new_warnings() == [], "the third was not looked at"
    assert types.find("nothing", Kind.STRUCT) is None
    assert len(types.new_warnings()) == 1
    fd = types.descriptor(found[0])
    assert system._open[fd][0] == "second"
    assert types.descriptor(found[0]) == fd
    assert types.descriptor(types.vmlinux()) == 0


@pytest.mark.parametrize("more", [0, 20])
def test_many_names_are_found_together(
    types: KernelTypes, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(syscall, "system", Modules(("veth", module("veth_priv"), True)))
    names = ["core", "veth_priv", "", *(f"nobody{n}" for n in range(more))]
    found = types.find_each(names, Kind.STRUCT)
    assert {name: btf.name(type_id) for name, (btf, type_id) in found.items()} == {
        "core": "core",
        "veth_priv": "veth_priv",
    }
    assert [found[name][0].path for name in ("core", "veth_priv")] == ["vmlinux", "veth"]


def test_a_modules_btf_is_opened_by_its_id(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Modules(("first", module("one"), True), ("second", module("two"), True))
    monkeypatch.setattr(syscall, "system", system)
    _, second = types.modules()
    fd = types.open_btf(second)
    assert fd is not None
    with fd:
        assert system._open[fd.number][0] == "second"
    assert types.open_btf(types.vmlinux()) is None


def test_a_module_that_is_gone_when_it_is_needed(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall, "system", Modules(("veth", module("one"), True)))
    (veth,) = types.modules()
    refusing = Modules(refusals={Command.BTF_GET_FD_BY_ID: errno.ENOENT})
    monkeypatch.setattr(syscall, "system", refusing)
    with pytest.raises(KernelError, match="cannot open the BTF of module veth"):
        types.open_btf(veth)


def test_a_struct_ops_map_of_a_modules_type(types: KernelTypes, monkeypatch: pytest.MonkeyPatch) -> None:
    b = BtfBuilder(base=vmlinux().btf())
    kernel_ops = b.struct("tcp_congestion_ops", 8, [("undo_cwnd", b.ptr(b.func_proto(0)), 0)])
    value = b.struct("bpf_struct_ops_tcp_congestion_ops", 72, [("data", kernel_ops, 512)])
    monkeypatch.setattr(syscall, "system", Modules(("cc", b.blob(), True)))
    obj = with_member(read_object(str(TESTDATA / "struct_ops_user.bpf.o")), "steady", "ssthresh", None)
    loaded = LoadedObject(with_member(obj, "steady", "name", b""))
    with loaded:
        struct_ops.fit(loaded, [loaded.spec.maps["steady"]], types)
        created: list[MapAttributes] = []
        monkeypatch.setattr(bpf, "map_create", lambda wanted: created.append(wanted) or os.dup(0))
        MapMaker(loaded, PinPlan(loaded.spec, Transaction()), LoadRequest(())).make_all()
        (wanted,) = created
        fitted = loaded.struct_ops["steady"].btf
        assert fitted is not None
        assert (wanted.value_size, wanted.btf_vmlinux_value_type_id) == (72, value)
        assert (wanted.map_flags, wanted.value_type_btf_obj_fd) == (MapFlag.VTYPE_BTF_OBJ_FD, fitted.number)
        target = struct_ops.program_target(loaded, loaded.spec.programs["ten_segments"])
        assert target == (kernel_ops, 0, fitted.number)
