"""The types of a kernel that CO-RE relocations look at: all that a program needs of another kernel's BTF.

Resolving against only these gives what resolving against the whole gives, but for the ids of types
themselves.  So a candidate that does not fit has to keep what made it not fit, where leaving it out could
make it fit.
"""

from __future__ import annotations

from collections.abc import Iterable

from bpfctl.btf.core import CoreResolver
from bpfctl.btf.core_spec import CoreKind, Spec
from bpfctl.btf.ext import CoreRelocation
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import MAX_CHAIN, MODIFIERS, Btf
from bpfctl.errors import BtfError

_COMPOSITES = (Kind.STRUCT, Kind.UNION)


class CoreNeeds:
    """Gathers over any number of objects; ``types`` is what ``btf.writer.subset`` takes.

    ``target``: the BTF of the kernel, which has no base.
    """

    def __init__(self, target: Btf) -> None:
        self.types: dict[int, set[int] | None] = {}
        self._target = target
        self._closed: set[tuple[int, bool, bool]] = set()

    def add(self, local: Btf, relocations: Iterable[CoreRelocation]) -> None:
        """All that ``relocations``, whose types are ``local``, look at.

        Raises CoreRelocationError where a relocation is malformed.
        """
        records = list(dict.fromkeys(record._replace(offset=0) for record in relocations))
        roots = [record.type_id for record in records if record.type_id < len(local)]
        resolver = CoreResolver(local, self._target, roots)
        for record in records:
            for candidate, found in resolver.matches(record):
                if found is not None and found.kind.is_field:
                    self._keep_path(found)
                elif found is not None and found.kind.is_enumerator:
                    self._keep_value(candidate)
                elif record.kind >= CoreKind.TYPE_ID_TARGET and record.kind not in _ENUMERATOR_KINDS:
                    self._keep_compared(candidate, record.kind == CoreKind.TYPE_MATCHES, False, 0)

    def _keep_path(self, spec: Spec) -> None:
        """The types from the root along the path, of structs the members on it, and the type it ends in."""
        btf = self._target
        type_id = self._keep_value(spec.root_id)
        for number in spec.path[1:]:
            if btf.kind(type_id) is Kind.ARRAY:
                type_id = self._keep_value(btf.array(type_id).element_id)
                continue
            members = btf.members(type_id)
            kept = self.types.setdefault(type_id, set())
            if kept is not None:
                kept.add(number)
                target = btf.skip_modifiers(members[number].type_id)
                if btf.kind(target) is Kind.ARRAY and not btf.array(target).length:
                    kept.add(len(members) - 1)  # it may be indexed without end only where it is the last one
                    self._keep_value(members[-1].type_id)
            type_id = self._keep_value(members[number].type_id)

    def _keep_value(self, type_id: int) -> int:
        """What a value of the type is made of, without the members of a struct or what a pointer points to.

        Returns the type behind the modifiers.
        """
        btf, behind = self._target, None
        for _ in range(MAX_CHAIN):
            kind = btf.kind(type_id)
            if not type_id:
                return behind or 0
            self.types.setdefault(type_id, set() if kind in _COMPOSITES else None)
            if kind in MODIFIERS:
                type_id = btf.size_or_type(type_id)
                continue
            behind = behind or type_id
            if kind is not Kind.ARRAY:
                return behind
            array = btf.array(type_id)
            self._keep_value(array.index_id) if btf.kind(array.index_id) is Kind.INT else None
            type_id = array.element_id
        raise BtfError(f"type {type_id}: references without end", path=btf.path, section=btf.section)

    def _keep_compared(self, type_id: int, deep: bool, behind_pointer: bool, depth: int) -> None:
        """All that a comparison of whole types may look at; ``deep``: members too, as TYPE_MATCHES does."""
        key = (type_id, deep, behind_pointer)
        if key in self._closed or depth > MAX_CHAIN or not type_id:
            return  # deeper than a comparison goes
        self._closed.add(key)
        btf, kind = self._target, self._target.kind(type_id)
        parts: list[int] = []
        if kind in _COMPOSITES:
            members = btf.members(type_id) if deep and not behind_pointer else ()
            kept = self.types.setdefault(type_id, set())
            if kept is not None:
                kept.update(range(len(members)))
            parts = [member.type_id for member in members]
        else:
            self.types.setdefault(type_id, None)
        if kind in MODIFIERS or kind is Kind.PTR:
            parts = [btf.size_or_type(type_id)]
        elif kind is Kind.ARRAY:
            parts = [btf.array(type_id).element_id, btf.array(type_id).index_id]
        elif kind is Kind.FUNC_PROTO:
            parts = [btf.size_or_type(type_id), *(parameter.type_id for parameter in btf.params(type_id))]
        for part in parts:
            self._keep_compared(part, deep, behind_pointer or kind is Kind.PTR, depth + 1)


_ENUMERATOR_KINDS = (CoreKind.ENUMVAL_EXISTS, CoreKind.ENUMVAL_VALUE)
