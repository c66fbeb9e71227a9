"""Where a program comes from: an object file to load it from, or a program that is loaded.

What the verbs of this folder share: opening a source, what its hook is told of it, handing on its maps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from warnings import warn as _python_warning

from bpfctl.errors import Note, NotFoundError, UsageError
from bpfctl.inventory.reference import Reference, open_program
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    from bpfctl.loader import LoadedObject, Session, Transaction
    from bpfctl.loader.export import Exporter
    from bpfctl.objfile import ObjectSpec
    from bpfctl.objfile.spec import Setting

_ANNOTATION_BYTES = 255  # CLS_BPF_NAME_LEN less its NUL (net/sched/cls_bpf.c)


class ObjectSource(NamedTuple):
    """A program in an object file, to be loaded.

    ``section`` and ``program`` (a function name) choose one; with neither, iproute2's default section for
    the hook, or the only program that suits.  ``maps_abi`` (``iproute2``, ``libbpf``, ``samples``) decides
    where a legacy map definition can be read in two ways.  ``verbose`` shows the verifier's log on stderr.
    ``settings`` are values for global variables.  ``export``: path of a unix socket, where another process
    waits for the object's maps (tc filters and actions only).  ``migrate``: a pinned map that differs from
    the object's is replaced by one that is filled from it, once the program is in service; ``lossy``: also
    where members would be dropped; ``dry_run``: ``plan_migration`` alone is wanted.
    """

    path: str
    section: str | None = None
    program: str | None = None
    maps_abi: str | None = None
    verbose: bool = False
    settings: tuple[Setting, ...] = ()
    export: str | None = None
    migrate: bool = False
    lossy: bool = False
    dry_run: bool = False


ProgramSource: TypeAlias = ObjectSource | Reference


class ClassicSource(NamedTuple):
    """A classic BPF program for a filter or action: ``struct sock_filter``, 8 bytes an instruction."""

    code: bytes


Warn: TypeAlias = Callable[[str], object]
Before: TypeAlias = Callable[[], object]


def nothing() -> None:
    pass


class OpenProgram(NamedTuple):
    """A program ready to be attached, and what its hook is told of where it comes from."""

    fd: int
    annotation: str
    warnings: list[str]
    pinned_maps: Callable[[], frozenset[int]]  # kernel ids
    section: str = ""
    export: Callable[[], None] = nothing  # hand its maps on, if that was asked for


class _Outbox:
    """Where the maps of a source go once its program is attached: ``export``, else $TC_BPF_UDS.

    The connection is made first, so that a socket that nobody reads changes nothing; the maps go last, so
    that whoever gets them knows that their program is attached.
    """

    def __init__(self, source: ProgramSource, stack: ExitStack, warn: Warn) -> None:
        self._exporter: Exporter | None = None
        self._asked = False
        self._warn = warn
        if isinstance(source, ObjectSource):
            path = os.environ.get("TC_BPF_UDS") if source.export is None else source.export
            if path is not None:
                from bpfctl.loader.export import Exporter

                self._asked = source.export is not None
                self._exporter = stack.enter_context(Exporter(path))

    def check(self, obj: ObjectSpec) -> None:
        """An error, for $TC_BPF_UDS a warning, when ``obj`` has nothing to send."""
        if self._exporter:
            try:
                self._exporter.check(obj)
            except NotFoundError as error:
                if self._asked:
                    raise
                self._warn(f"{error} (TC_BPF_UDS)")
                self._exporter = None

    def send(self, loaded: LoadedObject) -> None:
        """Send the maps, if that was asked for."""
        if self._exporter:
            self._exporter.send(loaded)


def open_source(
    source: ProgramSource,
    program_type: int | None,
    transaction: Transaction,
    stack: ExitStack,
    session: Session | None,
    ifindex: int = 0,
    exports: bool = False,
    warn: Warn = _python_warning,
    alone: bool = True,
) -> OpenProgram:
    """The program that ``source`` names, open as long as ``stack``.

    ``ifindex``: the device to load for when the program is to be offloaded.  ``exports``: the hook is
    one whose maps can be handed on.  ``warn`` is told what ``migrate`` did, when ``transaction`` ends.
    Unless it is the ``alone`` one of its command, it is open until ``transaction`` ends, whatever
    ``session`` loads next.
    """
    if isinstance(source, Reference):
        fd = stack.enter_context(open_program(resolved(source)))
        return OpenProgram(fd.number, reference_annotation(source), [], frozenset)
    from bpfctl.loader import LoadRequest
    from bpfctl.objfile.select import select_for_hook

    if source.export is not None and not exports:
        raise UsageError("export: maps are handed over by tc filters and actions only")
    if source.dry_run:
        raise UsageError("dry-run: not for this command", hint="filter and link have it")
    outbox = _Outbox(source, stack, warn) if exports else None
    obj, session = read_source(source, session, stack)
    chosen, remark = select_for_hook(obj, program_type, section=source.section, program=source.program)
    if outbox:
        outbox.check(obj)
    request = LoadRequest(
        (chosen.name,),
        program_type,
        ifindex=ifindex,
        verbose=source.verbose,
        relaxed_maps=True,
        migrate=source.migrate,
        lossy=source.lossy,
        warn=warn,
    )
    if alone:
        loaded = session.load(obj, request, transaction)
    else:
        loaded = transaction.hold(session.load_apart(obj, request, transaction))
    warnings = [f"{obj.path}: {warning}" for warning in obj.warnings] + loaded.warnings
    if remark:
        warnings.append(Note(remark))
    return OpenProgram(
        loaded.program(chosen.name).fd.number,
        annotation(source.path, chosen.section),
        warnings,
        loaded.pinned_map_ids,
        chosen.section,
        partial(outbox.send, loaded) if outbox else nothing,
    )


def read_source(
    source: ObjectSource, session: Session | None, stack: ExitStack
) -> tuple[ObjectSpec, Session]:
    """The object of ``source``, and the session to load it in: the one given, else one of its own."""
    if source.lossy and not (source.migrate or source.dry_run):
        raise UsageError("lossy: it says how to migrate", hint="migrate lossy")
    if session is None:
        from bpfctl.loader import Session

        session = stack.enter_context(Session())
    return session.read(source.path, source.maps_abi, source.settings), session


def annotation(path: str, part: str) -> str:
    """``x.o:[classifier]``, as iproute2 has it; cut to what the kernel takes."""
    text = f"{os.path.basename(path)}:[{part}]".encode("utf-8", "surrogateescape")
    return text[:_ANNOTATION_BYTES].decode("utf-8", "ignore")


def reference_annotation(reference: Reference) -> str:
    if reference.by == "pinned":
        return annotation(reference.value, "*fsobj")
    return annotation(reference.by, reference.value)


def pass_on(warnings: list[str], warn: Warn) -> None:
    for warning in warnings:
        warn(warning)


def resolved(reference: Reference) -> Reference:
    """``reference`` with a pinned path ``m:REST`` spelled out."""
    if reference.by != "pinned" or not reference.value.startswith("m:"):
        return reference
    from bpfctl.loader.pins import resolve_pin_path

    return reference._replace(value=resolve_pin_path(reference.value))
