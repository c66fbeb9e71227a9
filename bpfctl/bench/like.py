"""`like`: an operator's own map, as a shape, with the types that could replace it."""

from __future__ import annotations

from bpfctl.bench.shapes import Shape
from bpfctl.errors import BpfctlError, KernelError, NotFoundError, printable
from bpfctl.kernel import bpf, info
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType, type_name

_LONGEST_KEY = 256  # bytes: the key is made on the program's stack
_MOST_ENTRIES = 1 << 22
_INDEX = 4  # bytes of an array's key, which may replace a shorter one

_HASHES = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
_ARRAYS = (MapType.ARRAY, MapType.PERCPU_ARRAY)
_COUNTED = (*_HASHES, MapType.LPM_TRIE)
_KEPT_FLAGS = MapFlag.NO_PREALLOC | MapFlag.NO_COMMON_LRU | MapFlag.NUMA_NODE


class Model(NamedTuple):
    """The map that figures are wanted for; sizes in bytes, ``fill`` of ``max_entries``, 0 to 1."""

    name: str
    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    fill: float = 1.0


def shapes_like(model: Model) -> tuple[Shape, ...]:
    """The map itself, then what could stand in its place: same key and value, another type or list.

    Whether that means the same to the programs is their author's to say.  Raises BpfctlError for a type that
    has no like.
    """
    own = _own_shape(model)
    shapes = [own]
    if own.map_type is MapType.LPM_TRIE:
        shapes.append(_as(own, "hash", MapType.HASH))
    elif own.map_type in _ARRAYS:
        shapes += [_as(own, type_name(MapType, kind), kind) for kind in (*_ARRAYS, MapType.HASH)]
    else:
        shapes += [_as(own, type_name(MapType, kind), kind) for kind in _HASHES]
        shapes.append(_as(own, "hash_no_prealloc", MapType.HASH, MapFlag.NO_PREALLOC))
        shapes.append(_as(own, "lru_hash_no_common", MapType.LRU_HASH, MapFlag.NO_COMMON_LRU))
        if model.key_size <= _INDEX:
            index = own._replace(key_size=_INDEX)
            shapes += [_as(index, type_name(MapType, kind), kind) for kind in _ARRAYS]
    distinct: dict[tuple[MapType, int], Shape] = {}
    for shape in shapes:
        distinct.setdefault((shape.map_type, shape.flags), shape)
    return tuple(distinct.values())


def _own_shape(model: Model) -> Shape:
    what = f"map {printable(model.name)}"
    if model.map_type not in (*_HASHES, *_ARRAYS, MapType.LPM_TRIE):
        kind = type_name(MapType, model.map_type)
        raise BpfctlError(f"{what} is of type {kind}, which nothing is compared with")
    prefix = 4 if model.map_type == MapType.LPM_TRIE else 0
    if not 1 <= model.key_size - prefix <= _LONGEST_KEY:
        raise BpfctlError(f"{what} has keys of {model.key_size} bytes; up to {_LONGEST_KEY} can be measured")
    if model.max_entries > _MOST_ENTRIES:
        raise BpfctlError(
            f"{what} has {model.max_entries} entries; up to {_MOST_ENTRIES} can be measured",
            hint="name smaller ones with sizes",
        )
    flags = model.flags & _KEPT_FLAGS
    return Shape(
        printable(model.name),
        MapType(model.map_type),
        flags & ~MapFlag.NUMA_NODE,
        model.key_size - prefix,
        model.value_size,
    )


def _as(own: Shape, name: str, map_type: MapType, flags: int = 0) -> Shape:
    return own._replace(name=name, map_type=map_type, flags=flags)


def model_of_object(path: str, name: str) -> Model:
    """The map ``name`` of an object file, taken as full; NotFoundError lists those that there are."""
    from bpfctl.objfile import read_object

    maps = read_object(path).maps
    spec = maps.get(name)
    if spec is None:
        listed = ", ".join(map(printable, maps)) or "none"
        raise NotFoundError(
            f"{path}: no map {printable(name)} in the object", hint=f"maps there are: {listed}"
        )
    return Model(
        name, spec.map_type, spec.key_size, spec.value_size, max(spec.max_entries, 1), int(spec.flags)
    )


def model_of_map(fd: int) -> Model:
    """A live map, as full as it is now: its keys are counted.  Raises KernelError."""
    fill = 1.0
    try:
        facts = info.map_info(fd)
        if facts.type in _COUNTED:
            fill = max(_count(fd, facts.key_size, facts.max_entries), 1) / max(facts.max_entries, 1)
    except OSError as error:
        raise KernelError("cannot count the entries of the map", errno=error.errno or 0) from error
    return Model(
        facts.name or f"id {facts.id}",
        facts.type,
        facts.key_size,
        facts.value_size,
        facts.max_entries,
        facts.map_flags,
        fill,
    )


def _count(fd: int, key_size: int, most: int) -> int:
    """Entries of a map that others may be writing to: never more than it can hold."""
    key, count = bpf.map_get_next_key(fd, None, key_size), 0
    while key is not None and count < most:
        count += 1
        key = bpf.map_get_next_key(fd, key, key_size)
    return count
