"""Access paths of CO-RE: from the object's ``0:1:2`` to names, and from names to a path in the kernel's type.

For ``struct sample { int x; struct { int y; int a[7]; }; }`` the compiler records ``&s->a[3]`` as
``0:1:1:3``: element 0 of what ``s`` points to, member 1 (without a name), its member 1, element 3.  What
counts is only ``.a[3]``: members without a name belong to a layout, and layouts differ between kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpfctl.btf.core_types import essential_name, fields_compatible, types_compatible, types_match
from bpfctl.btf.ext import CoreRelocation
from bpfctl.btf.kinds import Kind, Member
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError
from bpfctl.record import IntEnum, NamedTuple

MAX_STEPS = 64  # of an access path, as libbpf's BPF_CORE_SPEC_MAX_LEN
_MAX_DIGITS = 10

_COMPOSITES = (Kind.STRUCT, Kind.UNION)
_ENUMS = (Kind.ENUM, Kind.ENUM64)


class CoreKind(IntEnum):
    """``enum bpf_core_relo_kind``."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12

    @property
    def is_field(self) -> bool:
        """About a member or array element."""
        return self <= CoreKind.FIELD_RSHIFT_U64

    @property
    def is_enumerator(self) -> bool:
        """About an enumerator; the rest is about a type as a whole."""
        return self in (CoreKind.ENUMVAL_EXISTS, CoreKind.ENUMVAL_VALUE)


class Step(NamedTuple):
    """One step with a meaning.

    With a ``name``: member or enumerator ``number`` of type ``type_id``; without: array element ``number``,
    which is of type ``type_id``.
    """

    type_id: int
    number: int
    name: str


class Spec(NamedTuple):
    """A path in one BTF: ``path`` has every step, ``steps`` those with a meaning.

    ``bit_offset``: of where it leads to, from the start of the root.
    """

    btf: Btf
    kind: CoreKind
    root_id: int
    path: tuple[int, ...]
    steps: tuple[Step, ...]
    bit_offset: int

    def __str__(self) -> str:
        """In libbpf's form: ``<byte_off> [12] struct task_struct.mm.flags (0:5:1 @ offset 16)``."""
        record = self.btf.type(self.root_id)
        text = f"<{_KIND_TEXTS[self.kind]}> [{self.root_id}] {record.kind.label} {record.name or '<anon>'}"
        if self.kind.is_enumerator:
            step = self.steps[0]
            return f"{text}::{step.name} = {self.btf.enumerators(step.type_id)[step.number].value}"
        if not self.kind.is_field:
            return text
        text += "".join(
            f".{step.name}" if step.name else f"[{step.number}]"
            for position, step in enumerate(self.steps)
            if step.name or position or step.number
        )
        bits = f".{self.bit_offset % 8}" if self.bit_offset % 8 else ""
        return f"{text} ({':'.join(map(str, self.path))} @ offset {self.bit_offset // 8}{bits})"


_KIND_TEXTS = {
    CoreKind.FIELD_BYTE_OFFSET: "byte_off",
    CoreKind.FIELD_BYTE_SIZE: "byte_sz",
    CoreKind.FIELD_EXISTS: "field_exists",
    CoreKind.FIELD_SIGNED: "signed",
    CoreKind.FIELD_LSHIFT_U64: "lshift_u64",
    CoreKind.FIELD_RSHIFT_U64: "rshift_u64",
    CoreKind.TYPE_ID_LOCAL: "local_type_id",
    CoreKind.TYPE_ID_TARGET: "target_type_id",
    CoreKind.TYPE_EXISTS: "type_exists",
    CoreKind.TYPE_SIZE: "type_size",
    CoreKind.ENUMVAL_EXISTS: "enumval_exists",
    CoreKind.ENUMVAL_VALUE: "enumval_value",
    CoreKind.TYPE_MATCHES: "type_matches",
}


# --- the object's side ---------------------------------------------------------------------------


def parse_spec(local: Btf, relocation: CoreRelocation) -> Spec:
    """What ``relocation`` is about; raises BtfError when its path does not fit its type."""
    try:
        kind = CoreKind(relocation.kind)
    except ValueError:
        raise BtfError(f"unknown kind {relocation.kind}") from None
    root = relocation.type_id
    local.kind(root)  # raises where there is no such type
    if not kind.is_field and not kind.is_enumerator:
        if relocation.access != "0":
            raise BtfError("a whole type has no path")
        return Spec(local, kind, root, (), (), 0)
    path = _parse_path(relocation.access)
    type_id = local.skip_modifiers(root)
    if kind.is_enumerator:
        enumerators = local.enumerators(type_id) if local.kind(type_id) in _ENUMS else []
        if len(path) != 1 or path[0] >= len(enumerators):
            raise BtfError("no such enumerator")
        return Spec(local, kind, root, path, (Step(type_id, path[0], enumerators[path[0]].name),), 0)
    return _parse_field(local, kind, root, path)


def _parse_path(access: str) -> tuple[int, ...]:
    numbers = access.split(":")
    if not all(n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS for n in numbers):
        raise BtfError("its path is not made of numbers")
    if len(numbers) > MAX_STEPS:
        raise BtfError(f"its path has {len(numbers)} steps, more than {MAX_STEPS}")
    return tuple(map(int, numbers))


def _parse_field(local: Btf, kind: CoreKind, root_id: int, path: tuple[int, ...]) -> Spec:
    type_id = local.skip_modifiers(root_id)
    steps = [Step(type_id, path[0], "")]
    offset = path[0] * local.resolve_size(type_id) * 8
    for number in path[1:]:
        type_id = local.skip_modifiers(type_id)
        if local.kind(type_id) in _COMPOSITES:
            members = local.members(type_id)
            if number >= len(members):
                raise BtfError(f"type {type_id} has no member number {number}")
            member = members[number]
            offset += member.offset
            if member.name:
                steps.append(Step(type_id, number, member.name))
            type_id = member.type_id
        elif local.kind(type_id) is Kind.ARRAY:
            type_id = _element(local, type_id, number, steps[-1])
            if not type_id:
                raise BtfError(f"element {number} is past the end of its array")
            steps.append(Step(type_id, number, ""))
            offset += number * local.resolve_size(type_id) * 8
        else:
            raise BtfError(f"type {type_id} ({local.kind(type_id).label}) has no parts")
    return Spec(local, kind, root_id, path, tuple(steps), offset)


def _element(btf: Btf, array_id: int, number: int, before: Step) -> int:
    """The type of element ``number`` of an array reached by step ``before``; 0 when it is past the end.

    The last member of a struct, declared without a length, has as many elements as one likes.
    """
    array = btf.array(array_id)
    is_flexible = not array.length and before.name and before.number == len(btf.members(before.type_id)) - 1
    if number >= array.length and not is_flexible:
        return 0
    return btf.skip_modifiers(array.element_id)


# --- the kernel's side ---------------------------------------------------------------------------


def match_spec(spec: Spec, target: Btf, target_id: int, index: MemberIndex) -> Spec | None:
    """``spec`` in terms of a candidate type of the kernel; None if the candidate does not fit.

    ``index`` is kept by the caller for all of its specs.  Raises BtfError where either BTF leads nowhere.
    """
    if spec.kind.is_field:
        return _match_field(spec, target, target_id, index)
    if spec.kind.is_enumerator:
        return _match_enumerator(spec, target, target_id)
    relation = types_match if spec.kind is CoreKind.TYPE_MATCHES else types_compatible
    if not relation(spec.btf, spec.root_id, target, target_id):
        return None
    return Spec(target, spec.kind, target_id, (), (), 0)


def _match_enumerator(spec: Spec, target: Btf, target_id: int) -> Spec | None:
    type_id = target.skip_modifiers(target_id)
    if target.kind(type_id) not in _ENUMS:
        return None
    wanted = essential_name(spec.steps[0].name)
    for index, enumerator in enumerate(target.enumerators(type_id)):
        if essential_name(enumerator.name) == wanted:
            return Spec(target, spec.kind, target_id, (index,), (Step(type_id, index, enumerator.name),), 0)
    return None


def _match_field(spec: Spec, target: Btf, target_id: int, index: MemberIndex) -> Spec | None:
    path: list[int] = []
    steps: list[Step] = []
    offset = 0
    type_id = target_id
    for position, step in enumerate(spec.steps):
        type_id = target.skip_modifiers(type_id)
        if step.name:
            found = index.find(target, type_id, step.name, tuple(path))
            if found is None:
                return None
            wanted = spec.btf.members(step.type_id)[step.number]
            if not fields_compatible(spec.btf, wanted.type_id, target, found.member.type_id):
                return None
            path = list(found.path)
            steps.append(Step(found.holder_id, found.path[-1], step.name))
            offset += found.bit_offset
            type_id = found.member.type_id
            continue
        if position:  # the root is not an array itself: its first index is that of a pointer to it
            if target.kind(type_id) is not Kind.ARRAY:
                return None
            type_id = _element(target, type_id, step.number, steps[-1])
            if not type_id:
                return None
        path.append(_room_for(path, step.number))
        steps.append(Step(type_id, step.number, ""))
        offset += step.number * target.resolve_size(type_id) * 8
    return Spec(target, spec.kind, target_id, tuple(path), tuple(steps), offset)


class _Found(NamedTuple):
    """A member of ``holder_id``, which may lie in nameless members: ``path`` from the root."""

    member: Member
    holder_id: int
    path: tuple[int, ...]
    bit_offset: int


class MemberIndex:
    """Members of the kernel's types by name, nameless structs and unions searched where they stand.

    A type is taken apart once: some, such as task_struct, are asked for hundreds of times.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Btf, int], dict[str, _Found]] = {}

    def find(self, btf: Btf, type_id: int, name: str, path: tuple[int, ...]) -> _Found | None:
        """The first member called ``name`` of a type that ``path`` leads to; None if there is none."""
        members = self._known.get((btf, type_id))
        if members is None:
            members = self._known[btf, type_id] = {}
            for member in _members_deep(btf, type_id, (), 0, set()):
                members.setdefault(member.member.name, member)
        found = members.get(name)
        if found is None or not path:
            return found
        if len(path) + len(found.path) > MAX_STEPS:
            raise _too_deep()
        return found._replace(path=path + found.path)


def _members_deep(
    btf: Btf, type_id: int, path: tuple[int, ...], offset: int, seen: set[int]
) -> Iterator[_Found]:
    """Members with a name, depth first.  A type is entered once: a second time it has nothing new."""
    type_id = btf.skip_modifiers(type_id)
    if btf.kind(type_id) not in _COMPOSITES or type_id in seen:
        return
    if len(path) >= MAX_STEPS:
        raise _too_deep()
    seen.add(type_id)
    for index, member in enumerate(btf.members(type_id)):
        here, at = (*path, index), offset + member.offset
        if member.name:
            yield _Found(member, type_id, here, at)
        else:
            yield from _members_deep(btf, member.type_id, here, at, seen)


def _room_for(path: Sequence[int], number: int) -> int:
    """``number``, if ``path`` may become one step longer."""
    if len(path) >= MAX_STEPS:
        raise _too_deep()
    return number


def _too_deep() -> BtfError:
    return BtfError(f"the kernel's type nests deeper than {MAX_STEPS} steps")
