"""Which program types, map types, attach types and helpers the running kernel has: by trying each.

True, False, or None where the kernel (or what guards it) does not let this process find out.  The ways to ask
are those of libbpf's libbpf_probes.c where there is no better one.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from functools import cache

from bpfctl.kernel import bpf, probe_btf, syscall
from bpfctl.kernel.bpf import MapAttributes, ProgAttributes, VerifierLog
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.probe import RETURN_0, call, instructions, no_answer, refusal, refusal_of
from bpfctl.record import NamedTuple
from bpfctl.uapi import ENOTSUPP, AttachType, Command, MapFlag, MapType, ProgramFlag, ProgramType

_LOG_SIZE = 4096  # bytes; the logs of these programs have a few lines

# Types that load with one attach type only; any of those that they know.
_ATTACH_TYPES = {
    ProgramType.CGROUP_SOCK_ADDR: AttachType.CGROUP_INET4_CONNECT,
    ProgramType.CGROUP_SOCKOPT: AttachType.CGROUP_GETSOCKOPT,
    ProgramType.LIRC_MODE2: AttachType.LIRC_MODE2,
    ProgramType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgramType.TRACING: AttachType.TRACE_FENTRY,
    ProgramType.LSM: AttachType.LSM_MAC,
    ProgramType.NETFILTER: AttachType.NETFILTER,
}

# Types that want a target in the kernel's BTF.  Type 1 is none, and the complaint about it comes from code
# that a kernel without the program type lacks.
_COMPLAINTS = {
    ProgramType.TRACING: "attach_btf_id 1 is not a function",
    ProgramType.LSM: "attach_btf_id 1 is not a function",
    ProgramType.EXT: "Cannot replace kernel functions",
}

_TARGETED = {ProgramType.TRACING, ProgramType.LSM, ProgramType.EXT, ProgramType.STRUCT_OPS}

# What the verifier says of a helper that is not there, of any number; and of one for other program types.
# The last was "unknown func" too before Linux 6.10.
_NO_HELPER = (b"invalid func ", b"unknown func ", b"program of this type cannot use helper ")


def _answer(ask: Callable[[], bool]) -> bool | None:
    try:
        return ask()
    except OSError as error:
        return None if no_answer(error) else False


def _attributes(program_type: int, code: bytes, target: int = 0) -> ProgAttributes:
    known = program_type in ProgramType.__members__.values()
    kind = ProgramType(program_type) if known else ProgramType.UNSPEC
    return ProgAttributes(
        program_type,
        code,
        "GPL",
        expected_attach_type=_ATTACH_TYPES.get(kind, 0),
        flags=ProgramFlag.SLEEPABLE if kind is ProgramType.SYSCALL else 0,
        kern_version=_kernel_version(),
        attach_btf_id=target,
    )


def _kernel_version() -> int:
    """What kprobes had to name before Linux 5.0."""
    numbers = [int(part) for part in syscall.release().split("-")[0].split(".") if part.isdecimal()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major << 16 | minor << 8 | min(patch, 255)


def program_type(number: int) -> bool | None:
    """Whether programs of ``enum bpf_prog_type`` ``number`` can be loaded."""
    return _answer(lambda: _program_type(number))


def _program_type(number: int) -> bool:
    complaint = next((text for kind, text in _COMPLAINTS.items() if kind == number), None)
    if complaint:
        log = VerifierLog(1, _LOG_SIZE)
        refused = refusal(lambda: bpf.prog_load(_attributes(number, RETURN_0, 1), log))
        return not refused or complaint in log.text
    refused = refusal(lambda: bpf.prog_load(_attributes(number, RETURN_0)))
    # struct_ops: no operations have that number
    return not refused or (number == ProgramType.STRUCT_OPS and refused == ENOTSUPP)


# --- maps --------------------------------------------------------------------------------------------

_STORAGES = {
    MapType.SK_STORAGE,
    MapType.INODE_STORAGE,
    MapType.TASK_STORAGE,
    MapType.CGRP_STORAGE,
}
_PAGE = 4096  # bytes, as a ring buffer's smallest size on most machines
_OUTER = {MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS}

# (key size, value size, entries, flags) where it is not (4, 4, 1, 0)
_SHAPES: dict[int, tuple[int, int, int, int]] = {
    MapType.STACK_TRACE: (4, 8, 1, 0),
    MapType.LPM_TRIE: (8, 4, 1, MapFlag.NO_PREALLOC),
    MapType.CGROUP_STORAGE: (16, 8, 0, 0),
    MapType.PERCPU_CGROUP_STORAGE: (16, 8, 0, 0),
    MapType.QUEUE: (0, 4, 1, 0),
    MapType.STACK: (0, 4, 1, 0),
    MapType.BLOOM_FILTER: (0, 4, 1, 0),
    MapType.ARENA: (0, 0, 1, MapFlag.MMAPABLE),
    MapType.INSN_ARRAY: (4, 16, 1, 0),
    **{kind: (4, 4, 0, MapFlag.NO_PREALLOC) for kind in _STORAGES},
}


def map_type(number: int) -> bool | None:
    """Whether maps of ``enum bpf_map_type`` ``number`` can be made."""
    return _answer(lambda: _map_type(number))


def _map_type(number: int) -> bool:
    wanted = MapAttributes(number, *_SHAPES.get(number, (4, 4, 1, 0)))
    if number in (MapType.RINGBUF, MapType.USER_RINGBUF):
        wanted = MapAttributes(number, 0, 0, max(_PAGE, syscall.page_size()))
    if number == MapType.STRUCT_OPS:
        wanted = wanted._replace(btf_vmlinux_value_type_id=1)
        return refusal(lambda: bpf.map_create(wanted)) in (0, ENOTSUPP)
    if number in _STORAGES:
        with Fd(bpf.btf_load(probe_btf.integer())) as types:
            typed = wanted._replace(btf_fd=types.number, btf_key_type_id=1, btf_value_type_id=1)
            return not refusal(lambda: bpf.map_create(typed))
    if number in _OUTER:
        with Fd(bpf.map_create(MapAttributes(MapType.HASH, 4, 4, 1))) as inner:
            outer = wanted._replace(inner_map_fd=inner.number)
            return not refusal(lambda: bpf.map_create(outer))
    return not refusal(lambda: bpf.map_create(wanted))


# --- attach types --------------------------------------------------------------------------------------


def attach_type(number: int) -> bool | None:
    """Whether the kernel knows ``enum bpf_attach_type`` ``number``, whatever its configuration allows.

    BPF_PROG_ATTACH looks for the program only when it knows the type of program to look for.  What is
    attached in other ways is known by its name in the kernel's BTF.
    """

    def ask() -> bool | None:
        fields = struct.pack("=iiII", -1, -1, number, 0)
        refused = refusal_of(lambda: syscall.system.bpf(Command.PROG_ATTACH, bytearray(fields)))
        return refused == errno.EBADF or _named(f"BPF_{AttachType(number).name}")

    try:
        return ask()
    except (OSError, ValueError) as error:
        return None if isinstance(error, OSError) and no_answer(error) else False


@cache
def _named(enumerator: str) -> bool | None:
    """Whether a word stands among the names in the kernel's BTF; None without one."""
    from bpfctl.kernel import kernel_btf

    try:
        return kernel_btf.vmlinux().data.find(b"\0" + enumerator.encode() + b"\0") >= 0
    except OSError:
        return None


# --- helpers -------------------------------------------------------------------------------------------


class Target(NamedTuple):
    """What a program can be for, in vmlinux's BTF: a function, or member ``attach_type`` of a struct."""

    btf_id: int
    attach_type: int


def helpers(
    program_type: int, numbers: tuple[int, ...], target: Target | None = None
) -> Iterator[bool | None]:
    """For each of ``numbers``, whether programs of this type may call that helper.

    One load each, of a program that calls it with no arguments: the verifier's first complaint tells whether
    it got as far as looking at them.  ``target``: TRACING, LSM and STRUCT_OPS are made for something; without
    it nothing is known of them.
    """
    if program_type in _TARGETED and target is None:
        yield from [None] * len(numbers)
        return
    code = instructions(call(0), (0x95, 0, 0, 0, 0))
    wanted = _attributes(program_type, code)
    if target:
        wanted = wanted._replace(attach_btf_id=target.btf_id, expected_attach_type=target.attach_type)
    load = bpf.PreparedLoad(wanted, VerifierLog(1, _LOG_SIZE))

    def ask() -> bool:
        load.log[0] = 0
        if not refusal(load):
            return True
        # Without a word from the verifier it was not the helper that is refused.
        said = load.log[: load.log.find(0)]
        return bool(said) and not any(complaint in said for complaint in _NO_HELPER)

    for number in numbers:
        struct.pack_into("=i", load.code, 4, number)
        yield _answer(ask)
