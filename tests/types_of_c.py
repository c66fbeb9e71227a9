"""Types of every kind that a map's value can have, for tests of what is done with their values."""

from __future__ import annotations

from typing import Any

from btf_builder import BtfBuilder
from hypothesis import strategies as st

from bpfctl.btf.kinds import Kind
from bpfctl.btf.scalars import Codec
from bpfctl.btf.values import value_codec


class Types(BtfBuilder):
    """The types that the tests share, by C's names."""

    def __init__(self, byte_order: str = "little") -> None:
        super().__init__(byte_order)
        self.u8 = self.int("__u8", 1, signed=False)
        self.u16 = self.int("__u16", 2, signed=False)
        self.u32 = self.int("__u32", 4, signed=False)
        self.u64 = self.int("__u64", 8, signed=False)
        self.s32 = self.int("int", 4)
        self.char = self.int("char", 1)
        self.bool = self.int("_Bool", 1, signed=False, boolean=True)

    def typedef(self, name: str, type_id: int) -> int:
        return self.add(Kind.TYPEDEF, name, type_id)

    def codec(self, type_id: int) -> Codec:
        return value_codec(self.btf(), type_id)


NAMES = [f"m{n}" for n in range(8)]


def scalar(draw: Any, t: Types) -> tuple[int, int]:
    """A type without parts, and its size."""
    kind = draw(st.sampled_from(["int", "bool", "char", "enum", "enum64", "ptr", "float", "typedef", "in6"]))
    if kind == "int":
        size = draw(st.sampled_from([1, 2, 4, 8, 16]))
        return t.int(f"i{size}", size, signed=draw(st.booleans())), size
    if kind == "enum":
        size, signed = draw(st.sampled_from([1, 2, 4])), draw(st.booleans())
        values = draw(st.dictionaries(st.sampled_from("ABCDE"), st.integers(-4, 300), max_size=5))
        return t.enum("e", values, signed=signed, size=size), size
    if kind == "enum64":
        return t.enum64("e64", {"BIG": 1 << 40, "ONE": 1, "UNO": 1}, signed=draw(st.booleans())), 8
    if kind == "ptr":
        return t.ptr(draw(st.sampled_from([0, t.u32]))), 8
    if kind == "float":
        size = draw(st.sampled_from([2, 4, 8, 12, 16]))
        return t.add(Kind.FLOAT, "f", size), size
    if kind == "typedef":
        name, inner, size = draw(
            st.sampled_from([("__be16", t.u16, 2), ("__be32", t.u32, 4), ("__be64", t.u64, 8)])
        )
        return t.add(Kind.CONST, "", t.typedef(name, inner)), size
    if kind == "in6":
        return t.struct("in6_addr", 16, [("b", t.array(t.u8, 16), 0)]), 16
    return (t.bool, 1) if kind == "bool" else (t.char, 1)


PARTED = ["text", "array", "struct", "union", "bits", "old bits", "qualified"]
QUALIFIERS = [Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG]


def anything(draw: Any, t: Types, depth: int) -> tuple[int, int]:
    """A type of any kind that a map's value can have, and its size."""
    kind = draw(st.sampled_from(["scalar", *PARTED] if depth else ["scalar"]))
    if kind == "scalar":
        return scalar(draw, t)
    if kind == "qualified":
        type_id, size = anything(draw, t, depth - 1)
        t.add(Kind.DECL_TAG, "tag", type_id, words=[-1])
        for each in draw(st.lists(st.sampled_from(QUALIFIERS), min_size=1, max_size=3)):
            type_id = t.add(each, "named" if each in (Kind.TYPEDEF, Kind.TYPE_TAG) else "", type_id)
        return type_id, size
    if kind == "old bits":  # the width is the integer's, which begins at its first bit
        bits = draw(st.integers(1, 31))
        narrow = t.add(Kind.INT, "narrow", 4, words=[draw(st.sampled_from([0, 1])) << 24 | bits])
        return t.struct("old", 8, [("a", narrow, 0), ("b", t.u32, 32)]), 8
    if kind == "text":
        length = draw(st.integers(0, 9))
        return t.array(t.char, length), length
    if kind == "array":
        element, size = anything(draw, t, depth - 1)
        count = draw(st.integers(0, 4))
        return t.array(element, count), size * count
    if kind == "bits":
        wide = t.enum64("be64", {"X": 1, "Y": 1 << 33})
        bases = [(t.u32, 32), (t.s32, 32), (t.enum("be", {"X": 1, "Y": 2}), 32), (t.u64, 64), (t.bool, 1)]
        chosen = draw(st.lists(st.sampled_from([*bases, (wide, 64)]), min_size=1, max_size=4))
        members, at = [], 0
        for name, (base, most) in zip(NAMES, chosen, strict=False):
            width = draw(st.integers(1, most))
            members.append((name, base, at, width))
            at += width
        at = -(-at // 8) * 8
        inner, inner_size = anything(draw, t, depth - 1)
        members.append(("plain", inner, at, 0))
        return t.bitfields("bits", at // 8 + inner_size, members), at // 8 + inner_size
    return aggregate(draw, t, depth, union=kind == "union")


def section(draw: Any, t: Types) -> tuple[int, int]:
    """A data section of variables, with gaps."""
    variables, size = [], 0
    for name in draw(st.lists(st.sampled_from(NAMES[:3]), min_size=1, max_size=3)):
        inner, inner_size = anything(draw, t, 2)
        at = size + draw(st.integers(0, 3))
        variables.append((t.var(name, inner), at, inner_size))
        size = at + inner_size
    return t.datasec(".bss", variables, size), size


def aggregate(draw: Any, t: Types, depth: int, *, union: bool) -> tuple[int, int]:
    members, size = [], 0
    for name in draw(st.lists(st.sampled_from([*NAMES, ""]), max_size=4)):
        inner, inner_size = anything(draw, t, depth - 1)
        at = 0 if union else size + draw(st.integers(0, 3))  # a gap is padding
        members.append((name, inner, at * 8))
        size = max(size, at + inner_size)
    return (t.union if union else t.struct)("agg", size, members), size
