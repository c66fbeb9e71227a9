"""Codecs of values with parts: arrays, structs and unions with their bit-fields, data sections, prefixes.

A struct is an object with a key for each member; members of anonymous structs and unions stand among
those of the outer one, as in C.  Members that share bytes, as those of a union do, are all shown; when
several are given they have to agree.  Parts that are not given are zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.btf.scalars import Codec, Ipv4, Ipv6, Number, hex_bytes
from bpfctl.errors import TypedValueError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_LISTED = 12  # members that an error about an unknown one lists


class Place(NamedTuple):
    """Where a part is: ``offset`` in bits from the start of the whole; ``bits`` 0 for whole bytes."""

    codec: Codec
    offset: int
    bits: int = 0


class Field(NamedTuple):
    """A member: as :class:`Place`, with its name."""

    name: str
    codec: Codec
    offset: int
    bits: int = 0


def read_place(data: bytes, place: Place | Field, byte_order: str) -> Any:
    """The value at ``place`` of ``data``."""
    if not place.bits:
        at = place.offset // 8
        return place.codec.decode(data[at : at + place.codec.size])
    codec = place.codec
    assert isinstance(codec, Number)
    start, end, shift = _window(place, byte_order)
    number = int.from_bytes(data[start:end], byte_order) >> shift  # type: ignore[arg-type]
    sign = 1 << place.bits - 1 if codec.signed else 0
    return codec.present((number & (1 << place.bits) - 1 ^ sign) - sign)


def write_place(image: bytearray, place: Place | Field, byte_order: str, value: Any, path: str) -> None:
    """Put ``value`` into ``image``; the bits around it stay."""
    if not place.bits:
        at = place.offset // 8
        image[at : at + place.codec.size] = place.codec.encode(value, path)
        return
    assert isinstance(place.codec, Number)
    _write_bits(image, place, byte_order, place.codec.checked(value, path))


def _write_bits(image: bytearray, place: Place | Field, byte_order: str, number: int) -> None:
    start, end, shift = _window(place, byte_order)
    ones = (1 << place.bits) - 1
    kept = int.from_bytes(image[start:end], byte_order) & ~(ones << shift)  # type: ignore[arg-type]
    filled = kept | (number & ones) << shift
    image[start:end] = filled.to_bytes(end - start, byte_order)  # type: ignore[arg-type]


def _window(place: Place | Field, byte_order: str) -> tuple[int, int, int]:
    """Bytes that hold the bits, start and end, and how far right to shift their number.

    On a big-endian machine bits count from the most significant one on.
    """
    start, end = place.offset // 8, (place.offset + place.bits + 7) // 8
    if byte_order == "little":
        return start, end, place.offset - start * 8
    return start, end, end * 8 - place.offset - place.bits


class BitNumber(Codec):
    """An integer in some bits of its bytes, ``offset`` bits from their start."""

    def __init__(self, inner: Number, offset: int) -> None:
        super().__init__(inner.size, inner.label)
        self.inner = inner
        self.offset = offset
        self._place = Place(inner, offset, inner.bits)

    @property
    def expected(self) -> str:
        return self.inner.expected

    def decode(self, data: bytes) -> Any:
        return read_place(data, self._place, self.inner.byte_order)

    def encode(self, value: Any, path: str = "") -> bytes:
        image = bytearray(self.size)
        write_place(image, self._place, self.inner.byte_order, value, path)
        return bytes(image)

    def mask(self) -> bytes:
        mask = bytearray(self.size)
        _write_bits(mask, self._place, self.inner.byte_order, -1)
        return bytes(mask)


class ArrayOf(Codec):
    """``count`` elements of one type, as a list.  Elements of one byte are taken as hex digits, too."""

    def __init__(self, element: Codec, count: int, label: str) -> None:
        super().__init__(element.size * count, label)
        self.element = element
        self.count = count
        self.leaves = element.leaves * count

    def decode(self, data: bytes) -> Any:
        size = self.element.size
        if not size:
            return [self.element.decode(b"") for _ in range(self.count)]
        return [self.element.decode(data[at : at + size]) for at in range(0, self.size, size)]

    def encode(self, value: Any, path: str = "") -> bytes:
        if isinstance(value, str):
            value = self._from_text(value, path)
        if isinstance(value, bytes):
            return value
        if not isinstance(value, list):
            raise self.wrong(value, path)
        if len(value) > self.count:
            raise self.wrong(value, path, f"there are {len(value)} elements")
        encode = self.element.encode
        data = b"".join(encode(item, f"{path}[{index}]") for index, item in enumerate(value))
        return data.ljust(self.size, b"\0")

    def _from_text(self, text: str, path: str) -> Any:
        if self.element.size == 1 and "," not in text:
            return self._bytes_from_text(text, path)
        return [item.strip() for item in text.split(",")] if text.strip() else []

    def _bytes_from_text(self, text: str, path: str) -> bytes:
        """An address of this size, or hex digits."""
        address = {4: Ipv4, 16: Ipv6}.get(self.size)
        if address and ("." in text or (self.size == 16 and ":" in text)):
            return address(self.size, self.label).encode(text, path)
        try:
            data = hex_bytes(text)
        except ValueError:
            raise self.wrong(text, path) from None
        if len(data) != self.size:
            raise self.wrong(text, path, f"there are {len(data)} bytes")
        return data

    def mask(self) -> bytes:
        return self.element.mask() * self.count

    def place(self, index: int) -> Place:
        """Of element ``index``, which must be there."""
        return Place(self.element, index * self.element.size * 8)


class Padded(Codec):
    """A value with bytes behind it that mean nothing, up to ``size``."""

    def __init__(self, inner: Codec, size: int) -> None:
        super().__init__(size, inner.label)
        self.inner = inner
        self.leaves = inner.leaves

    @property
    def expected(self) -> str:
        return self.inner.expected

    def decode(self, data: bytes) -> Any:
        return self.inner.decode(data[: self.inner.size])

    def encode(self, value: Any, path: str = "") -> bytes:
        return self.inner.encode(value, path).ljust(self.size, b"\0")

    def mask(self) -> bytes:
        return self.inner.mask().ljust(self.size, b"\0")


class CpuValues(ArrayOf):
    """One value for each CPU, as the kernel copies them: each at a multiple of 8 bytes."""

    def __init__(self, inner: Codec, stride: int, cpus: int) -> None:
        super().__init__(Padded(inner, stride), cpus, f"{inner.label} for each of {cpus} CPUs")
        self._inner = inner

    def encode(self, value: Any, path: str = "") -> bytes:
        if not isinstance(value, list) or len(value) != self.count:
            raise self.wrong(value, path, f"there is no list of {self.count} values")
        return super().encode(value, path)

    def place(self, index: int) -> Place:
        return Place(self._inner, index * self.element.size * 8)


class Record(Codec):
    """A struct, union or data section."""

    def __init__(self, size: int, label: str, byte_order: str, fields: Sequence[Field]) -> None:
        super().__init__(size, label)
        self.byte_order = byte_order
        self.fields = {field.name: field for field in fields}
        self.leaves = sum(field.codec.leaves for field in fields) or 1
        self.overlapping = _overlap(fields)

    def field_of(self, path: str) -> Field | None:
        """The member with the longest name that ``path`` begins with: variables may have dots in theirs."""
        fitting = [
            name
            for name in self.fields
            if path.startswith(name) and path[len(name) : len(name) + 1] in ("", ".", "[")
        ]
        return self.fields[max(fitting, key=len)] if fitting else None

    @property
    def expected(self) -> str:
        return f"{self.label}, an object with {self._listed()}"

    def _listed(self) -> str:
        names = list(self.fields)
        return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "") or "no members"

    def decode(self, data: bytes) -> Any:
        order = self.byte_order
        return {name: read_place(data, field, order) for name, field in self.fields.items()}

    def encode(self, value: Any, path: str = "") -> bytes:
        if not isinstance(value, dict):
            return self._encode_only_field(value, path)
        image = bytearray(self.size)
        written = bytearray(self.size) if self.overlapping else None
        for name, part in value.items():
            field = self.fields.get(name)
            where = f"{path}.{name}" if path else str(name)
            if field is None:
                raise self.wrong(value, where, "there is no such member")
            if written is None:
                write_place(image, field, self.byte_order, part, where)
            else:
                self._overlay(image, written, field, part, where)
        return bytes(image)

    def _encode_only_field(self, value: Any, path: str) -> bytes:
        """A struct around one member takes that member's value."""
        if len(self.fields) != 1:
            raise self.wrong(value, path)
        name, field = next(iter(self.fields.items()))
        image = bytearray(self.size)
        write_place(image, field, self.byte_order, value, f"{path}.{name}" if path else name)
        return bytes(image)

    def _overlay(self, image: bytearray, written: bytearray, field: Field, value: Any, path: str) -> None:
        """Write a member of which others may have set some bits before."""
        start, end = _span(field)
        own, mask = bytearray(self.size), bytearray(self.size)
        write_place(own, field, self.byte_order, value, path)
        _write_mask(mask, field, self.byte_order)
        ours, ones, before, known = (
            int.from_bytes(part[start:end], "little") for part in (own, mask, image, written)
        )
        if (ours ^ before) & ones & known:
            raise TypedValueError(path, "another member of the union has other bytes here", "one of them")
        image[start:end] = (before | ours & ones).to_bytes(end - start, "little")
        written[start:end] = (known | ones).to_bytes(end - start, "little")

    def mask(self) -> bytes:
        mask = bytearray(self.size)
        for field in self.fields.values():
            _write_mask(mask, field, self.byte_order)
        return bytes(mask)


def _span(field: Field) -> tuple[int, int]:
    """First byte and the one after the last."""
    return field.offset // 8, (field.offset + (field.bits or field.codec.size * 8) + 7) // 8


def _write_mask(mask: bytearray, field: Field, byte_order: str) -> None:
    """Set the bits of ``field``; those that are set stay."""
    if field.bits:
        _write_bits(mask, field, byte_order, -1)
        return
    start, end = _span(field)
    ones = int.from_bytes(field.codec.mask(), "little") | int.from_bytes(mask[start:end], "little")
    mask[start:end] = ones.to_bytes(end - start, "little")


def _overlap(fields: Sequence[Field]) -> bool:
    end = 0
    for field in sorted(fields, key=lambda field: field.offset):
        if field.offset < end:
            return True
        end = max(end, field.offset + (field.bits or field.codec.size * 8))
    return False


class Prefix(Codec):
    """The key of an LPM trie, ``10.0.0.0/8``: ``struct bpf_lpm_trie_key``, its length in host order.

    ``plain`` shows and takes what is no prefix.
    """

    def __init__(self, address: Codec, plain: Codec, byte_order: str) -> None:
        super().__init__(4 + address.size, plain.label)
        self.address = address
        self.plain = plain
        self.byte_order = byte_order

    @property
    def expected(self) -> str:
        return f"{self.label}, a prefix such as ADDRESS/{self.address.size * 8}"

    def decode(self, data: bytes) -> Any:
        length = int.from_bytes(data[:4], self.byte_order)  # type: ignore[arg-type]
        if length > self.address.size * 8:
            return self.plain.decode(data)
        return f"{self.address.decode(data[4:])}/{length}"

    def encode(self, value: Any, path: str = "") -> bytes:
        if not isinstance(value, str):
            return self.plain.encode(value, path)
        address, slash, length = value.partition("/")
        bits = self.address.size * 8
        if slash and not (length.isascii() and length.isdigit() and len(length) < 4 and int(length) <= bits):
            raise self.wrong(value, path)
        data = self.address.encode(address, path)
        return int(length if slash else bits).to_bytes(4, self.byte_order) + data  # type: ignore[arg-type]
