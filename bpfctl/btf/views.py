"""``as KIND``: bytes shown and taken as the user says, whatever their type says; and without a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bpfctl.btf import paths
from bpfctl.btf.aggregates import ArrayOf, Prefix, Record
from bpfctl.btf.scalars import Codec, Ipv4, Ipv6, Mac, NetworkNumber, Number, Raw, Text
from bpfctl.errors import TypedValueError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_PREFIX_LENGTH = 4  # bytes, before the address in struct bpf_lpm_trie_key
_INTEGER_SIZES = (1, 2, 4, 8)


def _number(signed: bool) -> Callable[[int, str, str], Codec]:
    return lambda size, label, order: Number(size, label, order, signed=signed)


def _bytes(size: int, label: str, order: str) -> Codec:
    return ArrayOf(Number(1, "byte", order), size, label)


# kind -> sizes in bytes, None for any; how to make the codec
_VIEWS: Mapping[str, tuple[tuple[int, ...] | None, Callable[[int, str, str], Codec]]] = {
    "ipv4": ((4,), lambda size, label, order: Ipv4(size, label)),
    "ipv6": ((16,), lambda size, label, order: Ipv6(size, label)),
    "mac": ((6,), lambda size, label, order: Mac(size, label)),
    "be16": ((2,), lambda size, label, order: NetworkNumber(size, label)),
    "be32": ((4,), lambda size, label, order: NetworkNumber(size, label)),
    "be64": ((8,), lambda size, label, order: NetworkNumber(size, label)),
    "int": ((1, 2, 4, 8, 16), _number(True)),
    "uint": ((1, 2, 4, 8, 16), _number(False)),
    "bytes": (None, _bytes),
    "hex": (None, lambda size, label, order: Raw(size, label)),
    "string": (None, lambda size, label, order: Text(size, label)),
}
KINDS = tuple(_VIEWS)


class PlainNumber(Number):
    """A number of which nobody knows whether it has a sign: shown without, taken with one too."""

    def __init__(self, size: int, byte_order: str) -> None:
        super().__init__(size, f"a number of {size} bytes", byte_order)

    def number(self, value: Any, path: str) -> int:
        number = super().number(value, path)
        half = 1 << self.bits - 1
        return number + 2 * half if -half <= number < 0 else number


def plain_codec(size: int, byte_order: str) -> Codec:
    """For bytes without a type: a number in host order where they have 1, 2, 4 or 8, else hex."""
    if size in _INTEGER_SIZES:
        return PlainNumber(size, byte_order)
    return Raw(size, "plain bytes")


def view(codec: Codec, kind: str, byte_order: str, name: str = "") -> Codec:
    """A codec for the same bytes as ``kind``, one of KINDS; TypedValueError where the size does not suit."""
    sizes, make = _VIEWS[kind]
    if sizes is None or codec.size in sizes:
        return make(codec.size, codec.label, byte_order)
    if isinstance(codec, ArrayOf):
        element = view(codec.element, kind, byte_order, name)
        return ArrayOf(element, codec.count, codec.label)
    wanted = " or ".join(map(str, sizes))
    raise TypedValueError(name, f"{codec.label} has {codec.size} bytes", f"{wanted} for {kind}")


def view_at(codec: Codec, path: str, kind: str, byte_order: str, name: str) -> Codec:
    """``codec`` with its part ``path`` shown as ``kind``."""
    return paths.replaced(codec, path, lambda part, where: view(part, kind, byte_order, where), name)


def prefix_codec(plain: Codec, byte_order: str) -> Codec:
    """The codec for the keys of an LPM trie: prefixes where what follows the length is one address.

    ``plain`` is the codec by type, or of plain bytes; it stays where the key has other parts.
    """
    size = plain.size - _PREFIX_LENGTH
    address: Codec | None = {4: Ipv4, 16: Ipv6}.get(size, lambda size, label: None)(size, "address")
    if address is None or (isinstance(plain, Record) and not _is_length_and_one_more(plain)):
        return plain
    return Prefix(address, plain, byte_order)


def _is_length_and_one_more(record: Record) -> bool:
    first, *others = sorted(record.fields.values(), key=lambda field: field.offset)
    starts = {field.offset for field in others}
    return first.codec.size == _PREFIX_LENGTH and not first.bits and starts == {_PREFIX_LENGTH * 8}
