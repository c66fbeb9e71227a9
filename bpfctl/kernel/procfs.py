"""Which processes hold descriptors of programs and maps: a walk over /proc/PID/fd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from bpfctl.kernel import info

_TARGETS = {
    "prog": "anon_inode:bpf-prog",
    "map": "anon_inode:bpf-map",
    "link": "anon_inode:bpf_link",
    "btf": "anon_inode:btf",
}


def iter_holders(kind: str) -> Iterator[tuple[int, str, set[int]]]:
    """(pid, command name, ids) of each process with open descriptors of ``kind``: prog, map, link or btf.

    This process is left out; those of other users are missed without the right to read them.
    """
    own = str(os.getpid())
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if pid == own:
            continue
        with suppress(OSError):
            ids = _held_ids(pid, _TARGETS[kind], f"{kind}_id")
            if ids:
                yield int(pid), _command_name(pid), ids


def _held_ids(pid: str, target: str, field: str) -> set[int]:
    ids = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == target:
                ids.add(int(info.fdinfo(int(fd), pid)[field]))
    return ids


def _command_name(pid: str) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")
