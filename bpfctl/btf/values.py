"""Typed values: from a BTF type to a codec, which turns bytes into values for JSON and back.

    codec = value_codec(btf, type_id)
    codec.decode(data)                      -> {"rate": 1000, "mac": [2, 0, 0, 0, 0, 1]}
    codec.encode({"rate": "1000"}, "value") -> bytes; TypedValueError names what does not fit

paths.py sets one member, views.py shows bytes as the user says, templates.py does a million at once.
Whatever bytes a type can hold, padding aside, come back from ``encode(decode(data))``.
"""

from __future__ import annotations

from bpfctl.btf import scalars
from bpfctl.btf.aggregates import ArrayOf, BitNumber, Field, Record
from bpfctl.btf.kinds import Kind
from bpfctl.btf.scalars import Codec, Number, Raw, Text
from bpfctl.btf.text import type_text
from bpfctl.btf.types import MAX_CHAIN, MODIFIERS, POINTER_SIZE, Btf
from bpfctl.errors import BtfError

# A value of more leaves, which only hostile BTF has for its size, is shown as plain bytes.
_MOST_LEAVES = 1 << 20
_DEEPEST = 32  # structs in structs
_MOST_ANONYMOUS = 1 << 16  # structs without a name that one struct may have inside


def value_codec(btf: Btf, type_id: int) -> Codec:
    """The codec of type ``type_id``; BtfError for one without a size, or that does not hold together."""
    return _Maker(btf).make(type_id)


class _Maker:
    """Codecs of one BTF, each type's made once."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._made: dict[int, Codec] = {}
        self._depth = 0
        self._anonymous = 0

    def make(self, type_id: int) -> Codec:
        known = self._made.get(type_id)
        if known is not None:
            return known
        if self._depth >= _DEEPEST:
            raise self._error(f"type {type_id}: types are nested deeper than {_DEEPEST}")
        self._depth += 1
        codec = self._fresh(type_id)
        self._depth -= 1
        if codec.leaves > _MOST_LEAVES:
            codec = Raw(codec.size, codec.label)
        self._made[type_id] = codec
        return codec

    def _fresh(self, type_id: int) -> Codec:
        """Behind typedefs and qualifiers; the outermost typedef names the type in messages."""
        label = ""
        for _ in range(MAX_CHAIN):
            record = self._btf.type(type_id)
            address = scalars.ADDRESS_TYPES.get((record.kind, record.name, self._size(type_id)))
            if address:
                return address(self._size(type_id), record.name)
            if record.kind is Kind.TYPEDEF:
                label = label or record.name
            elif record.kind not in MODIFIERS and record.kind is not Kind.VAR:
                return self._of_kind(record.kind, type_id, label or type_text(self._btf, type_id))
            type_id = record.size_or_type
        raise self._error(f"type {type_id}: more than {MAX_CHAIN} references in a row, perhaps a loop")

    def _size(self, type_id: int) -> int:
        return self._btf.resolve_size(type_id)

    def _of_kind(self, kind: Kind, type_id: int, label: str) -> Codec:
        order = self._btf.byte_order
        if kind is Kind.INT:
            return self._integer(type_id, label)
        if kind is Kind.PTR:
            return scalars.Pointer(POINTER_SIZE, label, order)
        if kind is Kind.ARRAY:
            return self._array(type_id, label)
        if kind in (Kind.STRUCT, Kind.UNION):
            return Record(self._size(type_id), label, order, self._fields(type_id))
        if kind in (Kind.ENUM, Kind.ENUM64):
            signed = self._btf.type(type_id).kflag
            names = [(e.name, e.value) for e in self._btf.enumerators(type_id)]
            size = self._size(type_id)
            return scalars.Enum(size, label, order, signed=signed, names=_that_fit(names, size, signed))
        if kind is Kind.FLOAT:
            size = self._size(type_id)
            return scalars.Float(size, label, order) if size in (2, 4, 8) else Raw(size, label)
        if kind is Kind.DATASEC:
            return self._section(type_id, label)
        raise self._error(f"type {type_id} ({kind.label}) has no values")

    def _integer(self, type_id: int, label: str) -> Codec:
        encoding = self._btf.int_encoding(type_id)
        size, order = self._size(type_id), self._btf.byte_order
        kind: type[Number] = Number
        if encoding.bool:
            kind = scalars.Boolean
        elif size == 1 and (encoding.char or self._btf.name(type_id) == "char"):
            kind = scalars.Character
        number = kind(size, label, order, signed=encoding.signed)
        bits = encoding.bits
        if encoding.offset + bits > size * 8 or not bits:
            raise self._error(f"type {type_id}: an integer of {size} bytes has no {bits} bits")
        if bits == size * 8:
            return number
        # Compilers of old made such integers for bit-fields: the value is in some bits of the bytes.
        return BitNumber(number.narrowed(bits), encoding.offset)

    def _array(self, type_id: int, label: str) -> Codec:
        array = self._btf.array(type_id)
        element = self.make(array.element_id)
        if isinstance(element, scalars.Character):
            return Text(array.length, label)
        if element.leaves * array.length > _MOST_LEAVES:
            return Raw(element.size * array.length, label)
        return ArrayOf(element, array.length, label)

    def _fields(self, type_id: int) -> list[Field]:
        """Members, those of anonymous ones in their place; names that come twice get a number."""
        found: list[Field] = []
        self._collect(type_id, 0, found, 0)
        size = self._size(type_id)
        for field in found:
            if field.offset + (field.bits or field.codec.size * 8) > size * 8:
                raise self._error(f"type {type_id}: member {field.name} ends after the struct")
        return _with_unique_names(found)

    def _collect(self, type_id: int, base: int, found: list[Field], depth: int) -> None:
        self._anonymous += 1
        if depth > _DEEPEST or self._anonymous > _MOST_ANONYMOUS:
            raise self._error(f"type {type_id}: too many structs without a name")
        for member in self._btf.members(type_id):
            inner = self._btf.skip_modifiers(member.type_id)
            offset = base + member.offset
            if not member.name and self._btf.kind(inner) in (Kind.STRUCT, Kind.UNION):
                self._collect(inner, offset, found, depth + 1)
            else:
                found.append(self._field(member.name, member.type_id, offset, member.bitfield_size))
            if len(found) > _MOST_LEAVES:
                raise self._error(f"type {type_id} has more than {_MOST_LEAVES} members")

    def _field(self, name: str, type_id: int, offset: int, bits: int) -> Field:
        codec = self.make(type_id)
        if isinstance(codec, BitNumber) and not bits:
            return Field(name, codec.inner, offset + codec.offset, codec.inner.bits)
        if not bits and offset % 8 and isinstance(codec, Number):
            bits = codec.bits
        if not bits:
            if offset % 8:
                raise self._error(f"member {name} of type {type_id} does not begin at a byte")
            return Field(name, codec, offset)
        if not isinstance(codec, Number) or bits > codec.size * 8:
            raise self._error(f"member {name} of type {type_id} cannot be a bit-field of {bits} bits")
        return Field(name, codec.narrowed(bits), offset, bits)

    def _section(self, type_id: int, label: str) -> Codec:
        variables = self._btf.datasec(type_id)
        size = max(
            [self._btf.type(type_id).size_or_type]
            + [variable.offset + variable.size for variable in variables]
        )
        fields = [
            Field(self._btf.name(variable.type_id), self.make(variable.type_id), variable.offset * 8)
            for variable in variables
        ]
        for field in fields:
            if field.offset // 8 + field.codec.size > size:
                raise self._error(f"{label}: variable {field.name} ends after the section")
        return Record(size, label, self._btf.byte_order, _with_unique_names(fields))

    def _error(self, message: str) -> BtfError:
        return BtfError(message, path=self._btf.path, section=self._btf.section)


def _that_fit(names: list[tuple[str, int]], size: int, signed: bool) -> list[tuple[str, int]]:
    low, high = Number(size, "", "little", signed=signed).limits
    return [(name, v if signed else v & high) for name, v in names if low <= v <= high or not signed]


def _with_unique_names(fields: list[Field]) -> list[Field]:
    """``count``, ``count#2``: functions of one object may have variables of one name."""
    seen: dict[str, int] = {}
    unique = []
    for field in fields:
        number = seen[field.name] = seen.get(field.name, 0) + 1
        name = field.name if number == 1 and field.name else f"{field.name}#{number}"
        unique.append(field._replace(name=name))
    return unique
