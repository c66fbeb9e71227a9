"""What the kernel holds now, as frozen records; the fields are the keys of ``-j``.

Names are bpftool's where it has one.  A field that is None was not asked for and does not appear.
"""

from __future__ import annotations

from bpfctl.record import NamedTuple


class Process(NamedTuple):
    """A process that holds a descriptor: ``comm`` is its command name as the kernel has it."""

    pid: int
    comm: str


class ProgramInfo(NamedTuple):
    """A loaded program.  Sizes in bytes; ``load_time`` in ns since boot, ``loaded_at`` in Unix seconds."""

    id: int
    type: str  # "sched_cls"; a number as text where this version has no name for it
    name: str
    tag: str  # 16 hex digits
    gpl_compatible: bool
    loaded_at: int
    load_time: int
    uid: int
    bytes_xlated: int
    jited: bool
    bytes_jited: int
    bytes_memlock: int
    map_ids: tuple[int, ...]
    btf_id: int  # 0: none
    run_time_ns: int  # counted only while kernel.bpf_stats_enabled or BPF_ENABLE_STATS says so
    run_cnt: int
    recursion_misses: int
    verified_insns: int
    ifindex: int  # 0 unless offloaded or bound to a device
    link_id: int | None = None  # of the link that autoattach made, which is what is pinned
    pinned: tuple[str, ...] | None = None
    pids: tuple[Process, ...] | None = None


class MapInfo(NamedTuple):
    """A map.  Sizes in bytes."""

    id: int
    type: str
    name: str
    flags: int
    flag_names: tuple[str, ...]
    bytes_key: int
    bytes_value: int
    max_entries: int
    bytes_memlock: int
    frozen: bool
    btf_id: int
    map_extra: int
    ifindex: int
    owner_prog_type: str | None = None  # of a program array: the programs that it takes
    entries: int | None = None  # elements that are in it now; None where counting takes long
    prog_ids: tuple[int, ...] | None = None  # programs that use it
    pinned: tuple[str, ...] | None = None
    pids: tuple[Process, ...] | None = None


class BtfInfo(NamedTuple):
    """A BTF object: ``size`` in bytes; ``name`` only of the kernel's and its modules'."""

    id: int
    name: str
    size: int
    kernel: bool
    prog_ids: tuple[int, ...]  # that were loaded with it
    map_ids: tuple[int, ...]
    pids: tuple[Process, ...] | None = None
