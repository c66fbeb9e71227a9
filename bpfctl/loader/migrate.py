"""A pinned map that differs from the object's: a new one, filled from it, takes its place.

In this order, so that a failure anywhere leaves the old map pinned and the old program in service:

    make the new map, load the programs
    copy              the old program goes on counting in the old map
    stage             the new map is pinned beside the old one, under a name of its own
    attach            (whoever called) from now on the new program counts in the new map
    swap              rename(2): the pin leads to the new map
    catch up          what the old program wrote after the copy is added to what the new one wrote since

The last step is for counters of both programs to add up (``merging.py``).
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from bpfctl.btf.reshape import Part, Reshape, parts
from bpfctl.btf.scalars import Codec
from bpfctl.btf.types import Btf
from bpfctl.errors import (
    BpfctlError,
    KernelError,
    Note,
    PinMismatchError,
    TypedValueError,
    printable,
)
from bpfctl.inventory import maptypes
from bpfctl.inventory.batch import Block, Bulk, PartialWriteError
from bpfctl.inventory.compare import changes, split
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.typed import btf_codecs
from bpfctl.kernel import bpf, bpffs, info, syscall
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import LoadedObject, Map
from bpfctl.loader.merging import Merging
from bpfctl.loader.pins import pin
from bpfctl.loader.reuse import Difference, mismatch_table, share_elements
from bpfctl.loader.transaction import Transaction
from bpfctl.objfile.spec import MapSpec
from bpfctl.record import NamedTuple
from bpfctl.uapi import BPF_NOEXIST, MapType, type_name

_SUFFIX = "_bpfctl"  # and the process id: bpffs takes no dots in names
_PASSES = 4  # over the old map; one that is still written to after that has another user
_LRU = frozenset({MapType.LRU_HASH, MapType.LRU_PERCPU_HASH})

Warn = Callable[[str], object]


class MemberPlan(NamedTuple):
    """What becomes of a member: ``part`` is ``key`` or ``value``; the rest as ``FieldChange`` has it."""

    part: str
    field: str
    action: str
    old: str | None
    new: str | None


class Plan(NamedTuple):
    """What ``migrate`` does to one map: ``elements`` that are in it now; ``differences`` of definition.

    ``refused``: why it cannot be done, else None.
    """

    map: str
    pinned: str
    id: int
    elements: int
    differences: tuple[Difference, ...]
    members: tuple[MemberPlan, ...]
    refused: str | None = None


class Migration:
    """From ``old``, the map pinned at ``path``, to ``live``; owns ``old``.  ``btf``: of the object.

    Raises PinMismatchError, with the reason, where nothing can be taken over.
    """

    def __init__(
        self,
        live: Map,
        old: OpenMap,
        path: str,
        differences: list[Difference],
        *,
        btf: Btf | None = None,
        lossy: bool,
    ) -> None:
        self.old = old
        self.path = path
        self.differences = differences
        self.copied = 0
        self.caught = 0
        self.spec: MapSpec = live.spec
        self.new = OpenMap(Fd(os.dup(live.fd.number)))
        self._lossy = lossy
        self._btf = btf
        self._base: list[Block] = []
        self._image = None if live.spec.frozen else live.spec.data
        self._staging = f"{path}{_SUFFIX}{os.getpid()}"
        try:
            if not live.spec.frozen:
                self._check_kinds()
            self._codecs = btf_codecs(old), self._new_codecs()
            self.key = self._reshape("key")
            self.value = self._reshape("value")
        except BaseException:
            self.new.close()
            raise

    @property
    def needed(self) -> bool:
        """Whether old and new differ at all, in definition or types."""
        return bool(self.differences) or not (_stays(self.key) and _stays(self.value))

    def plan(self, refused: BpfctlError | None = None) -> Plan:
        """The plan, in words."""
        shapes = [shape for shape in (self.key, self.value) if shape]
        members = tuple(MemberPlan(shape.what, *c) for shape in shapes for c in shape.changes)
        reason = str(refused) if refused else None
        return Plan(
            self.spec.name, self.path, self.old.id, self.copied, tuple(self.differences), members, reason
        )

    # --- what goes where ---

    def _check_kinds(self) -> None:
        if not share_elements(self.old.map_type, self.new.map_type):
            names = [type_name(MapType, m.map_type) for m in (self.old, self.new)]
            raise self._refusal(f"elements of type {names[0]} cannot go into type {names[1]}")

    def _reshape(self, what: str) -> Reshape | None:
        """How keys or values change; None: bytes for bytes."""
        if self.spec.frozen:
            return None
        at = 0 if what == "key" else 1
        before, after = (codecs[at] for codecs in self._codecs)
        sizes = [getattr(m, f"{what}_size") for m in (self.old, self.new)]
        if before is None or after is None:
            if sizes[0] != sizes[1]:
                side = "the pinned map" if before is None else "the object"
                raise self._refusal(
                    f"the {what} has {sizes[0]} bytes there and {sizes[1]} here, and {side} has no BTF "
                    "that tells its members"
                )
            return None
        shape = Reshape(what, before, after, sys.byteorder)
        if what == "key" and shape.dropped:
            raise self._refusal(f"without {shape.dropped[0]} several keys could become one")
        return shape

    def _new_codecs(self) -> tuple[Codec | None, Codec | None]:
        """Of the new map; the object has types, too, where the kernel takes maps only without."""
        key, value = btf_codecs(self.new)
        spec = self.spec
        if self._btf is None or key or value or not (spec.key_type_id or spec.value_type_id):
            return key, value
        from bpfctl.btf.values import value_codec

        made = [value_codec(self._btf, type_id) for type_id in (spec.key_type_id, spec.value_type_id)]
        fits = [made[0].size == self.new.key_size, made[1].size == self.new.value_size]
        return made[0] if fits[0] else None, made[1] if fits[1] else None

    def check_lossless(self) -> None:
        """PinMismatchError when members would be dropped, and that is not asked for."""
        if self.value and self.value.dropped and not self._lossy:
            names = ", ".join(printable(name) for name in self.value.dropped)
            raise self._refusal(f"the object has no {names}", "`lossy` drops what it does not have")

    def _refusal(self, why: str, hint: str | None = None) -> PinMismatchError:
        return PinMismatchError(
            f"map {printable(self.spec.name)}: what is pinned at {self.path} cannot be migrated: {why}",
            details=mismatch_table(self.differences, "pinned") if self.differences else (),
            hint=hint or f"if nothing needs its contents, remove it with `rm {self.path}`",
        )

    # --- copy ---

    def copy(self, *, write: bool = True) -> None:
        """The first pass; without ``write`` only look whether all fits."""
        if write:
            self.check_lossless()
        if self.spec.frozen:
            return
        target = Bulk(self.new)
        for block in Bulk(self.old).blocks():
            self.copied += block.count
            if self.new.map_type in _LRU and self.copied > self.new.max_entries:
                raise self._refusal(f"it holds more than the {self.new.max_entries} elements that fit")
            converted = self._converted(block)
            if write:
                self._base.append(block)
                self._write(target, converted)
            elif self.copied > self.new.max_entries and self.new.map_type not in maptypes.FIXED:
                raise self._refusal(f"it holds more than the {self.new.max_entries} elements that fit")
        self.check_lossless()

    def _write(self, target: Bulk, block: Block) -> None:
        try:
            target.write(block)
        except PartialWriteError as error:
            with self.new.translated("update"):
                raise error.cause from error

    def _converted(self, block: Block) -> Block:
        old, new = self.old, self.new
        if _stays(self.key) and _stays(self.value) and old.max_entries <= new.max_entries:
            return block
        pairs = []
        for key, value in split(self.old, block):
            if new.map_type in maptypes.FIXED and int.from_bytes(key, sys.byteorder) >= new.max_entries:
                if value.strip(b"\0"):
                    index = int.from_bytes(key, sys.byteorder)
                    raise self._refusal(f"element {index} is not zero, and the object has no room for it")
                continue
            pairs.append(self._pair(key, value))
        return Block(len(pairs), b"".join(k for k, _ in pairs), b"".join(v for _, v in pairs))

    def _pair(self, key: bytes, value: bytes) -> tuple[bytes, bytes]:
        try:
            return self._new_key(key), self._new_value(value)
        except TypedValueError as error:
            hint = f"change it with `bpfctl map update pinned {self.path} ...`, or let the object have room"
            raise self._refusal(f"element with key {key.hex(' ')}: {error}", hint) from error

    def _new_key(self, key: bytes) -> bytes:
        return self.key.convert(key) if self.key else key

    def _new_value(self, value: bytes) -> bytes:
        if self.value is None:
            return value
        old, new = self.old, self.new
        if not old.per_cpu:
            return self.value.convert(value, self._image)
        starts = range(0, len(value), old.stride)
        each = (self.value.convert(value[at : at + old.value_size], self._image) for at in starts)
        return b"".join(one.ljust(new.stride, b"\0") for one in each)

    # --- pins ---

    def stage(self, transaction: Transaction) -> None:
        """Pin the new map beside the old one, so that it can take its name in one step."""
        try:
            _sweep(self.path)
        except OSError as error:
            what = f"cannot remove what another command left beside {self.path}"
            raise KernelError(what, errno=error.errno or 0) from error
        if not pin(self.new.fd, self._staging, transaction):
            raise BpfctlError(f"{self._staging} is in the way", hint=f"rm {self._staging}")
        transaction.staged[self.path] = self._staging

    def swap(self, transaction: Transaction) -> None:
        """The pin leads to the new map; KernelError when somebody else has changed it meanwhile."""
        held = transaction.hold(Fd(os.dup(self.old.fd))).number
        try:
            with Fd(bpf.obj_get(self.path)) as fd:
                found = info.map_info(fd.number).id
            if found != self.old.id:
                raise BpfctlError(f"another command has put map id {found} at {self.path} meanwhile")
            with transaction.step():
                bpffs.rename(self._staging, self.path)
                back = functools.partial(_put_back, held, self._staging, self.path)
                transaction.undo(f"put the old map back at {self.path}", back)
        except OSError as error:
            what = f"cannot put the new map at {self.path}"
            raise KernelError(what, call="rename", errno=error.errno or 0) from error

    # --- catch up ---

    def catch_up(self) -> bool:
        """Bring over what was written into the old map since the copy; False when that does not end."""
        if self.spec.frozen:
            return True
        merging = Merging(self.new, self._parts())
        try:
            for _ in range(_PASSES):
                now = list(Bulk(self.old).blocks())
                count = 0
                with self.new.translated("update"):
                    for key, was, value in changes(self.old, self._base, now):
                        count += self._bring(merging, key, was, value)
                self._base = now
                self.caught += count
                if not count:
                    return True
            return False
        finally:
            merging.close()

    def _parts(self) -> list[Part]:
        return parts(self._codecs[1][1], self.new.value_size)

    def _bring(self, merging: Merging, key: bytes, was: bytes | None, value: bytes | None) -> int:
        """Do to the new map what was done to the old one; 1 if there was something to do."""
        if value is None:
            return self._delete(key, was or b"")
        new_key, new_value = self._pair(key, value)
        if was is None:
            try:
                bpf.map_update(self.new.fd, new_key, new_value, BPF_NOEXIST)
                return 1
            except FileExistsError:
                base = bytes(len(new_value))
        else:
            base = self._new_value(was)
        return merging.merge(new_key, base, new_value)

    def _delete(self, key: bytes, was: bytes) -> int:
        """An element that the new program has not touched goes, too; an LRU's may have been evicted only."""
        if self.old.map_type in _LRU or self.old.map_type in maptypes.FIXED:
            return 0
        new_key, value = self._pair(key, was)
        with suppress(FileNotFoundError):
            if bpf.map_lookup(self.new.fd, new_key, self.new.value_bytes) == value:
                bpf.map_delete(self.new.fd, new_key)
                return 1
        return 0

    def close(self) -> None:
        """Let go of both maps."""
        self._base = []
        self.old.close()
        self.new.close()


def _stays(shape: Reshape | None) -> bool:
    return shape is None or shape.identical


def _put_back(fd: int, staging: str, path: str) -> None:
    bpf.obj_pin(fd, staging)
    bpffs.rename(staging, path)


def _sweep(path: str) -> None:
    """Remove what killed commands left beside ``path``."""
    directory, name = os.path.split(path)
    prefix = name + _SUFFIX
    for entry in os.scandir(directory or "."):
        pid = entry.name.removeprefix(prefix)
        if entry.name != pid and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            bpffs.unpin(entry.path)


# --- for the load ---


def migrations(loaded: LoadedObject) -> list[Migration]:
    """Those of ``loaded`` that are not prepared."""
    return [live.migration for live in loaded.maps.values() if live.migration]


def prepare(loaded: LoadedObject, transaction: Transaction, warn: Warn) -> None:
    """Copy and stage: the last steps before the program is attached; the rest when ``transaction`` ends.

    ``warn`` is told then how many elements that were.
    """
    pending = migrations(loaded)
    for live in loaded.maps.values():
        if live.migration:
            transaction.hold(live.migration)
            live.migration = None
    for migration in pending:
        migration.copy()
    for migration in pending:
        migration.stage(transaction)
    if pending:
        transaction.then(functools.partial(_finish, pending, transaction, warn))


def _finish(pending: list[Migration], transaction: Transaction, warn: Warn) -> None:
    """Swap the pins and catch up, now that the program is attached."""
    for migration in pending:
        migration.swap(transaction)
    with suppress(OSError):  # a kernel without it: then a packet under way may be counted in neither
        syscall.system.membarrier()
    for migration in pending:
        ended = migration.catch_up()
        name, old = printable(migration.spec.name), migration.old.id
        again = f", {migration.caught} of them again after the swap" if migration.caught else ""
        warn(Note(f"map {name}: {migration.copied} elements migrated from map id {old}{again}"))
        if not ended:
            warn(f"map {name}: map id {old} is still written to: another program uses it")
