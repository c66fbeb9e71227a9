"""Many elements at once: read in blocks, written in blocks, at the speed of the kernel's batch commands.

Which map knows a batch command only the command says; where it does not, elements are read and written one
by one.  A block is flat bytes, so memory does not grow with the map.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import suppress

from bpfctl.errors import BpfctlError
from bpfctl.inventory import maptypes
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.kernel import bpf, map_batch
from bpfctl.record import NamedTuple

BLOCK_ENTRIES = 16384
_BLOCK_BYTES = 4 << 20  # a block of long values has fewer entries
_TRIES = 64  # without getting anywhere, in a map that changes all the time


class Block(NamedTuple):
    """``keys`` and ``values``: ``count`` of each, one after the other, as the kernel has them."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    keys: bytes
    values: bytes


class PartialWriteError(Exception):
    """``done`` elements of a block went in before ``cause``."""

    def __init__(self, done: int, cause: OSError) -> None:
        super().__init__(str(cause))
        self.done = done
        self.cause = cause


class Bulk:
    """Blocks of a map; reading raises what :class:`OpenMap` does.  What goes meanwhile is left out.

    What others add or change meanwhile may or may not be seen; in a map without batch look-up an element may
    be seen twice when those around it go.
    """

    def __init__(self, target: OpenMap, entries: int = 0) -> None:
        self.target = target
        self._value_bytes = target.value_bytes
        size = max(target.key_size + self._value_bytes, 1)
        self.entries = entries or max(1, min(BLOCK_ENTRIES, _BLOCK_BYTES // size))
        self._reads_batches = self._writes_batches = self._deletes_batches = True

    # --- reading ---

    def blocks(self) -> Iterator[Block]:
        """All elements."""
        with self.target.translated("list"):
            yield from self._by_bucket() if self.target.map_type in maptypes.BY_BUCKET else self._by_key()

    def _by_bucket(self) -> Iterator[Block]:
        """Hash tables: the cursor is the number of a bucket."""
        room = self.entries
        keys, values = self._buffers(room)
        cursor: bytearray | None = None
        following = bytearray(max(self.target.key_size, map_batch.LEAST_CURSOR))
        while True:
            try:
                answer = map_batch.lookup(self.target.fd, cursor, following, keys, values, room)
            except OSError as error:
                if error.errno == errno.ENOSPC and room < self.target.max_entries:
                    room *= 2  # a bucket of more than that
                    keys, values = self._buffers(room)
                    continue
                if cursor is None and map_batch.is_unknown(error):
                    self._reads_batches = False
                    yield from self._by_key()
                    return
                raise
            if answer.count:
                yield self._block(answer.count, keys, values)
            if answer.end:
                return
            cursor, following = following, cursor or bytearray(len(following))

    def _buffers(self, room: int) -> tuple[bytearray, bytearray]:
        return bytearray(room * self.target.key_size), bytearray(room * self._value_bytes)

    def _block(self, count: int, keys: bytearray, values: bytearray) -> Block:
        left, right = count * self.target.key_size, count * self._value_bytes
        return Block(count, bytes(memoryview(keys)[:left]), bytes(memoryview(values)[:right]))

    def _by_key(self) -> Iterator[Block]:
        """Other types: the cursor is the last key.

        When that is deleted, the kernel goes on from the start of the map instead (``get_next_key`` of the
        types).  So it is looked at after each step, and if it is gone, the step is made again from the key
        before it.
        """
        stable = self.target.map_type in maptypes.INDEXED
        trail: list[bytes] = []  # the keys of the last block, the cursor last
        tries = 0
        while True:
            block, end = self._step(trail[-1] if trail else None)
            if not stable and trail and not self._exists(trail[-1]):
                block, end = self._again(trail)
            if block.count:
                tries = 0
                trail = self._split(block.keys)
                yield block
            elif not end:
                tries += 1
                if tries > _TRIES:
                    raise BpfctlError(f"{self.target} changes faster than it can be read")
            if end:
                return

    def _again(self, trail: list[bytes]) -> tuple[Block, bool]:
        """A step from the last key of ``trail`` that is still there, without the keys that came after it."""
        seen = set(trail)
        while trail:
            trail.pop()
            block, end = self._step(trail[-1] if trail else None)
            if not trail or self._exists(trail[-1]):
                return self._without(block, seen), end
        raise AssertionError("the loop ends with an empty trail")

    def _without(self, block: Block, seen: set[bytes]) -> Block:
        size = self._value_bytes
        kept = [(n, key) for n, key in enumerate(self._split(block.keys)) if key not in seen]
        values = b"".join(block.values[n * size : (n + 1) * size] for n, _ in kept)
        return Block(len(kept), b"".join(key for _, key in kept), values)

    def _split(self, keys: bytes) -> list[bytes]:
        size = self.target.key_size
        return [keys[at : at + size] for at in range(0, len(keys), size)]

    def _exists(self, key: bytes) -> bool:
        try:
            bpf.map_lookup(self.target.fd, key, self._value_bytes)
        except FileNotFoundError:
            return False
        return True

    def _step(self, cursor: bytes | None) -> tuple[Block, bool]:
        """The elements after ``cursor``, and whether they are the last."""
        if self._reads_batches:
            keys, values = self._buffers(self.entries)
            start = None if cursor is None else bytearray(cursor.ljust(map_batch.LEAST_CURSOR, b"\0"))
            following = bytearray(max(self.target.key_size, map_batch.LEAST_CURSOR))
            try:
                answer = map_batch.lookup(self.target.fd, start, following, keys, values, self.entries)
            except OSError as error:
                if not map_batch.is_unknown(error):
                    raise
                self._reads_batches = False
            else:
                return self._block(answer.count, keys, values), answer.end
        return self._step_by_element(cursor)

    def _step_by_element(self, cursor: bytes | None) -> tuple[Block, bool]:
        """That a key could be read after its successor was asked for proves that successor right."""
        fd, key_size = self.target.fd, self.target.key_size
        stable = self.target.map_type in maptypes.INDEXED
        keys: list[bytes] = []
        values: list[bytes] = []
        key = bpf.map_get_next_key(fd, cursor, key_size)
        while key is not None and len(keys) < self.entries:
            following = bpf.map_get_next_key(fd, key, key_size)
            try:
                values.append(bpf.map_lookup(fd, key, self._value_bytes))
            except FileNotFoundError:
                if not stable:
                    return Block(len(keys), b"".join(keys), b"".join(values)), False
            else:
                keys.append(key)
            key = following
        return Block(len(keys), b"".join(keys), b"".join(values)), key is None

    # --- writing ---

    def write(self, block: Block, flags: int = 0) -> None:
        """Set the elements of ``block``; PartialWriteError says how many went in.

        Where values stand for maps or programs they are ids.
        """
        if self._writes_batches and not flags and not self.target.holds:
            keys, values = bytearray(block.keys), bytearray(block.values)
            try:
                map_batch.update(self.target.fd, keys, values, block.count)
                return
            except map_batch.BatchError as error:
                if error.done or not map_batch.is_unknown(error):
                    raise PartialWriteError(error.done, error) from error
                self._writes_batches = False
        self._write_by_element(block, flags)

    def _write_by_element(self, block: Block, flags: int) -> None:
        size = self._value_bytes
        keyless = not self.target.key_size
        keys = [b""] * block.count if keyless else self._split(block.keys)
        for number, key in enumerate(keys):
            value = block.values[number * size : (number + 1) * size]
            try:
                if self.target.holds:
                    self._put_id(key, value, flags)
                else:
                    bpf.map_update(self.target.fd, key, value, flags)
            except OSError as error:
                raise PartialWriteError(number, error) from error

    def _put_id(self, key: bytes, value: bytes, flags: int) -> None:
        reference = Reference("id", str(struct.unpack("=I", value)[0]))
        opener = open_map if self.target.holds == "map" else open_program
        with opener(reference) as held:
            bpf.map_update(self.target.fd, key, struct.pack("=I", held.number), flags)

    def delete(self, keys: bytes) -> int:
        """Take these keys out, as far as they are there; how many were."""
        gone = 0
        split = self._split(keys)
        while self._deletes_batches and split:
            try:
                map_batch.delete(self.target.fd, bytearray(b"".join(split)), len(split))
                return gone + len(split)
            except map_batch.BatchError as error:
                if error.errno == errno.ENOENT:  # this one went by another hand; go on behind it
                    gone += error.done
                    split = split[error.done + 1 :]
                elif error.done or not map_batch.is_unknown(error):
                    raise
                else:
                    self._deletes_batches = False
        for key in split:
            with suppress(FileNotFoundError):
                bpf.map_delete(self.target.fd, key)
                gone += 1
        return gone

    def look_up(self, keys: bytes) -> Iterator[bytes | None]:
        """The value of each key, None where there is none."""
        for key in self._split(keys):
            try:
                yield bpf.map_lookup(self.target.fd, key, self._value_bytes)
            except FileNotFoundError:
                yield None


def clear(target: OpenMap) -> int:
    """Delete every element, in arrays set every value to zero; how many there were."""
    if target.map_type in maptypes.QUEUES:
        return _drain(target)
    bulk = Bulk(target)
    count = 0
    if target.map_type in maptypes.FIXED:
        for block in bulk.blocks():
            try:
                bulk.write(block._replace(values=bytes(len(block.values))))
            except PartialWriteError as error:
                with target.translated("clear"):
                    raise error.cause from None
            count += block.count
        return count
    for _ in range(_TRIES):
        gone = 0
        for keys in key_blocks(target, bulk.entries):
            with target.translated("delete from"):
                gone += bulk.delete(keys)
        count += gone
        if not gone:
            break
    return count


def key_blocks(target: OpenMap, entries: int = BLOCK_ENTRIES) -> Iterator[bytes]:
    """Keys alone, also where values cannot be read; the caller may delete what it was given."""
    with target.translated("list"):
        keys: list[bytes] = []
        key = bpf.map_get_next_key(target.fd, None, target.key_size)
        while key is not None:
            keys.append(key)
            key = bpf.map_get_next_key(target.fd, key, target.key_size)
            if len(keys) >= entries or key is None:
                yield b"".join(keys)
                keys.clear()


def _drain(target: OpenMap) -> int:
    count = 0
    with target.translated("take an element out of"):
        while True:
            try:
                bpf.map_lookup_and_delete(target.fd, b"", target.value_size)
            except FileNotFoundError:
                return count
            count += 1
