"""A type on one line, close to C."""

from __future__ import annotations

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import MAX_CHAIN, Btf
from bpfctl.errors import BtfError

_KEYWORDS = {
    Kind.STRUCT: "struct",
    Kind.UNION: "union",
    Kind.ENUM: "enum",
    Kind.ENUM64: "enum",
    Kind.DATASEC: "section",
}
_QUALIFIERS = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}


def type_text(btf: Btf, type_id: int) -> str:
    """``struct foo``, ``const char *``, ``int (*)[4]``, ``int xdp_prog(struct xdp_md *)``.

    Raises BtfError where a reference leads nowhere or in circles.
    """
    kind = btf.kind(type_id)
    if kind in (Kind.FUNC, Kind.VAR):
        return _declaration(btf, btf.type(type_id).size_or_type, btf.name(type_id), nested=False)
    return _declaration(btf, type_id, "", nested=False)


def _declaration(btf: Btf, type_id: int, declarator: str, *, nested: bool) -> str:
    """C reads inside out: ``declarator`` grows around the name while references lead to the base type."""
    prefix = ""
    for _ in range(MAX_CHAIN):
        kind = btf.kind(type_id)
        if kind is Kind.PTR:
            declarator = "*" + declarator
        elif kind is Kind.ARRAY:
            array = btf.array(type_id)
            declarator = f"{_grouped(declarator)}[{array.length}]"
            type_id = array.element_id
            continue
        elif kind is Kind.FUNC_PROTO:
            declarator = f"{_grouped(declarator)}({'...' if nested else _parameters(btf, type_id)})"
        elif kind in _QUALIFIERS:
            target = btf.type(type_id).size_or_type
            if btf.kind(target) is Kind.PTR:
                declarator = f"{_QUALIFIERS[kind]} {declarator}".rstrip()
            else:
                prefix += _QUALIFIERS[kind] + " "
        elif kind is not Kind.TYPE_TAG:
            return prefix + _joined(_base(btf, type_id, kind), declarator)
        type_id = btf.type(type_id).size_or_type
    raise BtfError(f"type {type_id}: references without end", path=btf.path, section=btf.section)


def _parameters(btf: Btf, type_id: int) -> str:
    """Prototypes inside a parameter list are cut to ``(...)``: hostile BTF could nest them without end."""
    texts = [
        _declaration(btf, parameter.type_id, "", nested=True) if parameter.type_id else "..."
        for parameter in btf.params(type_id)
    ]
    return ", ".join(texts) or "void"


def _grouped(declarator: str) -> str:
    return f"({declarator})" if declarator.startswith("*") else declarator


def _joined(base: str, declarator: str) -> str:
    gap = "" if not declarator or declarator.startswith("[") else " "
    return base + gap + declarator


def _base(btf: Btf, type_id: int, kind: Kind) -> str:
    if kind is Kind.VOID:
        return "void"
    record = btf.type(type_id)
    keyword = _KEYWORDS.get(kind, "")
    if kind is Kind.FWD:
        keyword = "union" if record.kflag else "struct"
    name = record.name or ("{...}" if keyword else f"{kind.label}#{type_id}")
    return f"{keyword} {name}" if keyword else name
