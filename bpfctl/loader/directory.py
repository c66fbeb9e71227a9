"""A directory of pins that is there with all of them, or not at all.

Pins are made one after the other.  So that nobody finds half of them, also when the command is killed, they
are made in a directory of another name, which is renamed when it is complete.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bpfctl.errors import KernelError, printable
from bpfctl.kernel import bpffs
from bpfctl.loader.pins import make_directories
from bpfctl.loader.transaction import Transaction

_SUFFIX = "_bpfctl"  # and the process id: bpffs takes no dots in names


@contextmanager
def pin_directory(path: str, transaction: Transaction) -> Iterator[str]:
    """The directory to pin into, which is at ``path`` when the block ends.

    One that is there already, with whatever is in it, is used as it is.  Raises BpfctlError for a place that
    is not on a bpffs, KernelError when the directory cannot be made.
    """
    path = path.rstrip("/") or "/"
    if os.path.isdir(path):
        make_directories(path, transaction)
        yield path
        return
    parent, name = os.path.split(path)
    make_directories(parent or ".", transaction)
    _sweep(parent or ".", name + _SUFFIX)
    staging = f"{path}{_SUFFIX}{os.getpid()}"
    make_directories(staging, transaction)
    yield staging
    with transaction.step():
        try:
            bpffs.rename(staging, path)
        except OSError as error:
            what = f"cannot make {printable(path, 4096)}"
            raise KernelError(what, call="rename", errno=error.errno or 0) from error
        transaction.undo(f"rename {path}", functools.partial(bpffs.rename, path, staging))


def _sweep(parent: str, prefix: str) -> None:
    """Remove what killed commands left of their work on the same directory."""
    for entry in os.scandir(parent):
        pid = entry.name.removeprefix(prefix)
        if entry.name != pid and pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            for pin in os.scandir(entry.path):
                bpffs.unpin(pin.path)
            bpffs.remove_directory(entry.path)
