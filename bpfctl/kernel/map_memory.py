"""The memory of an array map that was made with BPF_F_MMAPABLE, seen from this process."""

from __future__ import annotations

from mmap import MAP_SHARED, PAGESIZE, PROT_READ, PROT_WRITE, mmap


def write(fd: int, size: int, offset: int, data: bytes) -> None:
    """Write ``data`` at byte ``offset`` of a map of ``size`` bytes; no other byte is touched.

    Raises OSError: EPERM for a map that is frozen, EINVAL or ENOTSUPP for one that cannot be mapped.
    """
    length = -(-size // PAGESIZE) * PAGESIZE
    with mmap(fd, length, MAP_SHARED, PROT_READ | PROT_WRITE) as memory:
        memory[offset : offset + len(data)] = data
