"""Which functions a trampoline takes, and how many of them are asked for in one call."""

from __future__ import annotations

import ctypes
import struct

import pytest
from btf_builder import BtfBuilder

from bpfctl.attach.tracing_multi import fits_trampoline
from bpfctl.kernel import link, syscall
from bpfctl.uapi import AttachType, Command


def test_functions_of_few_and_small_arguments() -> None:
    types = BtfBuilder()
    number, nothing = types.int(), 0
    pair = types.struct("pair", 16, [])
    large = types.struct("large", 17, [])
    pointer = types.ptr(large)
    prototypes = {
        "plain": (number, [("a", number), ("b", pointer)]),
        "no_result": (nothing, []),
        "a_pair": (number, [("a", pair)]),
        "twelve": (number, [(f"a{at}", number) for at in range(12)]),
        "too_many": (number, [(f"a{at}", number) for at in range(13)]),
        "too_large": (number, [("a", large)]),
        "a_struct_back": (pair, []),
        "any_number": (number, [("a", number), ("", nothing)]),
    }
    ids = {name: types.func(name, types.func_proto(*each)) for name, each in prototypes.items()}
    btf = types.btf()
    fitting = [name for name, type_id in ids.items() if fits_trampoline(btf, type_id)]
    assert fitting == ["plain", "no_result", "a_pair", "twelve"]


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel(syscall.System):
        def bpf(self, command: int, attr: bytearray) -> int:
            fields = struct.unpack("=4I2QI4x", attr)
            ids = (ctypes.c_uint32 * 3).from_address(fields[4])
            assert command == Command.LINK_CREATE
            assert fields[:4] == (5, 0, AttachType.TRACE_FEXIT_MULTI, 0)
            assert (list(ids), *fields[5:]) == ([7, 9, 11], 0, 3)
            return 12

    monkeypatch.setattr(syscall, "system", Kernel())
    assert link.tracing_multi(5, AttachType.TRACE_FEXIT_MULTI, [7, 9, 11]) == 12
