"""The instructions of a loaded program: as the verifier left them, as machine code, and where they come from.

All from BPF_OBJ_GET_INFO_BY_FD.  Without CAP_BPF and CAP_PERFMON, or with kernel.kptr_restrict=2, the kernel
answers with empty machine code and calls without targets.
"""

from __future__ import annotations

import struct

from bpfctl.kernel import bpf
from bpfctl.kernel.syscall import address
from bpfctl.record import NamedTuple

_SIZE = 232  # of struct bpf_prog_info

# (offset of the count or length, offset of the pointer), bytes; struct bpf_prog_info
_JITED = (16, 24)
_XLATED = (20, 32)
_KSYMS = (104, 112)
_FUNC_LENS = (108, 120)
_FUNC_INFO = (144, 136)
_LINE_INFO = (148, 152)
_JITED_LINES = (168, 160)
_FUNC_INFO_SIZE, _LINE_INFO_SIZE, _JITED_LINES_SIZE = 132, 172, 176  # offsets of the record sizes

_FUNCTION = struct.Struct("=2I")
_LINE = struct.Struct("=4I")


class FunctionRecord(NamedTuple):
    """``insn_off``: instruction number at which the function with BTF type ``type_id`` begins."""

    insn_off: int
    type_id: int


class LineRecord(NamedTuple):
    """The source of the instructions from ``insn_off`` on; ``*_off`` are string offsets in the BTF."""

    insn_off: int
    file_name_off: int
    line_off: int
    line_col: int

    @property
    def line(self) -> int:
        return self.line_col >> 10

    @property
    def column(self) -> int:
        return self.line_col & 0x3FF


class ProgCode(NamedTuple):
    """``ksyms`` and ``func_lens`` (bytes): address and size of each function's machine code, in its order.

    ``jited_lines``: the address where the instructions of each of ``lines`` begin.
    """

    xlated: bytes
    jited: bytes
    ksyms: tuple[int, ...]
    func_lens: tuple[int, ...]
    functions: tuple[FunctionRecord, ...]
    lines: tuple[LineRecord, ...]
    jited_lines: tuple[int, ...]


def prog_code(fd: int) -> ProgCode:
    """All of it for the program ``fd``.  Raises OSError."""
    info = bytearray(_SIZE)
    bpf.obj_get_info(fd, info)
    counts = {field: struct.unpack_from("=I", info, field[0])[0] for field in _SIZES}
    buffers = {field: bytearray(counts[field] * size) for field, size in _SIZES.items()}
    info = bytearray(_SIZE)
    for field, buffer in buffers.items():
        struct.pack_into("=I", info, field[0], counts[field])
        struct.pack_into("=Q", info, field[1], address(buffer))
    struct.pack_into("=I", info, _FUNC_INFO_SIZE, _FUNCTION.size)
    struct.pack_into("=I", info, _LINE_INFO_SIZE, _LINE.size)
    struct.pack_into("=I", info, _JITED_LINES_SIZE, 8)
    bpf.obj_get_info(fd, info)
    # What the caller may not see has its pointer or its count set to zero.
    seen = {
        field: bytes(buffer) if struct.unpack_from("=Q", info, field[1])[0] else b""
        for field, buffer in buffers.items()
    }
    return ProgCode(
        xlated=seen[_XLATED],
        jited=seen[_JITED],
        ksyms=_numbers(seen[_KSYMS], "Q"),
        func_lens=_numbers(seen[_FUNC_LENS], "I"),
        functions=tuple(map(FunctionRecord._make, _FUNCTION.iter_unpack(seen[_FUNC_INFO]))),
        lines=tuple(map(LineRecord._make, _LINE.iter_unpack(seen[_LINE_INFO]))),
        jited_lines=_numbers(seen[_JITED_LINES], "Q"),
    )


_SIZES = {
    _JITED: 1,
    _XLATED: 1,
    _KSYMS: 8,
    _FUNC_LENS: 4,
    _FUNC_INFO: _FUNCTION.size,
    _LINE_INFO: _LINE.size,
    _JITED_LINES: 8,
}


def _numbers(data: bytes, code: str) -> tuple[int, ...]:
    return struct.unpack(f"={len(data) // struct.calcsize(code)}{code}", data)
