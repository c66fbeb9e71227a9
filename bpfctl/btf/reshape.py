"""From the values of one type to those of another, member by member: names decide, nothing is guessed.

A member of the same name keeps its value, wherever it is now; one that only the new type has is zero; one
that only the old type has is dropped, and listed, so that the caller can refuse.  A number may become wider
or narrower; that a value fits is looked at value by value.
"""

from __future__ import annotations

from bpfctl.btf.aggregates import ArrayOf, BitNumber, Place, Record, read_place, write_place
from bpfctl.btf.scalars import (
    Boolean,
    Character,
    Codec,
    Enum,
    Float,
    Ipv4,
    Ipv6,
    NetworkNumber,
    Number,
    Pointer,
    Raw,
    Text,
)
from bpfctl.errors import BpfctlError, TypedValueError
from bpfctl.record import NamedTuple

KEEP, MOVE, RESIZE, CHECK, ADD, DROP, OWN = "keep", "move", "resize", "check", "add", "drop", "own"
_LONGEST_LIST = 4096  # elements that are converted one by one
# Members that belong to the kernel: it zeroes them for user space and leaves them alone in an update.
_OWN = frozenset(
    f"struct bpf_{name}"
    for name in (
        "spin_lock",
        "res_spin_lock",
        "timer",
        "wq",
        "task_work",
        "list_head",
        "list_node",
        "rb_root",
        "rb_node",
        "refcount",
    )
)
_PLAIN = (Number, Ipv4, Ipv6, Raw)


class FieldChange(NamedTuple):
    """What becomes of one member.  ``old`` and ``new``: type and byte where it is, None where it is not.

    ``action``: ``keep`` (same place), ``move``, ``resize`` (room for more), ``check`` (looked at value by
    value), ``add`` (zero), ``drop``, ``own`` (the kernel's own, left alone).
    """

    field: str
    action: str
    old: str | None = None
    new: str | None = None


class _Cast(NamedTuple):
    path: str
    old: Place
    new: Place


class _Rest(NamedTuple):
    """Bytes of the old value that have no place in the new one, and so have to be zero."""

    path: str
    start: int
    end: int


class Reshape:
    """``what`` (``key``, ``value``) of one type as another.

    Raises BpfctlError for types that have nothing to do with each other.  ``changes`` is the plan;
    ``identical``: every byte stays where it is.
    """

    def __init__(self, what: str, old: Codec, new: Codec, byte_order: str) -> None:
        self.what = what
        self.size = new.size
        self.changes: list[FieldChange] = []
        self.identical = _same(old, new)
        self._order = byte_order
        self._moves: list[tuple[int, int, int]] = []
        self._casts: list[_Cast] = []
        self._rests: list[_Rest] = []
        if self.identical:
            self._moves.append((0, 0, new.size))
            self._list_all(new)
        else:
            self._visit("", Place(old, 0), Place(new, 0))
            self._moves = _merged(self._moves)

    @property
    def dropped(self) -> list[str]:
        """Members that only the old type has."""
        return [change.field for change in self.changes if change.action == DROP]

    def convert(self, data: bytes, image: bytes | None = None) -> bytes:
        """``data`` in the new form; what has no source is as in ``image``, or zero.

        TypedValueError names the member whose value does not fit.
        """
        if self.identical:
            return data
        for path, start, end in self._rests:
            if data[start:end].strip(b"\0"):
                raise TypedValueError(self._named(path), "what is behind its new end is not zero", "zero")
        target = bytearray(image or self.size)
        for source, place, size in self._moves:
            target[place : place + size] = data[source : source + size]
        for path, old, new in self._casts:
            value = read_place(data, old, self._order)
            write_place(target, new, self._order, value, self._named(path))
        return bytes(target)

    def _named(self, path: str) -> str:
        return f"{self.what}.{path}" if path and path[0] != "[" else self.what + path

    def _list_all(self, codec: Codec) -> None:
        if isinstance(codec, Record):
            places = [(name, Place(f.codec, f.offset, f.bits)) for name, f in codec.fields.items()]
            self.changes += [FieldChange(name, KEEP, _shown(p), _shown(p)) for name, p in places]
        else:
            self.changes.append(FieldChange("", KEEP, _shown(Place(codec, 0)), _shown(Place(codec, 0))))

    def _visit(self, path: str, old: Place, new: Place) -> None:
        if new.codec.label in _OWN and old.codec.label == new.codec.label:
            self._note(path, OWN, old, new)
        elif isinstance(old.codec, Record) and isinstance(new.codec, Record):
            self._record(path, old, new)
        elif not (old.bits or new.bits) and _same(old.codec, new.codec):
            self._move(path, old, new, old.codec.size)
        elif isinstance(old.codec, ArrayOf) and isinstance(new.codec, ArrayOf):
            self._array(path, old, new)
        elif isinstance(old.codec, Text) and isinstance(new.codec, Text):
            self._cut(path, old, new, old.codec.size, new.codec.size)
        else:
            self._plain(path, old, new)

    def _record(self, path: str, old: Place, new: Place) -> None:
        before, after = old.codec, new.codec
        assert isinstance(before, Record)
        assert isinstance(after, Record)
        if _same(before, after):
            self._move(path, old, new, before.size)
            return
        if before.overlapping or after.overlapping:
            raise self._unlike(path, old, new, "members share bytes")
        for name, field in after.fields.items():
            where = f"{path}.{name}" if path else name
            target = Place(field.codec, new.offset + field.offset, field.bits)
            known = before.fields.get(name)
            if known is None:
                self._note(where, ADD, None, target)
            else:
                self._visit(where, Place(known.codec, old.offset + known.offset, known.bits), target)
        for name, field in before.fields.items():
            if name not in after.fields and field.codec.label not in _OWN:
                source = Place(field.codec, old.offset + field.offset, field.bits)
                self._note(f"{path}.{name}" if path else name, DROP, source, None)

    def _array(self, path: str, old: Place, new: Place) -> None:
        before, after = old.codec, new.codec
        assert isinstance(before, ArrayOf)
        assert isinstance(after, ArrayOf)
        if _same(before.element, after.element):
            size = before.element.size
            self._cut(path, old, new, before.count * size, after.count * size)
            return
        common = min(before.count, after.count)
        if common > _LONGEST_LIST:
            raise self._unlike(path, old, new, f"more than {_LONGEST_LIST} elements of another type")
        for index in range(common):
            source, target = before.place(index), after.place(index)
            self._visit(
                f"{path}[{index}]",
                source._replace(offset=source.offset + old.offset),
                target._replace(offset=target.offset + new.offset),
            )
        if before.count > common:
            self._rest(path, old, common * before.element.size)

    def _cut(self, path: str, old: Place, new: Place, old_size: int, new_size: int) -> None:
        """The beginning stays; of what is behind the new end every byte has to be zero."""
        if new_size < old_size:
            self._rest(path, old, new_size)
        self._moves.append((old.offset // 8, new.offset // 8, min(old_size, new_size)))
        self._note(path, RESIZE if new_size >= old_size else CHECK, old, new)

    def _rest(self, path: str, old: Place, start: int) -> None:
        first = old.offset // 8
        self._rests.append(_Rest(path, first + start, first + old.codec.size))

    def _plain(self, path: str, old: Place, new: Place) -> None:
        before, after = _inner(old.codec), _inner(new.codec)
        numbers = isinstance(before, Number) and isinstance(after, Number)
        if numbers and not _only_order(before, after):
            assert isinstance(before, Number)
            assert isinstance(after, Number)
            if before.byte_order != after.byte_order:
                raise self._unlike(path, old, new, "the byte order is another one")
            low, high = before.limits
            wide = after.limits[0] <= low and high <= after.limits[1] and not isinstance(after, Enum)
            self._casts.append(_Cast(path, old, new))
            self._note(path, RESIZE if wide else CHECK, old, new)
        elif isinstance(before, Float) and isinstance(after, Float):
            self._casts.append(_Cast(path, old, new))
            self._note(path, RESIZE if after.size >= before.size else CHECK, old, new)
        elif isinstance(before, _PLAIN) and isinstance(after, _PLAIN) and before.size == after.size:
            self._move(path, old, new, before.size)  # __u32 and __be32: the same bytes, better named
        else:
            raise self._unlike(path, old, new, "the types have nothing in common")

    def _move(self, path: str, old: Place, new: Place, size: int) -> None:
        self._moves.append((old.offset // 8, new.offset // 8, size))
        self._note(path, KEEP if old.offset == new.offset else MOVE, old, new)

    def _note(self, path: str, action: str, old: Place | None, new: Place | None) -> None:
        self.changes.append(
            FieldChange(path, action, _shown(old) if old else None, _shown(new) if new else None)
        )

    def _unlike(self, path: str, old: Place, new: Place, why: str) -> BpfctlError:
        return BpfctlError(
            f"{self._named(path)}: {old.codec.label} cannot become {new.codec.label}: {why}",
            hint="give the member another name: then it is dropped (lossy) and the new one is zero",
        )


class Part(NamedTuple):
    """``size`` bytes at byte ``offset`` that change together; ``counter``: a number that can count."""

    offset: int
    size: int
    counter: bool
    signed: bool = False


def parts(codec: Codec | None, size: int) -> list[Part]:
    """What a value of ``size`` bytes consists of; without a type, words of 8 bytes that may be counters."""
    if codec is None:
        whole, rest = divmod(size, 8)
        words = [Part(at * 8, 8, True) for at in range(whole)]
        return words + ([Part(whole * 8, rest, rest == 4)] if rest else [])
    found: list[Part] = []
    _collect(codec, 0, found)
    return found


def _collect(codec: Codec, offset: int, found: list[Part]) -> None:
    if codec.label in _OWN:
        return
    if isinstance(codec, Record) and not codec.overlapping:
        for field in codec.fields.values():
            if field.bits:
                start, end = field.offset // 8, (field.offset + field.bits + 7) // 8
                if not found or found[-1].offset + found[-1].size < offset + end:
                    found.append(Part(offset + start, end - start, False))
            else:
                _collect(field.codec, offset + field.offset // 8, found)
    elif isinstance(codec, ArrayOf) and codec.element.size and codec.count <= _LONGEST_LIST:
        for index in range(codec.count):
            _collect(codec.element, offset + index * codec.element.size, found)
    else:
        counts = isinstance(codec, Number) and not isinstance(
            codec, (Boolean, Character, Enum, NetworkNumber, Pointer)
        )
        fits = codec.size in (4, 8) and offset % codec.size == 0
        signed = isinstance(codec, Number) and codec.signed
        found.append(Part(offset, codec.size, counts and fits, signed))


def _inner(codec: Codec) -> Codec:
    return codec.inner if isinstance(codec, BitNumber) else codec


def _only_order(old: Codec, new: Codec) -> bool:
    """A number and the same one in network order: a matter of how the bytes are shown."""
    return isinstance(old, NetworkNumber) != isinstance(new, NetworkNumber) and old.size == new.size


def _same(old: Codec, new: Codec) -> bool:
    """Whether the bytes of one mean the same in the other."""
    if type(old) is not type(new) or old.size != new.size:
        return False
    if isinstance(old, Record):
        assert isinstance(new, Record)
        pairs = zip(old.fields.values(), new.fields.values(), strict=False)
        return len(old.fields) == len(new.fields) and all(
            a.name == b.name and (a.offset, a.bits) == (b.offset, b.bits) and _same(a.codec, b.codec)
            for a, b in pairs
        )
    if isinstance(old, ArrayOf):
        assert isinstance(new, ArrayOf)
        return old.count == new.count and _same(old.element, new.element)
    if isinstance(old, BitNumber):
        assert isinstance(new, BitNumber)
        return old.offset == new.offset and _same(old.inner, new.inner)
    if isinstance(old, Number):
        assert isinstance(new, Number)
        alike = (old.bits, old.signed, old.byte_order) == (new.bits, new.signed, new.byte_order)
        return alike and (not isinstance(old, Enum) or old.names_of(new))
    return True


def _shown(place: Place) -> str:
    at = str(place.offset // 8)
    if place.bits:
        at += f".{place.offset % 8} ({place.bits} bits)"
    return f"{place.codec.label} at {at}"


def _merged(moves: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Moves of neighbours as one."""
    merged: list[tuple[int, int, int]] = []
    for source, place, size in sorted(moves):
        if merged:
            before = merged[-1]
            if before[0] + before[2] == source and before[1] + before[2] == place:
                merged[-1] = (*before[:2], before[2] + size)
                continue
        merged.append((source, place, size))
    return merged
