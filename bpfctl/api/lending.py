"""Programs for another tool to attach: loaded here, lent to its process, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from warnings import warn as _python_warning

from bpfctl.api.sources import Before, ObjectSource, Warn, nothing, open_source, pass_on
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from bpfctl.api.sources import OpenProgram
    from bpfctl.attach.shelf import Shelf
    from bpfctl.loader import Session

_EXPORTING = (ProgramType.SCHED_CLS, ProgramType.SCHED_ACT)
_NAME_BYTES = 240  # so that the tool has room for what it appends


class Wanted(NamedTuple):
    """A program to be lent: ``program_type`` is that of its hook, ``ifindex`` what it is offloaded to."""

    source: ObjectSource
    program_type: int
    ifindex: int = 0


def lend(
    wanted: Sequence[Wanted],
    use: Callable[[list[str], Sequence[int]], object],
    *,
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = nothing,
) -> None:
    """Load ``wanted`` and call ``use`` with their paths, for a child process that has the descriptors.

    The paths are good while ``use`` runs.  What was made for the programs is gone again if it raises.
    ``session``, ``warn`` and ``before`` as in :func:`bpfctl.api.hooks.attach_xdp`.
    """
    from bpfctl.attach.shelf import Shelf
    from bpfctl.loader import Transaction

    with Transaction() as transaction, ExitStack() as stack:
        programs = []
        for source, program_type, ifindex in wanted:
            program = open_source(
                source,
                program_type,
                transaction,
                stack,
                session,
                ifindex,
                exports=program_type in _EXPORTING,
                warn=warn,
                alone=len(wanted) == 1,
            )
            pass_on(program.warnings, warn)
            programs.append(program)
        before()
        shelf = stack.enter_context(Shelf())
        paths = [_put(shelf, program) for program in programs]
        with transaction.step():
            use(paths, shelf.fds)
        for program in programs:
            program.export()


def _put(shelf: Shelf, program: OpenProgram) -> str:
    """Put it where its name says where it comes from, as the annotation of a hook does."""
    name = program.annotation.replace("/", "_").encode("utf-8", "surrogateescape")[:_NAME_BYTES]
    return shelf.put(program.fd, name.decode("utf-8", "ignore"))
