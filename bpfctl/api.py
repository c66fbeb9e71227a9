"""The verbs of bpfctl as functions: what each command of the command line does, for Python.

A program to attach is named by a :class:`ObjectSource` (load it from an object file) or a
:class:`Reference` (one that is loaded).  Loading and attaching together are all or nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from warnings import warn as _python_warning

from bpfctl.errors import AlreadyAttachedError, KernelError, printable
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from bpfctl.attach.tc import FilterChange, FilterRequest
    from bpfctl.attach.xdp import XdpChange, XdpMode
    from bpfctl.inventory.records import ProgramInfo
    from bpfctl.loader import Session, Transaction

_ANNOTATION_BYTES = 255  # CLS_BPF_NAME_LEN less its NUL (net/sched/cls_bpf.c)


class ObjectSource(NamedTuple):
    """A program in an object file, to be loaded.

    ``section`` and ``program`` (a function name) choose one; with neither, iproute2's default section for
    the hook, or the only program that suits.  ``maps_abi`` (``iproute2``, ``libbpf``, ``samples``) decides
    where a legacy map definition can be read in two ways.  ``verbose`` shows the verifier's log on stderr.
    """

    path: str
    section: str | None = None
    program: str | None = None
    maps_abi: str | None = None
    verbose: bool = False


ProgramSource: TypeAlias = ObjectSource | Reference


Warn: TypeAlias = Callable[[str], object]

# --- hooks ---


def attach_xdp(
    device: str,
    source: ProgramSource,
    *,
    mode: str = "xdp",
    force: bool = False,
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> XdpChange:
    """Attach an XDP program to ``device``; whatever was made for it is gone again if that fails.

    ``mode``: ``xdp`` (native where the driver can), ``xdpgeneric``, ``xdpdrv`` or ``xdpoffload``.  An
    occupied slot is AlreadyAttachedError unless ``force``.  ``session`` keeps the object for the next
    call; ``warn`` is called with each remark about it.
    """
    from bpfctl.attach import xdp
    from bpfctl.loader import Transaction

    slot = xdp.XdpMode(mode)
    ifindex = _index(device) if slot is xdp.XdpMode.OFFLOAD else 0
    with Transaction() as transaction, ExitStack() as stack:
        program = _open_source(source, ProgramType.XDP, transaction, stack, session, ifindex)
        _pass_on(program.warnings, warn)
        try:
            with transaction.step():
                return xdp.attach(device, program.fd, mode=slot, force=force, transaction=transaction)
        except AlreadyAttachedError as taken:
            twin = _attached_twin(device, slot, program) if taken.errno == errno.EBUSY else None
            if twin is None:
                raise
            return twin


def _attached_twin(device: str, slot: XdpMode, program: _OpenProgram) -> XdpChange | None:
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
    source: ProgramSource,
    *,
    how: str = "add",
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> FilterChange:
    """Put a program into a cls_bpf filter: ``how`` is ``add``, ``replace`` or ``change``, as in tc(8).

    The filter's annotation says where the program came from, unless ``request.name`` says something
    else.  All or nothing, ``session`` and ``warn`` as in :func:`attach_xdp`.
    """
    from bpfctl.attach import tc
    from bpfctl.loader import Transaction

    verb = {"add": tc.add, "replace": tc.replace, "change": tc.change}[how]
    ifindex = _index(request.device) if request.skip_sw else 0
    with Transaction() as transaction, ExitStack() as stack:
        program = _open_source(source, ProgramType.SCHED_CLS, transaction, stack, session, ifindex)
        _pass_on(program.warnings, warn)
        request = request._replace(name=request.name or program.annotation)
        with transaction.step():
            return verb(request, program.fd, transaction=transaction)


def _index(device: str) -> int:
    """The ``ifindex`` that an offloaded program is loaded for."""
    from bpfctl.attach import xdp

    return xdp.list_interfaces(device)[0].ifindex


# --- loading and pinning ---


def load_program(
    source: ObjectSource,
    path: str,
    *,
    program_type: int | None = None,
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> ProgramInfo:
    """Load one program and pin it at ``path``; its maps are made, reused and pinned as the object says.

    ``program_type`` overrides what the section's name says.  ``path`` may begin with ``m:``, which is
    iproute2's folder of the bpffs.
    """
    from bpfctl.inventory.listing import program_info
    from bpfctl.loader import Transaction

    with Transaction() as transaction, ExitStack() as stack:
        program = _open_source(source, program_type, transaction, stack, session)
        _pass_on(program.warnings, warn)
        _pin(program.fd, path, transaction)
        return program_info(program.fd)


def pin_program(reference: Reference, path: str) -> None:
    """Pin a loaded program at ``path`` (see :func:`load_program`)."""
    from bpfctl.loader import Transaction

    with Transaction() as transaction, open_program(resolved(reference)) as fd:
        _pin(fd.number, path, transaction)


def pin_map(reference: Reference, path: str) -> None:
    """Pin a map at ``path``."""
    from bpfctl.loader import Transaction

    with Transaction() as transaction, open_map(resolved(reference)) as fd:
        _pin(fd.number, path, transaction)


def resolved(reference: Reference) -> Reference:
    """``reference`` with a pinned path ``m:REST`` spelled out."""
    if reference.by != "pinned" or not reference.value.startswith("m:"):
        return reference
    from bpfctl.loader.pins import resolve_pin_path

    return reference._replace(value=resolve_pin_path(reference.value))


def _pin(fd: int, path: str, transaction: Transaction) -> None:
    from bpfctl.loader.pins import new_pin_path, pin

    path = new_pin_path(path, transaction)
    if not pin(fd, path, transaction):
        what = f"cannot pin to {printable(path, 4096)}"
        raise KernelError(what, call="BPF_OBJ_PIN", errno=errno.EEXIST, hint="another name, or rm it first")


# --- one program, from wherever it comes ---


class _OpenProgram(NamedTuple):
    """A program ready to be attached, and what its hook is told of where it comes from."""

    fd: int
    annotation: str
    warnings: list[str]
    pinned_maps: Callable[[], frozenset[int]]  # kernel ids


def _open_source(
    source: ProgramSource,
    program_type: int | None,
    transaction: Transaction,
    stack: ExitStack,
    session: Session | None,
    ifindex: int = 0,
) -> _OpenProgram:
    """The program that ``source`` names, open as long as ``stack``.

    ``ifindex``: the device to load for when the program is to be offloaded.
    """
    if isinstance(source, Reference):
        fd = stack.enter_context(open_program(resolved(source)))
        return _OpenProgram(fd.number, _reference_annotation(source), [], frozenset)
    from bpfctl.loader import LoadRequest, Session
    from bpfctl.objfile.select import select_program

    if session is None:
        session = stack.enter_context(Session())
    obj = session.read(source.path, source.maps_abi)
    chosen = select_program(obj, program_type, section=source.section, program=source.program)
    request = LoadRequest((chosen.name,), program_type, ifindex=ifindex, verbose=source.verbose)
    loaded = session.load(obj, request, transaction)
    warnings = [f"{obj.path}: {warning}" for warning in obj.warnings] + loaded.warnings
    return _OpenProgram(
        loaded.program(chosen.name).fd.number,
        _annotation(source.path, chosen.section),
        warnings,
        loaded.pinned_map_ids,
    )


def _annotation(path: str, part: str) -> str:
    """``x.o:[classifier]``, as iproute2 has it; cut to what the kernel takes."""
    text = f"{os.path.basename(path)}:[{part}]".encode("utf-8", "surrogateescape")
    return text[:_ANNOTATION_BYTES].decode("utf-8", "ignore")


def _reference_annotation(reference: Reference) -> str:
    if reference.by == "pinned":
        return _annotation(reference.value, "*fsobj")
    return _annotation(reference.by, reference.value)


def _pass_on(warnings: list[str], warn: Warn) -> None:
    for warning in warnings:
        warn(warning)
