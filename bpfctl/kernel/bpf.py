"""bpf(2), one function per command, spelled as the kernel does (BPF_PROG_LOAD: ``prog_load``).

Layouts are those of ``union bpf_attr`` in include/uapi/linux/bpf.h, Linux 6.18.  A kernel that knows
fewer fields accepts the longer attribute as long as what it does not know is zero.  Functions that
return a descriptor return a plain ``int`` which the caller owns.  All raise ``OSError``.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from bpfctl.kernel import syscall
from bpfctl.kernel.syscall import address
from bpfctl.record import NamedTuple
from bpfctl.uapi import BPF_OBJ_NAME_LEN, Command

_MAP_CREATE = struct.Struct("=7I16s5IQii")
_PROG_LOAD = struct.Struct("=2I2Q2IQ2I16s4IQ2IQ4I2Q2Ii4x")
_BTF_LOAD = struct.Struct("=2Q4IIi")
_TEST_RUN = struct.Struct("=4I2Q4I2Q3I4x")
_ELEM = struct.Struct("=I4x3Q")
_OBJ = struct.Struct("=Q2Ii4x")
_ID = struct.Struct("=3I")
_INFO = struct.Struct("=2IQ")

_PROG_LOAD_FUNC_INFO_SIZE = 76  # offsets: func_info_rec_size, line_info_rec_size, log_true_size
_PROG_LOAD_LINE_INFO_SIZE = 92
_PROG_LOAD_TRUE_SIZE = 140
_BTF_LOAD_TRUE_SIZE = 28
_PROG_LOAD_TRIES = 5  # the kernel answers EAGAIN when a signal interrupts the verifier


def object_name(name: str) -> bytes:
    """``name`` as the kernel takes it: 15 bytes of letters, digits, ``_`` and ``.``; others become ``_``."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)
    return clean.encode()[: BPF_OBJ_NAME_LEN - 1]


class MapAttributes(NamedTuple):
    """What BPF_MAP_CREATE is given.  Sizes in bytes; fds and ids 0 when absent."""

    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int = 0
    inner_map_fd: int = 0
    numa_node: int = 0
    name: str = ""
    ifindex: int = 0
    btf_fd: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    btf_vmlinux_value_type_id: int = 0
    map_extra: int = 0
    value_type_btf_obj_fd: int = 0


def map_create(attributes: MapAttributes) -> int:
    """BPF_MAP_CREATE: a new map's fd."""
    fields = attributes._replace(name=object_name(attributes.name))  # type: ignore[arg-type]
    return syscall.system.bpf(Command.MAP_CREATE, bytearray(_MAP_CREATE.pack(*fields, 0)))


class ProgAttributes(NamedTuple):
    """What BPF_PROG_LOAD is given.

    ``code``: 8 bytes an instruction slot.  ``func_info``/``line_info``: records of the size that
    stands beside them.
    """

    prog_type: int
    code: bytes
    license: str
    name: str = ""
    expected_attach_type: int = 0
    flags: int = 0
    kern_version: int = 0
    ifindex: int = 0
    btf_fd: int = 0
    func_info: bytes = b""
    func_info_size: int = 0
    line_info: bytes = b""
    line_info_size: int = 0
    attach_btf_id: int = 0
    attach_fd: int = 0  # attach_prog_fd or attach_btf_obj_fd
    fd_array: tuple[int, ...] = ()


class VerifierLog:
    """The kernel's log of one load: ``level`` (bits 1, 2, 4), ``size`` of the buffer in bytes.

    After the call ``text`` holds what was written and ``true_size`` what would have been needed
    (bytes; 0 before Linux 6.4).
    """

    def __init__(self, level: int, size: int) -> None:
        self.level = level
        self.size = size
        self.text = ""
        self.true_size = 0

    def _take(self, buffer: bytearray, true_size: int) -> None:
        end = buffer.find(0)
        self.text = buffer[: end if end >= 0 else None].decode("utf-8", "replace")
        self.true_size = true_size


def prog_load(attributes: ProgAttributes, log: VerifierLog | None = None) -> int:
    """BPF_PROG_LOAD: a new program's fd; EAGAIN is tried again, as libbpf does.

    ENOSPC with a log means that the buffer was too small; see ``VerifierLog.true_size``.
    """
    load = PreparedLoad(attributes, log)
    try:
        return load()
    except OSError as error:
        if error.errno != errno.E2BIG or not load.shorten_records():
            raise
        return load()
    finally:
        if log:
            log._take(load.log, load.true_size)


class PreparedLoad:
    """A BPF_PROG_LOAD, to be called once or, with other bytes in ``code`` each time, often.

    ``code`` and ``log``: the buffers that the kernel reads and writes; they keep their length.
    """

    def __init__(self, attributes: ProgAttributes, log: VerifierLog | None = None) -> None:
        a = attributes
        self.code, license_ = bytearray(a.code), bytearray(a.license.encode() + b"\0")
        func_info, line_info = bytearray(a.func_info), bytearray(a.line_info)
        fds = bytearray(struct.pack(f"={len(a.fd_array)}i", *a.fd_array))
        self.log = bytearray(log.size if log else 0)
        self._held = (license_, fds)
        self._records = (
            (_PROG_LOAD_FUNC_INFO_SIZE, func_info, a.func_info_size),
            (_PROG_LOAD_LINE_INFO_SIZE, line_info, a.line_info_size),
        )
        self._attr = bytearray(
            _PROG_LOAD.pack(
                a.prog_type,
                len(self.code) // 8,
                address(self.code),
                address(license_),
                log.level if log else 0,
                len(self.log),
                address(self.log),
                a.kern_version,
                a.flags,
                object_name(a.name),
                a.ifindex,
                a.expected_attach_type,
                a.btf_fd,
                a.func_info_size if func_info else 0,
                address(func_info),
                len(func_info) // a.func_info_size if func_info else 0,
                a.line_info_size if line_info else 0,
                address(line_info),
                len(line_info) // a.line_info_size if line_info else 0,
                a.attach_btf_id,
                a.attach_fd,
                0,  # core_relo_cnt: CO-RE is resolved before loading
                address(fds),
                0,
                0,
                0,
                0,
            )
        )

    def __call__(self) -> int:
        """The new program's fd."""
        return _retry_again(Command.PROG_LOAD, self._attr)

    def shorten_records(self) -> bool:
        """Drop what the kernel does not know of function and line records; False when it knows all of them.

        With E2BIG it writes the size of the records that it knows; longer ones have to end in zeros.
        """
        shortened = False
        for at, records, size in self._records:
            known = struct.unpack_from("=I", self._attr, at)[0]
            if 0 < known < size and records:
                for start in range(0, len(records), size):
                    records[start + known : start + size] = bytes(size - known)
                struct.pack_into("=I", self._attr, at, size)
                shortened = True
        return shortened

    @property
    def true_size(self) -> int:
        """Bytes that the whole log of the last call takes; 0 before Linux 6.4."""
        return int(struct.unpack_from("=I", self._attr, _PROG_LOAD_TRUE_SIZE)[0])


def _retry_again(command: Command, attr: bytearray) -> int:
    for _ in range(_PROG_LOAD_TRIES - 1):
        try:
            return syscall.system.bpf(command, attr)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
    return syscall.system.bpf(command, attr)


def btf_load(data: bytes, log: VerifierLog | None = None) -> int:
    """BPF_BTF_LOAD: a BTF object's fd."""
    blob, text = bytearray(data), bytearray(log.size if log else 0)
    level = log.level if log else 0
    attr = bytearray(_BTF_LOAD.pack(address(blob), address(text), len(blob), len(text), level, 0, 0, 0))
    try:
        return syscall.system.bpf(Command.BTF_LOAD, attr)
    finally:
        if log:
            log._take(text, struct.unpack_from("=I", attr, _BTF_LOAD_TRUE_SIZE)[0])


# --- map elements ---


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes:
    """BPF_MAP_LOOKUP_ELEM: ``value_size`` bytes (per-CPU maps: all CPUs, each rounded up to 8)."""
    key_, value = bytearray(key), bytearray(value_size)
    syscall.system.bpf(Command.MAP_LOOKUP_ELEM, bytearray(_ELEM.pack(fd, address(key_), address(value), 0)))
    return bytes(value)


def map_lookup_and_delete(fd: int, key: bytes, value_size: int) -> bytes:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM: as :func:`map_lookup`, and the element is gone."""
    key_, value = bytearray(key), bytearray(value_size)
    attr = bytearray(_ELEM.pack(fd, address(key_), address(value), 0))
    syscall.system.bpf(Command.MAP_LOOKUP_AND_DELETE_ELEM, attr)
    return bytes(value)


def map_lookup_value(fd: int, value: bytes) -> None:
    """BPF_MAP_LOOKUP_ELEM of a bloom filter: ENOENT when it was never given ``value``."""
    value_ = bytearray(value)
    syscall.system.bpf(Command.MAP_LOOKUP_ELEM, bytearray(_ELEM.pack(fd, 0, address(value_), 0)))


def map_update(fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    """BPF_MAP_UPDATE_ELEM with BPF_ANY, BPF_NOEXIST or BPF_EXIST."""
    key_, value_ = bytearray(key), bytearray(value)
    attr = bytearray(_ELEM.pack(fd, address(key_), address(value_), flags))
    syscall.system.bpf(Command.MAP_UPDATE_ELEM, attr)


def map_delete(fd: int, key: bytes) -> None:
    """BPF_MAP_DELETE_ELEM."""
    key_ = bytearray(key)
    syscall.system.bpf(Command.MAP_DELETE_ELEM, bytearray(_ELEM.pack(fd, address(key_), 0, 0)))


def map_get_next_key(fd: int, key: bytes | None, key_size: int) -> bytes | None:
    """BPF_MAP_GET_NEXT_KEY: the key after ``key`` (None: the first), or None at the end."""
    key_, following = bytearray(key or b""), bytearray(key_size)
    attr = bytearray(_ELEM.pack(fd, address(key_), address(following), 0))
    try:
        syscall.system.bpf(Command.MAP_GET_NEXT_KEY, attr)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return bytes(following)


def map_freeze(fd: int) -> None:
    """BPF_MAP_FREEZE: no more writes from user space."""
    syscall.system.bpf(Command.MAP_FREEZE, bytearray(struct.pack("=I", fd)))


def prog_bind_map(prog_fd: int, map_fd: int) -> None:
    """BPF_PROG_BIND_MAP: the program holds the map for as long as it lives."""
    syscall.system.bpf(Command.PROG_BIND_MAP, bytearray(struct.pack("=3I", prog_fd, map_fd, 0)))


# --- links ---


def link_create(fd: int, target: int, attach_type: int, flags: int = 0, options: bytes = b"") -> int:
    """BPF_LINK_CREATE: a link's fd.  ``fd``: a program, or a struct_ops map; ``target``: what it hooks into.

    ``options``: the bytes that follow ``flags`` in the attribute, as the attach type defines them.
    """
    attr = bytearray(struct.pack("=4I", fd, target, attach_type, flags) + options)
    return syscall.system.bpf(Command.LINK_CREATE, attr)


def link_update(link_fd: int, new_fd: int, flags: int = 0, old_fd: int = 0) -> None:
    """BPF_LINK_UPDATE: another program, or struct_ops map, takes the place of the one in the link."""
    attr = bytearray(struct.pack("=4I", link_fd, new_fd, flags, old_fd))
    syscall.system.bpf(Command.LINK_UPDATE, attr)


class RunInput(NamedTuple):
    """What BPF_PROG_TEST_RUN is given: ``*_room`` are the bytes there are for what comes back; 0: none.

    ``flags``: BPF_F_TEST_*.  ``batch_size``: live frames handled together; 0 leaves it to the kernel.
    """

    data: bytes = b""
    ctx: bytes = b""
    repeat: int = 0
    data_room: int = 0
    ctx_room: int = 0
    flags: int = 0
    batch_size: int = 0


class RunResult(NamedTuple):
    """What it gave: ``duration`` in ns, the mean; without room, ``ctx`` is the one given, as changed."""

    retval: int
    duration: int
    data: bytes
    ctx: bytes


def prog_test_run(fd: int, run: RunInput) -> RunResult:
    """BPF_PROG_TEST_RUN: ENOSPC when there was not room enough."""
    data, ctx = bytearray(run.data), bytearray(run.ctx)
    data_out, ctx_out = bytearray(run.data_room), bytearray(run.ctx_room)
    attr = bytearray(
        _TEST_RUN.pack(
            *(fd, 0, len(data), len(data_out), address(data), address(data_out)),
            *(run.repeat, 0, len(ctx), len(ctx_out), address(ctx), address(ctx_out)),
            *(run.flags, 0, run.batch_size),
        )
    )
    syscall.system.bpf(Command.PROG_TEST_RUN, attr)
    _, retval, _, data_size, _, _, _, duration, _, ctx_size, *_ = _TEST_RUN.unpack(attr)
    return RunResult(
        retval, duration, bytes(data_out[:data_size]), bytes(ctx_out[:ctx_size] if run.ctx_room else ctx)
    )


def enable_stats(kind: int = 0) -> int:
    """BPF_ENABLE_STATS: programs count their runs for as long as the fd is open; 0 is BPF_STATS_RUN_TIME."""
    return syscall.system.bpf(Command.ENABLE_STATS, bytearray(struct.pack("=I", kind)))


# --- bpffs ---


def obj_pin(fd: int, path: str) -> None:
    """BPF_OBJ_PIN: EEXIST when the name is taken."""
    name = bytearray(path.encode() + b"\0")
    syscall.system.bpf(Command.OBJ_PIN, bytearray(_OBJ.pack(address(name), fd, 0, 0)))


def obj_get(path: str, file_flags: int = 0) -> int:
    """BPF_OBJ_GET: an fd of the pinned program, map or link."""
    name = bytearray(path.encode() + b"\0")
    return syscall.system.bpf(Command.OBJ_GET, bytearray(_OBJ.pack(address(name), 0, file_flags, 0)))


# --- ids ---


def _next_id(command: Command, start: int) -> int:
    attr = bytearray(_ID.pack(start, 0, 0))
    syscall.system.bpf(command, attr)
    return int(_ID.unpack(attr)[1])


def iter_ids(command: Command) -> Iterator[int]:
    """All ids that a BPF_*_GET_NEXT_ID command gives (needs CAP_SYS_ADMIN)."""
    current = 0
    while True:
        try:
            current = _next_id(command, current)
        except FileNotFoundError:
            return
        yield current


def get_fd_by_id(command: Command, number: int) -> int:
    """BPF_{PROG,MAP,BTF,LINK}_GET_FD_BY_ID (needs CAP_SYS_ADMIN)."""
    return syscall.system.bpf(command, bytearray(_ID.pack(number, 0, 0)))


def obj_get_info(fd: int, info: bytearray) -> int:
    """BPF_OBJ_GET_INFO_BY_FD: fills ``info`` (which may hold pointers), returns the length written."""
    attr = bytearray(_INFO.pack(fd, len(info), address(info)))
    syscall.system.bpf(Command.OBJ_GET_INFO_BY_FD, attr)
    return int(_INFO.unpack(attr)[1])
