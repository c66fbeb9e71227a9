"""BTF of kernel modules, given by a scripted kernel: which are taken, and what a bad one does."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.kinds import Kind
from bpfctl.errors import BtfError, KernelError
from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.kernel_btf import BtfSource
from bpfctl.loader import LoadedObject, Transaction, kernel_types, struct_ops
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.maps import MapMaker
from bpfctl.loader.pins import PinPlan
from bpfctl.objfile import read_object
from bpfctl.objfile.struct_ops import with_member
from bpfctl.uapi import Command, MapFlag

TESTDATA = Path(__file__).parents[2] / "testdata"

Entry = tuple[str, bytes, bool]  # name, bytes, of the kernel


class Modules(syscall.System):
    """Has the BTF objects ``entries``, with ids from 1; ``refusals``: command -> errno."""

    def __init__(self, *entries: Entry, refusals: dict[Command, int] | None = None) -> None:
        self._entries = entries
        self._refusals = refusals or {}
        self._open: dict[int, Entry] = {}

    def bpf(self, command: int, attr: bytearray) -> int:
        number = self._refusals.get(Command(command), 0)
        start, *_ = struct.unpack_from("=I", attr)
        if command == Command.BTF_GET_NEXT_ID and start == len(self._entries):
            number = number or errno.ENOENT
        if number:
            raise OSError(number, os.strerror(number))
        if command == Command.BTF_GET_NEXT_ID:
            struct.pack_into("=I", attr, 4, start + 1)
            return 0
        if command == Command.BTF_GET_FD_BY_ID:
            fd = os.open("/dev/null", os.O_RDONLY)
            self._open[fd] = self._entries[start - 1]
            return fd
        assert command == Command.OBJ_GET_INFO_BY_FD
        self._info(*self._open[start], struct.unpack_from("=Q", attr, 8)[0])
        return 0

    @staticmethod
    def _info(name: str, data: bytes, kernel: bool, address: int) -> None:
        """struct bpf_btf_info: btf, btf_size, id, name, name_len, kernel_btf."""
        info = (ctypes.c_char * 32).from_address(address)
        blob, size, _, text, text_size, _ = struct.unpack("=Q2IQ2I", bytes(info))
        ctypes.memmove(blob, data, min(size, len(data)) if blob else 0)
        ctypes.memmove(text, name.encode() + b"\0", min(text_size, len(name) + 1) if text else 0)
        struct.pack_into("=Q2IQ2I", info, 0, blob, len(data), 1, text, len(name), kernel)


def vmlinux() -> BtfBuilder:
    b = BtfBuilder()
    b.struct("core", 4, [("x", b.int(), 0)])
    return b


def module(name: str) -> bytes:
    b = BtfBuilder(base=vmlinux().btf())
    b.struct(name, 4)
    return b.blob()


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> KernelTypes:
    source = BtfSource("vmlinux", vmlinux().blob())
    monkeypatch.setattr(kernel_types.kernel_btf, "vmlinux", lambda: source)
    return KernelTypes()


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
    assert warning.startswith("BTF of module bad is left out of CO-RE: not BTF")
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
        MapMaker(loaded, PinPlan(loaded.spec, Transaction())).make_all()
        (wanted,) = created
        fitted = loaded.struct_ops["steady"].btf
        assert fitted is not None
        assert (wanted.value_size, wanted.btf_vmlinux_value_type_id) == (72, value)
        assert (wanted.map_flags, wanted.value_type_btf_obj_fd) == (MapFlag.VTYPE_BTF_OBJ_FD, fitted.number)
        target = struct_ops.program_target(loaded, loaded.spec.programs["ten_segments"])
        assert target == (kernel_ops, 0, fitted.number)
