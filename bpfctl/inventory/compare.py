"""Two maps, or a map and a file: which elements differ; and one map's elements into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest

from bpfctl.errors import BpfctlError
from bpfctl.inventory.batch import Block, Bulk
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.transfer import Piece, write_all
from bpfctl.record import NamedTuple


class Difference(NamedTuple):
    """An element that is not the same: ``old`` of the first map, ``new`` of the second, or None."""

    key: bytes
    old: bytes | None
    new: bytes | None


def check_alike(first: OpenMap, second: OpenMap) -> None:
    """BpfctlError unless elements of one could be elements of the other."""
    shapes = [(m.key_size, m.value_size, m.per_cpu, m.holds) for m in (first, second)]
    if shapes[0] != shapes[1]:
        raise BpfctlError(
            f"{first} and {second} are not alike: keys of {first.key_size} and {second.key_size} bytes, "
            f"values of {first.value_size} and {second.value_size}"
        )


def differences(first: OpenMap, second: OpenMap) -> Iterator[Difference]:
    """All of them, as the maps are read; memory does not grow with the maps."""
    yield from _changed(Bulk(first).blocks(), first, second)
    size = first.key_size
    others = Bulk(first)
    for block in Bulk(second).blocks():
        width = second.value_bytes
        for number, old in enumerate(others.look_up(block.keys)):
            if old is None:
                key = block.keys[number * size : (number + 1) * size]
                yield Difference(key, None, block.values[number * width : (number + 1) * width])


def changes(target: OpenMap, before: list[Block], now: list[Block]) -> Iterator[Difference]:
    """What is not as it was, of one map read twice; blocks that are equal cost next to nothing."""
    then: dict[bytes, bytes] = {}
    later: dict[bytes, bytes] = {}
    for one, other in zip_longest(before, now):
        if one != other:
            then.update(split(target, one) if one else ())
            later.update(split(target, other) if other else ())
    for key, value in later.items():
        if then.get(key) != value:
            yield Difference(key, then.get(key), value)
    for key in then.keys() - later.keys():
        yield Difference(key, then[key], None)


def split(target: OpenMap, block: Block) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of ``block``, element by element."""
    width, size = target.key_size, target.value_bytes
    for n in range(block.count):
        yield block.keys[n * width : (n + 1) * width], block.values[n * size : (n + 1) * size]


def _changed(blocks: Iterator[Block], first: OpenMap, second: OpenMap) -> Iterator[Difference]:
    """Elements of the first map that the second has otherwise, or not at all."""
    size, width = first.key_size, first.value_bytes
    others = Bulk(second)
    for block in blocks:
        for number, new in enumerate(others.look_up(block.keys)):
            old = block.values[number * width : (number + 1) * width]
            if old != new:
                yield Difference(block.keys[number * size : (number + 1) * size], old, new)


def differences_from_blocks(first: OpenMap, blocks: Iterator[Block]) -> Iterator[Difference]:
    """Against the elements of a file, each key of which should be there once.

    The keys of the file are kept in memory, to find those of the map that it does not have.
    """
    size, width = first.key_size, first.value_bytes
    bulk = Bulk(first)
    seen: set[bytes] = set()
    for block in blocks:
        for number, old in enumerate(bulk.look_up(block.keys)):
            key = block.keys[number * size : (number + 1) * size]
            new = block.values[number * width : (number + 1) * width]
            seen.add(key)
            if old != new:
                yield Difference(key, old, new)
    for block in bulk.blocks():
        for number in range(block.count):
            key = block.keys[number * size : (number + 1) * size]
            if key not in seen:
                yield Difference(key, block.values[number * width : (number + 1) * width], None)


def copy(
    source: OpenMap, target: OpenMap, *, flags: int = 0, atomic: bool = False, report: Callable[[int], object]
) -> int:
    """Put the elements of ``source`` into ``target``; how many.  What only the target has stays."""
    check_alike(source, target)
    pieces = (Piece(block, lambda number: f"{source}") for block in Bulk(source).blocks())
    return write_all(target, pieces, flags=flags, atomic=atomic, report=report)
