"""Reusing a pinned map: does it fit the object's definition, and if not, in what."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bpfctl.errors import BpfctlError, KernelError, PinMismatchError, printable
from bpfctl.kernel import bpf, info
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import permission_hint, possible_cpus
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType, ProgramType, flag_names, type_name

# Flags that the kernel adds to a map on its own; they say nothing of the object.
# devmap: kernel/bpf/devmap.c, dev_map_init_map().
KERNEL_FLAGS: dict[int, int] = {MapType.DEVMAP: MapFlag.RDONLY_PROG, MapType.DEVMAP_HASH: MapFlag.RDONLY_PROG}

# Types whose elements mean the same in each other.
MIGRATED: dict[int, str] = {
    MapType.HASH: "hash",
    MapType.LRU_HASH: "hash",
    MapType.PERCPU_HASH: "percpu hash",
    MapType.LRU_PERCPU_HASH: "percpu hash",
    MapType.ARRAY: "array",
    MapType.PERCPU_ARRAY: "percpu array",
    MapType.LPM_TRIE: "lpm trie",
}


class Difference(NamedTuple):
    """One field in which object and pin disagree, as text."""

    field: str
    wanted: str
    pinned: str


def open_pinned_map(path: str, wanted: MapAttributes, name: str) -> tuple[Fd, info.MapInfo] | None:
    """The map pinned at ``path`` if it fits ``wanted``; None when nothing is pinned there.

    Raises PinMismatchError with a table of the differing fields, KernelError when the pin cannot be
    opened, BpfctlError when something else than a map is pinned there.
    """
    fd = open_pin(path)
    if fd is None:
        return None
    try:
        pinned = _map_info(fd, path)
        found = differences(wanted, pinned)
        if found:
            raise _mismatch(name, path, pinned, wanted.map_type, found)
    except BaseException:
        fd.close()
        raise
    return fd, pinned


def open_pin(path: str) -> Fd | None:
    """The map pinned at ``path``, whatever it is like; None when nothing is.  Errors as above."""
    try:
        fd = Fd(bpf.obj_get(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        hint = permission_hint("CAP_BPF") if isinstance(error, PermissionError) else None
        raise KernelError(
            f"cannot open the map pinned at {path}", call="BPF_OBJ_GET", errno=error.errno or 0, hint=hint
        ) from error
    try:
        _map_info(fd, path)
    except BaseException:
        fd.close()
        raise
    return fd


def share_elements(one: int, other: int) -> bool:
    """Whether what is in a map of type ``one`` can go into one of type ``other``, as `migrate` does it."""
    kind = MIGRATED.get(one)
    return kind is not None and kind == MIGRATED.get(other)


def _map_info(fd: Fd, path: str) -> info.MapInfo:
    # A program's descriptor answers the same call with a struct of another shape: ask what it is.
    if "map_type" not in info.fdinfo(fd.number):
        raise BpfctlError(
            f"{path} is a pinned program or link, not a map", hint="remove it, or rename the object's map"
        )
    with reading_pin(path):
        return info.map_info(fd.number)


@contextmanager
def reading_pin(path: str) -> Iterator[None]:
    """A block whose OSError becomes one about the map pinned at ``path``."""
    try:
        yield
    except OSError as error:
        raise KernelError(f"cannot read the map pinned at {path}", errno=error.errno or 0) from error


def differences(wanted: MapAttributes, pinned: info.MapInfo) -> list[Difference]:
    """Fields of ``wanted`` that ``pinned`` does not have; flags that the kernel adds are left out."""
    flags = pinned.map_flags & ~(KERNEL_FLAGS.get(wanted.map_type, 0) & ~wanted.map_flags)
    pairs = (
        ("type", type_name(MapType, wanted.map_type), type_name(MapType, pinned.type)),
        ("key size", str(wanted.key_size), str(pinned.key_size)),
        ("value size", str(wanted.value_size), str(pinned.value_size)),
        ("max entries", str(_kernel_max_entries(wanted)), str(pinned.max_entries)),
        ("flags", _flags_text(wanted.map_flags), _flags_text(flags)),
        ("map extra", hex(wanted.map_extra), hex(pinned.map_extra)),
    )
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def _kernel_max_entries(wanted: MapAttributes) -> int:
    """``max_entries`` as the kernel reports it back.

    An LRU hash with one list per CPU is rounded to a multiple of the possible CPUs, up unless that
    overflows (kernel/bpf/hashtab.c, htab_map_alloc).
    """
    entries = wanted.max_entries
    lru = wanted.map_type in (MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
    if lru and wanted.map_flags & MapFlag.NO_COMMON_LRU:
        cpus = possible_cpus()
        rounded = -(-entries // cpus) * cpus
        return rounded if rounded < 1 << 32 else entries // cpus * cpus
    return entries


def _flags_text(flags: int) -> str:
    return f"{flags:#x} ({', '.join(flag_names(MapFlag, flags))})" if flags else "0"


def _mismatch(
    name: str, path: str, pinned: info.MapInfo, wanted_type: int, found: list[Difference]
) -> PinMismatchError:
    """The error for a pin that does not fit: a table, object against pin, and what to do."""
    hint = f"if nothing needs what is in it, remove the pin with `rm {path}` and run the command again"
    if share_elements(pinned.type, wanted_type):
        hint = (
            "`migrate` at the end of the command makes a new map and takes the contents over, `dry-run` "
            f"shows how; {hint}"
        )
    return PinMismatchError(
        f"map {printable(name)} of the object differs from map id {pinned.id} pinned at {path}",
        details=mismatch_table(found, "pinned"),
        hint=hint,
    )


def mismatch_table(found: list[Difference], other: str) -> tuple[str, ...]:
    """``found`` as lines: the object's value of each field, and the ``other``'s."""
    rows = [Difference("field", "object", other), *found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return tuple(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def check_constants(fd: Fd, path: str, wanted: bytes, name: str) -> None:
    """PinMismatchError when the read-only data pinned at ``path`` is not what the object says.

    The verifier has taken it for constants: to share such a map is to have the same.
    """
    with reading_pin(path):
        pinned = bpf.map_lookup(fd.number, bytes(4), len(wanted))
    if pinned != wanted:
        first = next(at for at, (a, b) in enumerate(zip(pinned, wanted, strict=True)) if a != b)
        raise PinMismatchError(
            f"the constants of map {printable(name)} differ from byte {first} on from those pinned at {path}",
            hint=(
                "`migrate` at the end of the command puts a map with this object's constants in its place; "
                f"or remove it with `rm {path}`, or pin the maps of this object elsewhere"
            ),
        )


def check_owner(fd: Fd, where: str, program_type: int) -> None:
    """A reused program array takes programs of one type only: say so before the kernel says EINVAL."""
    owner = info.fdinfo(fd.number).get("owner_prog_type")
    if owner is not None and int(owner) != program_type:
        held = type_name(ProgramType, int(owner))
        raise KernelError(
            f"the program array {where} holds programs of type {held}, "
            f"this one is of type {type_name(ProgramType, program_type)}",
            call="BPF_PROG_LOAD",
            errno=errno.EINVAL,
            hint="pin the array under another name for this program type",
        )
