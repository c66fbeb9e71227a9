"""What user space may do with a map, by its type (kernel/bpf/*.c, the ``bpf_map_ops`` of each)."""

from __future__ import annotations

from bpfctl.uapi import MapType

PER_CPU = frozenset(
    {
        MapType.PERCPU_HASH,
        MapType.PERCPU_ARRAY,
        MapType.LRU_PERCPU_HASH,
        MapType.PERCPU_CGROUP_STORAGE,
    }
)
HOLDS_MAPS = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})
# Elements are slots with a number: none comes or goes, an empty one cannot be read.
INDEXED = frozenset(
    {
        MapType.ARRAY,
        MapType.PERCPU_ARRAY,
        MapType.PROG_ARRAY,
        MapType.PERF_EVENT_ARRAY,
        MapType.CGROUP_ARRAY,
        MapType.ARRAY_OF_MAPS,
        MapType.DEVMAP,
        MapType.CPUMAP,
        MapType.XSKMAP,
        MapType.SOCKMAP,
        MapType.REUSEPORT_SOCKARRAY,
    }
)
# Of which every slot has a value at all times, and none can be deleted.
FIXED = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
# Their batch look-up goes by bucket: what others delete meanwhile does not lead it astray.
BY_BUCKET = frozenset(
    {
        MapType.HASH,
        MapType.PERCPU_HASH,
        MapType.LRU_HASH,
        MapType.LRU_PERCPU_HASH,
        MapType.HASH_OF_MAPS,
    }
)
QUEUES = frozenset({MapType.QUEUE, MapType.STACK})
KEYLESS = QUEUES | {MapType.BLOOM_FILTER}
# No elements at all that a system call could read.
WITHOUT_ELEMENTS = frozenset({MapType.RINGBUF, MapType.USER_RINGBUF, MapType.ARENA})

# Values mean something on this machine now only: devices, sockets, stacks, cgroups by their numbers.
TRANSIENT = frozenset(
    {
        MapType.DEVMAP,
        MapType.DEVMAP_HASH,
        MapType.XSKMAP,
        MapType.SOCKMAP,
        MapType.SOCKHASH,
        MapType.REUSEPORT_SOCKARRAY,
        MapType.STACK_TRACE,
        MapType.CGROUP_ARRAY,
        MapType.CGROUP_STORAGE,
        MapType.PERCPU_CGROUP_STORAGE,
    }
)


def holds(map_type: int) -> str:
    """What a value stands for: ``map``, ``program``, or ``""`` for plain bytes."""
    if map_type in HOLDS_MAPS:
        return "map"
    return "program" if map_type == MapType.PROG_ARRAY else ""


def value_stride(map_type: int, value_size: int) -> int:
    """Bytes from one CPU's value to the next one's in what the kernel copies."""
    return -(-value_size // 8) * 8 if map_type in PER_CPU else value_size
