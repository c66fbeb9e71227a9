"""Programs lent to a child process, in file systems that are mounted nowhere.

The child finds each under a path below /proc/self/fd.  Nobody else does, and nothing stays behind, however
the two of them end.
"""

from __future__ import annotations

from types import TracebackType

from bpfctl.errors import KernelError
from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.fd import Fd


class Shelf:
    """A bpffs for the programs, and a tmpfs for their names: links, since bpffs takes no name with a dot.

    KernelError where file systems cannot be made.
    """

    def __init__(self) -> None:
        self._pins = _new_file_system("bpf")
        try:
            self._names = _new_file_system("tmpfs")
        except BaseException:
            self._pins.close()
            raise
        self._count = 0

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors that the child has to have under the same numbers."""
        return self._pins.number, self._names.number

    def put(self, program_fd: int, name: str) -> str:
        """The path under which the child finds the program; it ends in ``name``, of 255 bytes at most."""
        pin = f"/proc/self/fd/{self._pins.number}/{self._count}"
        directory = f"/proc/self/fd/{self._names.number}/{self._count}"
        try:
            bpf.obj_pin(program_fd, pin)
            syscall.system.mkdir(directory, 0o700)
            syscall.system.symlink(pin, f"{directory}/{name}")
        except OSError as error:
            raise _refusal("pin", error) from error
        self._count += 1
        return f"{directory}/{name}"

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pins.close()
        self._names.close()


def _new_file_system(kind: str) -> Fd:
    try:
        with Fd(syscall.system.fsopen(kind)) as making:
            syscall.system.fsconfig_create(making.number)
            return Fd(syscall.system.fsmount(making.number))
    except OSError as error:
        raise _refusal("fsopen", error) from error


def _refusal(call: str, error: OSError) -> KernelError:
    return KernelError("cannot lend the program to the tool", call=call, errno=error.errno or 0)
