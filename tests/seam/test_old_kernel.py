"""What is left out for a kernel that lacks something, against a scripted one that does."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from btf_builder import BtfBuilder
from test_load_order import ScriptedKernel, load_and_close

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.kernel import bpf, info, probe, syscall
from bpfctl.loader import fallbacks
from bpfctl.loader.object_btf import load_btf
from bpfctl.uapi import Command, MapFlag

_NAME = {Command.MAP_CREATE: slice(28, 44), Command.PROG_LOAD: slice(48, 64)}


class Lack(NamedTuple):
    """Kinds of BTF, map flags, and parts of the attributes that a kernel does not know."""

    kinds: tuple[Kind, ...] = ()
    map_flags: int = 0
    names: bool = False
    attach_type: bool = False


class OldKernel(ScriptedKernel):
    """Refuses what it lacks; ``taken``: the attributes of what it took."""

    def __init__(self, lack: Lack) -> None:
        super().__init__()
        self.lack = lack
        self.taken: list[tuple[Command, bytes]] = []

    def bpf(self, command: int, attr: bytearray) -> int:
        known = Command(command)
        if self._lacks(known, attr):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.taken.append((known, bytes(attr)))
        return super().bpf(command, attr)

    def _lacks(self, command: Command, attr: bytearray) -> bool:
        if command is Command.BTF_LOAD:
            address, _, size = struct.unpack_from("=QQI", attr)
            btf = Btf.from_bytes(ctypes.string_at(address, size))
            return any(True for kind in self.lack.kinds for _ in btf.ids(kind))
        if command is Command.MAP_CREATE and struct.unpack_from("=I", attr, 16)[0] & self.lack.map_flags:
            return True
        if self.lack.names and command in _NAME and any(attr[_NAME[command]]):
            return True
        return command is Command.PROG_LOAD and self.lack.attach_type and any(attr[68:72])

    def last(self, command: Command) -> bytes:
        return [attr for each, attr in self.taken if each is command][-1]


Make = Callable[[Lack], OldKernel]


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """``old(Lack(...))``: from here on, the kernel is that one."""
    made: list[OldKernel] = []

    def make(lack: Lack) -> OldKernel:
        kernel = OldKernel(lack)
        made.append(kernel)
        monkeypatch.setattr(syscall, "system", kernel)
        monkeypatch.setenv("TC_BPF_MNT", "/bpf-of-the-test")
        return kernel

    yield make
    assert all(kernel.open == set() for kernel in made)


def records(program: bytes) -> tuple[int, int]:
    """Function and line records of a BPF_PROG_LOAD."""
    return struct.unpack_from("=I", program, 88)[0], struct.unpack_from("=I", program, 104)[0]


def test_a_kernel_that_takes_everything_is_asked_nothing(old: Make) -> None:
    kernel = old(Lack())
    load_and_close("legacy_globals", "sort_by_length")
    assert [each for each, _ in kernel.taken].count(Command.BTF_LOAD) == 1
    assert [each for each, _ in kernel.taken].count(Command.PROG_LOAD) == 1
    assert all(records(kernel.last(Command.PROG_LOAD)))


def test_types_that_it_lacks_are_written_anew(old: Make) -> None:
    kernel = old(Lack(kinds=(Kind.DATASEC, Kind.VAR)))
    load_and_close("legacy_globals", "sort_by_length")
    assert struct.unpack_from("=I", kernel.last(Command.PROG_LOAD), 72)[0]  # prog_btf_fd
    assert all(records(kernel.last(Command.PROG_LOAD)))


def test_records_of_functions_go_with_their_types(old: Make) -> None:
    kernel = old(Lack(kinds=(Kind.FUNC, Kind.FUNC_PROTO)))
    load_and_close("proto_counters", "count_protocols")
    assert struct.unpack_from("=I", kernel.last(Command.PROG_LOAD), 72)[0]
    assert records(kernel.last(Command.PROG_LOAD)) == (0, 0)


def test_a_refusal_about_something_else_stays(old: Make) -> None:
    old(Lack(kinds=(Kind.INT,)))
    b = BtfBuilder()
    b.ptr(b.int())
    with pytest.raises(OSError, match="Invalid argument"):
        load_btf(b.blob(), "test.o")


def test_names(old: Make) -> None:
    kernel = old(Lack(names=True))
    load_and_close("proto_counters", "count_protocols")
    for command, place in _NAME.items():
        assert not any(kernel.last(command)[place])


def test_maps_that_cannot_be_mapped(old: Make) -> None:
    kernel = old(Lack(map_flags=MapFlag.MMAPABLE))
    load_and_close("legacy_globals", "sort_by_length")
    flags = [
        struct.unpack_from("=I", attr, 16)[0] for each, attr in kernel.taken if each is Command.MAP_CREATE
    ]
    assert MapFlag.RDONLY_PROG in flags or 0 in flags
    assert not any(each & MapFlag.MMAPABLE for each in flags)


def test_the_attach_type_at_load(old: Make) -> None:
    kernel = old(Lack(attach_type=True))
    load_and_close("proto_counters", "count_protocols")
    assert not any(kernel.last(Command.PROG_LOAD)[68:72])


@pytest.mark.parametrize("missing", [True, False])
def test_helpers_that_were_one_before(monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    """bpf_probe_read_kernel and its like; a load's second slot, a call of a function and others stay."""
    monkeypatch.setattr(probe.PROBE_READ_KERNEL, "missing", lambda: missing)

    def code(*helpers: int) -> bytes:
        fields = [*((0x85, 0, 0, number) for number in helpers), (0x18, 0, 0, 113), (0, 0, 0, 113)]
        fields += [(0x85, 1 << 4, 0, 113), (0x85, 2 << 4, 0, 113)]
        return b"".join(struct.pack("=2BhI", *each) for each in fields)

    wanted = bpf.ProgAttributes(5, code(112, 113, 114, 115, 4, 45, 1), "GPL")
    error = OSError(errno.EINVAL, "unknown function")
    lesser = fallbacks.lesser_program(wanted, error, attach_type_optional=False)
    assert lesser == (wanted._replace(code=code(4, 4, 45, 45, 4, 45, 1)) if missing else None)


def test_records_that_are_longer_than_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says E2BIG, and how long the records are that it knows; longer ones may end in zeros."""

    class Short(syscall.System):
        def bpf(self, command: int, attr: bytearray) -> int:
            address, count = struct.unpack_from("=QI", attr, 80)
            seen.append(ctypes.string_at(address, 12 * count))
            if any(seen[-1][8:12]):
                struct.pack_into("=I", attr, 76, 8)
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            assert struct.unpack_from("=I", attr, 76)[0] == 12
            return 1000

    seen: list[bytes] = []
    monkeypatch.setattr(syscall, "system", Short())
    wanted = bpf.ProgAttributes(1, bytes(16), "GPL", func_info=struct.pack("=6I", 0, 1, 7, 5, 2, 0))
    assert bpf.prog_load(wanted._replace(func_info_size=12)) == 1000
    assert seen == [struct.pack("=6I", 0, 1, 7, 5, 2, 0), struct.pack("=6I", 0, 1, 0, 5, 2, 0)]


def test_btf_has_no_name_before_modules_have_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel refuses a longer struct bpf_btf_info whose end is not zero."""

    class Nameless(syscall.System):
        def bpf(self, command: int, attr: bytearray) -> int:
            _, length, address = struct.unpack("=2IQ", attr)
            if any(ctypes.string_at(address, length)[16:]):
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            ctypes.memmove(address, struct.pack("=Q2I", 0, 300, 7), 16)
            return 0

    monkeypatch.setattr(syscall, "system", Nameless())
    assert info.btf_info(3) == info.BtfInfo(7, 300, "", False)
