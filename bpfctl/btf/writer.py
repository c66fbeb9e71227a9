"""BTF bytes from types: what :class:`bpfctl.btf.types.Btf` reads, written."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from struct import Struct

from bpfctl.btf.kinds import BtfType, Kind
from bpfctl.btf.reader import KFLAG, KIND_SHIFT, MAGIC, VERSION, VLEN_MASK
from bpfctl.btf.types import Btf

_HEADERS = {"little": Struct("<HBBIIIII"), "big": Struct(">HBBIIIII")}
_UINT32 = 0xFFFFFFFF


class BtfWriter:
    """Types in the order in which they are added; equal strings are stored once."""

    def __init__(self, byte_order: str = "little") -> None:
        self.byte_order = byte_order
        self._prefix = "<" if byte_order == "little" else ">"
        self._types = bytearray()
        self._strings = bytearray(b"\0")
        self._offsets = {"": 0}
        self._count = 0

    def __len__(self) -> int:
        """Number of types, void included: the id that the next one gets."""
        return self._count + 1

    def string(self, text: str) -> int:
        """The offset of ``text`` among the strings."""
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.encode("utf-8", "surrogateescape") + b"\0"
        return self._offsets[text]

    def add(
        self,
        kind: Kind,
        name: str = "",
        size_or_type: int = 0,
        *,
        vlen: int = 0,
        kflag: bool = False,
        words: Iterable[int] = (),
    ) -> int:
        """Add a type, its fields as in :class:`BtfType`, and return its id.

        ``words``: what the kind has behind the fixed part, 32 bits each, signed or not.
        """
        info = vlen & VLEN_MASK | kind << KIND_SHIFT | (KFLAG if kflag else 0)
        fields = [self.string(name), info, size_or_type, *(word & _UINT32 for word in words)]
        self._types += Struct(f"{self._prefix}{len(fields)}I").pack(*fields)
        self._count += 1
        return self._count

    def blob(self) -> bytes:
        """The whole: header, types, strings."""
        layout = _HEADERS[self.byte_order]
        types, strings = len(self._types), len(self._strings)
        header = layout.pack(MAGIC, VERSION, 0, layout.size, 0, types, types, strings)
        return header + self._types + self._strings


Kept = Mapping[int, Collection[int] | None]  # type id -> numbers of the members to keep; None: all


def subset(btf: Btf, kept: Kept) -> bytes:
    """BTF with only the types ``kept``, in their order under new ids.

    Of a struct or union only the members named; a reference to a type that is not kept becomes one to void.
    """
    ids = array("I", bytes(4 * len(btf)))
    for number, type_id in enumerate(sorted(kept), 1):
        ids[type_id] = number
    writer = BtfWriter(btf.byte_order)
    for type_id in sorted(kept):
        _copy(writer, btf, btf.type(type_id), ids, kept[type_id])
    return writer.blob()


def closure(btf: Btf, roots: Iterable[int]) -> dict[int, None]:
    """``roots`` and every type that they refer to, directly or not, for :func:`subset`."""
    found: dict[int, None] = {}
    waiting = list(roots)
    while waiting:
        type_id = waiting.pop()
        if type_id and type_id not in found:
            found[type_id] = None
            waiting += _references(btf, type_id)
    return found


def _references(btf: Btf, type_id: int) -> list[int]:
    kind = btf.kind(type_id)
    if kind in (Kind.STRUCT, Kind.UNION):
        return [member.type_id for member in btf.members(type_id)]
    if kind is Kind.ARRAY:
        return list(btf.array(type_id)[:2])
    if kind is Kind.DATASEC:
        return [variable.type_id for variable in btf.datasec(type_id)]
    if kind is Kind.FUNC_PROTO:
        return [btf.size_or_type(type_id), *(parameter.type_id for parameter in btf.params(type_id))]
    return [btf.size_or_type(type_id)] if kind in _REFERRING else []


def _copy(
    writer: BtfWriter, btf: Btf, record: BtfType, ids: array[int], members: Collection[int] | None
) -> None:
    kind, vlen, words = record.kind, record.vlen, list[int]()
    if kind in (Kind.STRUCT, Kind.UNION):
        numbers = range(vlen) if members is None else sorted(members)
        all_members = btf.members(record.id)
        vlen = len(numbers)
        for name, type_id, offset, bits in (all_members[number] for number in numbers):
            words += [writer.string(name), ids[type_id], offset | bits << 24]
    elif kind in _WORDS:
        words = _WORDS[kind](writer, btf, record.id, ids)
    target = ids[record.size_or_type] if kind in _REFERRING else record.size_or_type
    writer.add(kind, record.name, target, vlen=vlen, kflag=record.kflag, words=words)


def _int(writer: BtfWriter, btf: Btf, type_id: int, ids: array[int]) -> list[int]:
    encoding = btf.int_encoding(type_id)
    flags = encoding.signed | encoding.char << 1 | encoding.bool << 2
    return [flags << 24 | encoding.offset << 16 | encoding.bits]


def _array(writer: BtfWriter, btf: Btf, type_id: int, ids: array[int]) -> list[int]:
    element, index, length = btf.array(type_id)
    return [ids[element], ids[index], length]


def _enum(writer: BtfWriter, btf: Btf, type_id: int, ids: array[int]) -> list[int]:
    return [word for name, value in btf.enumerators(type_id) for word in (writer.string(name), value)]


def _enum64(writer: BtfWriter, btf: Btf, type_id: int, ids: array[int]) -> list[int]:
    words = []
    for name, value in btf.enumerators(type_id):
        words += [writer.string(name), value, value >> 32]
    return words


def _func_proto(writer: BtfWriter, btf: Btf, type_id: int, ids: array[int]) -> list[int]:
    return [word for name, target in btf.params(type_id) for word in (writer.string(name), ids[target])]


_WORDS: dict[Kind, Callable[[BtfWriter, Btf, int, array[int]], list[int]]] = {
    Kind.INT: _int,
    Kind.ARRAY: _array,
    Kind.ENUM: _enum,
    Kind.ENUM64: _enum64,
    Kind.FUNC_PROTO: _func_proto,
    Kind.VAR: lambda writer, btf, type_id, ids: [btf.linkage(type_id)],
    Kind.DECL_TAG: lambda writer, btf, type_id, ids: [btf.component(type_id)],
    Kind.DATASEC: lambda writer, btf, type_id, ids: [
        word for variable in btf.datasec(type_id) for word in (ids[variable.type_id], *variable[1:])
    ],
}
_REFERRING = frozenset(
    {
        Kind.PTR,
        Kind.TYPEDEF,
        Kind.VOLATILE,
        Kind.CONST,
        Kind.RESTRICT,
        Kind.FUNC,
        Kind.FUNC_PROTO,
        Kind.VAR,
        Kind.DECL_TAG,
        Kind.TYPE_TAG,
    }
)
