"""Maps out of a file: into maps that are there, or made anew and pinned."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from bpfctl.errors import BpfctlError, NotFoundError, PinMismatchError, printable
from bpfctl.inventory import maptypes
from bpfctl.inventory.batch import Block
from bpfctl.inventory.elements import OpenMap, open_elements
from bpfctl.inventory.reference import Reference
from bpfctl.inventory.savefile import Header, SavedMap, SaveReader, check_order
from bpfctl.inventory.transfer import Piece, write_all
from bpfctl.loader.new_map import NewMap, make_map
from bpfctl.loader.pins import make_directories, new_pin_path, pin
from bpfctl.loader.reuse import KERNEL_FLAGS
from bpfctl.loader.transaction import Transaction
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType, type_name

_ID = struct.Struct("=I")

# Number in the file of a map of maps -> those of the maps in it, each once, the first one first.
Holdings = dict[int, dict[int, None]]


class Restored(NamedTuple):
    """A map that was restored; ``path`` is its pin, ``made``: it was not there before."""

    name: str
    type: str
    id: int
    path: str | None
    made: bool
    elements: int


class _Target(NamedTuple):
    """Where a saved map goes."""

    map: OpenMap
    path: str | None
    made: bool


def single_map(reader: SaveReader, target: OpenMap) -> None:
    """BpfctlError unless the file has the elements of one map, and ``target`` takes them."""
    if len(reader.header.maps) != 1:
        raise BpfctlError(
            f"the file holds {len(reader.header.maps)} maps", hint="map restore puts all of them in place"
        )
    _check_sizes(reader.header.maps[0], target)


def pieces(reader: SaveReader, name: str, target: OpenMap) -> Iterator[Piece]:
    """The elements of the one map in a file, for ``target``."""
    check_order(name, reader.header)
    done = 0
    for _, block in reader.blocks():
        yield Piece(_for_cpus(block, reader.header, 0, target), _place(name, done))
        done += block.count


def restore_into(reader: SaveReader, name: str, target: OpenMap, report: Callable[[int], object]) -> Restored:
    """The one map of a file into ``target``."""
    single_map(reader, target)
    count = write_all(target, pieces(reader, name, target), report=report)
    return Restored(target.name, type_name(MapType, target.map_type), target.id, None, False, count)


def survey(reader: SaveReader) -> Holdings:
    """Read a file to its end, which finds what is damaged: which maps each map of maps holds."""
    holdings: Holdings = {}
    for number, block in reader.blocks():
        saved = reader.header.maps[number]
        if saved.type in maptypes.HOLDS_MAPS and saved.value_size == _ID.size:
            holdings.setdefault(number, {}).update((held, None) for (held,) in _ID.iter_unpack(block.values))
    return holdings


def restore_all(
    reader: SaveReader,
    name: str,
    directory: str | None,
    holdings: Holdings,
    report: Callable[[int], object],
) -> list[Restored]:
    """Every map of a file, pinned in ``directory`` under its name, or, with None, where it was pinned.

    ``holdings``: from :func:`survey`.  A map that is pinned there already takes the elements if it is as the
    saved one was.  What was made is gone again when a later step fails.
    """
    check_order(name, reader.header)
    header = reader.header
    with ExitStack() as stack, Transaction() as transaction:
        if directory is not None:
            directory = new_pin_path(directory, transaction)
            make_directories(directory, transaction)
        targets: dict[int, _Target] = {}
        for number in _inner_first(header):
            path = _pin_path(header, number, directory, holdings)
            held = [targets[n] for n in holdings.get(number, {}) if n in targets]
            targets[number] = _target(reader, number, path, held, stack, transaction)
        counts = _write(reader, name, targets, report)
        for number, saved in enumerate(header.maps):
            if saved.frozen and targets[number].made:
                targets[number].map.freeze()
        return [
            Restored(t.map.name, type_name(MapType, t.map.map_type), t.map.id, t.path, t.made, counts[number])
            for number, t in sorted(targets.items())
        ]


def _inner_first(header: Header) -> list[int]:
    """Numbers of the maps, those of maps last: they need one of the others for a pattern."""
    return sorted(range(len(header.maps)), key=lambda number: header.maps[number].type in maptypes.HOLDS_MAPS)


def _pin_path(header: Header, number: int, directory: str | None, holdings: Holdings) -> str | None:
    saved = header.maps[number]
    if directory is None:
        if not saved.pins and not any(number in held for held in holdings.values()):
            raise NotFoundError(
                f"map {printable(saved.name)} was not pinned when it was saved",
                hint="restore FILE under DIRECTORY",
            )
        return saved.pins[0] if saved.pins else None
    earlier = sum(other.name == saved.name for other in header.maps[:number])
    base = saved.name.replace(".", "_") or "map"
    return f"{directory}/{base}" + (f"_{earlier + 1}" if earlier else "")


def _target(
    reader: SaveReader,
    number: int,
    path: str | None,
    held: list[_Target],
    stack: ExitStack,
    transaction: Transaction,
) -> _Target:
    saved = reader.header.maps[number]
    if path is not None and os.path.lexists(path):
        there = stack.enter_context(open_elements(Reference("pinned", path)))
        _check_same(saved, there, path)
        return _Target(there, path, False)
    made = stack.enter_context(OpenMap(make_map(_wanted(saved, held), _types(reader.header, saved))))
    if path is not None:
        path = new_pin_path(path, transaction)
        if not pin(made.fd, path, transaction):
            raise BpfctlError(f"{path} was pinned by somebody else meanwhile")
    return _Target(made, path, True)


def _wanted(saved: SavedMap, held: list[_Target]) -> NewMap:
    """``held``: the maps that go into a map of maps; the first one is the pattern that it is made by."""
    inner = None
    if saved.type in maptypes.HOLDS_MAPS:
        if not held:
            raise BpfctlError(
                f"map of maps {printable(saved.name)} was saved empty: it has no pattern to be made by",
                hint="make it with `map create ... inner_map MAP`, and pin it where it was",
            )
        inner = Reference("id", str(held[0].map.id))
    return NewMap(
        saved.type,
        saved.key_size,
        saved.value_size,
        saved.max_entries,
        saved.flags & ~(MapFlag.NUMA_NODE | KERNEL_FLAGS.get(saved.type, 0)),
        saved.name,
        map_extra=saved.map_extra,
        inner=inner,
        key_type_id=saved.key_type_id,
        value_type_id=saved.value_type_id,
    )


def _types(header: Header, saved: SavedMap) -> bytes | None:
    return None if saved.btf is None else header.btf[saved.btf]


def _check_same(saved: SavedMap, there: OpenMap, path: str) -> None:
    facts = there.facts
    fields = [
        ("type", type_name(MapType, saved.type), type_name(MapType, facts.type)),
        ("key size", saved.key_size, facts.key_size),
        ("value size", saved.value_size, facts.value_size),
        ("max entries", saved.max_entries, facts.max_entries),
    ]
    rows = tuple(f"{what}: {old} in the file, {new} there" for what, old, new in fields if old != new)
    if rows:
        raise PinMismatchError(
            f"the map pinned at {printable(path, 4096)} is not as the saved one", details=rows
        )


def _check_sizes(saved: SavedMap, target: OpenMap) -> None:
    if (saved.key_size, saved.value_size) != (target.key_size, target.value_size):
        raise BpfctlError(
            f"{target} has keys of {target.key_size} and values of {target.value_size} bytes, "
            f"the saved map {saved.key_size} and {saved.value_size}"
        )
    if (saved.type in maptypes.PER_CPU) != target.per_cpu:
        raise BpfctlError(f"{target} and the saved map are not both per-CPU maps")


def _write(
    reader: SaveReader, name: str, targets: dict[int, _Target], report: Callable[[int], object]
) -> dict[int, int]:
    """Elements into their maps; those of maps of maps last, when what they hold is complete."""
    counts = dict.fromkeys(targets, 0)
    outer: list[tuple[int, Block]] = []
    frozen = {n for n, t in targets.items() if not t.made and reader.header.maps[n].frozen}
    for number, block in reader.blocks():
        if targets[number].map.holds == "map":
            outer.append((number, block))
        elif number not in frozen:
            _write_block(reader, name, targets[number].map, number, block, counts, report)
    for number, block in outer:
        ids = [_id_of(targets, held, name) for (held,) in _ID.iter_unpack(block.values)]
        values = b"".join(map(_ID.pack, ids))
        _write_block(reader, name, targets[number].map, number, block._replace(values=values), counts, report)
    return counts


def _write_block(
    reader: SaveReader,
    name: str,
    target: OpenMap,
    number: int,
    block: Block,
    counts: dict[int, int],
    report: Callable[[int], object],
) -> None:
    whole = _for_cpus(block, reader.header, number, target)
    counts[number] += write_all(target, [Piece(whole, _place(name, counts[number]))], report=report)


def _id_of(targets: dict[int, _Target], number: int, name: str) -> int:
    if number not in targets:
        raise BpfctlError(
            f"{printable(name, 4096)}: a map of maps holds map {number}, which is not in the file"
        )
    return targets[number].map.id


def _for_cpus(block: Block, header: Header, number: int, target: OpenMap) -> Block:
    """``block`` with a value for each CPU of this machine: those that it has more start at zero."""
    width = header.value_bytes(number)
    if width == target.value_bytes:
        return block
    if width > target.value_bytes:
        raise BpfctlError(
            f"the file has values of {header.cpus} CPUs, this machine {target.cpus}",
            hint="map dump format ndjson shows them",
        )
    values = b"".join(
        block.values[n * width : (n + 1) * width].ljust(target.value_bytes, b"\0") for n in range(block.count)
    )
    return block._replace(values=values)


def _place(name: str, before: int) -> Callable[[int], str]:
    return lambda number: f"{printable(name, 4096)}: element {before + number + 1}"
