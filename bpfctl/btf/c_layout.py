"""Where a C compiler puts the members of a struct, and what to write so that it puts them elsewhere.

BTF has offsets, C has alignment, order and attributes.  The rules are those of the System V ABI as clang and
gcc have them for BPF: a bit-field may not cross a boundary of its own type, unless the struct is packed; a
nameless bit-field takes room and has no influence on alignment.
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.btf.kinds import Kind, Member
from bpfctl.btf.types import MAX_CHAIN, POINTER_SIZE, Btf
from bpfctl.errors import BtfError, printable
from bpfctl.record import NamedTuple

_MAX_ALIGNMENT = 16  # bytes, of __int128
_WORD_BITS = 64
_WRAPPERS = frozenset(
    {Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG, Kind.TYPEDEF, Kind.VAR, Kind.DECL_TAG}
)


class Layout(NamedTuple):
    """``padding``: bits to fill before each member, and a last number for those behind the last one."""

    packed: bool
    padding: tuple[int, ...]


class Layouts:
    """Layouts and alignments of the types of one BTF, each found once."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._alignments: dict[int, int] = {}
        self._sizes: dict[int, int] = {}

    def size(self, type_id: int) -> int:
        """Bytes of a value."""
        size = self._sizes.get(type_id)
        if size is None:
            size = self._sizes[type_id] = self._btf.resolve_size(type_id)
        return size

    def alignment(self, type_id: int, depth: int = 0) -> int:
        """What a compiler aligns a value to, in bytes, when nothing but its type as we write it says so."""
        known = self._alignments.get(type_id)
        if known is None:
            if depth > MAX_CHAIN:
                raise _error(self._btf, type_id, f"nests deeper than {MAX_CHAIN} levels, or contains itself")
            known = self._alignments[type_id] = self._find_alignment(type_id, depth)
        return known

    def _find_alignment(self, type_id: int, depth: int) -> int:
        btf = self._btf
        for _ in range(MAX_CHAIN):
            kind = btf.kind(type_id)
            if kind in _WRAPPERS:
                type_id = btf.size_or_type(type_id)
            elif kind is Kind.ARRAY:
                type_id = btf.array(type_id).element_id
            elif kind is Kind.PTR:
                return POINTER_SIZE
            elif kind in (Kind.STRUCT, Kind.UNION):
                packed, widest = self._packed(type_id, depth)
                return 1 if packed else widest
            else:
                size = btf.size_or_type(type_id)
                return max(1, min(size & -size, _MAX_ALIGNMENT)) if kind in _SCALARS else 1
        raise _error(btf, type_id, f"more than {MAX_CHAIN} references in a row, perhaps a loop")

    def _packed(self, type_id: int, depth: int) -> tuple[bool, int]:
        """Whether only a packed struct can look like this, and the largest alignment of a member."""
        btf = self._btf
        size = btf.size_or_type(type_id)
        widest, packed = 1, False
        for member in btf.members(type_id):
            align = self.alignment(member.type_id, depth + 1)
            widest = max(widest, align) if member.name or not member.bitfield_size else widest
            if member.bitfield_size:
                unit = self.size(member.type_id) * 8
                packed |= not unit or member.offset % unit + member.bitfield_size > unit
            else:
                packed |= member.offset % (align * 8) != 0
        return packed or size % widest != 0, widest

    def of(self, type_id: int) -> Layout:
        """The layout of a STRUCT or UNION; raises BtfError where members overlap or stick out."""
        btf, kind = self._btf, self._btf.kind(type_id)
        packed, widest = self._packed(type_id, 0)
        align = 1 if packed else widest
        size = btf.size_or_type(type_id) * 8
        padding: list[int] = []
        end = last = 0
        for member in btf.members(type_id):
            start = 0 if kind is Kind.UNION else end
            natural = self._natural(member, start, packed)
            if member.offset < start or member.offset < natural:
                raise _error(btf, type_id, f"member {member.name or '(anon)'} overlaps the one before it")
            padding.append(0 if natural == member.offset else member.offset - start)
            end = member.offset + self._bits(member)
            last = max(last, end)
            if end > size:
                raise _error(btf, type_id, f"member {member.name or '(anon)'} is larger than the whole")
        padding.append(0 if _up(last, align * 8) == size else size - last)
        return Layout(packed, tuple(padding))

    def _bits(self, member: Member) -> int:
        return member.bitfield_size or self.size(member.type_id) * 8

    def _natural(self, member: Member, at: int, packed: bool) -> int:
        """The bit where the compiler puts ``member``, when the one before it ends at bit ``at``."""
        if not member.bitfield_size:
            return _up(at, 8 if packed else self.alignment(member.type_id) * 8)
        unit = self.size(member.type_id) * 8
        if packed or at % unit + member.bitfield_size <= unit:
            return at
        return _up(at, self.alignment(member.type_id) * 8)


_SCALARS = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.FLOAT})


def fill(start: int, bits: int, packed: bool) -> Sequence[int]:
    """Widths of nameless ``long`` bit-fields that take ``bits`` bits from bit ``start`` of a struct."""
    widths = []
    while bits:
        room = _WORD_BITS if packed else _WORD_BITS - start % _WORD_BITS
        width = min(bits, room)
        widths.append(width)
        start += width
        bits -= width
    return widths


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _error(btf: Btf, type_id: int, message: str) -> BtfError:
    name = printable(btf.name(type_id)) or "(anon)"
    return BtfError(f"type {type_id} ({name}): {printable(message)}", path=btf.path, section=btf.section)
