"""CO-RE: what an instruction compiled against one kernel's types has to say on another kernel.

The object names a type, a path in it and a question (offset, size, does it exist ...).  The kernel's types
of the same name are candidates; all that fit the path have to give the same answer.  Facts and corner cases
follow libbpf (src/relo_core.c), so that both hand the kernel the same instructions.

Pure: nothing is read but the two BTFs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress

from bpfctl.btf.core_spec import CoreKind, MemberIndex, Spec, Step, match_spec, parse_spec
from bpfctl.btf.core_types import essential_name, kinds_compatible
from bpfctl.btf.ext import CoreRelocation
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError, CoreRelocationError
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeVar

    Answer = TypeVar("Answer")


_UINT64_MAX = (1 << 64) - 1
_ENUMS = (Kind.ENUM, Kind.ENUM64)


class CoreFixup(NamedTuple):
    """The answer for one relocation.

    ``spec``: what was asked for; ``target``: what it is in the kernel, None if it is not there.
    ``local_value``/``target_value``: unsigned 64 bits, in the instruction before and after.
    ``poison``: there is no value, the instruction must never run.
    ``check``: the instruction must hold ``local_value`` now.
    ``local_size``/``target_size``: bytes of the accessed field where a load or store has to follow a change.
    ``resizable``: a load or store of one size may become one of the other.
    """

    spec: Spec
    target: Spec | None
    local_value: int
    target_value: int
    poison: bool = False
    check: bool = True
    local_size: int = 0
    target_size: int = 0
    resizable: bool = True


class CoreResolver:
    """Answers for the relocations of one object.

    ``vmlinux`` is asked first (a user's BTF file can stand in); ``modules`` is called, once, when it has no
    candidate for some name.  ``root_ids``: types that relocations will start from; naming them all at once
    makes one pass over ``vmlinux`` do.
    """

    def __init__(
        self,
        local: Btf,
        vmlinux: Btf,
        root_ids: Iterable[int],
        modules: Callable[[], Sequence[Btf]] = tuple,
    ) -> None:
        self._local = local
        self._vmlinux = vmlinux
        self._modules = modules
        self._names = {essential_name(local.name(type_id)) for type_id in root_ids} - {""}
        self._by_name: list[tuple[Btf, dict[str, list[int]]]] = []
        self._module_names: list[tuple[Btf, dict[str, list[int]]]] | None = None
        self._candidates: dict[int, list[tuple[Btf, int]]] = {}
        self._fixups: dict[tuple[int, str, int], CoreFixup] = {}
        self._members = MemberIndex()

    def resolve(self, relocation: CoreRelocation) -> CoreFixup:
        """The answer for ``relocation``; raises CoreRelocationError when it is malformed or ambiguous."""
        key = (relocation.type_id, relocation.access, relocation.kind)
        if key not in self._fixups:
            self._fixups[key] = self._about(relocation, self._resolve)
        return self._fixups[key]

    def matches(self, relocation: CoreRelocation) -> list[tuple[int, Spec | None]]:
        """Every candidate of ``vmlinux``, by its id, and what the relocation is about in it; None: no fit.

        Raises as :meth:`resolve`, but never for ambiguity.
        """

        def match(spec: Spec) -> list[tuple[int, Spec | None]]:
            if spec.kind is CoreKind.TYPE_ID_LOCAL:
                return []
            return [
                (type_id, match_spec(spec, btf, type_id, self._members))
                for btf, type_id in self._candidates_for(spec.root_id)
            ]

        return self._about(relocation, match)

    def _about(self, relocation: CoreRelocation, answer: Callable[[Spec], Answer]) -> Answer:
        """Whatever is wrong, in the object or in the kernel's types, is said about the relocation."""
        spec = None
        try:
            spec = parse_spec(self._local, relocation)
            return answer(spec)
        except BtfError as error:
            about = spec or f"of type {relocation.type_id}, path {relocation.access!r}"
            raise CoreRelocationError(
                f"CO-RE relocation {about}: {error.reason}", path=self._local.path, section=".BTF.ext"
            ) from error

    def _resolve(self, spec: Spec) -> CoreFixup:
        if spec.kind is CoreKind.TYPE_ID_LOCAL:
            return CoreFixup(spec, spec, spec.root_id, spec.root_id, check=False)
        if not self._local.name(spec.root_id):
            raise BtfError("a type without a name cannot be found in the kernel")
        fitting = []
        agreed: CoreFixup | None = None
        for btf, type_id in self._candidates_for(spec.root_id):
            target = match_spec(spec, btf, type_id, self._members)
            if target is None:
                continue
            fixup = _fixup(spec, target)
            agreed = _agreement(agreed, fixup) if agreed else fixup
            fitting.append((btf, type_id))
        if agreed is None:
            return _fixup(spec, None)
        # Later relocations of the same type look at these only, as in libbpf.
        self._candidates[spec.root_id] = fitting
        return agreed

    def _candidates_for(self, root_id: int) -> list[tuple[Btf, int]]:
        if root_id not in self._candidates:
            name, kind = essential_name(self._local.name(root_id)), self._local.kind(root_id)
            if not self._by_name:
                self._by_name = [_types_by_name(self._vmlinux, self._names)]
            found = _of_kind(self._by_name, name, kind)
            if not found:
                if self._module_names is None:
                    self._module_names = [_types_by_name(btf, self._names) for btf in self._modules()]
                found = _of_kind(self._module_names, name, kind)
            self._candidates[root_id] = found
        return self._candidates[root_id]


# --- candidates ----------------------------------------------------------------------------------


def _types_by_name(btf: Btf, wanted: set[str]) -> tuple[Btf, dict[str, list[int]]]:
    """The own types of ``btf`` that are called one of ``wanted``, flavours aside."""
    offsets = {offset: name for name in wanted for offset in btf.string_offsets(name)}
    for offset in btf.strings_with("___"):
        name = essential_name(btf.string(offset))
        if name in wanted:
            offsets[offset] = name
    found: dict[str, list[int]] = {}
    names = btf.name_offsets()
    # In C from end to end: once for each type of vmlinux, of which a handful is called so.
    for position in compress(range(len(names)), map(offsets.__contains__, names)):
        found.setdefault(offsets[names[position]], []).append(btf.first_id + position)
    return btf, found


def _of_kind(targets: list[tuple[Btf, dict[str, list[int]]]], name: str, kind: Kind) -> list[tuple[Btf, int]]:
    return [
        (btf, type_id)
        for btf, by_name in targets
        for type_id in by_name.get(name, ())
        if kinds_compatible(kind, btf.kind(type_id))
    ]


def _agreement(first: CoreFixup, other: CoreFixup) -> CoreFixup:
    """``first``, if ``other`` says the same: a guess between two layouts would read the wrong memory."""
    assert first.target is not None
    assert other.target is not None
    if first.target.bit_offset != other.target.bit_offset:
        raise BtfError(
            f"ambiguous, at offset {first.target.bit_offset} or {other.target.bit_offset} (bits) "
            "in two types of the kernel",
        )
    if (first.poison, first.target_value) != (other.poison, other.target_value):
        raise BtfError(f"ambiguous, {first.target_value} or {other.target_value} in two types of the kernel")
    return first


# --- values --------------------------------------------------------------------------------------


class _Value(NamedTuple):
    """``number`` None: there is none.  ``size`` and ``type_id`` of the field that a load would access."""

    number: int | None
    check: bool = True
    size: int = 0
    type_id: int = 0


def _fixup(spec: Spec, target: Spec | None) -> CoreFixup:
    """The answer from the two paths; a missing target leaves "no" or no value at all."""
    local_value = _value(spec.kind, spec)
    assert local_value.number is not None
    target_value = _value(spec.kind, target)
    if target_value.number is None:
        return CoreFixup(spec, target, local_value.number, 0, poison=True, check=local_value.check)
    return CoreFixup(
        spec,
        target,
        local_value.number,
        target_value.number,
        check=local_value.check,
        local_size=local_value.size,
        target_size=target_value.size,
        resizable=target is None or _resizable(spec.btf, local_value, target.btf, target_value),
    )


def _value(kind: CoreKind, spec: Spec | None) -> _Value:
    if kind in _EXISTENCE:
        return _Value(int(spec is not None))
    if spec is None:
        return _Value(0 if kind in (CoreKind.TYPE_ID_TARGET, CoreKind.TYPE_SIZE) else None)
    if kind is CoreKind.TYPE_ID_TARGET:
        return _Value(spec.root_id, check=False)  # ids may change when objects are linked
    if kind is CoreKind.TYPE_SIZE:
        return _Value(spec.btf.resolve_size(spec.root_id))
    if kind is CoreKind.ENUMVAL_VALUE:
        return _Value(_enumerator_value(spec.btf, spec.steps[0]))
    if spec.steps[-1].name:
        return _member_value(spec)
    return _element_value(spec)


_EXISTENCE = frozenset(
    {CoreKind.FIELD_EXISTS, CoreKind.TYPE_EXISTS, CoreKind.TYPE_MATCHES, CoreKind.ENUMVAL_EXISTS}
)


def _enumerator_value(btf: Btf, step: Step) -> int:
    """As unsigned 64 bits; that of a 32-bit enum has its sign extended, whether the enum is signed or not."""
    value = btf.enumerators(step.type_id)[step.number].value
    if btf.kind(step.type_id) is Kind.ENUM:
        value = (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
    return value & _UINT64_MAX


def _element_value(spec: Spec) -> _Value:
    """Of a path that ends in ``[n]``."""
    type_id = spec.steps[-1].type_id
    if spec.kind is CoreKind.FIELD_BYTE_OFFSET:
        return _Value(spec.bit_offset // 8, size=_access_size(spec.btf, type_id), type_id=type_id)
    if spec.kind is CoreKind.FIELD_BYTE_SIZE:
        return _Value(spec.btf.resolve_size(type_id))
    raise BtfError("an array element has no sign and no bits to shift")


def _member_value(spec: Spec) -> _Value:
    """Of a path that ends in a member."""
    btf, step = spec.btf, spec.steps[-1]
    member = btf.members(step.type_id)[step.number]
    type_id = btf.skip_modifiers(member.type_id)
    is_bitfield = member.bitfield_size > 0
    if spec.kind is CoreKind.FIELD_SIGNED:
        return _Value(int(_is_signed(btf, type_id)))
    byte_size = _load_size(spec, type_id, member.bitfield_size)
    bits = member.bitfield_size or byte_size * 8
    if spec.kind is CoreKind.FIELD_RSHIFT_U64:
        return _Value((64 - bits) & _UINT64_MAX)
    byte_offset = spec.bit_offset // 8
    if is_bitfield:
        byte_offset = byte_offset // byte_size * byte_size
    if spec.kind is CoreKind.FIELD_BYTE_SIZE:
        return _Value(byte_size, check=not is_bitfield)
    if spec.kind is CoreKind.FIELD_LSHIFT_U64:
        from_start = spec.bit_offset - byte_offset * 8
        if btf.byte_order == "little":
            return _Value((64 - from_start - bits) & _UINT64_MAX, check=not is_bitfield)
        return _Value(((8 - byte_size) * 8 + from_start) & _UINT64_MAX, check=not is_bitfield)
    if is_bitfield:
        return _Value(byte_offset, check=False)
    return _Value(byte_offset, size=_access_size(btf, type_id), type_id=type_id)


def _load_size(spec: Spec, type_id: int, bits: int) -> int:
    """Bytes of the field; of a bitfield of ``bits`` bits, of the smallest aligned load that covers it."""
    if not bits:
        return spec.btf.resolve_size(type_id)
    size = spec.btf.type(type_id).size_or_type
    while size and spec.bit_offset + bits > (spec.bit_offset // 8 // size * size + size) * 8:
        size = size * 2 if size < 8 else 0
    if not size:
        raise BtfError("a bitfield that no load of up to 64 bits covers")
    return size


def _is_signed(btf: Btf, type_id: int) -> bool:
    kind = btf.kind(type_id)
    if kind in _ENUMS:
        return btf.type(type_id).kflag
    return kind is Kind.INT and btf.int_encoding(type_id).signed


def _access_size(btf: Btf, type_id: int) -> int:
    """Bytes that a load of the field takes: of an array, one element."""
    type_id = btf.skip_modifiers(type_id)
    while btf.kind(type_id) is Kind.ARRAY:
        type_id = btf.skip_modifiers(btf.array(type_id).element_id)
    return btf.resolve_size(type_id)


def _resizable(local: Btf, value: _Value, target: Btf, other: _Value) -> bool:
    """May a load of one size become one of the other?

    A shorter load zero-extends: right for unsigned numbers, and for pointers of a 32-bit kernel, which are 64
    bits wide in BPF.
    """
    if value.size == other.size:
        return True
    kind = local.kind(value.type_id)
    if kind is not target.kind(other.type_id):
        return False
    if kind is Kind.INT:
        return not _sign_extends(local, value.type_id) and not _sign_extends(target, other.type_id)
    return kind is Kind.PTR


def _sign_extends(btf: Btf, type_id: int) -> bool:
    encoding = btf.int_encoding(type_id)
    return encoding.signed and not encoding.char and not encoding.bool
