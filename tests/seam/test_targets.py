"""Attach targets by libbpf's rules: which name stands in whose BTF, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from scripted_modules import Modules

from bpfctl.btf.kinds import Kind
from bpfctl.errors import BpfctlError, NotSupportedError, ObjectFileError
from bpfctl.kernel import syscall
from bpfctl.kernel.kernel_btf import BtfSource
from bpfctl.loader import AttachTarget, kernel_types
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.programs import ProgramRequest
from bpfctl.loader.targets import with_targets
from bpfctl.objfile import read_object
from bpfctl.uapi import AttachType, ProgramType

OBJECT = read_object(str(Path(__file__).parents[2] / "testdata" / "targets.bpf.o"))


def vmlinux() -> BtfBuilder:
    b = BtfBuilder()
    proto = b.func_proto(0)
    b.add(Kind.TYPEDEF, "btf_trace_sched_switch", b.ptr(proto))
    for name in ("schedule", "bpf_iter_task", "bpf_lsm_file_open"):
        b.func(name, proto)
    return b


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[KernelTypes]:
    """vmlinux and the modules veth and tun, of which both have a function ``open``, and tun ``schedule``."""
    entries = []
    for name, functions in (("veth", ["open"]), ("tun", ["open", "schedule"])):
        b = BtfBuilder(base=vmlinux().btf())
        for function in functions:
            b.func(function, 1)
        entries.append((name, b.blob(), True))
    monkeypatch.setattr(syscall, "system", Modules(*entries))
    source = BtfSource("vmlinux", vmlinux().blob())
    monkeypatch.setattr(kernel_types.kernel_btf, "vmlinux", lambda: source)
    opened = KernelTypes()
    yield opened
    opened.close()


def request(program: str) -> ProgramRequest:
    spec = OBJECT.programs[program]
    return ProgramRequest(spec.program_type or 0, spec.attach_type, False, 0, False)


def target(kernel: KernelTypes, program: str, wanted: AttachTarget | None = None) -> tuple[str, str]:
    """Whose BTF, and the name of the type."""
    found = with_targets(OBJECT, {program: request(program)}, wanted, kernel)[program]
    holders = {kernel.descriptor(btf): btf for btf in (kernel.vmlinux(), *kernel.modules())}
    holder = holders[found.attach_fd]
    return holder.path, holder.name(found.attach_btf_id)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("at_tracepoint", "btf_trace_sched_switch"),
        ("over_tasks", "bpf_iter_task"),
        ("on_entry", "schedule"),
        ("on_exit", "schedule"),
        ("at_hook", "bpf_lsm_file_open"),
    ],
)
def test_the_section_names_it(kernel: KernelTypes, program: str, name: str) -> None:
    assert target(kernel, program) == ("vmlinux", name)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("schedule", ("vmlinux", "schedule")),
        ("tun:schedule", ("tun", "schedule")),
        ("open", ("veth", "open")),
        ("tun:open", ("tun", "open")),
    ],
)
def test_the_command_names_it(kernel: KernelTypes, wanted: str, found: tuple[str, str]) -> None:
    assert target(kernel, "of_anything", AttachTarget(wanted)) == found


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("of_nothing", "the kernel has no function called bpfctl_no_function, which program of_nothing"),
        ("at_no_hook", "the kernel has no LSM hook called no_hook"),
        ("at_no_tracepoint", "the kernel has no tracepoint called no_tracepoint"),
        ("of_no_module", "module no_module has no function called schedule"),
    ],
)
def test_what_is_nowhere_is_named(kernel: KernelTypes, program: str, message: str) -> None:
    with pytest.raises(NotSupportedError, match=message):
        target(kernel, program)


def test_modules_are_named_in_full(kernel: KernelTypes) -> None:
    with pytest.raises(NotSupportedError, match="module tu has no function called open"):
        target(kernel, "of_anything", AttachTarget("tu:open"))


def test_what_nothing_names(kernel: KernelTypes) -> None:
    with pytest.raises(ObjectFileError, match="does not say which function program of_anything") as caught:
        target(kernel, "of_anything")
    assert caught.value.hint == 'SEC("fentry/NAME")'
    with pytest.raises(BpfctlError, match="another program, and nothing says of which"):
        target(kernel, "replaces", AttachTarget("replaced"))


def test_who_needs_no_target_gets_none(kernel: KernelTypes) -> None:
    xdp = ProgramRequest(ProgramType.XDP, AttachType.XDP, False, 0, False)
    multi = ProgramRequest(ProgramType.TRACING, AttachType.TRACE_FENTRY_MULTI, False, 0, False)
    requests = {"of_nothing": xdp, "of_no_module": multi}
    assert with_targets(OBJECT, requests, None, kernel) == requests
