"""Programs and maps given a name in the bpffs."""

from __future__ import annotations

import errno

from bpfctl.api.sources import resolved
from bpfctl.errors import KernelError, printable
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.inventory.records import MapInfo
    from bpfctl.loader import Transaction
    from bpfctl.loader.new_map import NewMap


def pin_program(reference: Reference, path: str) -> None:
    """Pin a loaded program at ``path``, which may begin with ``m:`` (iproute2's folder of the bpffs)."""
    from bpfctl.loader import Transaction

    with Transaction() as transaction, open_program(resolved(reference)) as fd:
        pin_new(fd.number, path, transaction)


def pin_map(reference: Reference, path: str) -> None:
    """Pin a map at ``path``, as :func:`pin_program`."""
    from bpfctl.loader import Transaction

    with Transaction() as transaction, open_map(resolved(reference)) as fd:
        pin_new(fd.number, path, transaction)


def create_map(wanted: NewMap, path: str, btf: bytes | None = None) -> MapInfo:
    """Make a map that no object defines, and pin it at ``path``; ``btf``: bytes with its types."""
    from bpfctl.inventory.listing import map_info
    from bpfctl.loader import Transaction
    from bpfctl.loader.new_map import make_map

    with Transaction() as transaction, make_map(wanted, btf) as fd:
        pinned = pin_new(fd.number, path, transaction)
        return map_info(fd.number)._replace(pinned=(pinned,))


def pin_new(fd: int, path: str, transaction: Transaction) -> str:
    """Pin ``fd`` at ``path``, which must be free and may begin with ``m:``; the path in full."""
    from bpfctl.loader.pins import new_pin_path, pin

    path = new_pin_path(path, transaction)
    if not pin(fd, path, transaction):
        what = f"cannot pin to {printable(path, 4096)}"
        raise KernelError(what, call="BPF_OBJ_PIN", errno=errno.EEXIST, hint="another name, or rm it first")
    return path
