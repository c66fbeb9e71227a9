"""What has to work on every kernel from 5.10 on; `make test-kernels` runs it on several.

Here and there a kernel has to refuse: then by name, and with the reason.
"""

from __future__ import annotations

from pathlib import Path

import netlab
import pytest
from fixture_types import Requires
from test_probe import release

from bpfctl import attach_filter, attach_xdp
from bpfctl.api.sources import ObjectSource
from bpfctl.attach import qdisc
from bpfctl.attach.tc import INGRESS, FilterRequest
from bpfctl.errors import NotSupportedError, VerifierError
from bpfctl.kernel import info
from bpfctl.loader import AttachTarget, LoadRequest, Transaction, load
from bpfctl.loader.live import LoadedObject
from bpfctl.objfile import read_object
from bpfctl.uapi import ProgramType

pytestmark = pytest.mark.kernels

TESTDATA = Path(__file__).parents[2] / "testdata"


def loaded(name: str, *programs: str) -> LoadedObject:
    """The named programs of a test object, or all that say what they are; of old ones, as XDP."""
    obj = read_object(str(TESTDATA / f"{name}.bpf.o"))
    typed = tuple(spec.name for spec in obj.programs.values() if spec.program_type is not None)
    kind = None if programs or typed else ProgramType.XDP
    with Transaction() as transaction:
        return load(obj, LoadRequest(programs or typed or tuple(obj.programs), kind), transaction)


@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("xdp_pass", ()),  # a program alone
        ("xdp_pass_nobtf", ()),
        ("proto_counters", ()),  # a legacy map, pinned for all
        ("proto_report", ()),  # a BTF map, pinned by name
        ("mixed_maps", ()),  # both in one object
        ("subprogs", ("sum_once", "sum_xdp")),  # functions, read-only data
        ("legacy_globals", ()),  # global data
        ("lpm_blocklist", ()),
        ("lpm_blocklist_legacy", ()),
        ("map_in_map_btf", ()),
        ("map_in_map_legacy", ()),
        ("xdp_root", ()),  # program arrays
        ("xdp_root_btf", ()),
        ("core_user", ()),  # fitted to the kernel's types
        ("lwt", ()),
    ],
)
def test_objects_of_both_generations_load(name: str, programs: tuple[str, ...], bpffs: Path) -> None:
    with loaded(name, *programs) as live:
        assert not [warning for warning in live.warnings if "BTF" in warning]
        for program in live.programs.values():
            found = info.prog_info(program.fd.number)
            assert found.name == program.name[:15]
            has_types = live.spec.btf_ext is not None and live.spec.btf_ext.func_info.sections
            assert bool(found.nr_func_info) == bool(has_types)


def test_a_core_relocation_without_a_match_is_explained() -> None:
    with pytest.raises(VerifierError) as caught:
        loaded("core_missing")
    assert any("has no match in the kernel's BTF" in line for line in caught.value.details)


@pytest.mark.parametrize("program", ["reads_too_far", "reads_too_far_tc"])
def test_a_refusal_names_source_and_reason(program: str) -> None:
    with pytest.raises(VerifierError) as caught:
        loaded("verifier_reject", program)
    error = caught.value
    assert error.source is not None
    assert error.source.startswith("testdata/verifier_reject.bpf.c:")
    assert any("invalid access to packet" in line for line in error.details)
    assert error.hint == "compare the pointer with data_end before the access"


def test_xdp_drops(netns: netlab.Lab, bpffs: Path) -> None:
    with netlab.inside(netns.a.namespace):
        assert netlab.ping(netns.b, netns.a, 1)
        attach_xdp("v0", ObjectSource(str(TESTDATA / "xdp_drop.bpf.o")))
        assert not netlab.ping(netns.b, netns.a, 1)


def test_a_filter_counts(netns: netlab.Lab, bpffs: Path) -> None:
    with netlab.inside(netns.a.namespace):
        qdisc.add("v0")
        request = FilterRequest("v0", INGRESS, direct_action=True)
        attach_filter(request, ObjectSource(str(TESTDATA / "tc_pass.bpf.o")))
        assert netlab.ping(netns.b, netns.a, 1)


# --- programs for a place in the kernel --------------------------------------------------------------

HOOKS = {
    "on_call": ((4, 1), ProgramType.KPROBE),
    "with_cookie": ((5, 15), ProgramType.KPROBE),
    "on_tracepoint": ((4, 7), ProgramType.TRACEPOINT),
    "on_raw_tracepoint": ((4, 17), ProgramType.RAW_TRACEPOINT),
    "on_typed_tracepoint": ((5, 5), ProgramType.TRACING),
    "on_entry": ((5, 5), ProgramType.TRACING),
    "on_exit": ((5, 5), ProgramType.TRACING),
    "on_open": ((5, 7), ProgramType.LSM),
    "each_task": ((5, 8), ProgramType.TRACING),
}
GUARDS = {"on_entry": "fentry", "on_exit": "fentry", "on_open": "lsm"}


@pytest.mark.parametrize("program", HOOKS)
def test_a_place_in_the_kernel(program: str, requires: Requires) -> None:
    since, kind = HOOKS[program]
    if program in GUARDS:
        requires(GUARDS[program])
    if release() < since:
        with pytest.raises(VerifierError) as caught:
            loaded("hooks", program)
        assert caught.value.hint == "this kernel lacks the helper"
    else:
        with loaded("hooks", program) as live:
            assert info.prog_info(live.programs[program].fd.number).type == kind


def test_a_place_that_is_not_there_is_named() -> None:
    with pytest.raises(NotSupportedError, match="no function called no_such_function_in_any_kernel"):
        loaded("hooks", "on_nothing")


def test_a_function_of_another_program(requires: Requires) -> None:
    requires("freplace")
    with loaded("subprogs", "sum_once") as other, Transaction() as transaction:
        target = AttachTarget("", other.program("sum_once").fd.number)
        obj = read_object(str(TESTDATA / "hooks.bpf.o"))
        with load(obj, LoadRequest(("in_its_place",), target=target), transaction) as live:
            assert info.prog_info(live.program("in_its_place").fd.number).type == ProgramType.EXT
