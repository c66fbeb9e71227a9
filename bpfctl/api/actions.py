"""Actions of traffic control, behind a filter or alone: load, then make, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from warnings import warn as _python_warning

from bpfctl.api.sources import (
    Before,
    ClassicSource,
    OpenProgram,
    Warn,
    nothing,
    open_source,
    pass_on,
)
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from bpfctl.attach.actions import Action, ActionRequest
    from bpfctl.loader import Session, Transaction


def set_actions(
    actions: Sequence[ActionRequest],
    *,
    how: str = "add",
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = nothing,
) -> None:
    """Make actions that stand alone: ``how`` is ``add`` or ``replace``; the rest as in attach_filter."""
    from bpfctl.attach import actions as verbs
    from bpfctl.loader import Transaction

    verb = {"add": verbs.add, "replace": verbs.replace}[how]
    with Transaction() as transaction, ExitStack() as stack:
        opened, programs = open_actions(actions, transaction, stack, session, warn)
        before()
        with transaction.step():
            verb(opened, transaction=transaction)
        for program in programs:
            program.export()


def open_actions(
    actions: Sequence[ActionRequest],
    transaction: Transaction,
    stack: ExitStack,
    session: Session | None,
    warn: Warn,
    *,
    alone: bool = True,
) -> tuple[list[Action], list[OpenProgram]]:
    """``actions`` with their interfaces found, and their programs, loaded and open as long as ``stack``.

    ``alone``: there is no program but theirs in the command.
    """
    from bpfctl.attach.actions import Action, resolve_device

    alone = alone and sum(request.source is not None for request in actions) == 1
    opened, programs = [], []
    for request in actions:
        action = Action(
            request.kind,
            request.control,
            request.number,
            request.cookie,
            mirred=request.mirred,
            random=request.random,
            police=request.police,
        )
        if request.device:
            action = action._replace(ifindex=resolve_device(request.device))
        if isinstance(request.source, ClassicSource):
            action = action._replace(bytecode=request.source.code)
        elif request.source is not None:
            program = open_source(
                request.source,
                ProgramType.SCHED_ACT,
                transaction,
                stack,
                session,
                exports=True,
                warn=warn,
                alone=alone,
            )
            pass_on(program.warnings, warn)
            programs.append(program)
            action = action._replace(program_fd=program.fd, name=program.annotation)
        opened.append(action)

    return opened, programs
