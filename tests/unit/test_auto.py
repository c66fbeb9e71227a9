"""Every section's name of the SEC() table is either attached by its name or told who attaches it."""

from __future__ import annotations

import pytest

from bpfctl.attach.auto import check
from bpfctl.errors import BpfctlError
from bpfctl.objfile.sections import _TABLE, section_kind
from bpfctl.objfile.spec import FunctionSpec, ProgramSpec

_FOUND_BY_NAME = {
    *("kprobe", "kretprobe", "ksyscall", "kretsyscall", "kprobe.multi", "kretprobe.multi", "kprobe.session"),
    *("uprobe", "uretprobe", "uprobe.multi", "uretprobe.multi", "uprobe.session"),
    *("tp", "tracepoint", "raw_tp", "raw_tracepoint", "tp_btf", "fentry", "fexit", "fmod_ret", "fsession"),
    *("freplace", "lsm", "iter", "usdt", "fentry.multi", "fexit.multi", "fsession.multi"),
}


def spec(section: str) -> ProgramSpec:
    kind = section_kind(section)
    function = FunctionSpec("f", 1, 0, 8, True)
    return ProgramSpec("f", section, function, kind.program_type, kind.attach_type, target=kind.target)


@pytest.mark.parametrize("name", [row[0] for row in _TABLE])
def test_every_section(name: str) -> None:
    bare = name.removesuffix("+")
    section = f"{bare}/x" if name.endswith("+") else bare
    plain = bare.removesuffix(".s").removesuffix(".w")
    if plain in _FOUND_BY_NAME:
        check(spec(section), "x.o")
        with pytest.raises(BpfctlError, match="the section does not say where") as refused:
            check(spec(bare), "x.o")
        assert (refused.value.hint or "").startswith(f'it would be SEC("{bare}/')
        return
    with pytest.raises(BpfctlError, match="cannot be attached by the name of its section") as refused:
        check(spec(section), "x.o")
    assert refused.value.hint
