"""When do a type of the object and a type of the kernel count as the same?

Three relations, from loose to strict; struct layouts may differ in all of them, that is the point of CO-RE:

- *field-compatible*: what an accessed field may have turned into;
- *type-compatible*: same shape of kinds, for "does this type exist";
- *type-match*: same names and members as well, for "is this type what I think it is".

Both BTFs may be hostile, so each pair of types is compared once and recursion is bounded.
"""

from __future__ import annotations

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import MAX_CHAIN, Btf
from bpfctl.errors import BtfError

_ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_COMPOSITES = frozenset({Kind.STRUCT, Kind.UNION})
_ALIKE_BY_KIND = _ENUMS | _COMPOSITES | {Kind.VOID, Kind.FWD}

_FLAVOUR = "___"


def essential_name(name: str) -> str:
    """``name`` without its flavour: ``task_struct`` of ``task_struct___v2``.

    The separator is the last run of exactly three underscores between other characters.
    """
    at = name.rfind(_FLAVOUR)
    while at > 0:
        end = at + len(_FLAVOUR)
        if end < len(name) and name[at - 1] != "_" and name[end] != "_":
            return name[:at]
        at = name.rfind(_FLAVOUR, 0, end - 1)
    return name


def kinds_compatible(local: Kind, target: Kind) -> bool:
    """The same kind, or both some enum."""
    return local is target or (local in _ENUMS and target in _ENUMS)


def fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """May a field of the first type be read as one of the second?  Sizes and signs are not compared."""
    for _ in range(MAX_CHAIN):
        local_id, target_id = local.skip_modifiers(local_id), target.skip_modifiers(target_id)
        kind, other = local.kind(local_id), target.kind(target_id)
        if kind in _COMPOSITES and other in _COMPOSITES:
            return True
        if not kinds_compatible(kind, other):
            return False
        if kind is not Kind.ARRAY:
            return _leaf_fields_compatible(local, local_id, target, target_id, kind)
        local_id, target_id = local.array(local_id).element_id, target.array(target_id).element_id
    raise _too_deep(local)


def _leaf_fields_compatible(local: Btf, local_id: int, target: Btf, target_id: int, kind: Kind) -> bool:
    if kind is Kind.INT:
        return _plain_ints(local, local_id, target, target_id)
    if kind in _ENUMS or kind is Kind.FWD:
        name, other = essential_name(local.name(local_id)), essential_name(target.name(target_id))
        return not name or not other or name == other
    return kind in (Kind.PTR, Kind.FLOAT)


def _plain_ints(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Neither is a bit range inside its storage, as compilers before 2018 described bitfields."""
    return local.int_encoding(local_id).offset == 0 == target.int_encoding(target_id).offset


def types_compatible(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Type-compatible; the caller has compared the names of the two."""
    if not kinds_compatible(local.kind(local_id), target.kind(target_id)):
        return False
    return _Comparison(local, target).compatible(local_id, target_id, MAX_CHAIN)


def types_match(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Type-match; the caller has compared the names of the two."""
    return _Comparison(local, target).match(local_id, target_id, False, MAX_CHAIN)


class _Comparison:
    """One comparison of two types and all that they lead to; ``levels`` is how much deeper it may go."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self.local = local
        self.target = target
        self._verdicts: dict[tuple[int, int, bool], bool] = {}

    def compatible(self, local_id: int, target_id: int, levels: int) -> bool:
        local_id, target_id = self.local.skip_modifiers(local_id), self.target.skip_modifiers(target_id)
        kind = self.local.kind(local_id)
        if not kinds_compatible(kind, self.target.kind(target_id)):
            return False
        if kind in _ALIKE_BY_KIND:
            return True
        if kind is Kind.INT:
            return _plain_ints(self.local, local_id, self.target, target_id)
        if not levels:
            raise _too_deep(self.local)
        pair = (local_id, target_id, False)
        if pair not in self._verdicts:
            self._verdicts[pair] = self._parts_compatible(kind, local_id, target_id, levels - 1)
        return self._verdicts[pair]

    def _parts_compatible(self, kind: Kind, local_id: int, target_id: int, levels: int) -> bool:
        parts = self._referenced(kind, local_id, target_id)
        return parts is not None and all(self.compatible(a, b, levels) for a, b in parts)

    def match(self, local_id: int, target_id: int, behind_pointer: bool, levels: int) -> bool:
        local_id, target_id = self.local.skip_modifiers(local_id), self.target.skip_modifiers(target_id)
        if essential_name(self.local.name(local_id)) != essential_name(self.target.name(target_id)):
            return False
        key = (local_id, target_id, behind_pointer)
        if key not in self._verdicts:
            if not levels:
                raise _too_deep(self.local)
            self._verdicts[key] = self._parts_match(*key, levels - 1)
        return self._verdicts[key]

    def _parts_match(self, local_id: int, target_id: int, behind_pointer: bool, levels: int) -> bool:
        kind, other = self.local.kind(local_id), self.target.kind(target_id)
        if kind in _ENUMS and other in _ENUMS:
            return self._enums_match(local_id, target_id)
        if behind_pointer and Kind.FWD in (kind, other):
            return self._composite_kind(self.local, local_id) is self._composite_kind(self.target, target_id)
        if kind is not other:
            return False
        if kind in _COMPOSITES:
            return behind_pointer or self._members_match(local_id, target_id, levels)
        if kind is Kind.INT:
            return self._ints_match(local_id, target_id)
        if kind is Kind.FWD:
            return self.local.type(local_id).kflag == self.target.type(target_id).kflag
        if kind is Kind.ARRAY and self.local.array(local_id).length != self.target.array(target_id).length:
            return False
        if kind is Kind.VOID:
            return True
        parts = self._referenced(kind, local_id, target_id)
        behind_pointer = behind_pointer or kind is Kind.PTR
        return parts is not None and all(self.match(a, b, behind_pointer, levels) for a, b in parts)

    def _members_match(self, local_id: int, target_id: int, levels: int) -> bool:
        """Each local member has one in the target, of the same name and matching type."""
        candidates: dict[str, list[int]] = {}
        for member in self.target.members(target_id):
            candidates.setdefault(essential_name(member.name), []).append(member.type_id)
        members = self.local.members(local_id)
        return len(members) <= len(self.target.members(target_id)) and all(
            any(
                self.match(member.type_id, candidate, False, levels)
                for candidate in candidates.get(essential_name(member.name), [])
            )
            for member in members
        )

    def _enums_match(self, local_id: int, target_id: int) -> bool:
        if self.local.type(local_id).size_or_type != self.target.type(target_id).size_or_type:
            return False
        names = {essential_name(e.name) for e in self.local.enumerators(local_id)}
        return names <= {essential_name(e.name) for e in self.target.enumerators(target_id)}

    def _ints_match(self, local_id: int, target_id: int) -> bool:
        return (
            self.local.type(local_id).size_or_type == self.target.type(target_id).size_or_type
            and self.local.int_encoding(local_id).signed == self.target.int_encoding(target_id).signed
        )

    def _referenced(self, kind: Kind, local_id: int, target_id: int) -> list[tuple[int, int]] | None:
        """Pairs of what a PTR, ARRAY or FUNC_PROTO is made of; None where the counts differ or for others."""
        local, target = self.local, self.target
        if kind is Kind.PTR:
            return [(local.type(local_id).size_or_type, target.type(target_id).size_or_type)]
        if kind is Kind.ARRAY:
            return [(local.array(local_id).element_id, target.array(target_id).element_id)]
        if kind is not Kind.FUNC_PROTO:
            return None
        params, others = local.params(local_id), target.params(target_id)
        if len(params) != len(others):
            return None
        returns = (local.type(local_id).size_or_type, target.type(target_id).size_or_type)
        return [*((a.type_id, b.type_id) for a, b in zip(params, others, strict=True)), returns]

    @staticmethod
    def _composite_kind(btf: Btf, type_id: int) -> Kind:
        """STRUCT or UNION for these and for their forward declarations; other kinds as they are."""
        record = btf.type(type_id)
        if record.kind is Kind.FWD:
            return Kind.UNION if record.kflag else Kind.STRUCT
        return record.kind


def _too_deep(btf: Btf) -> BtfError:
    return BtfError("types nest too deep to be compared", path=btf.path, section=btf.section)
