"""An object's BTF as an older kernel takes it: each kind that it lacks is written as one that it knows.

Type ids stay what they are, and so do string offsets: .BTF.ext, map definitions and instructions refer to
them.  What is said of a type becomes less, never wrong in size: the verifier and BPF_MAP_CREATE only look at
sizes and at what they know.  libbpf's bpf_object__sanitize_btf() makes the same choices.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from struct import Struct, pack

from bpfctl.btf.kinds import Kind, Linkage
from bpfctl.btf.reader import KFLAG, KIND_MASK, KIND_SHIFT, MAGIC, VERSION, VLEN_MASK, WORD
from bpfctl.btf.types import Btf

_HEADER = {"little": Struct("<HBB5I"), "big": Struct(">HBB5I")}
_PLACEHOLDER = b"enum64_placeholder\0"

# What a kernel can lack, and whether a type asks for it: (BTF, type id) -> yes.  The names are those of the
# probes, without their prefix.
_ASKED_BY: dict[str, tuple[Kind, Callable[[Btf, int], bool]]] = {
    "func": (Kind.FUNC, lambda btf, number: True),
    "func_global": (Kind.FUNC, lambda btf, number: btf.linkage(number) is not Linkage.STATIC),
    "datasec": (Kind.DATASEC, lambda btf, number: True),
    "qmark_datasec": (Kind.DATASEC, lambda btf, number: btf.name(number).startswith("?")),
    "float": (Kind.FLOAT, lambda btf, number: True),
    "decl_tag": (Kind.DECL_TAG, lambda btf, number: True),
    "type_tag": (Kind.TYPE_TAG, lambda btf, number: True),
    "enum64": (Kind.ENUM64, lambda btf, number: True),
    "signed_enum": (Kind.ENUM, lambda btf, number: btf.type(number).kflag),
}


def features(btf: Btf) -> set[str]:
    """What the kernel has to know to take ``btf``: func, func_global, datasec, ..., layout (own types only).

    ``signed_enum`` came to the kernel together with ``enum64``.
    """
    found = {
        feature
        for feature, (kind, asks) in _ASKED_BY.items()
        if any(asks(btf, number) for number in btf.ids(kind))
    }
    return found | {"layout"} if btf.header_size > _HEADER[btf.byte_order].size else found


def sanitised(btf: Btf, lacking: Collection[str]) -> bytes:
    """The bytes of ``btf`` for a kernel that lacks the features named; without the layout section.

    ``lacking``: names as :func:`features` gives them.  Where ``func`` is among them, function and line
    records must not be sent either.
    """
    image = _Image(btf)
    for feature, (kind, asks) in _ASKED_BY.items():
        if feature in lacking:
            for number in btf.ids(kind):
                if asks(btf, number) and image.kind(number) == kind:  # not yet written as another
                    _REWRITES[feature](image, number)
    return image.blob()


class _Image:
    """The words of the types and the bytes of the strings, to be changed in place."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.words = btf.type_words()
        self.strings = bytearray(btf.string_data())
        self._first = btf.offset_of(btf.first_id) if len(btf) > btf.first_id else 0
        self._placeholder = 0

    def at(self, number: int) -> int:
        """Where the record of type ``number`` starts, in words."""
        return (self.btf.offset_of(number) - self._first) // WORD

    def kind(self, number: int) -> int:
        """What kind it is by now."""
        return self.words[self.at(number) + 1] >> KIND_SHIFT & KIND_MASK

    def become(self, number: int, kind: Kind, vlen: int | None = None, kflag: bool = False) -> int:
        """Change kind and ``vlen`` (None: as it was) of a type; returns :meth:`at`."""
        at = self.at(number)
        kept = self.words[at + 1] & VLEN_MASK
        self.words[at + 1] = kflag * KFLAG | kind << KIND_SHIFT | (kept if vlen is None else vlen)
        return at

    def placeholder(self) -> int:
        """The id of an INT of one byte, which is added when it is first asked for."""
        if not self._placeholder:
            self.words.extend((len(self.strings), Kind.INT << KIND_SHIFT, 1, 8))
            self.strings += _PLACEHOLDER
            self._placeholder = len(self.btf)
        return self._placeholder

    def blob(self) -> bytes:
        """All of it, in the byte order that it had."""
        order = "<" if self.btf.byte_order == "little" else ">"
        types = pack(f"{order}{len(self.words)}I", *self.words)
        header = _HEADER[self.btf.byte_order]
        sizes = (header.size, 0, len(types), len(types), len(self.strings))
        return header.pack(MAGIC, VERSION, 0, *sizes) + types + bytes(self.strings)


def _one_byte_int(image: _Image, number: int) -> None:
    """A VAR or DECL_TAG, whose fourth word is free: one byte, since a larger one may not fit its section."""
    at = image.become(number, Kind.INT, 0)
    image.words[at + 2 : at + 4] = (1, 8)


def _datasec(image: _Image, number: int) -> None:
    """A struct with the variables as members; they keep their names, and ids of what now are INTs."""
    at = image.become(number, Kind.STRUCT)
    _identifier(image, image.words[at])
    for position, variable in enumerate(image.btf.datasec(number)):
        name = image.words[image.at(variable.type_id)]
        member = at + 3 + 3 * position
        image.words[member : member + 3] = (name, variable.type_id, variable.offset * 8 & 0xFFFFFFFF)


def _variables(image: _Image, number: int) -> None:
    _datasec(image, number)
    for variable in image.btf.datasec(number):
        if image.btf.kind(variable.type_id) is Kind.VAR:
            _one_byte_int(image, variable.type_id)


def _identifier(image: _Image, offset: int) -> None:
    """Make the string at ``offset`` one that may name a struct."""
    end = image.strings.find(0, offset)
    text = image.strings[offset:end].translate(bytes.maketrans(b".?", b"__"))
    image.strings[offset:end] = text


def _qmark(image: _Image, number: int) -> None:
    name = image.words[image.at(number)]
    image.strings[name : name + 1] = b"_"


def _func(image: _Image, number: int) -> None:
    """A name for its prototype, which becomes an enum of its parameters."""
    at = image.become(number, Kind.TYPEDEF, 0)
    proto = image.words[at + 2]
    if image.btf.kind(proto) is Kind.FUNC_PROTO:
        place = image.become(proto, Kind.ENUM)
        image.words[place + 2] = 4


def _func_global(image: _Image, number: int) -> None:
    image.become(number, Kind.FUNC, Linkage.STATIC)


def _float(image: _Image, number: int) -> None:
    """An empty struct of the same size."""
    image.words[image.become(number, Kind.STRUCT, 0)] = 0


def _type_tag(image: _Image, number: int) -> None:
    image.words[image.become(number, Kind.CONST, 0)] = 0


def _enum64(image: _Image, number: int) -> None:
    """A union of the same size, with the enumerators as members of one byte at its start."""
    at = image.become(number, Kind.UNION)
    for position in range(image.words[at + 1] & VLEN_MASK):
        member = at + 3 + 3 * position
        image.words[member + 1 : member + 3] = (image.placeholder(), 0)


def _unsigned(image: _Image, number: int) -> None:
    image.become(number, Kind.ENUM)


_REWRITES: dict[str, Callable[[_Image, int], None]] = {
    "func": _func,
    "func_global": _func_global,
    "datasec": _variables,
    "qmark_datasec": _qmark,
    "float": _float,
    "decl_tag": _one_byte_int,
    "type_tag": _type_tag,
    "enum64": _enum64,
    "signed_enum": _unsigned,
}
