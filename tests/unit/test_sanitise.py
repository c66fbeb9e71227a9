"""BTF written for kernels that lack some of its kinds; tests/kernel/test_sanitise_load.py asks kernels."""

from __future__ import annotations

import pytest
from btf_builder import BtfBuilder, everything

from bpfctl.btf.kinds import DatasecVar, Enumerator, Kind, Linkage, Member
from bpfctl.btf.sanitise import features, sanitised
from bpfctl.btf.types import Btf

ALL = (
    "func", "func_global", "datasec", "qmark_datasec", "float", "decl_tag", "type_tag", "enum64",
    "signed_enum",
)  # fmt: skip


@pytest.mark.parametrize("byte_order", ["little", "big"])
def test_nothing_is_changed_that_the_kernel_knows(byte_order: str) -> None:
    b = everything(byte_order)
    assert sanitised(b.btf(), ()) == b.blob()
    assert features(b.btf()) == set(ALL)


@pytest.mark.parametrize("byte_order", ["little", "big"])
@pytest.mark.parametrize("lacking", [*((name,) for name in ALL), ALL])
def test_what_is_lacking_is_gone_and_the_rest_stays(lacking: tuple[str, ...], byte_order: str) -> None:
    before = everything(byte_order).btf()
    after = Btf.from_bytes(sanitised(before, lacking))
    assert not features(after) & set(lacking)
    assert len(after) == len(before) + ("enum64" in lacking)
    untouched = [n for n in range(1, len(before)) if after.type(n) == before.type(n)]
    assert {1, 12} <= set(untouched)


def without(*lacking: str) -> Btf:
    return Btf.from_bytes(sanitised(everything().btf(), lacking))


def test_functions() -> None:
    btf = without("func")
    assert [btf.kind(n) for n in (2, 3, 4)] == [Kind.ENUM, Kind.TYPEDEF, Kind.TYPEDEF]
    assert btf.enumerators(2) == [Enumerator("x", 1)]
    assert btf.type(2).size_or_type == 4
    assert btf.type(3).size_or_type == 2


def test_global_functions() -> None:
    btf = without("func_global")
    assert [btf.linkage(n) for n in (3, 4)] == [Linkage.STATIC, Linkage.STATIC]


def test_data_sections() -> None:
    btf = without("datasec")
    assert [btf.kind(n) for n in (5, 6, 7, 8)] == [Kind.INT, Kind.INT, Kind.STRUCT, Kind.STRUCT]
    assert (btf.name(7), btf.name(8)) == ("_data", "__struct_ops")
    assert btf.members(7) == (Member("first", 5, 0, 0), Member("second", 6, 64, 0))
    assert btf.type(7).size_or_type == 12
    assert btf.resolve_size(5) == 1
    assert btf.int_encoding(5).bits == 8


def test_question_marks() -> None:
    btf = without("qmark_datasec")
    assert (btf.name(7), btf.name(8)) == (".data", "_.struct_ops")
    assert btf.datasec(8) == [DatasecVar(5, 0, 4)]


def test_floats_and_tags() -> None:
    btf = without("float", "decl_tag", "type_tag")
    assert (btf.kind(9), btf.name(9), btf.resolve_size(9), btf.members(9)) == (Kind.STRUCT, "", 8, ())
    assert (btf.kind(10), btf.resolve_size(10)) == (Kind.INT, 1)
    assert (btf.kind(11), btf.name(11), btf.type(11).size_or_type) == (Kind.CONST, "", 1)


def test_enums() -> None:
    btf = without("enum64", "signed_enum")
    assert (btf.kind(13), btf.resolve_size(13)) == (Kind.UNION, 8)
    assert btf.members(13) == (Member("LOW", 15, 0, 0), Member("HIGH", 15, 0, 0))
    assert (btf.name(15), btf.resolve_size(15)) == ("enum64_placeholder", 1)
    assert btf.type(14).kflag is False


def test_the_layout_section_is_dropped() -> None:
    b = everything()
    btf = Btf.from_bytes(b.blob(layout=bytes(80)))
    assert features(btf) == {*ALL, "layout"}
    assert sanitised(btf, {"layout"}) == b.blob()


def test_more_members_than_16_bits_count() -> None:
    """The vlen of newer BTF has 24 bits, and all of them are kept."""
    b = BtfBuilder()
    number = b.int()
    b.struct("many", 4, [("", number, 0)] * 70_000)
    b.add(Kind.FLOAT, "f", 4)
    btf = Btf.from_bytes(sanitised(b.btf(), {"float"}))
    assert btf.type(2).vlen == 70_000
    assert btf.kind(3) is Kind.STRUCT


def test_a_section_that_holds_what_is_no_variable() -> None:
    b = BtfBuilder()
    b.datasec(".ksyms", [(b.func("f", b.func_proto(b.int())), 0, 0xFFFFFFFF)], 4)
    btf = Btf.from_bytes(sanitised(b.btf(), {"datasec"}))
    assert btf.kind(3) is Kind.FUNC
    assert btf.members(4)[0].name == "f"
