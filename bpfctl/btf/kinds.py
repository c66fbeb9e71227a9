"""The vocabulary of BTF: kinds of type and the plain values that :class:`bpfctl.btf.types.Btf` returns.

Numbers and bit layouts: include/uapi/linux/btf.h.
"""

from __future__ import annotations

from bpfctl.record import IntEnum, NamedTuple


class Kind(IntEnum):
    """``BTF_KIND_*``; VOID is type id 0, which has no record."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19

    @property
    def label(self) -> str:
        """Lower-case name for messages: ``func_proto``."""
        return self.name.lower()


class Linkage(IntEnum):
    """Of a VAR or FUNC."""

    STATIC = 0
    GLOBAL = 1
    EXTERN = 2


class BtfType(NamedTuple):
    """The fixed part of a type.

    ``size_or_type`` is the size in bytes of INT, STRUCT, UNION, ENUM, ENUM64, FLOAT and DATASEC, the id of
    the type referred to by PTR, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO (return type), VAR,
    DECL_TAG and TYPE_TAG, and 0 for ARRAY and FWD.  ``vlen`` counts members, enumerators, parameters or
    variables; for FUNC it is the linkage.
    """

    id: int
    kind: Kind
    name: str
    vlen: int
    kflag: bool
    size_or_type: int


class Member(NamedTuple):
    """Of a struct or union: ``offset`` and ``bitfield_size`` in bits; size 0 means not a bitfield."""

    name: str
    type_id: int
    offset: int
    bitfield_size: int


class Enumerator(NamedTuple):
    """``value`` has its sign where the enum is signed."""

    name: str
    value: int


class Parameter(NamedTuple):
    """Of a function prototype; a last one without name and type stands for ``...``."""

    name: str
    type_id: int


class Array(NamedTuple):
    """``length`` elements of type ``element_id``."""

    element_id: int
    index_id: int
    length: int


class DatasecVar(NamedTuple):
    """A variable of a data section: VAR id, ``offset`` and ``size`` in bytes."""

    type_id: int
    offset: int
    size: int


class IntEncoding(NamedTuple):
    """How an INT's bytes read: ``offset`` and ``bits`` in bits."""

    signed: bool
    char: bool
    bool: bool
    offset: int
    bits: int
