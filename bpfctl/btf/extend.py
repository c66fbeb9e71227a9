"""BTF with types added at its end: ids and string offsets of all that was there stay."""

from __future__ import annotations

from struct import Struct

from bpfctl.btf.kinds import Kind
from bpfctl.btf.reader import KIND_SHIFT, VLEN_MASK, WORD
from bpfctl.btf.types import Btf

# Fields of the header: length of it, then offset and length of types, strings and (if it is there) layout.
_HEADER_SIZE, _TYPES, _STRINGS, _LAYOUT = 4, 8, 16, 24
_FORMATS = {"little": "<", "big": ">"}


class Extension:
    """What is to be added to ``btf``; :meth:`blob` is both together."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._prefix = _FORMATS[btf.byte_order]
        self._next_id = len(btf)
        self._types = bytearray()
        self._strings = bytearray()

    def string(self, text: str) -> int:
        """The offset of ``text``, stored anew."""
        at = self._btf.strings_size + len(self._strings)
        self._strings += text.encode() + b"\0"
        return at

    def add(self, name: int, kind: Kind, size_or_type: int, *words: int, vlen: int = 0) -> int:
        """The id of a new type; ``name`` is a string offset, ``words`` follow the fixed part."""
        fields = (name, kind << KIND_SHIFT | vlen & VLEN_MASK, size_or_type, *words)
        self._types += Struct(f"{self._prefix}{len(fields)}I").pack(*fields)
        self._next_id += 1
        return self._next_id - 1

    def blob(self) -> bytes:
        """The bytes; what stands behind types or strings in the blob moves."""
        data = bytearray(self._btf.data)
        word = Struct(self._prefix + "I")
        (header,) = word.unpack_from(data, _HEADER_SIZE)
        for field, added in ((_STRINGS, self._strings), (_TYPES, self._types)):
            offset, size = (word.unpack_from(data, field + at)[0] for at in (0, WORD))
            word.pack_into(data, field + WORD, size + len(added))
            for other in (_TYPES, _STRINGS, _LAYOUT):
                if other != field and other + 2 * WORD <= header:
                    (start,) = word.unpack_from(data, other)
                    if start >= offset + size:
                        word.pack_into(data, other, start + len(added))
            end = header + offset + size
            data[end:end] = added
        return bytes(data)
