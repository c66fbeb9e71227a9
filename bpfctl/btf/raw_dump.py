"""BTF type by type, as it stands: the records of ``bpftool btf dump``, and its lines.

A record refers to other types by number only, so nothing here follows references: every record costs what it
has of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bpfctl.btf.kinds import BtfType, Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError, printable

Record = dict[str, Any]

_ANONYMOUS = "(anon)"
_LONGEST = 4096  # characters of one name in text


def raw_types(btf: Btf, type_ids: Iterable[int] | None = None) -> Iterator[Record]:
    """A record of each of ``type_ids``, or of every type that is not the base's, by rising id.

    Keys as bpftool spells them: ``id``, ``kind`` and ``name``, then what the kind has.  Raises BtfError
    for an id that is not there, and for a type that cannot be decoded.
    """
    for type_id in range(btf.first_id, len(btf)) if type_ids is None else type_ids:
        record = btf.type(type_id)
        facts = {"id": type_id, "kind": record.kind.name, "name": record.name or _ANONYMOUS}
        yield _FACTS[record.kind](btf, record, facts)


def _reference(btf: Btf, record: BtfType, facts: Record) -> Record:
    facts["type_id"] = record.size_or_type
    return facts


def _sized(btf: Btf, record: BtfType, facts: Record) -> Record:
    facts["size"] = record.size_or_type
    return facts


def _int(btf: Btf, record: BtfType, facts: Record) -> Record:
    encoding = btf.int_encoding(record.id)
    # Only one of them has a meaning; bpftool names one too.
    names = ("SIGNED", "CHAR", "BOOL")
    set_ = [name for name, is_set in zip(names, encoding[:3], strict=True) if is_set]
    return facts | {
        "size": record.size_or_type,
        "bits_offset": encoding.offset,
        "nr_bits": encoding.bits,
        "encoding": set_[0] if len(set_) == 1 else "UNKN" if set_ else "(none)",
    }


def _array(btf: Btf, record: BtfType, facts: Record) -> Record:
    array = btf.array(record.id)
    return facts | {
        "type_id": array.element_id,
        "index_type_id": array.index_id,
        "nr_elems": array.length,
    }


def _composite(btf: Btf, record: BtfType, facts: Record) -> Record:
    members: list[Record] = []
    for name, type_id, offset, bits in btf.members(record.id):
        member = {"name": name or _ANONYMOUS, "type_id": type_id, "bits_offset": offset}
        if bits:
            member["bitfield_size"] = bits
        members.append(member)
    return facts | {"size": record.size_or_type, "vlen": record.vlen, "members": members}


def _enum(btf: Btf, record: BtfType, facts: Record) -> Record:
    return facts | {
        "encoding": "SIGNED" if record.kflag else "UNSIGNED",
        "size": record.size_or_type,
        "vlen": record.vlen,
        "values": [{"name": name or _ANONYMOUS, "val": val} for name, val in btf.enumerators(record.id)],
    }


def _fwd(btf: Btf, record: BtfType, facts: Record) -> Record:
    facts["fwd_kind"] = "union" if record.kflag else "struct"
    return facts


def _func(btf: Btf, record: BtfType, facts: Record) -> Record:
    return facts | {"type_id": record.size_or_type, "linkage": _linkage(record.vlen)}


def _func_proto(btf: Btf, record: BtfType, facts: Record) -> Record:
    params = [{"name": name or _ANONYMOUS, "type_id": type_id} for name, type_id in btf.params(record.id)]
    return facts | {"ret_type_id": record.size_or_type, "vlen": record.vlen, "params": params}


def _var(btf: Btf, record: BtfType, facts: Record) -> Record:
    return facts | {"type_id": record.size_or_type, "linkage": btf.linkage(record.id).name.lower()}


def _linkage(number: int) -> str:
    return Linkage(number).name.lower() if number <= Linkage.EXTERN else "(unknown)"


def _datasec(btf: Btf, record: BtfType, facts: Record) -> Record:
    return facts | {
        "size": record.size_or_type,
        "vlen": record.vlen,
        "vars": [variable._asdict() for variable in btf.datasec(record.id)],
    }


def _decl_tag(btf: Btf, record: BtfType, facts: Record) -> Record:
    return facts | {"type_id": record.size_or_type, "component_idx": btf.component(record.id)}


_FACTS: dict[Kind, Callable[[Btf, BtfType, Record], Record]] = {
    Kind.VOID: lambda btf, record, facts: facts,
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
    Kind.ENUM64: _enum,
}


# --- text ----------------------------------------------------------------------------------------

_LISTS = ("members", "values", "params", "vars")


def raw_text(btf: Btf, record: Record) -> str:
    """The lines of one record, safe for a terminal: ``[7] INT 'char' size=1 ...``, then its elements."""
    first = f"[{record['id']}] {record['kind']} '{_safe(record['name'])}'"
    elements: list[Record] = []
    for key, value in record.items():
        if key in _LISTS:
            elements = value
        elif key not in ("id", "kind", "name"):
            # bpftool has a comma there, and nowhere else
            comma = "," if key == "linkage" and record["kind"] == "VAR" else ""
            first += f"{comma} {key}={value}"
    if not elements:
        return first
    return "\n\t".join([first, *_ELEMENT_TEXTS[record["kind"]](btf, record, elements)])


def _member_texts(btf: Btf, record: Record, elements: list[Record]) -> Iterator[str]:
    for element in elements:
        text = f"'{_safe(element['name'])}' type_id={element['type_id']} bits_offset={element['bits_offset']}"
        yield f"{text} bitfield_size={element['bitfield_size']}" if "bitfield_size" in element else text


def _value_texts(btf: Btf, record: Record, elements: list[Record]) -> Iterator[str]:
    suffix = ""
    if record["kind"] == "ENUM64":
        suffix = "LL" if record["encoding"] == "SIGNED" else "ULL"
    return (f"'{_safe(element['name'])}' val={element['val']}{suffix}" for element in elements)


def _param_texts(btf: Btf, record: Record, elements: list[Record]) -> Iterator[str]:
    return (f"'{_safe(element['name'])}' type_id={element['type_id']}" for element in elements)


def _variable_texts(btf: Btf, record: Record, elements: list[Record]) -> Iterator[str]:
    for element in elements:
        text = "type_id={type_id} offset={offset} size={size}".format_map(element)
        try:
            variable = btf.type(element["type_id"])
        except BtfError:
            yield text
        else:
            yield f"{text} ({variable.kind.name} '{_safe(variable.name)}')"


_ELEMENT_TEXTS: dict[str, Callable[[Btf, Record, list[Record]], Iterator[str]]] = {
    "STRUCT": _member_texts,
    "UNION": _member_texts,
    "ENUM": _value_texts,
    "ENUM64": _value_texts,
    "FUNC_PROTO": _param_texts,
    "DATASEC": _variable_texts,
}


def _safe(name: str) -> str:
    return name if name.isprintable() and len(name) <= _LONGEST else printable(name, _LONGEST)
