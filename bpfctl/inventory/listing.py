"""Programs and maps as records: of a descriptor, of a reference, of everything."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress

from bpfctl.errors import KernelError, NotFoundError
from bpfctl.inventory import holders, names
from bpfctl.inventory.records import BtfInfo, MapInfo, ProgramInfo
from bpfctl.inventory.reference import (
    BTF,
    MAP,
    PROGRAM,
    Noun,
    Reference,
    iter_open,
    open_id,
    open_map,
    open_program,
)
from bpfctl.kernel import info
from bpfctl.kernel.fd import Fd
from bpfctl.uapi import MapFlag, MapType, ProgramType, flag_names, type_name

_COUNTED = 1 << 16  # a map of more entries is not counted


def list_programs(*, pins: bool = False, processes: bool = False) -> Iterator[ProgramInfo]:
    """Every loaded program, by rising id.  Needs CAP_SYS_ADMIN (KernelError says so).

    ``pins`` fills ``pinned`` by a walk over bpffs, ``processes`` fills ``pids`` by one over /proc.
    """
    pinned = holders.pins_by_id("prog") if pins else None
    held = holders.processes_by_id("prog") if processes else None
    for fd in iter_open(PROGRAM):
        record = program_info(fd.number)
        yield record._replace(
            pinned=None if pinned is None else tuple(pinned.get(record.id, ())),
            pids=None if held is None else tuple(held.get(record.id, ())),
        )


def list_maps(*, pins: bool = False, processes: bool = False) -> Iterator[MapInfo]:
    """Every map, by rising id; otherwise as :func:`list_programs`."""
    pinned = holders.pins_by_id("map") if pins else None
    held = holders.processes_by_id("map") if processes else None
    users = programs_by_map() if pins else None
    for fd in iter_open(MAP):
        record = map_info(fd.number)
        yield record._replace(
            prog_ids=None if users is None else tuple(users.get(record.id, ())),
            pinned=None if pinned is None else tuple(pinned.get(record.id, ())),
            pids=None if held is None else tuple(held.get(record.id, ())),
        )


def list_btf(number: int | None = None, *, processes: bool = False) -> Iterator[BtfInfo]:
    """Every BTF object, or the one with that id, with the programs and maps that were made with it.

    Needs CAP_SYS_ADMIN.  ``processes`` fills ``pids``.
    """
    programs = _users(PROGRAM, info.prog_info)
    maps = _users(MAP, info.map_info)
    held = holders.processes_by_id("btf") if processes else None
    for fd in iter_open(BTF) if number is None else [open_id(BTF, number)]:
        with fd:
            try:
                facts = info.btf_info(fd.number)
            except OSError as error:
                raise KernelError("cannot read the info of BTF", errno=error.errno or 0) from error
        yield BtfInfo(
            id=facts.id,
            name=facts.name,
            size=facts.size,
            kernel=facts.kernel_btf,
            prog_ids=tuple(programs.get(facts.id, ())),
            map_ids=tuple(maps.get(facts.id, ())),
            pids=None if held is None else tuple(held.get(facts.id, ())),
        )


def _users(noun: Noun, facts_of: Callable[[int], info.ProgInfo | info.MapInfo]) -> dict[int, list[int]]:
    """BTF id -> ids of the programs or maps that have it."""
    users = defaultdict(list)
    for fd in iter_open(noun):
        try:
            facts = facts_of(fd.number)
        except OSError as error:
            raise KernelError(f"cannot read a {noun.word}'s info", errno=error.errno or 0) from error
        if facts.btf_id:
            users[facts.btf_id].append(facts.id)
    return users


def find_program(reference: Reference, *, processes: bool = False) -> ProgramInfo:
    """The program that ``reference`` names, with its pins.  Raises as :func:`open_program`."""
    with open_program(reference) as fd:
        record = program_info(fd.number)
    pids = tuple(holders.processes_by_id("prog").get(record.id, ())) if processes else None
    return record._replace(pinned=tuple(holders.pins_by_id("prog").get(record.id, ())), pids=pids)


def find_map(reference: Reference, *, processes: bool = False, count: bool = False) -> MapInfo:
    """The map that ``reference`` names, with its pins, its programs where this process may list them, and the
    number of its elements where they are few, with ``count`` however many.  Raises as :func:`open_map`.
    """
    with open_map(reference) as fd:
        record = map_info(fd.number)
        record = record._replace(entries=_entries(fd, record, count))
    with suppress(KernelError):
        record = record._replace(prog_ids=tuple(programs_by_map().get(record.id, ())))
    pids = tuple(holders.processes_by_id("map").get(record.id, ())) if processes else None
    return record._replace(pinned=tuple(holders.pins_by_id("map").get(record.id, ())), pids=pids)


def programs_by_map() -> dict[int, list[int]]:
    """Ids of programs by the id of each map that they use; KernelError without CAP_SYS_ADMIN."""
    found: dict[int, list[int]] = defaultdict(list)
    for fd in iter_open(PROGRAM):
        try:
            facts = info.prog_info(fd.number)
        except OSError as error:
            raise KernelError("cannot read a program's info", errno=error.errno or 0) from error
        for number in facts.map_ids:
            found[number].append(facts.id)
    return found


def _entries(fd: Fd, record: MapInfo, count: bool) -> int | None:
    """How many elements there are: every slot of an array, of other maps those that are counted quickly.

    ``count``: those, too, for which the whole map has to be read; None where it cannot be.
    """
    from bpfctl.inventory import maptypes
    from bpfctl.inventory.batch import Bulk
    from bpfctl.inventory.elements import OpenMap

    target = OpenMap(fd)  # which the caller closes
    if target.map_type in maptypes.FIXED:
        return record.max_entries
    if target.map_type in maptypes.KEYLESS | maptypes.WITHOUT_ELEMENTS:
        return None
    if not count and (target.map_type not in maptypes.BY_BUCKET or record.max_entries > _COUNTED):
        return None
    try:
        return sum(block.count for block in Bulk(target).blocks())
    except KernelError:
        return None


def find_program_quietly(reference: Reference) -> ProgramInfo | None:
    """The program without its pins; None when it is gone or this process may not open it."""
    try:
        with open_program(reference) as fd:
            return program_info(fd.number)
    except (KernelError, NotFoundError):
        return None


def program_info(fd: int) -> ProgramInfo:
    """The record of an open program."""
    try:
        facts, more = info.prog_info(fd), info.fdinfo(fd)
    except OSError as error:
        raise KernelError("cannot read a program's info", errno=error.errno or 0) from error
    return ProgramInfo(
        id=facts.id,
        type=type_name(ProgramType, facts.type),
        name=names.full_program_name(fd, facts),
        tag=facts.tag,
        gpl_compatible=facts.gpl_compatible,
        loaded_at=_unix_time(facts.load_time),
        load_time=facts.load_time,
        uid=facts.created_by_uid,
        bytes_xlated=facts.xlated_prog_len,
        jited=facts.jited_prog_len > 0,
        bytes_jited=facts.jited_prog_len,
        bytes_memlock=int(more.get("memlock", 0)),
        map_ids=facts.map_ids,
        btf_id=facts.btf_id,
        run_time_ns=facts.run_time_ns,
        run_cnt=facts.run_cnt,
        recursion_misses=facts.recursion_misses,
        verified_insns=facts.verified_insns,
        ifindex=facts.ifindex,
    )


def link_id(fd: int) -> int:
    """The kernel's id of an open link."""
    try:
        return int(info.fdinfo(fd)["link_id"])
    except (OSError, KeyError) as error:
        raise KernelError("cannot read a link's id", errno=getattr(error, "errno", 0) or 0) from error


def map_info(fd: int) -> MapInfo:
    """The record of an open map."""
    try:
        facts, more = info.map_info(fd), info.fdinfo(fd)
    except OSError as error:
        raise KernelError("cannot read a map's info", errno=error.errno or 0) from error
    return MapInfo(
        id=facts.id,
        type=type_name(MapType, facts.type),
        name=facts.name,
        flags=facts.map_flags,
        flag_names=tuple(flag_names(MapFlag, facts.map_flags)),
        bytes_key=facts.key_size,
        bytes_value=facts.value_size,
        max_entries=facts.max_entries,
        bytes_memlock=int(more.get("memlock", 0)),
        frozen=more.get("frozen") == "1",
        btf_id=facts.btf_id,
        map_extra=facts.map_extra,
        ifindex=facts.ifindex,
        owner_prog_type=_owner(more.get("owner_prog_type")),
    )


def _owner(number: str | None) -> str | None:
    return None if number is None else type_name(ProgramType, int(number))


def _unix_time(since_boot: int) -> int:
    """Unix seconds for nanoseconds of CLOCK_BOOTTIME, which the kernel stamps programs with."""
    return round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot / 1e9)
