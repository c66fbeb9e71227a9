"""Programs on hooks: load, then attach, all or nothing."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from warnings import warn as _python_warning

from bpfctl.api.actions import open_actions
from bpfctl.api.sources import (
    Before,
    ClassicSource,
    OpenProgram,
    ProgramSource,
    Warn,
    nothing,
    open_source,
    pass_on,
    resolved,
)
from bpfctl.errors import AlreadyAttachedError, UsageError, printable
from bpfctl.inventory.reference import Reference
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from bpfctl.attach.actions import ActionRequest
    from bpfctl.attach.tc import FilterChange, FilterRequest
    from bpfctl.attach.xdp import XdpChange, XdpMode
    from bpfctl.loader import Session


def attach_xdp(
    device: str,
    source: ProgramSource,
    *,
    mode: str = "xdp",
    force: bool = False,
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = nothing,
) -> XdpChange:
    """Attach an XDP program to ``device``; whatever was made for it is gone again if that fails.

    ``mode``: ``xdp`` (native where the driver can), ``xdpgeneric``, ``xdpdrv`` or ``xdpoffload``.  An
    occupied slot is AlreadyAttachedError unless ``force``.  ``session`` keeps the object for the next
    call; ``warn`` is called with each remark about it.  ``before`` is called once the program is loaded,
    before it is attached.
    """
    from bpfctl.attach import xdp
    from bpfctl.loader import Transaction

    slot = xdp.XdpMode(mode)
    ifindex = interface_index(device) if slot is xdp.XdpMode.OFFLOAD else 0
    with Transaction() as transaction, ExitStack() as stack:
        program = open_source(source, ProgramType.XDP, transaction, stack, session, ifindex, warn=warn)
        pass_on(program.warnings, warn)
        before()
        try:
            with transaction.step():
                return xdp.attach(device, program.fd, mode=slot, force=force, transaction=transaction)
        except AlreadyAttachedError as taken:
            twin = _attached_twin(device, slot, program) if taken.errno == errno.EBUSY else None
            if twin is None:
                raise
            return twin


def _attached_twin(device: str, slot: XdpMode, program: OpenProgram) -> XdpChange | None:
    """What is attached already, if it is the program that this command would attach."""
    from bpfctl.attach import xdp
    from bpfctl.inventory.twin import is_twin

    interface = xdp.list_interfaces(device)[0]
    for mode, number in interface.programs:
        if slot in (mode, xdp.XdpMode.ANY) and is_twin(program.fd, number, program.pinned_maps):
            return xdp.XdpChange(device, interface.ifindex, slot, number, 0)
    return None


def detach_xdp(device: str, *, mode: str = "xdp") -> XdpChange | None:
    """Take the XDP program off ``device``; None when there is none in any slot."""
    from bpfctl.attach import xdp

    return xdp.detach(device, mode=xdp.XdpMode(mode))


def attach_filter(
    request: FilterRequest,
    source: ProgramSource | ClassicSource,
    *,
    how: str = "add",
    actions: Sequence[ActionRequest] = (),
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = nothing,
) -> FilterChange:
    """Put a program into a cls_bpf filter: ``how`` is ``add``, ``replace`` or ``change``, as in tc(8).

    The filter's annotation says where the program came from, unless ``request.name`` says something
    else.  ``actions`` follow it.  All or nothing, ``session``, ``warn`` and ``before`` as in
    :func:`attach_xdp`.
    """
    from bpfctl.attach import tc
    from bpfctl.loader import Transaction

    verb = {"add": tc.add, "replace": tc.replace, "change": tc.change}[how]
    ifindex = interface_index(request.device) if request.skip_sw else 0
    with Transaction() as transaction, ExitStack() as stack:
        programs, program_fd = list[OpenProgram](), -1
        if isinstance(source, ClassicSource):
            request = request._replace(bytecode=source.code)
        else:
            program = open_source(
                source,
                ProgramType.SCHED_CLS,
                transaction,
                stack,
                session,
                ifindex,
                exports=True,
                warn=warn,
                alone=all(action.source is None for action in actions),
            )
            pass_on(program.warnings, warn)
            programs.append(program)
            program_fd = program.fd
            request = request._replace(name=request.name or program.annotation)
        if actions:
            opened, others = open_actions(actions, transaction, stack, session, warn, alone=not programs)
            request = request._replace(actions=tuple(opened))
            programs += others
        before()
        with transaction.step():
            change = verb(request, program_fd, transaction=transaction)
        for program in programs:
            program.export()
        return change


def graft(
    path: str,
    source: ProgramSource,
    *,
    key: int | None = None,
    program_type: int = ProgramType.SCHED_CLS,
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> int:
    """Put a program into slot ``key`` of the program array pinned at ``path``; the slot.

    Without ``key`` it is KEY of a section that is called ID/KEY.  ``path`` may begin with ``m:``.
    """
    from bpfctl.loader import Transaction
    from bpfctl.loader.graft import PinnedArray
    from bpfctl.objfile.sections import tail_call

    with Transaction() as transaction, ExitStack() as stack:
        array = stack.enter_context(PinnedArray(resolved(Reference("pinned", path)).value))
        program = open_source(source, program_type, transaction, stack, session, warn=warn)
        pass_on(program.warnings, warn)
        if key is None:
            called = tail_call(program.section)
            if called is None:
                raise UsageError(
                    f"{array.shown}: which slot? Section {printable(program.section)!r} does not say it",
                    hint="key N; or a section called ID/KEY",
                )
            key = called.key
        array.put(key, program.fd, transaction)
        return key


def interface_index(device: str) -> int:
    """The ``ifindex`` of a device, which an offloaded program or map is made for."""
    from bpfctl.attach import xdp

    return xdp.list_interfaces(device)[0].ifindex
