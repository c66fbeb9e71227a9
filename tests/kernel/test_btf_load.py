"""BTF made loadable, judged by BPF_BTF_LOAD: refused as the compiler left it, taken once put right."""

from __future__ import annotations

import errno
import os

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.fixup import VariablePlace, kernel_btf
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.kernel import bpf

pytestmark = pytest.mark.kernel


def _load(blob: bytes) -> bpf.VerifierLog:
    """Load and drop ``blob``; the kernel's log, which ends in its complaint if it refused."""
    log = bpf.VerifierLog(level=1, size=1 << 16)
    os.close(bpf.btf_load(blob, log))
    return log


def _as_compiled() -> BtfBuilder:
    """Two globals out of order, one of them hidden, in a section without a size; a function."""
    b = BtfBuilder()
    number = b.int()
    last, first = b.var("last", number), b.var("first", number)
    b.datasec(".data", [(last, 0, 4), (first, 0, 4)])
    b.func("helper", b.func_proto(number, [("x", number)]))
    return b


def _put_right(btf: Btf) -> bytes:
    return kernel_btf(
        btf,
        section_sizes={".data": 8},
        variables={"last": VariablePlace(4, True), "first": VariablePlace(0, False)},
        hidden_functions={"helper"},
    )


def test_sections_have_to_be_put_right() -> None:
    b = _as_compiled()
    with pytest.raises(OSError, match="Invalid argument") as caught:
        _load(b.blob())
    assert caught.value.errno == errno.EINVAL
    log = _load(_put_right(b.btf()))
    assert "DATASEC .data size=8 vlen=2" in log.text
    assert "VAR last type_id=1 linkage=0" in log.text
    assert "VAR first type_id=1 linkage=1" in log.text


def test_every_kind() -> None:
    b = _as_compiled()
    number = 1
    inner = b.union("", 4, [("i", number, 0)])
    outer = b.bitfields("s", 8, [("low", number, 0, 3), ("high", number, 3, 29), ("", inner, 32, 0)])
    b.array(b.ptr(b.enum("e", {"A": -1}, signed=True)), 4, index=number)
    b.enum64("wide", {"B": 1 << 40})
    b.ptr(b.add(Kind.TYPE_TAG, "user", b.add(Kind.FWD, "later")))
    qualified = b.add(Kind.CONST, "", b.add(Kind.VOLATILE, "", b.add(Kind.TYPEDEF, "s_t", outer)))
    b.add(Kind.RESTRICT, "", b.ptr(qualified))
    b.add(Kind.FLOAT, "double", 8)
    b.add(Kind.DECL_TAG, "note", outer, words=[0])
    fixed = _put_right(b.btf())
    assert {Btf.from_bytes(fixed).kind(type_id) for type_id in range(b.next_id)} == set(Kind)
    _load(fixed)
