"""struct_ops: the kernel takes a table of programs in place of functions of its own.

A map of section ``.struct_ops`` is registered by writing its value, and stays until its entry is deleted,
open or not.  One of ``.struct_ops.link`` is registered by a link, and goes with it: pin the link to keep it.
"""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Callable

from bpfctl.errors import AlreadyAttachedError, BpfctlError, KernelError, printable
from bpfctl.inventory.listing import link_id
from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import permission_hint
from bpfctl.loader.live import LoadedObject, Map
from bpfctl.loader.transaction import Transaction
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import AttachType, MapFlag

if TYPE_CHECKING:
    from typing import TypeVar

    _T = TypeVar("_T")


_KEY = bytes(4)
_TRIES, _PAUSE = 10, 0.02  # seconds
_UNREGISTER_HINTS = {  # kernel/bpf/bpf_struct_ops.c, bpf_struct_ops_map_delete_elem()
    errno.ENOENT: "it was never registered",
    errno.EINPROGRESS: "it is not registered any more",
    errno.EOPNOTSUPP: "it is registered by a link: detach that",
}


def register(live: Map, transaction: Transaction) -> Fd | None:
    """Hand the table of the loaded struct_ops map ``live`` to the kernel.

    Returns the link of a ``.struct_ops.link`` map, which the caller closes; None for one without, whose
    registration ``transaction`` takes back on failure.  Raises AlreadyAttachedError when the kernel has one
    of that name, KernelError for any other refusal.
    """
    if live.spec.flags & MapFlag.LINK:
        return _link(live)
    value = _value(live)
    with transaction.step():
        _write(live, value)
        transaction.undo(
            f"unregister {live.spec.name}", functools.partial(bpf.map_delete, live.fd.number, _KEY)
        )
    return None


def _link(live: Map) -> Fd:
    _write_once(live, _value(live))
    try:
        return Fd(_patiently(lambda: bpf.link_create(live.fd.number, 0, AttachType.STRUCT_OPS)))
    except OSError as error:
        raise _refusal(live, "BPF_LINK_CREATE", error) from error


def register_links(loaded: LoadedObject, keep: Callable[[int, str], object]) -> dict[str, int]:
    """:func:`register` the struct_ops maps of ``loaded`` that have links; returns the link's id by program.

    ``keep``: called with each link's descriptor and the map's name, to pin it.
    """
    links: dict[str, int] = {}
    for live in _tables(loaded, linked=True):
        with _link(live) as link:
            keep(link.number, live.spec.name)
            links |= dict.fromkeys((f.program for f in live.spec.functions), link_id(link.number))
    return links


def register_unlinked(loaded: LoadedObject, transaction: Transaction) -> None:
    """:func:`register` the others: a command's last step, as no pin tells that it got there."""
    for live in _tables(loaded, linked=False):
        register(live, transaction)


def _tables(loaded: LoadedObject, *, linked: bool) -> list[Map]:
    tables = [loaded.maps[name] for name in loaded.struct_ops]
    return [live for live in tables if bool(live.spec.flags & MapFlag.LINK) is linked]


def replace(link: Fd, live: Map) -> None:
    """Put the table of ``live`` in the place of the one that ``link`` registered, without a gap.

    The kernel swaps tables of one kind and name only.
    """
    _write_once(live, _value(live))
    try:
        bpf.link_update(link.number, live.fd.number)
    except OSError as error:
        raise _refusal(live, "BPF_LINK_UPDATE", error) from error


def unregister(map_fd: int, name: str) -> None:
    """Take back the registration of a map without link; ``name`` is for messages."""
    try:
        bpf.map_delete(map_fd, _KEY)
    except OSError as error:
        what = f"cannot unregister struct_ops map {printable(name)}"
        hint = _UNREGISTER_HINTS.get(error.errno or 0)
        raise KernelError(what, call="BPF_MAP_DELETE_ELEM", errno=error.errno or 0, hint=hint) from error


def _value(live: Map) -> bytes:
    if live.value is None:
        raise BpfctlError(f"map {printable(live.spec.name)} is no struct_ops map loaded by this command")
    return live.value


def _write_once(live: Map, value: bytes) -> None:
    """The value of a map with links; it cannot change after the first time, which is no error."""
    try:
        _write(live, value)
    except KernelError as error:
        if error.errno != errno.EBUSY:
            raise


def _write(live: Map, value: bytes) -> None:
    try:
        _patiently(lambda: bpf.map_update(live.fd.number, _KEY, value))
    except OSError as error:
        raise _refusal(live, "BPF_MAP_UPDATE_ELEM", error) from error


def _patiently(call: Callable[[], _T]) -> _T:
    """Try again a while: the kernel lets go of a name in its own time after the link is gone."""
    for _ in range(_TRIES - 1):
        try:
            return call()
        except FileExistsError:
            time.sleep(_PAUSE)
    return call()


def _refusal(live: Map, call: str, error: OSError) -> KernelError:
    what, number = f"cannot register struct_ops map {printable(live.spec.name)}", error.errno or 0
    if number == errno.EEXIST:
        return AlreadyAttachedError(what, call=call, errno=number, hint="the kernel has one of that name")
    hint = None
    if number == errno.EPERM:
        hint = permission_hint("CAP_BPF", "CAP_NET_ADMIN")
    elif number == errno.EBUSY:
        hint = "it is registered already"
    elif number == errno.EINVAL:
        hint = "a function that the kernel requires is missing, or a value is out of range: see dmesg"
    return KernelError(what, call=call, errno=number, hint=hint)
