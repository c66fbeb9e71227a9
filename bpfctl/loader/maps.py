"""From MapSpec to a live map: reuse the pinned one or create it, then fill it.

A map that is made here gets its pin last, when it is complete (``load.py``): whoever finds a pin finds
a filled map, and a command that is killed before that leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import struct
from contextlib import ExitStack, closing

from bpfctl.errors import KernelError, NotFoundError, ObjectFileError, printable
from bpfctl.inventory.elements import OpenMap
from bpfctl.kernel import bpf, privilege
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.loader.creation import create_or_lesser, map_refusal
from bpfctl.loader.live import LoadedObject, Map
from bpfctl.loader.pins import NoPins, PinPlan, kernel_map_name
from bpfctl.loader.reuse import (
    MIGRATED,
    check_constants,
    differences,
    open_pin,
    open_pinned_map,
    reading_pin,
)
from bpfctl.objfile.externs import KCONFIG
from bpfctl.objfile.spec import MapOrigin, MapSpec
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import BPF_NOEXIST, MapFlag, MapType

if TYPE_CHECKING:
    from bpfctl.loader.load import LoadRequest
    from bpfctl.loader.struct_ops import FittedMap

MAP_IN_MAP = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
_RINGBUFS = (MapType.RINGBUF, MapType.USER_RINGBUF)
# Types whose create call refuses BTF ids (their map_check_btf is absent: kernel/bpf/syscall.c).
_WITHOUT_BTF = frozenset(
    {
        MapType.PERF_EVENT_ARRAY,
        MapType.CGROUP_ARRAY,
        MapType.STACK_TRACE,
        MapType.ARRAY_OF_MAPS,
        MapType.HASH_OF_MAPS,
        MapType.DEVMAP,
        MapType.DEVMAP_HASH,
        MapType.CPUMAP,
        MapType.XSKMAP,
        MapType.SOCKMAP,
        MapType.SOCKHASH,
        MapType.QUEUE,
        MapType.STACK,
        MapType.ARENA,
    }
)
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


class MapMaker:
    """Makes the maps of one object, but for those that ``request`` gives, and finds its pins by ``plan``."""

    def __init__(self, loaded: LoadedObject, plan: PinPlan | NoPins, request: LoadRequest) -> None:
        self._loaded = loaded
        self._given = {each.name: each for each in request.maps}
        self._plan = plan
        self._ifindex = request.ifindex
        self._request = request

    def make_all(self) -> None:
        """Every map of the object: inner ones first, so that the outer ones can be filled at once."""
        specs = [spec for spec in self._loaded.spec.maps.values() if self._is_made(spec)]
        for spec in (s for s in specs if s.map_type not in MAP_IN_MAP):
            self.make(spec)
        for spec in (s for s in specs if s.map_type in MAP_IN_MAP):
            self.make(spec)
        for outer in self._loaded.maps.values():
            if outer.spec.map_type in MAP_IN_MAP:
                self._fill_outer(outer)

    def _is_made(self, spec: MapSpec) -> bool:
        """Programs that use what is not made are refused one by one, as under libbpf."""
        if spec.origin is MapOrigin.STRUCT_OPS:
            return spec.name in self._loaded.struct_ops
        if spec.origin is MapOrigin.DATA and spec.map_type == MapType.PERCPU_ARRAY:
            return not _lacks("PERCPU_DATA")
        return True

    def make(self, spec: MapSpec) -> None:
        """Make one map, or find it."""
        wanted = self._attributes(spec)
        if spec.name in self._given:
            from bpfctl.loader.given import take

            fd = take(self._given[spec.name], wanted, self._loaded.spec.path)
            self._loaded.maps[spec.name] = Map(spec, fd, reused=True)
            return
        path = self._plan.path(spec)
        if path and self._migrates(path) and self._migrate(spec, wanted, path):
            return
        found = open_pinned_map(self._plan.current(path), wanted, spec.name) if path else None
        try:
            fd = found[0] if found else self._create(spec, wanted)
        except KernelError:
            if spec.origin is MapOrigin.DATA and _lacks("GLOBAL_DATA"):
                return
            raise
        live = Map(spec, fd, path, reused=bool(found))
        self._loaded.maps[spec.name] = live
        if live.reused and path and spec.frozen:
            image = _image(live, self._loaded) or bytes(spec.value_size)
            check_constants(live.fd, path, image, spec.name)
        if spec.map_type == MapType.ARENA:
            from bpfctl.loader.arena import place_arena

            place_arena(live, self._loaded.spec.path)
        elif spec.origin is MapOrigin.DATA and not live.reused:
            _write_data(live, self._loaded)

    def _migrates(self, path: str) -> bool:
        """Whether what is pinned at ``path`` may be replaced, and has not been by this very command."""
        return self._request.migrate and self._plan.current(path) == path

    def _migrate(self, spec: MapSpec, wanted: MapAttributes, path: str) -> bool:
        """Make the map that is to take the place of the one pinned at ``path``; False: that one fits."""
        from bpfctl.loader.migrate import Migration

        pinned = open_pin(path)
        if pinned is None:
            return False
        with ExitStack() as stack, reading_pin(path):
            old = OpenMap(stack.enter_context(pinned))
            found = differences(wanted, old.facts)
            if not found and old.map_type not in MIGRATED:
                return False
            live = Map(spec, stack.enter_context(self._create(spec, wanted)), path)
            migration = Migration(
                live, old, path, found, btf=self._loaded.spec.btf, lossy=self._request.lossy
            )
            stack.enter_context(closing(migration))
            if not migration.needed and not (spec.frozen and self._has_other_constants(live, old)):
                return False
            if spec.origin is MapOrigin.DATA:
                _write_data(live, self._loaded)
            live.migration = migration
            self._loaded.maps[spec.name] = live
            stack.pop_all()
        return True

    def _has_other_constants(self, live: Map, old: OpenMap) -> bool:
        image = _image(live, self._loaded) or bytes(live.spec.value_size)
        return bpf.map_lookup(old.fd, bytes(4), len(image)) != image

    def _attributes(self, spec: MapSpec) -> MapAttributes:
        """What the kernel is asked for, inner map and BTF left out."""
        wanted = MapAttributes(
            map_type=spec.map_type,
            key_size=spec.key_size,
            value_size=spec.value_size,
            max_entries=kernel_max_entries(spec),
            map_flags=spec.flags,
            numa_node=spec.numa_node or 0,
            name=kernel_map_name(spec, self._loaded.spec.path),
            # A perf event array lives on the host even when the rest is offloaded.
            ifindex=0 if spec.map_type == MapType.PERF_EVENT_ARRAY else self._ifindex,
            map_extra=spec.map_extra,
        )
        fitted = self._loaded.struct_ops.get(spec.name)
        return _with_kernel_type(wanted, fitted) if fitted else wanted

    def _create(self, spec: MapSpec, wanted: MapAttributes) -> Fd:
        template = self._inner_template(spec)
        try:
            if template:
                wanted = wanted._replace(inner_map_fd=template.number)
            return create_or_lesser(self._with_btf(spec, wanted))
        except OSError as error:
            raise map_refusal(error, wanted, spec.name, path=self._loaded.spec.path) from error
        finally:
            if template and not self._is_map_of_object(spec.inner):
                template.close()

    def _with_btf(self, spec: MapSpec, wanted: MapAttributes) -> MapAttributes:
        btf = self._loaded.btf
        if btf is not None and spec.origin is MapOrigin.STRUCT_OPS:
            return wanted._replace(btf_fd=btf.number)
        if btf is None or spec.map_type in _WITHOUT_BTF or not (spec.key_type_id or spec.value_type_id):
            return wanted
        return wanted._replace(
            btf_fd=btf.number, btf_key_type_id=spec.key_type_id, btf_value_type_id=spec.value_type_id
        )

    def _is_map_of_object(self, spec: MapSpec | None) -> bool:
        return spec is not None and self._loaded.spec.maps.get(spec.name) is spec

    def _inner_template(self, spec: MapSpec) -> Fd | None:
        """A map of the shape that ``spec`` holds: one of the object's, or one made for the moment."""
        inner = spec.inner
        if inner is None:
            return None
        if self._is_map_of_object(inner):
            if inner.name not in self._loaded.maps:
                self.make(inner)
            return self._loaded.maps[inner.name].fd
        return self._create(inner, self._attributes(inner))

    def _fill_outer(self, outer: Map) -> None:
        """Insert the inner maps; in a reused outer map only where the slot is empty.

        What a control plane put into a pinned map-in-map stays.
        """
        for slot in outer.spec.slots:
            inner = self._loaded.maps.get(slot.target)
            if inner is None:
                raise NotFoundError(f"map {outer.spec.name}: inner map {slot.target} is not in the object")
            key, value = struct.pack("=I", slot.key), struct.pack("=I", inner.fd.number)
            try:
                bpf.map_update(outer.fd.number, key, value, _slot_flags(outer, key))
            except FileExistsError:
                continue
            except OSError as error:
                raise self._insert_error(outer, slot.key, inner, error) from error

    def _insert_error(self, outer: Map, key: int, inner: Map, error: OSError) -> KernelError:
        entries, path = outer.spec.max_entries, self._loaded.spec.path
        if error.errno == errno.E2BIG:
            hint = f"the outer map has {entries} entries, so slot {key} is out of range"
        else:
            hint = "inner maps must have the type, sizes and flags of the outer map's template"
        return KernelError(
            f"{path}: cannot put map {inner.spec.name} into slot {key} of {outer.spec.name}",
            call="BPF_MAP_UPDATE_ELEM",
            errno=error.errno or 0,
            hint=hint,
        )


def _with_kernel_type(wanted: MapAttributes, fitted: FittedMap) -> MapAttributes:
    """A struct_ops map has the size and type of the kernel's value."""
    wanted = wanted._replace(
        value_size=len(fitted.value.data), btf_vmlinux_value_type_id=fitted.value.value_type_id
    )
    if fitted.btf is None:
        return wanted
    return wanted._replace(
        map_flags=wanted.map_flags | MapFlag.VTYPE_BTF_OBJ_FD, value_type_btf_obj_fd=fitted.btf.number
    )


def _slot_flags(outer: Map, key: bytes) -> int:
    """Flags of the update: arrays know no BPF_NOEXIST, so look whether a reused one is occupied."""
    if not outer.reused:
        return 0
    if outer.spec.map_type == MapType.HASH_OF_MAPS:
        return BPF_NOEXIST
    try:
        bpf.map_lookup(outer.fd.number, key, 4)
    except FileNotFoundError:
        return 0
    raise FileExistsError(errno.EEXIST, "slot is occupied")


def _lacks(feature: str) -> bool:
    """Whether the kernel is known to lack ``feature`` of kernel/probe.py."""
    from bpfctl.kernel import probe

    lacking: bool = getattr(probe, feature).missing()
    return lacking


def kernel_max_entries(spec: MapSpec) -> int:
    """``max_entries`` with the defaults that depend on the machine.

    A perf event array of 0 gets one entry per possible CPU; a ring buffer's size in bytes becomes a
    power of two of whole pages.
    """
    entries = spec.max_entries
    if spec.map_type == MapType.PERF_EVENT_ARRAY and entries == 0:
        return privilege.possible_cpus()
    if spec.map_type in _RINGBUFS and 0 < entries <= 1 << 31:
        return max(_PAGE_SIZE, 1 << (entries - 1).bit_length())
    return entries


def _image(live: Map, loaded: LoadedObject) -> bytes | None:
    """What a data section begins with; None: zero."""
    return loaded.config if live.spec.name == KCONFIG else live.spec.data


def _write_data(live: Map, loaded: LoadedObject) -> None:
    """Put a data section's image into its map, and freeze it if it is read-only.

    Before any program is loaded: only then the verifier takes the values as constants.
    """
    data = _image(live, loaded)
    try:
        if data and any(data):
            copies = privilege.possible_cpus() if live.spec.map_type == MapType.PERCPU_ARRAY else 1
            bpf.map_update(live.fd.number, bytes(4), data * copies)
        if live.spec.frozen:
            bpf.map_freeze(live.fd.number)
    except OSError as error:
        raise KernelError(
            f"{loaded.spec.path}: cannot initialise the map of section {live.spec.section}",
            call="BPF_MAP_UPDATE_ELEM",
            errno=error.errno or 0,
        ) from error


def check_definition(spec: MapSpec, path: str, *, relaxed: bool = False) -> None:
    """ObjectFileError for a definition that no kernel accepts; said before anything is created.

    ``relaxed``: unknown members of it are none of our business.
    """
    if spec.map_type == MapType.ARENA:
        from bpfctl.loader.arena import check_arena

        check_arena(spec, path)
    if spec.map_type == MapType.UNSPEC:
        reason = "map type is 0"
    elif spec.max_entries == 0 and spec.map_type in _COUNTED:
        reason = "max_entries is 0"
    elif unknown_members(spec) and not relaxed:
        reason = f"unknown member {printable(unknown_members(spec)[0])}"
    else:
        return
    raise ObjectFileError(
        f"map {printable(spec.name)}: {reason}", path=path, section=spec.section, offset=spec.offset
    )


def unknown_members(spec: MapSpec) -> tuple[str, ...]:
    """Members of the definition, and of its inner map's, that say nothing to us."""
    return spec.unknown_members + (spec.inner.unknown_members if spec.inner else ())


_COUNTED = frozenset(
    {
        MapType.HASH,
        MapType.ARRAY,
        MapType.PROG_ARRAY,
        MapType.PERCPU_HASH,
        MapType.PERCPU_ARRAY,
        MapType.LRU_HASH,
        MapType.LRU_PERCPU_HASH,
        MapType.LPM_TRIE,
        MapType.ARRAY_OF_MAPS,
        MapType.HASH_OF_MAPS,
        MapType.QUEUE,
        MapType.STACK,
        MapType.RINGBUF,
    }
)
