"""Reading BTF: what compilers and the kernel write, and what nobody would."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.btf.kinds import (
    Array,
    BtfType,
    DatasecVar,
    Enumerator,
    IntEncoding,
    Kind,
    Linkage,
    Member,
    Parameter,
)
from bpfctl.btf.text import type_text
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError

BYTE_ORDERS = ["little", "big"]


# --- every kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("byte_order", BYTE_ORDERS)
def test_fixed_part_and_void(byte_order: str) -> None:
    b = BtfBuilder(byte_order)
    unsigned = b.int("__u32", 4, signed=False)
    typedef = b.add(Kind.TYPEDEF, "u32", unsigned)
    btf = b.btf()
    assert btf.byte_order == byte_order
    assert len(btf) == 3
    assert btf.type(0) == BtfType(0, Kind.VOID, "", 0, False, 0)
    assert (btf.kind(0), btf.name(0)) == (Kind.VOID, "")
    assert btf.type(unsigned) == BtfType(unsigned, Kind.INT, "__u32", 0, False, 4)
    assert btf.type(typedef) == BtfType(typedef, Kind.TYPEDEF, "u32", 0, False, unsigned)
    assert btf.int_encoding(unsigned) == IntEncoding(False, False, False, 0, 32)


@pytest.mark.parametrize("byte_order", BYTE_ORDERS)
def test_members_and_bitfields(byte_order: str) -> None:
    b = BtfBuilder(byte_order)
    number = b.int()
    plain = b.struct("plain", 8, [("a", number, 0), ("b", number, 32)])
    bits = b.bitfields("bits", 8, [("a", number, 0, 3), ("b", number, 3, 29), ("c", number, 32, 0)])
    empty = b.union("empty", 0)
    btf = b.btf()
    assert btf.members(plain) == (Member("a", number, 0, 0), Member("b", number, 32, 0))
    assert btf.members(bits) == (
        Member("a", number, 0, 3),
        Member("b", number, 3, 29),
        Member("c", number, 32, 0),
    )
    assert btf.members(empty) == ()


@pytest.mark.parametrize("byte_order", BYTE_ORDERS)
def test_enumerators_have_the_sign_of_their_enum(byte_order: str) -> None:
    b = BtfBuilder(byte_order)
    signed = b.enum("signed", {"MINUS": -1, "TWO": 2}, signed=True)
    unsigned = b.enum("unsigned", {"ALL": 0xFFFFFFFF})
    wide = b.enum64("wide", {"BIG": 1 << 40})
    wide_signed = b.enum64("wide_signed", {"LEAST": -(1 << 63)}, signed=True)
    btf = b.btf()
    assert btf.enumerators(signed) == [Enumerator("MINUS", -1), Enumerator("TWO", 2)]
    assert btf.enumerators(unsigned) == [Enumerator("ALL", 0xFFFFFFFF)]
    assert btf.enumerators(wide) == [Enumerator("BIG", 1 << 40)]
    assert btf.enumerators(wide_signed) == [Enumerator("LEAST", -(1 << 63))]


@pytest.mark.parametrize("byte_order", BYTE_ORDERS)
def test_functions_variables_and_sections(byte_order: str) -> None:
    b = BtfBuilder(byte_order)
    number = b.int()
    proto = b.func_proto(number, [("ctx", number), ("", 0)])
    func = b.func("prog", proto, linkage=1)
    var = b.var("counter", number, linkage=0)
    section = b.datasec(".data", [(var, 16, 4)], size=32)
    tag = b.add(Kind.DECL_TAG, "user", func, words=[0])
    whole = b.add(Kind.DECL_TAG, "user", func, words=[-1])
    btf = b.btf()
    assert btf.params(proto) == [Parameter("ctx", number), Parameter("", 0)]
    assert (btf.linkage(func), btf.linkage(var)) == (Linkage.GLOBAL, Linkage.STATIC)
    assert btf.datasec(section) == [DatasecVar(var, 16, 4)]
    assert (btf.component(tag), btf.component(whole)) == (0, -1)


def test_sizes() -> None:
    b = BtfBuilder()
    short = b.int("short", 2)
    array = b.array(b.array(short, 3), 5)
    typedef = b.add(Kind.TYPEDEF, "matrix", b.add(Kind.CONST, "", array))
    sizes = {
        b.ptr(0): 8,
        b.struct("s", 24): 24,
        b.add(Kind.FLOAT, "double", 8): 8,
        b.enum64("e", {"A": 1}): 8,
        b.var("v", typedef): 30,
        b.add(Kind.TYPE_TAG, "user", typedef): 30,
        typedef: 30,
    }
    btf = b.btf()
    assert {type_id: btf.resolve_size(type_id) for type_id in sizes} == sizes
    assert btf.array(array) == Array(array - 1, array - 1, 5)
    assert btf.skip_modifiers(typedef) == array


@pytest.mark.parametrize("kind", [Kind.FWD, Kind.FUNC_PROTO])
def test_what_has_no_size(kind: Kind) -> None:
    b = BtfBuilder()
    type_id = b.add(kind, "" if kind is Kind.FUNC_PROTO else "later")
    with pytest.raises(BtfError, match=f"type {type_id} .* has no size"):
        b.btf().resolve_size(type_id)


def test_void_has_no_size() -> None:
    with pytest.raises(BtfError, match=r"type 0 \(void\) has no size"):
        BtfBuilder().btf().resolve_size(0)


# --- names ---------------------------------------------------------------------------------------


def test_find_wants_name_and_kind() -> None:
    b = BtfBuilder()
    b.add(Kind.TYPEDEF, "thing", b.int())
    struct_id = b.struct("thing", 4)
    b.struct("something", 4)
    btf = b.btf()
    assert btf.find("thing", Kind.STRUCT) == struct_id
    assert btf.find("thing", Kind.UNION) is None
    assert btf.find("hing", Kind.STRUCT) is None
    assert btf.find("", Kind.STRUCT) is None


def test_find_sees_a_name_that_is_the_tail_of_a_longer_string() -> None:
    b = BtfBuilder()
    long = b.string("long_name")
    type_id = b.add(Kind.FWD)
    b.types[0:4] = struct.pack("<I", long + 5)
    assert b.btf().name(type_id) == "name"
    assert b.btf().find("name", Kind.FWD) == type_id


def test_names_that_are_not_utf8_stay_printable() -> None:
    b = BtfBuilder()
    b.int("abc")
    data = b.blob().replace(b"abc\0", b"\xff\x1bc\0")
    assert Btf.from_bytes(data).name(1) == "\\xff\x1bc"


def test_split_btf_continues_its_base() -> None:
    base_builder = BtfBuilder()
    number = base_builder.int("u8", 1)
    base = base_builder.btf("vmlinux")
    b = BtfBuilder(base=base)
    own = b.struct("module_thing", 1, [("field", number, 0)])
    split = Btf.from_bytes(b.blob(), path="module", base=base)
    assert own == len(base) == split.first_id
    assert len(split) == own + 1
    assert split.name(own) == "module_thing"
    assert (split.name(number), split.kind(number)) == ("u8", Kind.INT)
    assert split.members(own) == (Member("field", number, 0, 0),)
    assert split.find("u8", Kind.INT) == number
    assert split.find("module_thing", Kind.STRUCT) == own
    assert list(split.ids(Kind.STRUCT)) == [own]
    assert list(split.ids(Kind.INT)) == []


def test_find_in_split_btf_by_a_name_that_the_base_has() -> None:
    base_builder = BtfBuilder()
    base_builder.add(Kind.TYPEDEF, "shared", base_builder.int())
    base = base_builder.btf()
    b = BtfBuilder(base=base)
    own = b.struct("", 4)
    b.types[0:4] = struct.pack("<I", next(base.string_offsets("shared")))
    split = Btf.from_bytes(b.blob(), base=base)
    assert split.name(own) == "shared"
    assert split.find("shared", Kind.STRUCT) == own


def test_strings_with_a_part() -> None:
    b = BtfBuilder()
    for name in ("task___old", "task", "a___b___c"):
        b.string(name)
    btf = b.btf()
    assert [btf.string(offset) for offset in btf.strings_with("___")] == [
        "task___old",
        "a___b___c",
        "a___b___c",
    ]


def test_split_btf_with_nothing_of_its_own() -> None:
    base = BtfBuilder().btf()
    split = Btf.from_bytes(BtfBuilder(base=base).blob(), base=base)
    assert len(split) == 1


# --- newer than us -------------------------------------------------------------------------------


def test_kinds_of_the_future_are_stepped_over_by_their_layout() -> None:
    b = BtfBuilder()
    before = b.int()
    strange = b.add(25, "strange", 0, vlen=2, words=[7, 1, 2, 3, 4])
    after = b.struct("after", 4)
    layout = bytearray(4 * 26)
    layout[4 * 25 : 4 * 25 + 2] = bytes([4, 8])
    btf = Btf.from_bytes(b.blob(layout=bytes(layout)))
    assert (btf.kind(before), btf.name(after)) == (Kind.INT, "after")
    assert btf.find("after", Kind.STRUCT) == after
    with pytest.raises(BtfError, match="type 2 has kind 25, newer than this program"):
        btf.kind(strange)


def test_24_bits_of_vlen() -> None:
    b = BtfBuilder()
    b.enum("many", {f"E{n}": n for n in range(70_000)})
    btf = b.btf()
    assert btf.type(1).vlen == 70_000
    assert btf.enumerators(1)[-1] == Enumerator("E69999", 69_999)


# --- malformed -----------------------------------------------------------------------------------


def _header(**fields: int) -> bytes:
    """A header and 16 bytes of one INT and strings, with some header fields wrong."""
    values = {"magic": 0xEB9F, "version": 1, "flags": 0, "hdr_len": 24}
    values |= {"type_off": 0, "type_len": 16, "str_off": 16, "str_len": 5} | fields
    body = struct.pack("<4I", 1, Kind.INT << 24, 4, 32) + b"\0int\0"
    return struct.pack("<HBBIIIII", *values.values()) + body


def test_the_header_of_the_next_tests_is_right_by_itself() -> None:
    assert Btf.from_bytes(_header()).name(1) == "int"


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "not BTF: starts with nothing", 0),
        (b"\x7fELF" + bytes(60), "not BTF: starts with 7f45", 0),
        (_header()[:20], "cut off inside the header", 20),
        (_header(version=2), "BTF version 2 is unknown", 2),
        (_header(hdr_len=8), "header of 8 bytes", 4),
        (_header(hdr_len=4096), "header of 4096 bytes", 4),
        (_header(type_off=2, type_len=12), "not a whole number of words", 8),
        (_header(type_len=15), "not a whole number of words", 8),
        (_header(str_len=6), "the string section .* runs past the end", 16),
        (_header(str_off=0xFFFFFFFF), "the string section .* runs past the end", 16),
        (_header(type_len=20, str_len=5), "overlaps the strings", 8),
        (_header(str_len=0), "the string section is empty", 40),
        (_header(str_len=4), "does not end with a NUL", 43),
        (_header(str_off=17, str_len=4), "does not start with the empty string", 41),
        (_header(type_len=12), "runs past the end of the type section", 24),
        (_header(type_off=4, type_len=4), "ends inside a type", 28),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_header(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(BtfError, match=message) as caught:
        Btf.from_bytes(data, path="broken.o")
    assert (caught.value.path, caught.value.section, caught.value.offset) == ("broken.o", ".BTF", offset)


def test_unknown_kind_without_a_layout() -> None:
    b = BtfBuilder()
    b.int()
    b.add(25, "strange")
    with pytest.raises(BtfError, match="type 2 has unknown kind 25") as caught:
        b.btf()
    assert caught.value.offset == 24 + 16


@pytest.mark.parametrize("kind", [Kind.STRUCT, Kind.ENUM64, Kind.FUNC_PROTO, Kind.DATASEC])
def test_more_elements_than_bytes(kind: Kind) -> None:
    b = BtfBuilder()
    b.add(kind, "huge", 8, vlen=0xFFFFFF)
    start = time.perf_counter()
    with pytest.raises(BtfError, match=f"type 1 \\({kind.label}\\) runs past the end"):
        b.btf()
    assert time.perf_counter() - start < 0.1


def test_string_offset_past_the_end() -> None:
    b = BtfBuilder()
    b.int()
    b.types[0:4] = struct.pack("<I", 100_000)
    btf = b.btf()
    with pytest.raises(BtfError, match="string offset 0x186a0 is past the end"):
        btf.name(1)


@pytest.mark.parametrize("type_id", [2, 0xFFFFFFFF])
def test_type_id_out_of_range(type_id: int) -> None:
    b = BtfBuilder()
    pointer = b.ptr(type_id)
    btf = b.btf()
    assert btf.resolve_size(pointer) == 8
    for follow in (btf.kind, btf.name, btf.type, btf.members, btf.skip_modifiers, btf.resolve_size):
        with pytest.raises(BtfError, match=f"type id {type_id} is out of range, there are 1 types"):
            follow(type_id)


def _self_typedef(b: BtfBuilder) -> int:
    return b.add(Kind.TYPEDEF, "loop", b.next_id)


def _const_pair(b: BtfBuilder) -> int:
    b.add(Kind.CONST, "", b.next_id + 1)
    return b.add(Kind.VOLATILE, "", b.next_id - 1)


def _array_of_itself(b: BtfBuilder) -> int:
    return b.array(b.next_id, 1, index=1)


@pytest.mark.parametrize("make", [_self_typedef, _const_pair, _array_of_itself])
def test_size_of_a_reference_loop(make: Callable[[BtfBuilder], int]) -> None:
    b = BtfBuilder()
    b.int()
    loop = make(b)
    with pytest.raises(BtfError, match="perhaps a loop"):
        b.btf().resolve_size(loop)


@pytest.mark.parametrize("make", [_self_typedef, _const_pair])
def test_skipping_a_reference_loop(make: Callable[[BtfBuilder], int]) -> None:
    b = BtfBuilder()
    loop = make(b)
    with pytest.raises(BtfError, match="perhaps a loop"):
        b.btf().skip_modifiers(loop)


@pytest.mark.parametrize("make", [_const_pair, _array_of_itself])
def test_text_of_a_reference_loop(make: Callable[[BtfBuilder], int]) -> None:
    b = BtfBuilder()
    b.int()
    loop = make(b)
    with pytest.raises(BtfError, match="without end"):
        type_text(b.btf(), loop)


def test_array_larger_than_memory() -> None:
    b = BtfBuilder()
    huge = b.array(b.array(b.int(), 0x10000), 0x10000)
    with pytest.raises(BtfError, match="larger than 4 GiB"):
        b.btf().resolve_size(huge)


def test_asking_a_kind_for_what_it_has_not() -> None:
    b = BtfBuilder()
    number = b.int()
    btf = b.btf()
    with pytest.raises(BtfError, match="type 1 is of kind int, not struct"):
        btf.members(number)
    with pytest.raises(BtfError, match="void is no array"):
        btf.array(0)


def test_unknown_linkage() -> None:
    b = BtfBuilder()
    var = b.var("v", b.int(), linkage=9)
    with pytest.raises(BtfError, match="unknown linkage 9"):
        b.btf().linkage(var)


# --- text ----------------------------------------------------------------------------------------


def test_texts() -> None:
    b = BtfBuilder()
    number, char = b.int(), b.int("char", 1)
    anonymous = b.struct("", 4)
    name = b.ptr(b.add(Kind.CONST, "", char))
    callback = b.ptr(b.func_proto(0, [("self", name), ("", 0)]))
    texts = {
        0: "void",
        number: "int",
        b.struct("task", 8): "struct task",
        anonymous: "struct {...}",
        b.add(Kind.FWD, "later"): "struct later",
        b.add(Kind.FWD, "later", kflag=True): "union later",
        b.enum64("wide", {"A": 1}): "enum wide",
        name: "const char *",
        b.add(Kind.CONST, "", name): "const char *const",
        b.ptr(b.array(number, 4)): "int (*)[4]",
        b.array(b.array(number, 4), 2): "int[2][4]",
        b.array(name, 2): "const char *[2]",
        callback: "void (*)(const char *, ...)",
        b.func_proto(number): "int (void)",
        b.func("prog", b.func_proto(number, [("f", callback)])): "int prog(void (*)(...))",
        b.var("table", b.array(number, 4)): "int table[4]",
        b.ptr(b.add(Kind.TYPE_TAG, "user", char)): "char *",
        b.datasec(".data", []): "section .data",
    }
    btf = b.btf()
    assert {type_id: type_text(btf, type_id) for type_id in texts} == texts


def test_text_of_a_prototype_that_takes_itself_twice_is_short() -> None:
    b = BtfBuilder()
    proto = b.next_id
    b.func_proto(0, [("a", proto + 1), ("b", proto + 1)])
    b.ptr(proto)
    assert type_text(b.btf(), proto) == "void (void (*)(...), void (*)(...))"


# --- the running kernel's ------------------------------------------------------------------------


VMLINUX = Path("/sys/kernel/btf/vmlinux")


@pytest.mark.skipif(not VMLINUX.exists(), reason="this machine lacks vmlinux BTF")
def test_vmlinux() -> None:
    btf = Btf.from_bytes(VMLINUX.read_bytes(), path=str(VMLINUX))
    skb = btf.find("sk_buff", Kind.STRUCT)
    assert skb is not None
    assert btf.type(skb).name == "sk_buff"
    members = {member.name: member for member in btf.members(skb)}
    assert type_text(btf, members["len"].type_id) == "unsigned int"
    assert btf.find("no_such_struct_anywhere", Kind.STRUCT) is None


# --- anything ------------------------------------------------------------------------------------


def _everything() -> bytes:
    """A blob with every kind."""
    b = BtfBuilder()
    number = b.int()
    struct_id = b.bitfields("s", 8, [("a", number, 0, 3), ("b", b.array(number, 1), 32, 0)])
    b.union("u", 8, [("s", struct_id, 0)])
    b.enum("e", {"A": 1, "B": 2})
    b.enum64("e64", {"A": 1 << 40})
    b.add(Kind.FWD, "f")
    for kind in (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG, Kind.PTR):
        b.add(kind, "m", b.next_id - 1)
    func = b.func("f", b.func_proto(number, [("a", struct_id)]))
    b.datasec(".data", [(b.var("v", number), 0, 4)], size=4)
    b.add(Kind.FLOAT, "double", 8)
    b.add(Kind.DECL_TAG, "tag", func, words=[0])
    return b.blob()


_EVERYTHING = _everything()


def _read_all(data: bytes) -> None:
    """Every method on every type; a BtfError of one leaves the others to be asked."""
    btf = Btf.from_bytes(data)
    questions: list[Callable[[int], object]] = [
        btf.type,
        btf.members,
        btf.enumerators,
        btf.params,
        btf.array,
        btf.datasec,
        btf.int_encoding,
        btf.linkage,
        btf.component,
        btf.resolve_size,
        btf.skip_modifiers,
        lambda type_id: type_text(btf, type_id),
    ]
    for type_id in range(len(btf) + 1):
        for ask in questions:
            try:
                ask(type_id)
            except BtfError:
                continue
    btf.find("s", Kind.STRUCT)


@given(
    st.lists(st.tuples(st.integers(0, len(_EVERYTHING) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(_EVERYTHING)),
)
def test_mutations_raise_nothing_but_btf_errors(flips: list[tuple[int, int]], length: int) -> None:
    data = bytearray(_EVERYTHING)
    for position, value in flips:
        data[position] = value
    for candidate in (bytes(data), bytes(data[:length])):
        try:
            _read_all(candidate)
        except BtfError:
            continue


def test_cut_off_anywhere() -> None:
    for length in range(len(_EVERYTHING)):
        with pytest.raises(BtfError):
            Btf.from_bytes(_EVERYTHING[:length])
