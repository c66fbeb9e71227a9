"""Arenas and jump tables on the running kernel: placed, shared, run."""

from __future__ import annotations

import ctypes
import errno
import struct
from pathlib import Path

import pytest
from netlab import TESTDATA
from programs import run_once

from bpfctl.errors import KernelError, NotSupportedError
from bpfctl.kernel import bpf, info
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.memory import Mapping
from bpfctl.loader import LoadedObject, LoadRequest, Transaction, load
from bpfctl.objfile import ObjectSpec, read_object
from bpfctl.uapi import MapFlag, MapType

pytestmark = pytest.mark.kernel


@pytest.fixture
def spec() -> ObjectSpec:
    return read_object(str(TESTDATA / "arena_globals.bpf.o"))


def load_all(obj: ObjectSpec) -> LoadedObject:
    with Transaction() as transaction:
        return load(obj, LoadRequest(tuple(obj.programs)), transaction)


def seen(loaded: LoadedObject, size: int) -> bytes:
    """What this process sees of the arena's variables."""
    live = loaded.maps["shared"]
    assert live.mapping is not None
    return ctypes.string_at(live.mapping.address + live.data_offset, size)


def test_variables_are_shared_with_the_program(spec: ObjectSpec) -> None:
    with load_all(spec) as loaded:
        assert seen(loaded, 20) == struct.pack("=Q3I", 40, 1, 2, 3)
        for expected in (42, 44):
            run_once(loaded.program("add_step").fd)
            assert seen(loaded, 20) == struct.pack("=Q3I", expected, 1, 2, 3)
        found = info.map_info(loaded.maps["shared"].fd.number)
        assert (found.type, found.max_entries, found.btf_value_type_id) == (MapType.ARENA, 16, 0)


def test_an_arena_at_an_address(spec: ObjectSpec) -> None:
    address = 1 << 44
    spec.maps["shared"].map_extra = address
    with load_all(spec) as loaded:
        mapping = loaded.maps["shared"].mapping
        assert mapping is not None
        assert mapping.address == address
        with pytest.raises(
            KernelError, match=rf"cannot map arena shared, 16 pages at {address:#x}"
        ) as caught:
            load_all(spec)
        assert caught.value.errno == errno.EEXIST, "nothing of this process is overwritten"
    load_all(spec).close()


def test_a_pinned_arena_keeps_its_contents(spec: ObjectSpec, bpffs: Path) -> None:
    spec.maps["shared"].pinning = 1
    with load_all(spec) as first, load_all(spec) as second:
        run_once(first.program("add_step").fd)
        run_once(second.program("add_step").fd)
        assert second.maps["shared"].reused
        assert second.maps["shared"].mapping is None
        assert seen(first, 8) == struct.pack("=Q", 44)


def test_a_page_that_is_not_there_is_an_error_not_a_signal() -> None:
    wanted = MapAttributes(MapType.ARENA, 0, 0, 1, int(MapFlag.MMAPABLE | MapFlag.SEGV_ON_FAULT))
    with Fd(bpf.map_create(wanted)) as fd:
        mapping = Mapping(fd.number, 4096)
        with pytest.raises(OSError, match="Bad address") as caught:
            mapping.write(0, b"text")
        mapping.close()
    assert caught.value.errno == errno.EFAULT


def _has_instruction_arrays() -> bool:
    try:
        Fd(bpf.map_create(MapAttributes(MapType.INSN_ARRAY, 4, 16, 1))).close()
    except OSError:
        return False
    return True


@pytest.mark.kernels
def test_a_jump_table_leads_where_it_says() -> None:
    obj = read_object(str(TESTDATA / "jump_table.bpf.o"))
    if not _has_instruction_arrays():
        with pytest.raises(NotSupportedError, match="a jump table of 2 targets for program pick") as caught:
            load_all(obj)
        assert caught.value.feature == "insn_array"
        return
    with load_all(obj) as loaded:
        program = loaded.program("pick").fd
        assert [run_once(program, 14 + length) for length in (14, 15, 16)] == [10, 20, 30]
