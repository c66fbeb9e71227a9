"""BTF as a C header: what a compiler has to be told, and BTF that no compiler would take."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.c_dump import CDump
from bpfctl.btf.c_names import identifier
from bpfctl.btf.kinds import Kind
from bpfctl.btf.raw_dump import raw_texts
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError


def header(b: BtfBuilder, *roots: int) -> str:
    return "\n".join(CDump(b.btf()).types(roots or None))


# --- order ---------------------------------------------------------------------------------------


def test_what_is_contained_comes_first_and_what_is_pointed_to_is_declared() -> None:
    b = BtfBuilder()
    outer = b.struct("outer", 16, [("inner", 3, 0), ("other", 2, 64)])
    b.ptr(4)
    b.struct("inner", 8, [("outer", b.next_id + 2, 0)])
    b.struct("other", 8, [("self", 2, 0)])
    b.ptr(outer)
    assert header(b) == (
        "struct outer;\n"
        "struct inner {\n\tstruct outer *outer;\n};\n"
        "struct other;\n"
        "struct outer {\n\tstruct inner inner;\n\tstruct other *other;\n};\n"
        "struct other {\n\tstruct other *self;\n};"
    )


def test_a_typedef_needs_a_tag_until_a_value_of_it_is_wanted() -> None:
    b = BtfBuilder()
    number = b.int()
    pointer = b.ptr(3)
    alias = b.add(Kind.TYPEDEF, "alias", 4)
    assert b.struct("target", 4, [("number", number, 0)]) == 4
    b.struct("user", 16, [("pointer", pointer, 0), ("value", alias, 64), ("tail", number, 96)])
    assert header(b, 5) == (
        "struct target;\ntypedef struct target alias;\n"
        "struct target {\n\tint number;\n};\n"
        "struct user {\n\talias *pointer;\n\talias value;\n\tint tail;\n};"
    )


def test_a_forward_declaration_is_the_struct_of_that_name() -> None:
    b = BtfBuilder()
    b.add(Kind.FWD, "thing")
    b.add(Kind.FWD, "thing", kflag=True)  # a union, so another type
    b.struct("thing", 8, [("other", b.next_id + 1, 0)])
    b.ptr(2)
    assert header(b) == ("struct thing;\nunion thing___2;\nstruct thing {\n\tunion thing___2 *other;\n};")


def test_same_names_become_flavours() -> None:
    b = BtfBuilder()
    for _ in range(2):
        b.struct("same", 0)
        b.add(Kind.TYPEDEF, "same", b.int())
        b.enum("", {"SAME": 1, "same": 2})
    assert header(b) == (
        "struct same {};\ntypedef int same;\nenum {\n\tSAME = 1,\n\tsame___3 = 2,\n};\n"
        "struct same___2 {};\ntypedef int same___2;\nenum {\n\tSAME___2 = 1,\n\tsame___4 = 2,\n};"
    )


def test_types_of_the_base_come_as_far_as_they_are_needed() -> None:
    base = BtfBuilder()
    number = base.int()
    base.struct("needed", 4, [("a", number, 0)])
    base.struct("needless", 4, [("a", number, 0)])
    vmlinux = base.btf()
    b = BtfBuilder(base=vmlinux)
    b.struct("own", 4, [("needed", 2, 0)])
    b.struct("needless", 4, [("b", number, 0)])
    split = Btf.from_bytes(b.blob(), base=vmlinux)
    assert "\n".join(CDump(split).types()) == (
        "struct needed {\n\tint a;\n};\nstruct own {\n\tstruct needed needed;\n};\n"
        "struct needless___2 {\n\tint b;\n};"
    )


# --- declarations --------------------------------------------------------------------------------


def _member(make: Callable[[BtfBuilder], int], size: int = 8) -> str:
    b = BtfBuilder()
    type_id = make(b)
    b.struct("s", size, [("x", type_id, 0)])
    return header(b, b.next_id - 1).rpartition("struct s {\n\t")[2].removesuffix(";\n};")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda b: b.ptr(b.add(Kind.CONST, "", b.int("char", 1))), "const char *x"),
        (lambda b: b.add(Kind.CONST, "", b.ptr(b.int("char", 1))), "char *const x"),
        (lambda b: b.ptr(b.add(Kind.VOLATILE, "", b.ptr(0))), "void *volatile *x"),
        (lambda b: b.add(Kind.CONST, "", b.add(Kind.CONST, "", b.int("long", 8))), "const long x"),
        (lambda b: b.array(b.array(b.int("char", 1), 4), 2), "char x[2][4]"),
        (lambda b: b.ptr(b.array(b.int("char", 1), 4)), "char (*x)[4]"),
        (lambda b: b.ptr(b.func_proto(0)), "void (*x)(void)"),
        (lambda b: b.ptr(b.func_proto(0, [("", 0)])), "void (*x)(void)"),
        (lambda b: b.ptr(b.func_proto(b.int(), [("a", 1), ("", 0)])), "int (*x)(int a, ...)"),
        (lambda b: b.ptr(b.func_proto(b.ptr(b.func_proto(0)))), "void (*(*x)(void))(void)"),
        (lambda b: b.ptr(b.add(Kind.TYPE_TAG, "user", 0)), '__attribute__((btf_type_tag("user"))) void *x'),
        (
            lambda b: b.ptr(b.add(Kind.TYPE_TAG, 'a"\n', 0)),
            '__attribute__((btf_type_tag("a\\"\\\\n"))) void *x',
        ),
        (
            lambda b: b.ptr(b.add(Kind.TYPE_TAG, "address_space(1)", 0, kflag=True)),
            "__attribute__((address_space(1))) void *x",
        ),
        (lambda b: b.ptr(b.add(Kind.TYPE_TAG, "x)) int y; //", 0, kflag=True)), "void *x"),
        (lambda b: b.int("long unsigned int", 8, signed=False), "long unsigned int x"),
        (lambda b: b.int("long int", 8), "long int x"),
        (lambda b: b.int("short unsigned int", 2, signed=False), "short unsigned int x"),
        (lambda b: b.int("long unsigned int", 4, signed=False), "unsigned int x"),  # of a 32-bit kernel
        (lambda b: b.add(Kind.FLOAT, "long double", 8), "long double x"),
        (lambda b: b.add(Kind.FLOAT, "long double", 16), "long_double x"),
        (lambda b: b.int("__uint128", 16, signed=False), "__uint128 x"),
        (lambda b: b.enum("", {"A": 0xFFFFFFFF}), "enum {\n\t\tA = 4294967295,\n\t} x"),
        (lambda b: b.enum("", {"A": 1}, size=1), "enum {\n\t\tA = 1,\n\t} __attribute__((mode(QI))) x"),
        (lambda b: b.enum64("", {"A": 1}), "enum {\n\t\tA = 1ULL,\n\t} __attribute__((mode(DI))) x"),
        (lambda b: b.enum64("", {"A": -1 << 40}, signed=True), f"enum {{\n\t\tA = {-1 << 40}LL,\n\t}} x"),
    ],
)
def test_a_member(make: Callable[[BtfBuilder], int], text: str) -> None:
    assert _member(make, 16).partition(";\n\tlong: ")[0] == text


@pytest.mark.parametrize(
    ("name", "text"),
    [("plain", "plain"), ("int", "int_"), ("core::fmt<T>", "core__fmt_T_"), ("9p", "_9p"), ("a;\n}", "a___")],
)
def test_an_identifier(name: str, text: str) -> None:
    assert identifier(name) == text


def test_names_of_c23_are_left_to_it() -> None:
    b = BtfBuilder()
    b.add(Kind.TYPEDEF, "bool", b.int("_Bool", 1, signed=False, boolean=True))
    assert header(b) == (
        "#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\ntypedef _Bool bool;\n#endif"
    )


def test_declaration_tags_stay() -> None:
    b = BtfBuilder()
    number = b.int()
    tagged = b.struct("s", 8, [("a", number, 0), ("b", number, 32)])
    b.add(Kind.DECL_TAG, "whole", tagged, words=[-1])
    b.add(Kind.DECL_TAG, "part", tagged, words=[1])
    assert header(b) == (
        'struct s {\n\tint a;\n\tint b __attribute__((btf_decl_tag("part")));\n}'
        ' __attribute__((btf_decl_tag("whole")));'
    )


# --- hostile -------------------------------------------------------------------------------------


def _contains_itself(b: BtfBuilder) -> None:
    b.struct("a", 8, [("b", 2, 0)])
    b.struct("b", 8, [("a", 1, 0)])


def _nameless_in_itself(b: BtfBuilder) -> None:
    b.struct("", 8, [("", 1, 0)])
    b.struct("user", 8, [("a", 1, 0)])


def _typedefs_in_a_circle(b: BtfBuilder) -> None:
    b.add(Kind.TYPEDEF, "a", 2)
    b.add(Kind.TYPEDEF, "b", 1)


def _pointers_in_a_circle(b: BtfBuilder) -> None:
    b.ptr(1)
    b.struct("user", 8, [("a", 1, 0)])


def _prototypes_in_a_circle(b: BtfBuilder) -> None:
    b.func_proto(0, [("f", 2)])
    b.ptr(1)
    b.struct("user", 8, [("a", 2, 0)])


def _exponential_structs(b: BtfBuilder) -> None:
    below = b.int()
    for level in range(30):
        size = 4 << level + 1 if level < 28 else 0
        below = b.struct("", size, [(f"a{level}", below, 0), (f"b{level}", below, size * 4)])
    b.struct("user", 0, [("a", below, 0)])


def _exponential_prototypes(b: BtfBuilder) -> None:
    below = b.ptr(0)
    for _ in range(28):
        below = b.ptr(b.func_proto(below, [("a", below), ("b", below)]))
    b.struct("user", 8, [("a", below, 0)])


def _deep_structs(b: BtfBuilder) -> None:
    below = b.int()
    for level in range(2000):
        below = b.struct("", 4, [(f"m{level}", below, 0)])
    b.struct("user", 4, [("a", below, 0)])


def _id_out_of_range(b: BtfBuilder) -> None:
    b.struct("s", 4, [("a", 99, 0)])


def _function_as_member(b: BtfBuilder) -> None:
    b.struct("s", 4, [("a", b.next_id + 2, 0)])
    b.func_proto(0)
    b.func("f", 2)


def _overlapping_members(b: BtfBuilder) -> None:
    number = b.int()
    b.struct("s", 8, [("a", number, 0), ("b", number, 16)])


def _member_past_the_end(b: BtfBuilder) -> None:
    b.struct("s", 2, [("a", b.int(), 0)])


def _two_of_one_name(b: BtfBuilder) -> None:
    number = b.int()
    b.struct("s", 8, [("a", number, 0), ("a", number, 32)])


def _name_past_the_end(b: BtfBuilder) -> None:
    b.add(Kind.STRUCT, "s", 4, vlen=1, words=[0xFFFFFF, b.next_id + 1, 0])
    b.int()


HOSTILE = [
    (_contains_itself, "contains itself"),
    (_nameless_in_itself, "nests deeper than 32"),
    (_typedefs_in_a_circle, "contains itself"),
    (_pointers_in_a_circle, "references in a row"),
    (_prototypes_in_a_circle, "nests deeper than 32"),
    (_exponential_structs, "too often|larger than"),
    (_exponential_prototypes, "too often"),
    (_deep_structs, "nests deeper than 32"),
    (_id_out_of_range, "type id 99 is out of range"),
    (_function_as_member, "has no size|no type of a value"),
    (_overlapping_members, "member b overlaps"),
    (_member_past_the_end, "member a is larger than the whole"),
    (_two_of_one_name, "two members called a"),
    (_name_past_the_end, "past the end of the string section"),
]


@pytest.mark.parametrize(("make", "reason"), HOSTILE, ids=lambda v: getattr(v, "__name__", ""))
def test_hostile_types_end_in_an_error(make: Callable[[BtfBuilder], None], reason: str) -> None:
    b = BtfBuilder()
    make(b)
    started = time.process_time()
    with pytest.raises(BtfError, match=reason):
        header(b)
    assert time.process_time() - started < 2


def test_a_gap_of_gigabytes_is_one_line() -> None:
    b = BtfBuilder()
    byte = b.int("char", 1)
    b.struct("s", 0xFFFFFFFF, [("a", byte, 0)])
    assert header(b) == "struct s {\n\tchar a;\n\tlong: 56;\n\tunsigned char __pad1[4294967287];\n};"


# --- raw -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "_reason"), HOSTILE, ids=lambda v: getattr(v, "__name__", ""))
def test_raw_follows_no_reference(make: Callable[[BtfBuilder], None], _reason: str) -> None:
    b = BtfBuilder()
    make(b)
    btf = b.btf()
    if make is _name_past_the_end:
        with pytest.raises(BtfError, match="past the end of the string section"):
            list(raw_texts(btf))
    else:
        assert len(list(raw_texts(btf))) == len(btf) - 1


def test_raw_names_cannot_steer_the_terminal() -> None:
    b = BtfBuilder()
    b.add(Kind.FWD, "\x1b[31m")
    assert list(raw_texts(b.btf())) == [r"[1] FWD '\x1b[31m' fwd_kind=struct"]


def test_raw_of_a_section_with_a_variable_that_is_not_there() -> None:
    b = BtfBuilder()
    b.datasec(".data", [(77, 0, 4)], 4)
    assert list(raw_texts(b.btf())) == ["[1] DATASEC '.data' size=4 vlen=1\n\ttype_id=77 offset=0 size=4"]
