"""An object's BTF made loadable; tests/kernel/test_btf_load.py asks the kernel about the result."""

from __future__ import annotations

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.fixup import VariablePlace, kernel_btf
from bpfctl.btf.kinds import DatasecVar, Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.errors import ObjectFileError


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_section_gets_size_and_offsets_in_order(byte_order: str) -> None:
    b = BtfBuilder(byte_order)
    number = b.int()
    last, first, static = b.var("last", number), b.var("first", number), b.var("static", number, linkage=0)
    section = b.datasec(".data", [(last, 0, 4), (first, 0, 4), (static, 4, 4)])
    fixed = kernel_btf(
        b.btf(),
        section_sizes={".data": 12},
        variables={"last": VariablePlace(8, False), "first": VariablePlace(0, False)},
    )
    btf = Btf.from_bytes(fixed)
    assert btf.type(section).size_or_type == 12
    assert btf.datasec(section) == [DatasecVar(first, 0, 4), DatasecVar(static, 4, 4), DatasecVar(last, 8, 4)]
    assert btf.linkage(first) is Linkage.GLOBAL


@pytest.mark.parametrize(("size", "offset"), [(1 << 32, 0), (8, 1 << 32)])
def test_sizes_and_offsets_past_4_gib_are_refused(size: int, offset: int) -> None:
    b = BtfBuilder()
    b.datasec(".bss", [(b.var("v", b.int()), 0, 4)])
    with pytest.raises(ObjectFileError, match="past 4 GiB"):
        kernel_btf(b.btf(), section_sizes={".bss": size}, variables={"v": VariablePlace(offset, False)})


def test_what_a_static_linker_filled_in_stays() -> None:
    b = BtfBuilder()
    var = b.var("v", b.int())
    section = b.datasec(".data", [(var, 4, 4)], size=8)
    fixed = kernel_btf(b.btf(), section_sizes={}, variables={"v": VariablePlace(400, False)})
    assert fixed == b.blob()
    assert Btf.from_bytes(fixed).datasec(section) == [DatasecVar(var, 4, 4)]


@pytest.mark.parametrize("size", [0, 8])
def test_hidden_variables_become_static(size: int) -> None:
    b = BtfBuilder()
    var = b.var("v", b.int())
    b.datasec(".data", [(var, 0, 4)], size=size)
    fixed = kernel_btf(b.btf(), section_sizes={".data": 8}, variables={"v": VariablePlace(0, True)})
    assert Btf.from_bytes(fixed).linkage(var) is Linkage.STATIC


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_hidden_global_functions_become_static(byte_order: str) -> None:
    b = BtfBuilder(byte_order)
    proto = b.func_proto(0)
    hidden, visible, extern = b.func("hidden", proto), b.func("visible", proto), b.func("hidden", proto, 2)
    fixed = kernel_btf(b.btf(), section_sizes={}, variables={}, hidden_functions={"hidden"})
    btf = Btf.from_bytes(fixed)
    assert [btf.linkage(f) for f in (hidden, visible, extern)] == [
        Linkage.STATIC,
        Linkage.GLOBAL,
        Linkage.EXTERN,
    ]
    assert btf.type(hidden).kind is Kind.FUNC


@pytest.mark.parametrize("name", [".kconfig", ".ksyms"])
def test_sections_of_externs_wait_for_their_resolution(name: str) -> None:
    b = BtfBuilder()
    number = b.int()
    second, first = b.var("second", number, linkage=2), b.var("first", number, linkage=2)
    section = b.datasec(name, [(second, 4, 4), (first, 0, 4)])
    btf = Btf.from_bytes(kernel_btf(b.btf(), section_sizes={}, variables={}))
    assert btf.type(section).size_or_type == 0
    assert btf.datasec(section) == [DatasecVar(first, 0, 4), DatasecVar(second, 4, 4)]


@pytest.mark.parametrize("sizes", [{}, {".data": 0}])
def test_types_of_a_section_that_is_not_there(sizes: dict[str, int]) -> None:
    b = BtfBuilder()
    b.datasec(".data", [(b.var("v", b.int()), 0, 4)])
    with pytest.raises(
        ObjectFileError, match=r"no section, or an empty one, for the variables of \.data"
    ) as caught:
        kernel_btf(b.btf("a.o"), section_sizes=sizes, variables={})
    assert (caught.value.path, caught.value.offset) == ("a.o", 24 + 16 + 16)


def test_variable_without_a_symbol() -> None:
    b = BtfBuilder()
    b.datasec(".data", [(b.var("lost", b.int()), 0, 4)])
    with pytest.raises(ObjectFileError, match=r"variable lost of section \.data has no symbol"):
        kernel_btf(b.btf(), section_sizes={".data": 4}, variables={})


def test_section_of_something_else_than_variables() -> None:
    b = BtfBuilder()
    b.datasec(".data", [(b.int(), 0, 4)])
    with pytest.raises(ObjectFileError, match=r"\.data holds type 1, no variable"):
        kernel_btf(b.btf(), section_sizes={".data": 4}, variables={})
