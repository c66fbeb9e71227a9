"""USDT probes: places in programs and libraries that their authors marked, with arguments.

The program finds its arguments by a record in its object's map ``__bpf_usdt_specs``, whose number is the
cookie of the place (libbpf's usdt.bpf.h).  Cookies and links to perf events came in one release, Linux 5.15,
so that the other map, from instructions to records, is never needed.
"""

from __future__ import annotations

import struct

from bpfctl.attach import perf_link, uprobe
from bpfctl.attach.link_refusals import lacks_feature, refused
from bpfctl.errors import BpfctlError, ObjectFileError, printable
from bpfctl.kernel import bpf, link, probe, syscall
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Map, Program
from bpfctl.objfile.executable import Executable
from bpfctl.objfile.usdt import NOTES, Site, sites
from bpfctl.objfile.usdt_arguments import SIZES, record
from bpfctl.uapi import AttachType

RECORDS = "__bpf_usdt_specs"


def attach(program: Program) -> Fd:
    """The link of ``program`` to all places of FILE:PROVIDER:NAME, in every process that runs FILE."""
    path, provider, name = _parse(program)
    with Executable(path) as binary:
        found = sites(binary, provider, name)
    cookies = _write_records(program, path, found)
    where = f"USDT probe {provider}:{name} in {path} ({len(found)} places)"
    if not probe.UPROBE_MULTI.available():
        if len(found) > 1:
            raise lacks_feature(program, probe.UPROBE_MULTI)
        return _attach_one(program, path, found[0], cookies[0], where)
    try:
        made = link.uprobe_multi(
            program.fd.number,
            AttachType.TRACE_UPROBE_MULTI,
            path,
            [site.offset for site in found],
            at_return=False,
            counters=[site.semaphore for site in found],
            cookies=cookies,
        )
    except OSError as error:
        raise refused(program, where, error, "BPF_LINK_CREATE", uprobe.HINTS) from error
    return Fd(made)


def _attach_one(program: Program, path: str, site: Site, cookie: int, where: str) -> Fd:
    with uprobe.open_event(program, path, site.offset, where, counter=site.semaphore) as event:
        return perf_link.attach(program, event, where, cookie=cookie)


def _parse(program: Program) -> tuple[str, str, str]:
    """FILE, PROVIDER and NAME."""
    words = program.spec.target.rsplit(":", 2)
    if len(words) != 3 or not all(words):
        raise BpfctlError(
            f"program {printable(program.name)}: no USDT probe in section {printable(program.spec.section)}",
            hint="it is FILE:PROVIDER:NAME",
        )
    path, provider, name = words
    return uprobe.find_binary(path), provider, name


def _write_records(program: Program, path: str, found: list[Site]) -> list[int]:
    """The number of each place's record, for which the map gets those that it has not yet."""
    live = program.maps.get(RECORDS)
    if live is None:
        raise BpfctlError(
            f"program {printable(program.name)}: its object has no map {RECORDS} to tell it the arguments by",
            hint="include <bpf/usdt.bpf.h> in its source",
        )
    if live.spec.key_size != 4 or live.spec.value_size not in SIZES:
        raise BpfctlError(
            f"map {RECORDS} has keys of {live.spec.key_size} and values of {live.spec.value_size} bytes, "
            f"not of 4 and {SIZES[0]} or {SIZES[1]} as in libbpf's usdt.bpf.h"
        )
    records: dict[str, bytes] = {}
    for site in found:
        if site.arguments not in records:
            records[site.arguments] = _record(path, site, live.spec.value_size)
    numbers = _numbers(program, live, dict.fromkeys(records.values()))
    return [numbers[records[site.arguments]] for site in found]


def _record(path: str, site: Site, size: int) -> bytes:
    try:
        return record(site.arguments, syscall.machine(), size)
    except ValueError as error:
        raise ObjectFileError(
            printable(str(error)), path=printable(path, 4096), section=NOTES, offset=site.at
        ) from None


def _numbers(program: Program, live: Map, missing: dict[bytes, None]) -> dict[bytes, int]:
    """Where in map ``live`` each record is; those that are not there are put where nothing is."""
    numbers: dict[bytes, int] = {}
    for number in range(live.spec.max_entries):
        if not missing:
            break
        key = struct.pack("=I", number)
        try:
            there = bpf.map_lookup(live.fd.number, key, live.spec.value_size)
            if not any(there):
                there = next(iter(missing))
                bpf.map_update(live.fd.number, key, there)
        except OSError as error:
            raise refused(program, f"map {RECORDS}", error, "BPF_MAP_UPDATE_ELEM") from error
        if there in missing:
            del missing[there]
            numbers[there] = number
    if missing:
        raise BpfctlError(
            f"program {printable(program.name)}: map {RECORDS} is full, with {live.spec.max_entries} entries",
            hint="define BPF_USDT_MAX_SPEC_CNT before including <bpf/usdt.bpf.h>",
        )
    return numbers
