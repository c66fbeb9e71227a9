"""A map that no object defines: made as the user says, with types or without, and pinned."""

from __future__ import annotations

from bpfctl.errors import KernelError, printable
from bpfctl.inventory.reference import Reference, open_map
from bpfctl.kernel import bpf, privilege
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.loader.explain import map_create_hint
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapType, type_name


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


def _create(attributes: MapAttributes) -> Fd:
    try:
        return Fd(_create_with_retry(attributes))
    except OSError as error:
        number, a = error.errno or 0, attributes
        raise KernelError(
            f"cannot create {type_name(MapType, a.map_type)} map {printable(a.name)} "
            f"(key {a.key_size}, value {a.value_size}, {a.max_entries} entries, flags {a.map_flags:#x})",
            call="BPF_MAP_CREATE",
            errno=number,
            hint=map_create_hint(number, a.map_type, a.key_size + a.value_size, a.max_entries),
        ) from error


def _create_with_retry(attributes: MapAttributes) -> int:
    try:
        return bpf.map_create(attributes)
    except PermissionError:
        if not privilege.raise_memlock():
            raise
        return bpf.map_create(attributes)
