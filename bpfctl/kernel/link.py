"""bpf_links: programs that stay attached for as long as a descriptor or a pin holds the link.

What BPF_LINK_CREATE takes behind its first four words differs by attach type: one function for each layout
(``link_create`` in include/uapi/linux/bpf.h).  All return a descriptor that the caller owns.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.syscall import address
from bpfctl.uapi import AttachType, Command

_MULTI_RETURN = 1  # BPF_F_KPROBE_MULTI_RETURN and BPF_F_UPROBE_MULTI_RETURN: where the function returns


def tracing(program_fd: int, attach_type: int) -> int:
    """A link to what the program was loaded for: fentry and its kin, tp_btf, LSM, freplace, iterators."""
    return bpf.link_create(program_fd, 0, attach_type)


def raw_tracepoint_open(program_fd: int, name: str | None) -> int:
    """BPF_RAW_TRACEPOINT_OPEN; ``name`` None where the program itself says the target."""
    text = bytearray(name.encode() + b"\0") if name is not None else bytearray()
    attr = bytearray(struct.pack("=QI4x", address(text), program_fd))
    return syscall.system.bpf(Command.RAW_TRACEPOINT_OPEN, attr)


def perf_event(program_fd: int, event_fd: int, cookie: int = 0) -> int:
    """A link to a perf event, which it keeps open (since Linux 5.15)."""
    options = struct.pack("=Q", cookie)
    return bpf.link_create(program_fd, event_fd, AttachType.PERF_EVENT, options=options)


def kprobe_multi(
    program_fd: int,
    attach_type: int,
    *,
    names: Sequence[str] = (),
    addresses: Sequence[int] = (),
    at_return: bool,
) -> int:
    """One link to many functions of the kernel, by ``names`` or else by ``addresses`` (since Linux 5.18)."""
    texts = [bytearray(name.encode() + b"\0") for name in names]
    count = len(texts) or len(addresses)
    places = bytearray(struct.pack(f"={count}Q", *(map(address, texts) if texts else addresses)))
    by_name, by_address = (address(places), 0) if texts else (0, address(places))
    flags = _MULTI_RETURN if at_return else 0
    options = struct.pack("=2I3Q", flags, count, by_name, by_address, 0)
    return bpf.link_create(program_fd, 0, attach_type, options=options)


def tracing_multi(program_fd: int, attach_type: int, type_ids: Sequence[int]) -> int:
    """One link to many functions of the kernel, by their ids in its BTF (since Linux 7.2)."""
    ids = bytearray(struct.pack(f"={len(type_ids)}I", *type_ids))
    options = struct.pack("=2QI4x", address(ids), 0, len(type_ids))
    return bpf.link_create(program_fd, 0, attach_type, options=options)


def uprobe_multi(
    program_fd: int,
    attach_type: int,
    path: str,
    offsets: Sequence[int],
    *,
    at_return: bool,
    counters: Sequence[int] = (),
    cookies: Sequence[int] = (),
) -> int:
    """One link to many places of the file ``path``, in all processes (since Linux 6.6).

    ``offsets``: bytes from the start of the file; ``counters``: of each place's semaphore, 0 for none;
    ``cookies``: what bpf_get_attach_cookie() returns there.
    """
    name = bytearray(path.encode("utf-8", "surrogateescape") + b"\0")
    places, semaphores, values = (
        bytearray(struct.pack(f"={len(numbers)}Q", *numbers)) for numbers in (offsets, counters, cookies)
    )
    options = struct.pack(
        "=4Q3I4x",
        address(name),
        address(places),
        address(semaphores),
        address(values),
        len(offsets),
        _MULTI_RETURN if at_return else 0,
        0,
    )
    return bpf.link_create(program_fd, 0, attach_type, options=options)
