"""Names in C for the types of one BTF: valid identifiers, each used once in its name space.

C has one name space for the tags of structs, unions and enums, another for typedefs, enumerators, functions
and variables.  A kernel may hold several structs of one name; the second becomes ``name___2``, which
CO-RE reads as a flavour of ``name``.
"""

from __future__ import annotations

import sys

from bpfctl.btf.kinds import BtfType, Kind
from bpfctl.btf.types import Btf

_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
_Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local
__int128 __attribute__ asm typeof
"""
_KEYWORDS = frozenset(_WORDS.split())
_LONGEST = 512  # characters of a name; KSYM_NAME_LEN is 512
_TAGGED = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64)

# The words of C's arithmetic types, in any order, and the size that they have on BPF, in bytes.
_SIZES = {
    1: ("char", "signed char", "unsigned char", "_Bool"),
    2: ("short", "signed short", "unsigned short"),
    4: ("int", "signed int", "unsigned int", "signed", "unsigned", "float"),
    8: ("long", "signed long", "unsigned long", "double", "long double"),
    16: ("__int128", "signed __int128", "unsigned __int128"),
}
_STANDARD = {tuple(sorted(words.split())): size for size, names in _SIZES.items() for words in names} | {
    ("long", "long", *extra): 8 for extra in ((), ("signed",), ("unsigned",))
}
_PLAIN = {1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128"}


def identifier(name: str) -> str:
    """``name`` as C can spell it: what is no letter, digit or ``_`` becomes ``_``."""
    if name.isascii() and name.isidentifier() and name not in _KEYWORDS and len(name) <= _LONGEST:
        return name
    clean = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name[:_LONGEST])
    return f"_{clean}" if not clean or clean[0].isdigit() else f"{clean}_" if clean in _KEYWORDS else clean


def arithmetic_type(record: BtfType, signed: bool) -> str | None:
    """How C writes an INT or FLOAT: its own name, one of the same size, or None where a name must be made."""
    words = record.name.split()
    if len(words) > 1 and "int" in words:  # long int is long
        words.remove("int")
    size = record.size_or_type
    known = _STANDARD.get(tuple(sorted(words)))
    if known == size:
        return record.name
    if known and record.kind is Kind.INT and size in _PLAIN:
        return _PLAIN[size] if signed else f"unsigned {_PLAIN[size]}"
    return None


def bytes_type(record: BtfType, signed: bool) -> str:
    """What to declare the name of an INT or FLOAT with that C does not know."""
    size = record.size_or_type
    if record.kind is Kind.INT and size in _PLAIN:
        return f"{'signed' if signed else 'unsigned'} {_PLAIN[size]}"
    return f"struct {{ unsigned char bytes[{size}]; }}"


class Names:
    """Decided for all named types at once, by rising id, so that they do not depend on what is printed."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._names: dict[int, str] = {}
        self._tags: dict[str, int] = {}  # name -> how often
        self._ordinary: dict[str, int] = {}
        self._composites: dict[tuple[str, bool], str] = {}  # (name, is a union) -> the first of them
        forwards = []
        for type_id, kind, name in _named_types(btf):
            if kind in _TAGGED:
                self._names[type_id] = chosen = _unused(self._tags, name)
                if kind in (Kind.STRUCT, Kind.UNION):
                    self._composites.setdefault((name, kind is Kind.UNION), chosen)
            elif kind is Kind.TYPEDEF:
                self._names[type_id] = _unused(self._ordinary, name)
            else:
                forwards.append((type_id, name))
        for type_id, name in forwards:
            key = name, btf.type(type_id).kflag
            if key not in self._composites:
                self._composites[key] = _unused(self._tags, name)
            self._names[type_id] = self._composites[key]

    def __getitem__(self, type_id: int) -> str:
        """The name of a STRUCT, UNION, ENUM, ENUM64, FWD or TYPEDEF; "" for the anonymous."""
        return self._names.get(type_id, "")

    def ordinary(self, name: str) -> str:
        """``name``, an enumerator's or function's, changed if it is taken; it is taken from now on."""
        return _unused(self._ordinary, name)


def _named_types(btf: Btf) -> list[tuple[int, Kind, str]]:
    kinds = (*_TAGGED, Kind.TYPEDEF, Kind.FWD)
    bases = _named_types(btf.base) if btf.base else []
    own = sorted((type_id, kind) for kind in kinds for type_id in btf.ids(kind))
    named = ((type_id, kind, btf.name(type_id)) for type_id, kind in own)
    return bases + [(type_id, kind, sys.intern(name)) for type_id, kind, name in named if name]


def _unused(taken: dict[str, int], name: str) -> str:
    """``name`` the first time, then ``name___2``, ``name___3``, ..."""
    name = candidate = identifier(name)
    while candidate in taken:
        taken[name] += 1
        candidate = f"{name}___{taken[name]}"
    taken[candidate] = 1
    return candidate
