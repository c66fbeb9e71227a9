"""Names longer than the kernel keeps: 15 bytes of a program's name, all of it in its BTF."""

from __future__ import annotations

from bpfctl.errors import BtfError
from bpfctl.kernel import info
from bpfctl.uapi import BPF_OBJ_NAME_LEN

_KEPT = BPF_OBJ_NAME_LEN - 1


def fits(wanted: str, kept: str) -> bool:
    """Whether ``kept``, the kernel's short form, can be the beginning of the name ``wanted``."""
    return kept == wanted[:_KEPT]


def full_program_name(fd: int, facts: info.ProgInfo) -> str:
    """The program's whole name from its BTF, or the kernel's short one where there is no more to know."""
    if len(facts.name) < _KEPT or not facts.btf_id or not facts.nr_func_info:
        return facts.name
    from bpfctl.btf.types import Btf

    try:
        type_id = info.prog_main_type(fd)
        found = Btf.from_bytes(info.btf_data(facts.btf_id)).name(type_id) if type_id else ""
    except (OSError, BtfError):
        return facts.name
    return found if fits(found, facts.name) else facts.name
