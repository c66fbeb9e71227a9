"""A map that no object defines: made as the user says, with types or without, and pinned."""

from __future__ import annotations

import errno

from bpfctl.btf.extend import Extension
from bpfctl.btf.kinds import Kind
from bpfctl.errors import AmbiguousError, KernelError, NotFoundError, printable
from bpfctl.inventory.reference import Reference, open_map
from bpfctl.inventory.type_sources import named
from bpfctl.kernel import bpf
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import create_map
from bpfctl.loader.creation import map_refusal
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import ENOTSUPP

if TYPE_CHECKING:
    from bpfctl.btf.types import Btf

_UNTYPED = "maps of this type may take no types, or other ones: with sizes alone it is made without"
_VALUED = (Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FLOAT, Kind.TYPEDEF)


class NewMap(NamedTuple):
    """What to make.  Sizes in bytes; ``inner``: a map that those in a map of maps are to be like.

    ``key_type_id`` and ``value_type_id`` are of the BTF that goes with it.
    """

    map_type: int = 0
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0
    name: str = ""
    numa_node: int = 0
    map_extra: int = 0
    ifindex: int = 0
    inner: Reference | None = None
    key_type_id: int = 0
    value_type_id: int = 0


def make_map(wanted: NewMap, btf: bytes | None = None) -> Fd:
    """The map; KernelError says what was asked for.  ``btf``: bytes that its type ids count in."""
    attributes = MapAttributes(
        wanted.map_type,
        wanted.key_size,
        wanted.value_size,
        wanted.max_entries,
        wanted.flags,
        numa_node=wanted.numa_node,
        name=wanted.name,
        ifindex=wanted.ifindex,
        map_extra=wanted.map_extra,
    )
    if wanted.inner is not None:
        with open_map(wanted.inner) as inner:
            return _create(attributes._replace(inner_map_fd=inner.number))
    if btf is None or not (wanted.key_type_id or wanted.value_type_id):
        return _create(attributes)
    try:
        types = Fd(bpf.btf_load(btf))
    except OSError as error:
        raise KernelError("the kernel refuses the map's types", errno=error.errno or 0) from error
    with types:
        typed = attributes._replace(
            btf_fd=types.number,
            btf_key_type_id=wanted.key_type_id,
            btf_value_type_id=wanted.value_type_id,
        )
        return _create(typed)


def with_types(wanted: NewMap, btf: Btf, key: str | None, value: str | None) -> tuple[NewMap, bytes]:
    """``wanted`` with the types that ``btf`` calls ``key`` and ``value``, and BTF of only these.

    None: of that the size is known, and it is a plain number, as the kernel takes types for both or none.
    Raises NotFoundError, AmbiguousError, BtfError.
    """
    from bpfctl.btf.types import Btf
    from bpfctl.btf.writer import closure, subset

    roots = [0 if name is None else _type_called(btf, name) for name in (key, value)]
    kept = closure(btf, roots)
    ids = {type_id: number for number, type_id in enumerate(sorted(kept), 1)}
    extension = Extension(Btf.from_bytes(subset(btf, kept)))
    sizes = [
        btf.resolve_size(root) if root else size
        for root, size in zip(roots, (wanted.key_size, wanted.value_size), strict=True)
    ]
    key_id, value_id = (
        ids[root] if root else _add_number(extension, size) for root, size in zip(roots, sizes, strict=True)
    )
    typed = wanted._replace(
        key_size=sizes[0], value_size=sizes[1], key_type_id=key_id, value_type_id=value_id
    )
    return typed, extension.blob()


def _type_called(btf: Btf, name: str) -> int:
    """The type of that name, ``struct NAME`` too, that has values."""
    word, _, bare = name.rpartition(" ")
    tag = word if word in ("struct", "union", "enum") else ""
    found: dict[int, int] = {}  # what it comes down to -> the type
    for type_id in named(btf, bare if tag else name):
        kind = btf.kind(type_id)
        if kind in _VALUED and kind.label.startswith(tag):
            found.setdefault(btf.skip_modifiers(type_id), type_id)
    if not found:
        raise NotFoundError(f"no type with values is called {printable(name)}")
    if len(found) > 1:
        raise AmbiguousError(f"{len(found)} types are called {printable(name)}", hint=f"struct {name} is one")
    return next(iter(found.values()))


def _add_number(types: Extension, size: int) -> int:
    """A type for ``size`` bytes of which no more is known; 0 for none."""
    if not size:
        return 0
    if size in (1, 2, 4, 8, 16):
        return types.add(types.string(f"__u{size * 8}"), Kind.INT, size, size * 8)
    byte = types.add(types.string("__u8"), Kind.INT, 1, 8)
    return types.add(0, Kind.ARRAY, 0, byte, byte, size)


def _create(attributes: MapAttributes) -> Fd:
    try:
        return create_map(attributes)
    except OSError as error:
        untyped = attributes.btf_fd and error.errno in (errno.EINVAL, ENOTSUPP)
        hint = _UNTYPED if untyped else None
        raise map_refusal(error, attributes, attributes.name, hint=hint) from error
