"""The maps that are compared: what a type is made with, and what can be done to it."""

from __future__ import annotations

from collections.abc import Iterable

from bpfctl.kernel import bpf
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import missing_capabilities, possible_cpus
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType

LOOKUP, MISS, UPDATE, REINSERT, EVICT, COUNT = "lookup", "miss", "update", "insert+delete", "evict", "count"
OPERATIONS = (LOOKUP, MISS, UPDATE, REINSERT, EVICT, COUNT)

INNER_ENTRIES = 1
MOST_INNER_MAPS = 32  # each update of an outer map waits for the kernel's grace period, 9 to 15 ms

_ARRAYS = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
_LRU = frozenset({MapType.LRU_HASH, MapType.LRU_PERCPU_HASH})
_HASHES = _LRU | {MapType.HASH, MapType.PERCPU_HASH}
_PER_CPU = frozenset({MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH})
_OUTER = {MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS}
_KEYLESS = frozenset({MapType.QUEUE, MapType.STACK, MapType.BLOOM_FILTER})


class Shape(NamedTuple):
    """A kind of map under the name that the table shows; sizes in bytes.

    ``key_size`` of an LPM trie counts the data, without the prefix length in front; of a bloom filter, whose
    keys are its values, it equals ``value_size``.
    """

    name: str
    map_type: MapType
    flags: int = 0
    key_size: int = 4
    value_size: int = 8

    @property
    def is_array(self) -> bool:
        """Keys are the numbers below max_entries."""
        return self.map_type in _ARRAYS or self.map_type is MapType.ARRAY_OF_MAPS

    @property
    def is_lru(self) -> bool:
        """A full map evicts."""
        return self.map_type in _LRU

    @property
    def is_per_cpu(self) -> bool:
        """Each CPU has a value of its own."""
        return self.map_type in _PER_CPU

    @property
    def is_outer(self) -> bool:
        """Values are maps."""
        return self.map_type in _OUTER

    @property
    def is_keyless(self) -> bool:
        """A queue, stack or bloom filter: elements have no key."""
        return self.map_type in _KEYLESS

    @property
    def prefix_size(self) -> int:
        """Bytes in front of the key's data."""
        return 4 if self.map_type is MapType.LPM_TRIE else 0

    def supports(self, operation: str) -> bool:
        """Whether ``operation`` means something for this type."""
        if operation == LOOKUP:
            return True
        if self.is_outer or self.is_keyless:
            return False
        if operation == EVICT:
            return self.is_lru
        if operation in (MISS, REINSERT):
            return not self.is_array
        return True

    def entries(self, wanted: int) -> int:
        """How many entries the map will have when ``wanted`` are asked for."""
        return min(wanted, MOST_INNER_MAPS) if self.is_outer else wanted


def _shape(name: str, map_type: MapType, flags: int = 0) -> Shape:
    return Shape(name, map_type, flags)


# In the order of the article that ranked them; the rest are asked for by name.
SHAPES = {
    shape.name: shape
    for shape in (
        _shape("array", MapType.ARRAY),
        _shape("percpu_array", MapType.PERCPU_ARRAY),
        _shape("hash", MapType.HASH),
        _shape("percpu_hash", MapType.PERCPU_HASH),
        _shape("lru_hash", MapType.LRU_HASH),
        _shape("lru_percpu_hash", MapType.LRU_PERCPU_HASH),
        _shape("lpm_trie", MapType.LPM_TRIE, MapFlag.NO_PREALLOC),
        _shape("hash_no_prealloc", MapType.HASH, MapFlag.NO_PREALLOC),
        _shape("lru_hash_no_common", MapType.LRU_HASH, MapFlag.NO_COMMON_LRU),
        _shape("array_of_maps", MapType.ARRAY_OF_MAPS),
        _shape("hash_of_maps", MapType.HASH_OF_MAPS),
        _shape("queue", MapType.QUEUE),
        _shape("stack", MapType.STACK),
        Shape("bloom", MapType.BLOOM_FILTER, key_size=8),
    )
}
DEFAULT_SHAPES = ("array", "percpu_array", "hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "lpm_trie")
# What the article said of lookups, fastest first.
ARTICLE_ORDER = ("array", "percpu_array", "hash", "percpu_hash", "lru_hash", "lpm_trie")


def by_size(shapes: Iterable[Shape], sizes: Iterable[int]) -> dict[int, list[Shape]]:
    """What is compared at each number of entries, by how many each map will have; the wanted sizes first."""
    groups: dict[int, list[Shape]] = {entries: [] for entries in sizes}
    listed = list(shapes)
    for wanted in list(groups):
        for shape in listed:
            group = groups.setdefault(shape.entries(wanted), [])
            if shape not in group:
                group.append(shape)
    return groups


def create(shape: Shape, entries: int) -> Fd:
    """An empty map with room for ``entries``; raises OSError.

    Hash tables get the seed 0 where that is allowed (CAP_SYS_ADMIN), so that all types and runs have the
    same chains.  A list of each CPU's own holds only its share, so such a map is made that much larger.
    """
    flags = shape.flags
    if shape.map_type in _HASHES and not missing_capabilities("CAP_SYS_ADMIN"):
        flags |= MapFlag.ZERO_SEED
    if shape.flags & MapFlag.NO_COMMON_LRU:
        entries *= possible_cpus()
    wanted = MapAttributes(
        map_type=shape.map_type,
        key_size=0 if shape.is_keyless else shape.key_size + shape.prefix_size,
        value_size=4 if shape.is_outer else shape.value_size,
        max_entries=entries,
        map_flags=flags,
        name="bpfctl_bench",
    )
    if not shape.is_outer:
        return Fd(bpf.map_create(wanted))
    with create(inner_shape(shape), INNER_ENTRIES) as template:
        return Fd(bpf.map_create(wanted._replace(inner_map_fd=template.number)))


def inner_shape(shape: Shape) -> Shape:
    """What a map of maps holds here: arrays of one value."""
    return Shape("array", MapType.ARRAY, value_size=shape.value_size)
