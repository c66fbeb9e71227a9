"""Jump tables: for each one that a program uses, a frozen map of instruction numbers."""

from __future__ import annotations

import errno
import struct

from bpfctl.errors import KernelError, NotSupportedError, printable
from bpfctl.kernel import bpf
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.objfile.spec import LinkedProgram
from bpfctl.uapi import ENOTSUPP, MapType

_NAME = ".jumptables"
_VALUE = struct.Struct("=4I")  # struct bpf_insn_array_value: orig_off, xlated_off, jitted_off, padding
_UNKNOWN_TYPE = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)


def make_jump_tables(linked: LinkedProgram, path: str) -> dict[str, Fd]:
    """A map for each jump table of ``linked``, by name; the caller closes them once the program is loaded.

    Raises NotSupportedError on a kernel without such maps (before Linux 6.19), KernelError for another
    refusal.
    """
    tables: dict[str, Fd] = {}
    try:
        for name, targets in linked.jump_tables.items():
            tables[name] = _make(linked, path, targets)
    except BaseException:
        for table in tables.values():
            table.close()
        raise
    return tables


def _make(linked: LinkedProgram, path: str, targets: tuple[int, ...]) -> Fd:
    what = f"{path}: cannot make a jump table of {len(targets)} targets for program {printable(linked.name)}"
    try:
        table = Fd(
            bpf.map_create(MapAttributes(MapType.INSN_ARRAY, 4, _VALUE.size, len(targets), name=_NAME))
        )
    except OSError as error:
        if error.errno in _UNKNOWN_TYPE:
            hint = "compile with -fno-jump-tables, or load it on Linux 6.19 or later"
            raise NotSupportedError(what, feature="insn_array", errno=error.errno or 0, hint=hint) from error
        raise KernelError(what, call="BPF_MAP_CREATE", errno=error.errno or 0) from error
    try:
        for index, target in enumerate(targets):
            bpf.map_update(table.number, struct.pack("=I", index), _VALUE.pack(target, 0, 0, 0))
        bpf.map_freeze(table.number)
    except OSError as error:
        table.close()
        raise KernelError(what, call="BPF_MAP_UPDATE_ELEM", errno=error.errno or 0) from error
    except BaseException:
        table.close()
        raise
    return table
