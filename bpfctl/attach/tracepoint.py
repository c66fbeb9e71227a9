"""Tracepoints by way of perf: the arguments as tracefs ``events/CATEGORY/NAME/format`` lays them out."""

from __future__ import annotations

from bpfctl.attach import perf_link
from bpfctl.attach.link_refusals import refused
from bpfctl.errors import BpfctlError, KernelError, NotFoundError, printable
from bpfctl.kernel import perf_event, tracefs
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program


def attach(program: Program) -> Fd:
    """The link of ``program`` to the tracepoint CATEGORY/NAME that its section names."""
    category, slash, name = program.spec.target.partition("/")
    if not slash or "/" in name or "." in (category, name) or ".." in (category, name) or not category:
        raise BpfctlError(
            f"program {printable(program.name)}: no tracepoint in section {printable(program.spec.section)}",
            hint='it is SEC("tracepoint/CATEGORY/NAME"), as tracefs has them below events',
        )
    number = _number(program, category, name)
    where = f"tracepoint {category}/{name}"
    try:
        event = Fd(perf_event.tracepoint(number))
    except OSError as error:
        raise refused(program, where, error, "perf_event_open") from error
    with event:
        return perf_link.attach(program, event, where)


def mounted(program: Program) -> str:
    """Where tracefs is; KernelError where it is not mounted."""
    mount = tracefs.find_mount()
    if mount is None:
        raise KernelError(
            f"cannot attach program {printable(program.name)}: tracefs is not mounted",
            hint="mount -t tracefs tracefs /sys/kernel/tracing",
        )
    return mount


def _number(program: Program, category: str, name: str) -> int:
    mount = mounted(program)
    try:
        return tracefs.tracepoint_id(mount, category, name)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"cannot attach program {printable(program.name)}: "
            f"the kernel has no tracepoint {printable(category)}/{printable(name)}",
            hint=f"{mount}/available_events lists them",
        ) from error
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", 0) or 0
        what = f"cannot read the id of tracepoint {printable(category)}/{printable(name)}"
        raise KernelError(what, call="open", errno=number) from error
