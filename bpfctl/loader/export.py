"""Handing the maps of a loaded object to a process that waits on a unix socket."""

from __future__ import annotations

import errno
import os
from types import TracebackType

from bpfctl.errors import BpfctlError, KernelError, NotFoundError, printable
from bpfctl.inventory.imports import check_socket
from bpfctl.kernel import syscall
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import LoadedObject
from bpfctl.objfile.export import MAPS_PER_MESSAGE, ExportMessage, exported_maps, pack_export
from bpfctl.objfile.spec import ObjectSpec

_PATIENCE = 5  # seconds that a reader may keep its queue full


class Exporter:
    """A connection to the process that waits at ``path``; to be made before anything is loaded.

    Raises UsageError, NotFoundError (nobody waits there), KernelError.
    """

    def __init__(self, path: str) -> None:
        check_socket(path)
        self.path = path
        try:
            self._fd = Fd(syscall.system.unix_connect(path, _PATIENCE))
        except OSError as error:
            raise _no_connection(path, error) from error

    def check(self, obj: ObjectSpec) -> None:
        """NotFoundError when ``obj`` has no map: the one who waits would wait for ever."""
        if not exported_maps(list(obj.maps.values())):
            raise NotFoundError(
                f"{obj.path}: nothing to export to {printable(self.path)}: the object defines no map"
            )

    def send(self, loaded: LoadedObject) -> None:
        """Send every map, some 64 at a time.  KernelError when they are not taken."""
        pairs = exported_maps([live.spec for live in loaded.maps.values()])
        status = os.stat(loaded.spec.path)
        for start in range(0, len(pairs), MAPS_PER_MESSAGE):
            part = pairs[start : start + MAPS_PER_MESSAGE]
            maps = tuple(exported for _, exported in part)
            message = ExportMessage(len(pairs), loaded.spec.path, status.st_dev, status.st_ino, maps)
            fds = [loaded.maps[spec.name].fd.number for spec, _ in part]
            try:
                syscall.system.send_descriptors(self._fd.number, pack_export(message), fds)
            except OSError as error:
                raise self._not_sent(error) from error

    def _not_sent(self, error: OSError) -> KernelError:
        what = f"cannot send the maps to {printable(self.path)}"
        if error.errno == errno.EAGAIN:
            return KernelError(f"{what}: nobody reads there", hint="its queue stayed full for 5 s")
        return KernelError(what, call="sendmsg", errno=error.errno or 0)

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fd.close()


def _no_connection(path: str, error: OSError) -> BpfctlError:
    shown = printable(path, 4096)
    waits = f"`bpfctl exec bpf import {shown}` waits for maps there"
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"export: no socket {shown}", hint=waits)
    if error.errno == errno.ECONNREFUSED:
        return NotFoundError(f"export: nobody waits at {shown}", hint=waits)
    if error.errno == errno.EPROTOTYPE:
        return NotFoundError(f"export: {shown} is a socket of another kind", hint=waits)
    return KernelError(f"export: cannot connect to {shown}", call="connect", errno=error.errno or 0)
