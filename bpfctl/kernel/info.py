"""What the kernel reports of a program, map, link or BTF: BPF_OBJ_GET_INFO_BY_FD and fdinfo.

Field names are those of ``struct bpf_prog_info`` and its siblings (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import errno
import struct

from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.syscall import address
from bpfctl.record import NamedTuple
from bpfctl.uapi import Command

_PROG = struct.Struct("=2I8s2I2QQ2IQ16s2I2Q2I2Q2IQ2I2Q4IQ3Q3I4x")
_MAP = struct.Struct("=6I16s2I2Q4IQ")
_BTF = struct.Struct("=Q2IQ2I")
_BTF_NAME_LEN = 64  # bytes; MODULE_NAME_LEN is 56 with 64-bit pointers
_PROG_NR_MAP_IDS, _PROG_MAP_IDS, _PROG_FUNC_INFO = 52, 56, 132  # byte offsets


class ProgInfo(NamedTuple):
    """``struct bpf_prog_info``: sizes in bytes, ``load_time`` and ``run_time_ns`` in ns since boot."""

    type: int
    id: int
    tag: str
    jited_prog_len: int
    xlated_prog_len: int
    load_time: int
    created_by_uid: int
    map_ids: tuple[int, ...]
    name: str
    ifindex: int
    gpl_compatible: bool
    btf_id: int
    nr_func_info: int
    run_time_ns: int
    run_cnt: int
    recursion_misses: int
    verified_insns: int
    attach_btf_obj_id: int
    attach_btf_id: int


class MapInfo(NamedTuple):
    """``struct bpf_map_info``: sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int
    name: str
    ifindex: int
    btf_id: int
    btf_key_type_id: int
    btf_value_type_id: int
    map_extra: int


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def prog_info(fd: int) -> ProgInfo:
    """Info of the program ``fd``, map ids included."""
    info = bytearray(_PROG.size)
    bpf.obj_get_info(fd, info)
    count = struct.unpack_from("=I", info, _PROG_NR_MAP_IDS)[0]
    ids = bytearray(4 * count)
    if count:
        # Asked again with room for the ids; a map bound in between is simply left out.
        info = bytearray(_PROG.size)
        struct.pack_into("=IQ", info, _PROG_NR_MAP_IDS, count, address(ids))
        bpf.obj_get_info(fd, info)
    f = _PROG.unpack(info)
    return ProgInfo(
        type=f[0],
        id=f[1],
        tag=f[2].hex(),
        jited_prog_len=f[3],
        xlated_prog_len=f[4],
        load_time=f[7],
        created_by_uid=f[8],
        map_ids=struct.unpack(f"={count}I", ids),
        name=_text(f[11]),
        ifindex=f[12],
        gpl_compatible=bool(f[13] & 1),
        btf_id=f[20],
        nr_func_info=f[23],
        run_time_ns=f[32],
        run_cnt=f[33],
        recursion_misses=f[34],
        verified_insns=f[35],
        attach_btf_obj_id=f[36],
        attach_btf_id=f[37],
    )


def map_info(fd: int) -> MapInfo:
    """Info of the map ``fd``."""
    info = bytearray(_MAP.size)
    bpf.obj_get_info(fd, info)
    f = _MAP.unpack(info)
    return MapInfo(
        type=f[0],
        id=f[1],
        key_size=f[2],
        value_size=f[3],
        max_entries=f[4],
        map_flags=f[5],
        name=_text(f[6]),
        ifindex=f[7],
        btf_id=f[11],
        btf_key_type_id=f[12],
        btf_value_type_id=f[13],
        map_extra=f[15],
    )


def prog_main_type(fd: int) -> int:
    """``type_id`` of the program's first func_info record: its main function in the BTF; 0 without."""
    record = bytearray(8)  # struct bpf_func_info: insn_off, type_id
    info = bytearray(_PROG.size)
    struct.pack_into("=IQI", info, _PROG_FUNC_INFO, len(record), address(record), 1)
    bpf.obj_get_info(fd, info)
    return int(struct.unpack("=2I", record)[1])


class BtfInfo(NamedTuple):
    """``struct bpf_btf_info`` but for the bytes; ``kernel_btf``: of vmlinux or a module."""

    id: int
    size: int
    name: str
    kernel_btf: bool


def btf_info(fd: int) -> BtfInfo:
    """Info of the BTF object ``fd``; kernels whose modules have no BTF (before 5.11) know no names of it."""
    name = bytearray(_BTF_NAME_LEN)
    info = bytearray(_BTF.pack(0, 0, 0, address(name), len(name), 0))
    try:
        bpf.obj_get_info(fd, info)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        info = bytearray(_BTF.size)
        bpf.obj_get_info(fd, info)
    _, size, number, _, _, kernel_btf = _BTF.unpack(info)
    return BtfInfo(number, size, _text(bytes(name)), bool(kernel_btf))


def btf_bytes(fd: int, size: int) -> bytes:
    """The ``size`` bytes of the BTF object ``fd``."""
    data = bytearray(size)
    bpf.obj_get_info(fd, bytearray(_BTF.pack(address(data), len(data), 0, 0, 0, 0)))
    return bytes(data)


def btf_data(number: int) -> bytes:
    """The bytes of the BTF object with this id (needs CAP_SYS_ADMIN)."""
    with Fd(bpf.get_fd_by_id(Command.BTF_GET_FD_BY_ID, number)) as fd:
        return btf_bytes(fd.number, btf_info(fd.number).size)


def fdinfo(fd: int, pid: str = "self") -> dict[str, str]:
    """/proc/PID/fdinfo/FD as a dict: ``memlock``, ``frozen``, ``owner_prog_type``, ..."""
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="utf-8") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in pairs}
