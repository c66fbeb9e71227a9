"""BTF and .BTF.ext made in memory, so that each test shows its own input, the broken included."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf

MAGIC = 0xEB9F

Word = int  # under another name, as the builder has a method int()


class BtfBuilder:
    """Types in the order of the calls; every method that adds one returns its id.

    ``base``: ids and string offsets continue after it, as a kernel module's do.
    """

    def __init__(self, byte_order: str = "little", base: Btf | None = None) -> None:
        self.prefix = "<" if byte_order == "little" else ">"
        self.next_id = len(base) if base else 1
        self._first_string = base.strings_size if base else 0
        self.strings = bytearray(b"" if base else b"\0")
        self.types = bytearray()

    def string(self, text: str) -> Word:
        """The offset of ``text``, always stored anew; 0 for the empty string."""
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return self._first_string + len(self.strings) - len(text.encode()) - 1

    def add(
        self,
        kind: Word,
        name: str = "",
        size_or_type: Word = 0,
        *,
        vlen: Word = 0,
        kflag: bool = False,
        words: Iterable[Word] = (),
    ) -> Word:
        """A record as given, right or wrong; ``words`` follow the fixed part."""
        info = vlen | kind << 24 | kflag << 31
        fields = [self.string(name), info, size_or_type, *(word & 0xFFFFFFFF for word in words)]
        self.types += struct.pack(f"{self.prefix}{len(fields)}I", *fields)
        self.next_id += 1
        return self.next_id - 1

    def int(self, name: str = "int", size: Word = 4, *, signed: bool = True, boolean: bool = False) -> Word:
        return self.add(Kind.INT, name, size, words=[signed << 24 | boolean << 26 | size * 8])

    def ptr(self, target: Word) -> Word:
        return self.add(Kind.PTR, "", target)

    def array(self, element: Word, length: Word, index: Word = 0) -> Word:
        return self.add(Kind.ARRAY, words=[element, index or element, length])

    def struct(
        self,
        name: str,
        size: Word,
        members: Sequence[tuple[str, Word, Word]] = (),
        *,
        kind: Kind = Kind.STRUCT,
    ) -> Word:
        """``members``: (name, type, bit offset)."""
        words = [word for name_, type_, offset in members for word in (self.string(name_), type_, offset)]
        return self.add(kind, name, size, vlen=len(members), words=words)

    def bitfields(self, name: str, size: Word, members: Sequence[tuple[str, Word, Word, Word]]) -> Word:
        """A struct of (name, type, bit offset, bits); 0 bits for a plain member."""
        words = [
            word
            for name_, type_, offset, bits in members
            for word in (self.string(name_), type_, offset | bits << 24)
        ]
        return self.add(Kind.STRUCT, name, size, vlen=len(members), kflag=True, words=words)

    def union(self, name: str, size: Word, members: Sequence[tuple[str, Word, Word]] = ()) -> Word:
        return self.struct(name, size, members, kind=Kind.UNION)

    def enum(self, name: str, values: dict[str, Word], *, signed: bool = False, size: Word = 4) -> Word:
        words = [word for label, value in values.items() for word in (self.string(label), value)]
        return self.add(Kind.ENUM, name, size, vlen=len(values), kflag=signed, words=words)

    def enum64(self, name: str, values: dict[str, Word], *, signed: bool = False) -> Word:
        words = [word for label, value in values.items() for word in (self.string(label), value, value >> 32)]
        return self.add(Kind.ENUM64, name, 8, vlen=len(values), kflag=signed, words=words)

    def func_proto(self, returns: Word, params: Sequence[tuple[str, Word]] = ()) -> Word:
        words = [word for name, type_ in params for word in (self.string(name), type_)]
        return self.add(Kind.FUNC_PROTO, "", returns, vlen=len(params), words=words)

    def func(self, name: str, proto: Word, linkage: Word = 1) -> Word:
        return self.add(Kind.FUNC, name, proto, vlen=linkage)

    def var(self, name: str, type_id: Word, linkage: Word = 1) -> Word:
        return self.add(Kind.VAR, name, type_id, words=[linkage])

    def datasec(self, name: str, variables: Sequence[tuple[Word, Word, Word]], size: Word = 0) -> Word:
        """``variables``: (VAR id, offset, size) in bytes."""
        words = [word for variable in variables for word in variable]
        return self.add(Kind.DATASEC, name, size, vlen=len(variables), words=words)

    def uint(self, number: Word) -> Word:
        """What ``__uint(member, number)`` makes of a map definition's member."""
        return self.ptr(self.array(self.int(), number))

    def blob(self, *, layout: bytes | None = None) -> bytes:
        """The whole; with ``layout``, the header and section that describe the sizes of kinds."""
        types, strings = bytes(self.types), bytes(self.strings)
        extra = b"" if layout is None else struct.pack(f"{self.prefix}II", len(types), len(layout))
        between = layout or b""
        header = struct.pack(
            f"{self.prefix}HBBIIIII",
            MAGIC,
            1,
            0,
            24 + len(extra),
            0,
            len(types),
            len(types) + len(between),
            len(strings),
        )
        return header + extra + types + between + strings

    def btf(self, path: str = "test.o") -> Btf:
        return Btf.from_bytes(self.blob(), path=path)


def everything(byte_order: str = "little") -> BtfBuilder:
    """One of each kind that some kernel lacks, with the ids that stand beside them."""
    b = BtfBuilder(byte_order)
    number = b.int()  # 1
    b.func("f", b.func_proto(number, [("x", number)]))  # 2 proto, 3 func
    b.func("s", 2, linkage=0)  # 4
    first, second = b.var("first", number), b.var("second", number)  # 5, 6
    b.datasec(".data", [(first, 0, 4), (second, 8, 4)], 12)  # 7
    b.datasec("?.struct_ops", [(first, 0, 4)], 4)  # 8
    b.add(Kind.FLOAT, "double", 8)  # 9
    b.add(Kind.DECL_TAG, "arg:ctx", 3, words=[0])  # 10
    b.ptr(b.add(Kind.TYPE_TAG, "kptr", number))  # 11 tag, 12 ptr
    b.enum64("big", {"LOW": 1, "HIGH": 1 << 40})  # 13
    b.enum("signed", {"MINUS": 0xFFFFFFFF}, signed=True)  # 14
    return b


Block = tuple[int, Sequence[Sequence[int]]]  # (offset of the section's name, records of words)


def ext_area(record_size: int, blocks: Sequence[Block], prefix: str = "<") -> bytes:
    """One area of .BTF.ext; the records may be longer or shorter than ``record_size`` says."""
    words = [record_size]
    for name, records in blocks:
        words += [name, len(records), *(word for record in records for word in record)]
    return struct.pack(f"{prefix}{len(words)}I", *words)


def ext_blob(
    func_info: bytes = b"", line_info: bytes = b"", core: bytes | None = None, prefix: str = "<"
) -> bytes:
    """A .BTF.ext section; without ``core`` the short header of old compilers."""
    fields = [0, len(func_info), len(func_info), len(line_info)]
    if core is not None:
        fields += [len(func_info) + len(line_info), len(core)]
    header = struct.pack(f"{prefix}HBBI{len(fields)}I", MAGIC, 1, 0, 8 + 4 * len(fields), *fields)
    return header + func_info + line_info + (core or b"")
