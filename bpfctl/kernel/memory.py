"""Memory that a map shares with this process."""

from __future__ import annotations

import os

from bpfctl.kernel import syscall


class Mapping:
    """``size`` bytes of the map ``fd``, mapped at ``address`` (0: where the kernel likes) until ``close``.

    Raises OSError: EEXIST when something else of this process is at ``address``.
    """

    def __init__(self, fd: int, size: int, address: int = 0) -> None:
        self.size = size
        self.address = syscall.system.mmap(fd, size, address)

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at byte ``offset``.

        By a system call, so that a page which the kernel cannot provide is OSError EFAULT, not a signal.
        """
        source = os.memfd_create("bpfctl", os.MFD_CLOEXEC)
        try:
            os.write(source, data)
            done = 0
            while done < len(data):
                done += syscall.system.read_into(source, self.address + offset + done, len(data) - done, done)
        finally:
            os.close(source)

    def close(self) -> None:
        """Unmap it; a second time does nothing."""
        if self.size:
            size, self.size = self.size, 0
            syscall.system.munmap(self.address, size)
