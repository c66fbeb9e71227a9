"""The smallest BTF of each kind, for probes: what a kernel that lacks the kind refuses.

Written by hand, word by word (include/uapi/linux/btf.h): this side of the house knows no BTF.
"""

from __future__ import annotations

import struct

_INT, _PTR, _ARRAY, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = 1, 2, 3, 12, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19

_STATIC, _GLOBAL = 0, 1
_STRINGS = b"\0x\0?.data\0.data\0arg:ctx\0"
_X, _QMARK_DATA, _DATA, _ARG_CTX = (
    _STRINGS.index(text) for text in (b"x\0", b"?.data", b".data\0a", b"arg:")
)


def _type(name: int, kind: int, size_or_type: int, *more: int, vlen: int = 0, kflag: int = 0) -> bytes:
    return struct.pack(f"={3 + len(more)}I", name, kflag << 31 | kind << 24 | vlen, size_or_type, *more)


_SIGNED_32 = _type(_X, _INT, 4, 1 << 24 | 32)


def _blob(*types: bytes, layout: bytes = b"") -> bytes:
    body = b"".join(types)
    size = 32 if layout else 24
    header = struct.pack("=HBB5I", 0xEB9F, 1, 0, size, 0, len(body), len(body), len(_STRINGS))
    if not layout:
        return header + body + _STRINGS
    padding = bytes(-len(_STRINGS) % 4)
    place = len(body) + len(_STRINGS) + len(padding)
    return header + struct.pack("=2I", place, len(layout)) + body + _STRINGS + padding + layout


def integer() -> bytes:
    """``int x``: what every BTF has."""
    return _blob(_SIGNED_32)


def function(*, is_global: bool) -> bytes:
    """``void x(int x)``."""
    linkage = _GLOBAL if is_global else _STATIC
    return _blob(_SIGNED_32, _type(0, _FUNC_PROTO, 0, _X, 1, vlen=1), _type(_X, _FUNC, 2, vlen=linkage))


def datasec(name: str) -> bytes:
    """A variable in the section ``.data`` or ``?.data``."""
    at = _QMARK_DATA if name.startswith("?") else _DATA
    return _blob(_SIGNED_32, _type(_X, _VAR, 1, _STATIC), _type(at, _DATASEC, 4, 2, 0, 4, vlen=1))


def floating() -> bytes:
    """``float x``."""
    return _blob(_type(_X, _FLOAT, 4))


def decl_tag() -> bytes:
    """A variable with a tag."""
    whole = 0xFFFFFFFF
    return _blob(_SIGNED_32, _type(_X, _VAR, 1, _STATIC), _type(_X, _DECL_TAG, 2, whole))


def type_tag() -> bytes:
    """A pointer to a tagged int."""
    return _blob(_SIGNED_32, _type(_X, _TYPE_TAG, 1), _type(0, _PTR, 2))


def enum64() -> bytes:
    """A 64-bit enum with one enumerator."""
    return _blob(_type(_X, _ENUM64, 8, _X, 1, 0, vlen=1, kflag=1))


def with_layout() -> bytes:
    """An int, and how long the records of the kinds up to it are."""
    return _blob(_SIGNED_32, layout=struct.pack("=BBHBBH", 0, 0, 0, 4, 0, 0))


def tagged_context() -> tuple[bytes, int, int]:
    """``int x(void)`` and ``int x(void *x __arg_ctx)``, both global; the blob and the ids of the two."""
    types = (
        _SIGNED_32,
        _type(0, _PTR, 0),
        _type(0, _FUNC_PROTO, 1),
        _type(_X, _FUNC, 3, vlen=_GLOBAL),
        _type(0, _FUNC_PROTO, 1, _X, 2, vlen=1),
        _type(_X, _FUNC, 5, vlen=_GLOBAL),
        _type(_ARG_CTX, _DECL_TAG, 6, 0),
    )
    return _blob(*types), 4, 6
