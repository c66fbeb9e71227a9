"""BTF type by type, as it stands: the records of ``bpftool btf dump``, and its lines.

A record refers to other types by number only, so nothing here follows references: every record costs what it
has of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from bpfctl.btf.kinds import Kind
from bpfctl.btf.reader import KFLAG, KIND_MASK, KIND_SHIFT, VLEN_MASK
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError, printable
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Record: TypeAlias = "dict[str, Any]"

_ANONYMOUS = "(anon)"
_LONGEST = 4096  # characters of one name in text
_KEPT_NAMES = 1 << 17  # vmlinux has half as many
_LONGEST_KEPT = 64  # characters

_KIND_NAMES = {int(kind): kind.name for kind in Kind}
_LINKAGES = {0: "static", 1: "global", 2: "extern"}


def raw_types(btf: Btf, type_ids: Iterable[int] | None = None) -> Iterator[Record]:
    """A record of each of ``type_ids``, or of every type that is not the base's, by rising id.

    Keys as bpftool spells them: ``id``, ``kind`` and ``name``, then what the kind has.  Raises BtfError
    for an id that is not there, and for a type that cannot be decoded.
    """
    yield from _records(btf, type_ids, _Names(btf))


def raw_texts(btf: Btf, type_ids: Iterable[int] | None = None) -> Iterator[str]:
    """The same as lines, safe for a terminal: ``[7] INT 'char' size=1 ...``, an element a line below."""
    return (_text(btf, record) for record in _records(btf, type_ids, _SafeNames(btf)))


def _records(btf: Btf, type_ids: Iterable[int] | None, names: _Names) -> Iterator[Record]:
    for type_id in range(btf.first_id, len(btf)) if type_ids is None else type_ids:
        if not type_id:
            yield {"id": 0, "kind": "VOID", "name": _ANONYMOUS}
            continue
        words = btf.record_words(type_id)
        kind = words[1] >> KIND_SHIFT & KIND_MASK
        facts: Record = {"id": type_id, "kind": _KIND_NAMES[kind], "name": names[words[0]]}
        _FACTS[kind](facts, words, names)
        yield facts


class _Names(dict[int, str]):
    """Names by string offset.  The same few come again and again; what is kept of them is bounded."""

    def __init__(self, btf: Btf) -> None:
        super().__init__()
        self._btf = btf

    def __missing__(self, offset: int) -> str:
        name = self._btf.string(offset) or _ANONYMOUS
        if len(self) < _KEPT_NAMES and len(name) <= _LONGEST_KEPT:
            self[offset] = name
        return name


class _SafeNames(_Names):
    """The same with control characters escaped."""

    def __missing__(self, offset: int) -> str:
        name = super().__missing__(offset)
        if not name.isprintable() or len(name) > _LONGEST:
            name = printable(name, _LONGEST)
            self.pop(offset, None)
        return name


def _reference(facts: Record, words: list[int], names: _Names) -> None:
    facts["type_id"] = words[2]


def _sized(facts: Record, words: list[int], names: _Names) -> None:
    facts["size"] = words[2]


def _int(facts: Record, words: list[int], names: _Names) -> None:
    encoding = words[3]
    facts["size"] = words[2]
    facts["bits_offset"] = encoding >> 16 & 0xFF
    facts["nr_bits"] = encoding & 0xFF
    facts["encoding"] = _ENCODINGS.get(encoding >> 24 & 0xF, "UNKN")


_ENCODINGS = {0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL"}


def _array(facts: Record, words: list[int], names: _Names) -> None:
    facts["type_id"], facts["index_type_id"], facts["nr_elems"] = words[3:6]


def _composite(facts: Record, words: list[int], names: _Names) -> None:
    triples = zip(words[3::3], words[4::3], words[5::3], strict=True)
    if words[1] & KFLAG:
        members = []
        for name, type_id, offset in triples:
            member = {"name": names[name], "type_id": type_id, "bits_offset": offset & 0xFFFFFF}
            if offset >> 24:
                member["bitfield_size"] = offset >> 24
            members.append(member)
    else:
        members = [{"name": names[n], "type_id": t, "bits_offset": offset} for n, t, offset in triples]
    facts["size"], facts["vlen"] = words[2], words[1] & VLEN_MASK
    facts["members"] = members


def _enum(facts: Record, words: list[int], names: _Names) -> None:
    sign = 1 << 31 if words[1] & KFLAG else 0
    pairs = zip(words[3::2], words[4::2], strict=True)
    _values(facts, words, [{"name": names[n], "val": (value ^ sign) - sign} for n, value in pairs])


def _enum64(facts: Record, words: list[int], names: _Names) -> None:
    sign = 1 << 63 if words[1] & KFLAG else 0
    triples = zip(words[3::3], words[4::3], words[5::3], strict=True)
    values = [{"name": names[n], "val": ((high << 32 | low) ^ sign) - sign} for n, low, high in triples]
    _values(facts, words, values)


def _values(facts: Record, words: list[int], values: list[Record]) -> None:
    facts["encoding"] = "SIGNED" if words[1] & KFLAG else "UNSIGNED"
    facts["size"], facts["vlen"] = words[2], words[1] & VLEN_MASK
    facts["values"] = values


def _fwd(facts: Record, words: list[int], names: _Names) -> None:
    facts["fwd_kind"] = "union" if words[1] & KFLAG else "struct"


def _func(facts: Record, words: list[int], names: _Names) -> None:
    facts["type_id"] = words[2]
    facts["linkage"] = _LINKAGES.get(words[1] & VLEN_MASK, "(unknown)")


def _func_proto(facts: Record, words: list[int], names: _Names) -> None:
    facts["ret_type_id"], facts["vlen"] = words[2], words[1] & VLEN_MASK
    pairs = zip(words[3::2], words[4::2], strict=True)
    facts["params"] = [{"name": names[name], "type_id": type_id} for name, type_id in pairs]


def _var(facts: Record, words: list[int], names: _Names) -> None:
    facts["type_id"] = words[2]
    facts["linkage"] = _LINKAGES.get(words[3], "(unknown)")


def _datasec(facts: Record, words: list[int], names: _Names) -> None:
    facts["size"], facts["vlen"] = words[2], words[1] & VLEN_MASK
    triples = zip(words[3::3], words[4::3], words[5::3], strict=True)
    facts["vars"] = [{"type_id": t, "offset": offset, "size": size} for t, offset, size in triples]


def _decl_tag(facts: Record, words: list[int], names: _Names) -> None:
    facts["type_id"] = words[2]
    facts["component_idx"] = (words[3] ^ 1 << 31) - (1 << 31)


_FACTS: dict[int, Callable[[Record, list[int], _Names], None]] = {
    Kind.INT: _int,
    Kind.PTR: _reference,
    Kind.ARRAY: _array,
    Kind.STRUCT: _composite,
    Kind.UNION: _composite,
    Kind.ENUM: _enum,
    Kind.FWD: _fwd,
    Kind.TYPEDEF: _reference,
    Kind.VOLATILE: _reference,
    Kind.CONST: _reference,
    Kind.RESTRICT: _reference,
    Kind.FUNC: _func,
    Kind.FUNC_PROTO: _func_proto,
    Kind.VAR: _var,
    Kind.DATASEC: _datasec,
    Kind.FLOAT: _sized,
    Kind.DECL_TAG: _decl_tag,
    Kind.TYPE_TAG: _reference,
    Kind.ENUM64: _enum64,
}


# --- text ----------------------------------------------------------------------------------------


def _text(btf: Btf, record: Record) -> str:
    kind = record["kind"]
    text = _TEXTS.get(kind, _REFERENCE).format_map(record)
    if kind in _ELEMENTS:
        key, template = _ELEMENTS[kind]
        elements = record[key]
        if kind in _COMPOSITES:
            text += "".join(map(_member_text, elements))
        elif kind == "DATASEC":
            text += "".join(template.format_map(e) + _variable(btf, e["type_id"]) for e in elements)
        else:
            template = template if record.get("encoding") != "SIGNED" else template.replace("ULL", "LL")
            text += "".join([template.format_map(element) for element in elements])
    return text


_HEAD = "[{id}] {kind} '{name}'"
_REFERENCE = _HEAD + " type_id={type_id}"
_COMPOSITES = ("STRUCT", "UNION")
_TEXTS = {
    "VOID": _HEAD,
    "INT": _HEAD + " size={size} bits_offset={bits_offset} nr_bits={nr_bits} encoding={encoding}",
    "ARRAY": _REFERENCE + " index_type_id={index_type_id} nr_elems={nr_elems}",
    "STRUCT": _HEAD + " size={size} vlen={vlen}",
    "UNION": _HEAD + " size={size} vlen={vlen}",
    "ENUM": _HEAD + " encoding={encoding} size={size} vlen={vlen}",
    "ENUM64": _HEAD + " encoding={encoding} size={size} vlen={vlen}",
    "FWD": _HEAD + " fwd_kind={fwd_kind}",
    "FUNC": _REFERENCE + " linkage={linkage}",
    "FUNC_PROTO": _HEAD + " ret_type_id={ret_type_id} vlen={vlen}",
    "VAR": _REFERENCE + ", linkage={linkage}",  # bpftool has a comma there, and nowhere else
    "DATASEC": _HEAD + " size={size} vlen={vlen}",
    "FLOAT": _HEAD + " size={size}",
    "DECL_TAG": _REFERENCE + " component_idx={component_idx}",
}
_ELEMENTS = {
    "STRUCT": ("members", ""),
    "UNION": ("members", ""),
    "ENUM": ("values", "\n\t'{name}' val={val}"),
    "ENUM64": ("values", "\n\t'{name}' val={val}ULL"),
    "FUNC_PROTO": ("params", "\n\t'{name}' type_id={type_id}"),
    "DATASEC": ("vars", "\n\ttype_id={type_id} offset={offset} size={size}"),
}


def _member_text(member: Record) -> str:
    text = f"\n\t'{member['name']}' type_id={member['type_id']} bits_offset={member['bits_offset']}"
    return f"{text} bitfield_size={member['bitfield_size']}" if "bitfield_size" in member else text


def _variable(btf: Btf, type_id: int) -> str:
    try:
        variable = btf.type(type_id)
    except BtfError:
        return ""
    return f" ({variable.kind.name} '{printable(variable.name, _LONGEST)}')"
