"""``Btf``: types by number, decoded only when asked for.

Type ids follow references anywhere in untrusted bytes, so each is checked when it is followed, and every
chain of references is followed for a bounded number of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import accumulate, compress

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
from bpfctl.btf.reader import KFLAG, KIND_MASK, KIND_SHIFT, VLEN_MASK, WORD, Parts, read_parts
from bpfctl.errors import BtfError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

    from bpfctl.btf.index import Index

POINTER_SIZE = 8  # bytes; of the BPF machine, whatever the host

MAX_CHAIN = 32  # references in a row, as libbpf's MAX_RESOLVE_DEPTH and the kernel's MAX_RESOLVE_DEPTH

_UINT32_MAX = 0xFFFFFFFF
_FEW = 16  # names that are faster looked for one by one

MODIFIERS = frozenset({Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG, Kind.TYPEDEF})
_SIZED = frozenset(
    {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.DATASEC},
)
_TRANSPARENT = MODIFIERS | {Kind.VAR, Kind.DECL_TAG}  # as large as what they refer to
_KINDS = {int(kind): kind for kind in Kind}


class Btf:
    """Types of one BTF blob; with ``base``, ids and string offsets continue where the base's end.

    ``byte_order``, ``path`` and ``section`` say where it came from.  Methods that take a type id raise
    BtfError when that id, or one that has to be followed, is out of range or of the wrong kind.
    """

    __slots__ = (
        "_data",
        "_first_id",
        "_first_string",
        "_kinds",
        "_members",
        "_name_offsets",
        "_parts",
        "base",
        "byte_order",
        "path",
        "section",
    )

    def __init__(
        self, data: bytes | mmap, parts: Parts, *, path: str, section: str | None, base: Btf | None
    ) -> None:
        self._data = data
        self._parts = parts
        self._first_id = len(base) if base else 1
        self._first_string = base.strings_size if base else 0
        self._name_offsets: Sequence[int] | None = None
        self._kinds: bytes | None = None  # a byte for each own type
        self._members: dict[int, tuple[Member, ...]] = {}
        self.base = base
        self.byte_order = parts.byte_order
        self.path = path
        self.section = section

    @classmethod
    def from_bytes(
        cls,
        data: bytes | mmap,
        *,
        path: str = "",
        section: str | None = ".BTF",
        base: Btf | None = None,
        index: Index | None = None,
    ) -> Btf:
        """Index ``data`` (kept, not copied); ``base`` is vmlinux's BTF for a module's split BTF.

        ``index``: that of ``data`` from an earlier time.  Raises BtfError with ``path``, ``section`` and the
        byte offset in ``data``.
        """

        def fail(message: str, offset: int) -> BtfError:
            return BtfError(message, path=path, section=section, offset=offset)

        parts = read_parts(data, split=base is not None, fail=fail, starts=index.starts if index else None)
        btf = cls(data, parts, path=path, section=section, base=base)
        btf._name_offsets = index.names if index else None
        return btf

    def packed_index(self) -> bytes:
        """The index of the own types as bytes, see ``index``."""
        from bpfctl.btf.index import pack

        return pack(self._parts.starts, self.name_offsets())

    def __len__(self) -> int:
        """Number of types, void and the base's included: ids are 0 ... len - 1."""
        return self._first_id + len(self._parts.starts)

    @property
    def data(self) -> bytes:
        """The blob as it was read."""
        return bytes(self._data)

    @property
    def first_id(self) -> int:
        """The first id that is not the base's."""
        return self._first_id

    @property
    def strings_size(self) -> int:
        """Bytes of all strings, the base's included: string offsets are 0 ... size - 1."""
        return self._first_string + self._parts.strings_end - self._parts.strings_start

    def ids(self, kind: Kind) -> Iterator[int]:
        """Ids of the own types (not the base's) of ``kind``, ascending."""
        if self._kinds is None:
            words = self._parts.words
            self._kinds = bytes([words[at + 1] >> KIND_SHIFT & KIND_MASK for at in self._parts.starts])
        at = self._kinds.find(kind)
        while at >= 0:
            yield self._first_id + at
            at = self._kinds.find(kind, at + 1)

    def kind(self, type_id: int) -> Kind:
        """The kind of type ``type_id``; VOID for 0."""
        return self._record(type_id)[2] if type_id else Kind.VOID

    def name(self, type_id: int) -> str:
        """The name of type ``type_id``; "" for void and the anonymous."""
        if not type_id:
            return ""
        part, at, _ = self._record(type_id)
        return part.string(part._parts.words[at])

    def type(self, type_id: int) -> BtfType:
        """The fixed part of type ``type_id``; all zero for void."""
        if not type_id:
            return BtfType(0, Kind.VOID, "", 0, False, 0)
        part, at, kind = self._record(type_id)
        name, info, size_or_type = part._parts.words[at : at + 3].tolist()
        return BtfType(type_id, kind, part.string(name), info & VLEN_MASK, bool(info & KFLAG), size_or_type)

    def size_or_type(self, type_id: int) -> int:
        """That field of ``type(type_id)``, without the cost of its name; 0 for void."""
        if not type_id:
            return 0
        part, at, _ = self._record(type_id)
        return int(part._parts.words[at + 2])

    def record_words(self, type_id: int) -> list[int]:
        """The record of type ``type_id`` (not 0): name, info, size or type, and what the kind adds."""
        part, at, _ = self._record(type_id)
        starts, position = part._parts.starts, type_id - part._first_id + 1
        end = starts[position] if position < len(starts) else len(part._parts.words)
        return part._parts.words[at:end].tolist()

    def string(self, offset: int) -> str:
        """The NUL-terminated string at ``offset`` of the string section."""
        if offset < self._first_string and self.base:
            return self.base.string(offset)
        start = self._parts.strings_start + offset - self._first_string
        if start >= self._parts.strings_end:
            raise self._error(f"string offset {offset:#x} is past the end of the string section")
        text = self._data[start : self._data.find(b"\0", start)]
        return text.decode("utf-8", "backslashreplace")

    def string_offsets(self, text: str) -> Iterator[int]:
        """Where ``text`` (not "") stands among the strings: as a whole, then as the tail of a longer one.

        Compilers write each string once and whole, but nothing forbids a name to point into another.
        """
        wanted = text.encode() + b"\0"
        tails = []
        for at in self._occurrences(wanted):
            if self._data[at - 1] == 0:
                yield self._string_offset(at)
            else:
                tails.append(self._string_offset(at))
        yield from tails
        if self.base:
            yield from self.base.string_offsets(text)

    def strings_with(self, part: str) -> Iterator[int]:
        """Offsets of the strings that contain ``part`` (not "")."""
        for at in self._occurrences(part.encode()):
            start = self._data.rfind(b"\0", self._parts.strings_start, at) + 1
            yield self._string_offset(max(start, self._parts.strings_start))
        if self.base:
            yield from self.base.strings_with(part)

    def _occurrences(self, wanted: bytes) -> Iterator[int]:
        """Where ``wanted`` starts among the own strings, bytes from the start of the blob."""
        end = self._parts.strings_end
        at = self._data.find(wanted, self._parts.strings_start, end)
        while at >= 0:
            yield at
            at = self._data.find(wanted, at + 1, end)

    def _string_offset(self, at: int) -> int:
        return at - self._parts.strings_start + self._first_string

    def name_offsets(self) -> Sequence[int]:
        """The string offset of the name of each own type, from ``first_id``; 0 for the anonymous."""
        if self._name_offsets is None:
            words = self._parts.words
            self._name_offsets = [words[at] for at in self._parts.starts]
        return self._name_offsets

    def find(self, name: str, kind: Kind) -> int | None:
        """A type called ``name`` (not "") of ``kind``, in the base before the own ones; None if none."""
        inherited = self.base.find(name, kind) if self.base else None
        return self.find_own(name, kind) if inherited is None else inherited

    def find_own(self, name: str, kind: Kind) -> int | None:
        """As :meth:`find`, in the own types only."""
        if not name:
            return None
        for offset in self.string_offsets(name):
            for position in _positions(self.name_offsets(), offset):
                if self.kind(self._first_id + position) is kind:
                    return self._first_id + position
        return None

    def find_each(self, names: Iterable[str], kind: Kind) -> dict[str, int]:
        """The first own type of ``kind`` for each of ``names`` that has one: one pass, however many names."""
        wanted = {name for name in names if name}
        if len(wanted) <= _FEW:
            alone = {name: self.find_own(name, kind) for name in wanted}
            return {name: type_id for name, type_id in alone.items() if type_id is not None}
        by_offset = self._offsets_of(wanted)
        found: dict[str, int] = {}
        offsets = self.name_offsets()
        # In C from end to end, here and for the strings: once for each type of vmlinux.
        for position in compress(range(len(offsets)), map(by_offset.__contains__, offsets)):
            name = by_offset[offsets[position]]
            if name not in found and self.kind(self._first_id + position) is kind:
                found[name] = self._first_id + position
        return found

    def _offsets_of(self, names: Set[str]) -> dict[int, str]:
        """String offsets of ``names``; whole strings by one walk over all, the rest looked for singly."""
        wanted = {name.encode(): name for name in names}
        texts = self._data[self._parts.strings_start : self._parts.strings_end].split(b"\0")
        starts = list(accumulate(map(len, texts), initial=self._first_string))  # less a NUL for each before
        hits = compress(range(len(texts)), map(wanted.__contains__, texts))
        found = {starts[number] + number: wanted[texts[number]] for number in hits}
        for name in names - set(found.values()):
            found |= dict.fromkeys(self.string_offsets(name), name)
        return found

    def members(self, type_id: int) -> tuple[Member, ...]:
        """Members of a STRUCT or UNION, as declared.  Decoded once: CO-RE asks for some hundreds of times."""
        known = self._members.get(type_id)
        if known is not None:
            return known
        part, info, words = self._elements(type_id, 3, Kind.STRUCT, Kind.UNION)
        triples = zip(words[0::3], words[1::3], words[2::3], strict=True)
        if info & KFLAG:
            members = tuple(Member(part.string(n), t, o & 0xFFFFFF, o >> 24) for n, t, o in triples)
        else:
            members = tuple(Member(part.string(n), t, o, 0) for n, t, o in triples)
        self._members[type_id] = members
        return members

    def enumerators(self, type_id: int) -> list[Enumerator]:
        """Enumerators of an ENUM or ENUM64, as declared; values signed where the enum is."""
        if self.kind(type_id) is Kind.ENUM64:
            part, info, words = self._elements(type_id, 3, Kind.ENUM64)
            values = [high << 32 | low for low, high in zip(words[1::3], words[2::3], strict=True)]
            names, bits = words[0::3], 64
        else:
            part, info, words = self._elements(type_id, 2, Kind.ENUM)
            names, values, bits = words[0::2], words[1::2], 32
        # An ENUM's flag came with Linux 6.0; without it, the sign of a value is a matter of taste, and
        # the kernel's own printing takes it as signed only with the flag.
        sign = 1 << bits - 1 if info & KFLAG else 0
        return [Enumerator(part.string(n), (v ^ sign) - sign) for n, v in zip(names, values, strict=True)]

    def params(self, type_id: int) -> list[Parameter]:
        """Parameters of a FUNC_PROTO; its return type is ``type(id).size_or_type``."""
        part, _, words = self._elements(type_id, 2, Kind.FUNC_PROTO)
        return [Parameter(part.string(n), t) for n, t in zip(words[0::2], words[1::2], strict=True)]

    def array(self, type_id: int) -> Array:
        """Element, index type and count of an ARRAY."""
        part, at = self._expect(type_id, Kind.ARRAY)
        return Array(*part._parts.words[at + 3 : at + 6].tolist())

    def datasec(self, type_id: int) -> list[DatasecVar]:
        """Variables of a DATASEC in the order of the record."""
        _, _, words = self._elements(type_id, 3, Kind.DATASEC)
        return [DatasecVar(*v) for v in zip(words[0::3], words[1::3], words[2::3], strict=True)]

    def int_encoding(self, type_id: int) -> IntEncoding:
        """Sign, kind and bit range of an INT."""
        part, at = self._expect(type_id, Kind.INT)
        word = part._parts.words[at + 3]
        flags = word >> 24
        return IntEncoding(bool(flags & 1), bool(flags & 2), bool(flags & 4), word >> 16 & 0xFF, word & 0xFF)

    def linkage(self, type_id: int) -> Linkage:
        """Linkage of a VAR or FUNC."""
        part, at = self._expect(type_id, Kind.VAR, Kind.FUNC)
        words = part._parts.words
        is_func = words[at + 1] >> KIND_SHIFT & KIND_MASK == Kind.FUNC
        number = words[at + 1] & VLEN_MASK if is_func else words[at + 3]
        if number > Linkage.EXTERN:
            raise self._error(f"type {type_id} has unknown linkage {number}")
        return Linkage(number)

    def component(self, type_id: int) -> int:
        """What a DECL_TAG is about: the number of a member or parameter, -1 for the whole."""
        part, at = self._expect(type_id, Kind.DECL_TAG)
        number = int(part._parts.words[at + 3])
        return -1 if number == _UINT32_MAX else number

    def skip_modifiers(self, type_id: int) -> int:
        """The id behind const, volatile, restrict, type tags and typedefs."""
        for _ in range(MAX_CHAIN):
            if not type_id:
                return 0
            part, at, kind = self._record(type_id)
            if kind not in MODIFIERS:
                return type_id
            type_id = part._parts.words[at + 2]
        raise self._endless(type_id)

    def resolve_size(self, type_id: int) -> int:
        """Size in bytes of a value of type ``type_id``; a pointer has 8."""
        count = 1
        for _ in range(MAX_CHAIN):
            if not type_id:
                raise self._error("type 0 (void) has no size")
            part, at, kind = self._record(type_id)
            if kind in _SIZED:
                return self._bounded(part._parts.words[at + 2] * count, type_id)
            if kind is Kind.PTR:
                return self._bounded(POINTER_SIZE * count, type_id)
            if kind is Kind.ARRAY:
                array = self.array(type_id)
                count = self._bounded(count * array.length, type_id)
                type_id = array.element_id
            elif kind in _TRANSPARENT:
                type_id = part._parts.words[at + 2]
            else:
                raise self._error(f"type {type_id} ({kind.label}) has no size")
        raise self._endless(type_id)

    def offset_of(self, type_id: int) -> int:
        """Where the record of own type ``type_id`` starts, bytes from the start of the blob."""
        return self._parts.types_start + self._parts.starts[type_id - self._first_id] * WORD

    @property
    def header_size(self) -> int:
        """Bytes of the header: 24, or more where it tells of a layout section."""
        return int.from_bytes(self._data[4:8], "little" if self.byte_order == "little" else "big")

    def type_words(self) -> list[int]:
        """A copy of the type section, as words."""
        return self._parts.words.tolist()

    def string_data(self) -> bytes:
        """The own string section."""
        return bytes(self._data[self._parts.strings_start : self._parts.strings_end])

    def _record(self, type_id: int) -> tuple[Btf, int, Kind]:
        """The BTF that holds type ``type_id`` (not 0), the word number of its record, its kind."""
        part: Btf = self
        while type_id < part._first_id and part.base:
            part = part.base
        position = type_id - part._first_id
        if not 0 <= position < len(part._parts.starts):
            raise self._error(f"type id {type_id} is out of range, there are {len(self) - 1} types")
        at = part._parts.starts[position]
        number = part._parts.words[at + 1] >> KIND_SHIFT & KIND_MASK
        kind = _KINDS.get(number)
        if kind is None:
            raise self._error(f"type {type_id} has kind {number}, newer than this program")
        return part, at, kind

    def _expect(self, type_id: int, *kinds: Kind) -> tuple[Btf, int]:
        if not type_id:
            raise self._error(f"void is no {kinds[0].label}")
        part, at, kind = self._record(type_id)
        if kind not in kinds:
            raise self._error(f"type {type_id} is of kind {kind.label}, not {kinds[0].label}")
        return part, at

    def _elements(self, type_id: int, width: int, *kinds: Kind) -> tuple[Btf, int, list[int]]:
        """Info word and the words of the ``vlen`` elements, ``width`` words each."""
        part, at = self._expect(type_id, *kinds)
        words = part._parts.words
        info = words[at + 1]
        return part, info, words[at + 3 : at + 3 + width * (info & VLEN_MASK)].tolist()

    def _bounded(self, size: int, type_id: int) -> int:
        if size > _UINT32_MAX:
            raise self._error(f"type {type_id} is larger than 4 GiB")
        return size

    def _endless(self, type_id: int) -> BtfError:
        return self._error(f"type {type_id}: more than {MAX_CHAIN} references in a row, perhaps a loop")

    def _error(self, message: str) -> BtfError:
        return BtfError(message, path=self.path, section=self.section)


def _positions(numbers: Sequence[int], wanted: int) -> Iterator[int]:
    """Every index at which ``wanted`` stands in ``numbers``."""
    at = -1
    while True:
        try:
            at = numbers.index(wanted, at + 1)
        except ValueError:
            return
        yield at
