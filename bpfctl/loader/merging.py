"""Three-way merges into a map: a value as it was copied, as the old program left it, as it is now."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from bpfctl.btf.reshape import Part
from bpfctl.inventory.elements import OpenMap
from bpfctl.kernel import bpf, map_merge

_CLOCK_SLACK = 60 * 10**9  # ns


class Merging:
    """Merges into the map ``target``, whose values have the parts ``found``."""

    def __init__(self, target: OpenMap, found: list[Part]) -> None:
        self._target = target
        self._parts = found
        self._home = map_merge.here()
        self._merger: map_merge.Merger | None = None
        self._tried = False

    def merge(self, key: bytes, base: bytes, theirs: bytes) -> int:
        """Bring what made ``theirs`` of ``base`` into the element; 1 if something changed.

        Counters add up; elsewhere what the new program wrote stays.
        """
        target = self._target
        try:
            now = bpf.map_lookup(target.fd, key, target.value_bytes)
        except FileNotFoundError:
            return 0  # the new program has deleted it
        changed = False
        for cpu in range(target.cpus):
            at = slice(cpu * target.stride, cpu * target.stride + target.value_size)
            add, flip = self._difference(base[at], theirs[at], now[at])
            if not add.strip(b"\0") and not flip.strip(b"\0"):
                continue
            changed = True
            if not self._apply(key, cpu, add, flip):
                now = now[: at.start] + _applied(now[at], add, flip, self._parts) + now[at.stop :]
                bpf.map_update(target.fd, key, now)
        return int(changed)

    def _difference(self, base: bytes, theirs: bytes, now: bytes) -> tuple[bytes, bytes]:
        """What to add, and what bits to turn over."""
        add, flip = bytearray(len(base)), bytearray(len(base))
        for part in self._parts:
            at = slice(part.offset, part.offset + part.size)
            a, b, c = base[at], theirs[at], now[at]
            if a == b:
                continue
            if part.counter and _counts(*(_number(each, part.signed) for each in (a, b, c))):
                grown = _number(b, False) - _number(a, False)
                add[at] = (grown % (1 << part.size * 8)).to_bytes(part.size, sys.byteorder)
            elif a == c:
                flip[at] = bytes(x ^ y for x, y in zip(a, b, strict=True))
        return bytes(add), bytes(flip)

    def _apply(self, key: bytes, cpu: int, add: bytes, flip: bytes) -> bool:
        """By a program, which loses nothing of what others count; False where the kernel cannot do that."""
        if not self._tried:
            self._tried = True
            with suppress(OSError):
                self._merger = self._make()
        if self._merger is None:
            return False
        try:
            if self._target.per_cpu:
                map_merge.on_cpu(cpu)
            self._merger(key, add, flip)
        except OSError:
            return False  # the CPU is offline: nothing counts there
        return True

    def _make(self) -> map_merge.Merger:
        target = self._target
        return map_merge.Merger(
            target.fd,
            target.key_size,
            target.value_size,
            [(part.offset, part.size) for part in self._parts if part.counter],
            [(part.offset, part.size) for part in self._parts if not part.counter],
        )

    def close(self) -> None:
        """Let go of the program, and of the CPU that it ran on."""
        if self._merger:
            self._merger.close()
        if self._target.per_cpu:
            with suppress(OSError):  # the work is done
                map_merge.back_to(self._home)


def _number(data: bytes, signed: bool) -> int:
    return int.from_bytes(data, sys.byteorder, signed=signed)


def _counts(base: int, theirs: int, now: int) -> bool:
    """Whether both sides counted on from ``base``: they grew, and what they hold is no time of day."""
    return theirs > base and now >= base and not (now > base and _is_time(theirs))


def _is_time(number: int) -> bool:
    """Whether ``number`` could come from one of the kernel's clocks a moment ago, in nanoseconds."""
    clocks = (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME)
    return any(abs(number - time.clock_gettime_ns(clock)) < _CLOCK_SLACK for clock in clocks)


def _applied(value: bytes, add: bytes, flip: bytes, found: list[Part]) -> bytes:
    changed = bytearray(x ^ y for x, y in zip(value, flip, strict=True))
    for part in found:
        at = slice(part.offset, part.offset + part.size)
        total = _number(bytes(changed[at]), False) + _number(add[at], False)
        changed[at] = (total % (1 << part.size * 8)).to_bytes(part.size, sys.byteorder)
    return bytes(changed)
