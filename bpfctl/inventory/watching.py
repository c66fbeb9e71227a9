"""A map looked at again and again: what changed, and how fast its counters count."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bpfctl.inventory.batch import Block, Bulk
from bpfctl.inventory.compare import Difference, changes
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.typed import Types, total
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class Change(NamedTuple):
    """An element that is not as it was: values by type, None where there is none; per-CPU values added up.

    ``rates``: of each number in it, what it gained a second.
    """

    key: Any
    old: Any
    new: Any
    rates: dict[str, float]


class Watcher:
    """Looks at ``target``; memory for its bytes, not for a Python object each."""

    def __init__(self, target: OpenMap, types: Types) -> None:
        self._target = target
        self._types = types
        self._at = time.monotonic()
        self._seen = self._blocks()

    def look(self) -> Iterator[Change]:
        """What changed since the last look, in the order of the map."""
        before, since = self._seen, self._at
        self._at = time.monotonic()
        self._seen = self._blocks()
        seconds = max(self._at - since, 1e-6)
        for found in changes(self._target, before, self._seen):
            yield self._change(found, seconds)

    def _blocks(self) -> list[Block]:
        return list(Bulk(self._target).blocks())

    def _change(self, found: Difference, seconds: float) -> Change:
        old, new = (None if data is None else self._value(data) for data in (found.old, found.new))
        rates = {}
        if found.new is not None:
            before = dict(numbers(old)) if old is not None else {}
            rates = {
                path: round((number - before.get(path, 0)) / seconds, 1)
                for path, number in numbers(new)
                if number != before.get(path, 0)
            }
        return Change(self._types.key.decode(found.key), old, new, rates)

    def _value(self, data: bytes) -> Any:
        """Of all CPUs together, where that is possible; else a list of theirs."""
        whole = self._types.whole_value(self._target).decode(data)
        if not self._target.per_cpu:
            return whole
        added = total(whole)
        return whole if added is None else added


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a typed value, each with the path of its member."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from numbers(member, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from numbers(member, f"{path}[{index}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, value
