"""Putting a program into a slot of a pinned program array, while programs that jump there run."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable

from bpfctl.errors import BpfctlError, KernelError, printable
from bpfctl.inventory.reference import Reference, open_map
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.loader.reuse import check_owner
from bpfctl.loader.transaction import Transaction
from bpfctl.uapi import Command, MapType, type_name


class PinnedArray:
    """The program array pinned at ``path``; to be opened before the program is loaded.

    Raises NotFoundError, BpfctlError for another kind of map, KernelError.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.shown = printable(path, 4096)
        self.fd = open_map(Reference("pinned", path))
        facts = info.map_info(self.fd.number)
        self.slots = facts.max_entries
        if facts.type != MapType.PROG_ARRAY:
            self.fd.close()
            kind = type_name(MapType, facts.type)
            raise BpfctlError(f"{self.shown} is a map of type {kind}, not a program array")

    def put(self, key: int, program_fd: int, transaction: Transaction) -> None:
        """Fill slot ``key``, in one step of the kernel's; ``transaction`` knows what it held before."""
        if key >= self.slots:
            raise BpfctlError(f"{self.shown} has no slot {key}", hint=f"its slots are 0 to {self.slots - 1}")
        check_owner(self.fd, self.path, info.prog_info(program_fd).type)
        restore = slot_restorer(self.fd.number, key, transaction)
        with transaction.step():
            try:
                bpf.map_update(self.fd.number, struct.pack("=I", key), struct.pack("=I", program_fd))
            except OSError as error:
                raise self._refused(key, error) from error
            transaction.undo(f"restore slot {key} of {self.shown}", restore)

    def _refused(self, key: int, error: OSError) -> KernelError:
        what = f"cannot put the program into slot {key} of {self.shown}"
        hint = None
        if error.errno == errno.EINVAL:
            hint = "all programs of an array have one type, one attach type, and are all compiled or all not"
        return KernelError(what, call="BPF_MAP_UPDATE_ELEM", errno=error.errno or 0, hint=hint)

    def __enter__(self) -> PinnedArray:
        return self

    def __exit__(self, *_: object) -> None:
        self.fd.close()


def slot_restorer(array_fd: int, key: int, transaction: Transaction) -> Callable[[], None]:
    """A call that puts back what slot ``key`` of a program array holds now.

    The transaction holds the old program open: the slot may have been its last user.
    """
    packed = struct.pack("=I", key)
    own = transaction.hold(Fd(os.dup(array_fd)))
    try:
        program_id = struct.unpack("=I", bpf.map_lookup(own.number, packed, 4))[0]
        old = transaction.hold(Fd(bpf.get_fd_by_id(Command.PROG_GET_FD_BY_ID, program_id)))
    except FileNotFoundError:
        return lambda: bpf.map_delete(own.number, packed)
    return lambda: bpf.map_update(own.number, packed, struct.pack("=I", old.number))
