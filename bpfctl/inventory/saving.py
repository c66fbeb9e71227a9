"""Maps into a file: one, or all that a program uses or that are pinned in a directory."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress

from bpfctl.errors import BpfctlError, KernelError, NotFoundError
from bpfctl.inventory import holders, maptypes
from bpfctl.inventory.batch import Block, Bulk
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.listing import find_program
from bpfctl.inventory.readahead import read_ahead
from bpfctl.inventory.reference import Reference
from bpfctl.inventory.savefile import Header, SavedMap, SaveWriter
from bpfctl.kernel import bpffs, info
from bpfctl.kernel.privilege import possible_cpus
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import ENOTSUPP, MapType, type_name

if TYPE_CHECKING:
    from typing import BinaryIO

_ID = struct.Struct("=I")
_UNREADABLE = (ENOTSUPP, errno.EOPNOTSUPP, errno.ENOSPC)  # look-ups of types that are not for user space


class Saved(NamedTuple):
    """A map that was saved; ``elements`` None where those of its type cannot be carried over."""

    name: str
    type: str
    id: int
    elements: int | None


def maps_of_program(reference: Reference, stack: ExitStack) -> list[OpenMap]:
    """The maps that a program uses, open as long as ``stack``."""
    ids = find_program(reference).map_ids
    if not ids:
        raise NotFoundError(f"program {reference} uses no maps")
    return [stack.enter_context(open_elements(Reference("id", str(number)))) for number in ids]


def maps_under(directory: str, stack: ExitStack) -> list[OpenMap]:
    """The maps that are pinned in ``directory`` of a bpffs, and below."""
    if not bpffs.is_bpffs(directory):
        raise BpfctlError(f"{directory} is no directory of a bpffs")
    found: dict[int, OpenMap] = {}
    for path, number in holders.pins_under(directory, "map"):
        if number is not None and number not in found:
            with suppress(NotFoundError):  # gone meanwhile
                found[number] = stack.enter_context(open_elements(Reference("pinned", path)))
    if not found:
        raise NotFoundError(f"no map is pinned under {directory}")
    return list(found.values())


def maps_at(places: Mapping[str, Sequence[str]], stack: ExitStack) -> tuple[list[OpenMap], list[str]]:
    """The maps that are pinned at ``places``, paths by name, and the names of which none is there."""
    found: dict[int, OpenMap] = {}
    missing = []
    for name, paths in places.items():
        there = [path for path in paths if os.path.lexists(path)]
        for target in [stack.enter_context(open_elements(Reference("pinned", path))) for path in there]:
            found.setdefault(target.id, target)
        if not there:
            missing.append(name)
    return list(found.values()), missing


def with_inner_maps(targets: Sequence[OpenMap], stack: ExitStack) -> list[OpenMap]:
    """``targets`` and the maps that those of them which are maps of maps hold."""
    found = {target.id: target for target in targets}
    for target in targets:
        if target.holds == "map":
            for block in Bulk(target).blocks():
                for (number,) in _ID.iter_unpack(block.values):
                    if number not in found:
                        with suppress(NotFoundError):  # gone meanwhile
                            found[number] = stack.enter_context(open_elements(Reference("id", str(number))))
    return list(found.values())


def save(
    targets: Sequence[OpenMap], file: BinaryIO, report: Callable[[int], object] | None = None
) -> list[Saved]:
    """Write ``targets`` (:func:`with_inner_maps`) to ``file``; what was saved."""
    header = _header(targets)
    writer = SaveWriter(file, header)
    numbers = {target.id: number for number, target in enumerate(targets)}
    saved = []
    for number, target in enumerate(targets):
        count: int | None = None
        if _can_be_carried(target):
            count = 0
            for block in _blocks(target, numbers):
                writer.block(number, block)
                count += block.count
                if report:
                    report(block.count)
        saved.append(Saved(target.name, type_name(MapType, target.map_type), target.id, count))
    writer.end()
    return saved


def _can_be_carried(target: OpenMap) -> bool:
    """Whether elements can be read, without taking them out, and mean the same elsewhere."""
    left_out = maptypes.KEYLESS | maptypes.WITHOUT_ELEMENTS | maptypes.TRANSIENT
    if target.holds == "program" or target.map_type in left_out:
        return False
    try:
        next(Bulk(target, entries=1).blocks(), None)
    except KernelError as error:
        if error.errno in _UNREADABLE:
            return False
        raise
    return True


def _blocks(target: OpenMap, numbers: dict[int, int]) -> Iterator[Block]:
    """Blocks with the numbers of maps in the file in place of their ids."""
    size = target.key_size
    for block in read_ahead(Bulk(target).blocks()):
        if target.holds != "map":
            yield block
            continue
        ids = [number for (number,) in _ID.iter_unpack(block.values)]
        kept = [(n, numbers[number]) for n, number in enumerate(ids) if number in numbers]
        keys = b"".join(block.keys[n * size : (n + 1) * size] for n, _ in kept)
        if kept:
            yield Block(len(kept), keys, b"".join(_ID.pack(number) for _, number in kept))


def _header(targets: Sequence[OpenMap]) -> Header:
    blobs: dict[int, int] = {}  # id of a BTF object -> its number in the file
    data: list[bytes] = []
    pins = holders.pins_by_id("map")
    maps = []
    for target in targets:
        facts = target.facts
        if facts.btf_id and facts.btf_id not in blobs:
            try:
                data.append(info.btf_data(facts.btf_id))
                blobs[facts.btf_id] = len(data) - 1
            except OSError as error:
                what = f"cannot read the types of {target}"
                raise KernelError(what, errno=error.errno or 0) from error
        maps.append(
            SavedMap(
                facts.name,
                facts.type,
                facts.key_size,
                facts.value_size,
                facts.max_entries,
                facts.map_flags,
                facts.map_extra,
                info.fdinfo(target.fd).get("frozen") == "1",
                blobs.get(facts.btf_id),
                facts.btf_key_type_id,
                facts.btf_value_type_id,
                pins.get(facts.id, []),
            )
        )
    return Header(sys.byteorder, possible_cpus(), maps, data)
