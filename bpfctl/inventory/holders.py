"""Who keeps a program or map alive: pins in a bpffs, processes with a descriptor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from bpfctl.inventory.records import Process
from bpfctl.kernel import bpf, bpffs, info, procfs
from bpfctl.kernel.fd import Fd


def iter_pins(kind: str) -> Iterator[tuple[str, int | None]]:
    """(path, id) of all that is pinned in any bpffs of this mount namespace.

    ``kind``: ``prog``, ``map`` or ``link``; the id is None where something else is pinned, or where it
    cannot be opened.
    """
    for mount in bpffs.mounts():
        yield from pins_under(mount, kind)


def pins_under(directory: str, kind: str) -> Iterator[tuple[str, int | None]]:
    """As :func:`iter_pins`, of one directory and those below it."""
    for path in bpffs.iter_pins(directory):
        yield path, _pinned_id(path, kind)


def pins_by_id(kind: str) -> dict[int, list[str]]:
    """Pin paths by id; see :func:`iter_pins`."""
    found = defaultdict(list)
    for path, number in iter_pins(kind):
        if number is not None:
            found[number].append(path)
    return found


def _pinned_id(path: str, kind: str) -> int | None:
    try:
        with Fd(bpf.obj_get(path)) as fd:
            facts = info.fdinfo(fd.number)
    except OSError:
        return None  # gone meanwhile, or another user's
    # A link's fdinfo has the id of its program, but not the type: that pin is the link's.
    return int(facts[f"{kind}_id"]) if f"{kind}_type" in facts else None


def processes_by_id(kind: str) -> dict[int, list[Process]]:
    """Processes by the id of what they hold open; see :func:`bpfctl.kernel.procfs.iter_holders`."""
    found = defaultdict(list)
    for pid, comm, ids in procfs.iter_holders(kind):
        for number in ids:
            found[number].append(Process(pid, comm))
    return found
