"""uprobes: functions of programs and libraries, in every process that runs them."""

from __future__ import annotations

import errno
import os

from bpfctl.attach import perf_link
from bpfctl.attach.auto import family
from bpfctl.attach.link_refusals import lacks, need, refused
from bpfctl.attach.pattern import is_pattern, matcher
from bpfctl.errors import BpfctlError, NotFoundError, printable
from bpfctl.kernel import link, perf_event, probe, syscall
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program
from bpfctl.objfile.executable import Executable, function_offset
from bpfctl.record import NamedTuple

HINTS = {
    errno.EINVAL: "no instruction begins there, or the file system cannot take uprobes",
    errno.EIO: "the file cannot be probed: its file system does not allow mapping it",
}


class Place(NamedTuple):
    """``path``: a file; ``function``: NAME[@VERSION], or a pattern; ``offset``: bytes into it."""

    path: str
    function: str
    offset: int = 0


def attach(program: Program) -> Fd:
    """The link of ``program`` to FILE:FUNCTION[+OFFSET], at its entry or return."""
    at_return = family(program.spec) == "uretprobe"
    place = _parse(program)
    if at_return and place.offset:
        raise _not_a_place(program, "a return has no offset")
    with Executable(place.path) as binary:
        start = function_offset(binary, place.function) if place.function else 0
    where = f"{'the return of ' if at_return else ''}{place.function} in {place.path}"
    with open_event(program, place.path, start + place.offset, where, at_return=at_return) as event:
        return perf_link.attach(program, event, where)


def open_event(
    program: Program, path: str, offset: int, where: str, *, at_return: bool = False, counter: int = 0
) -> Fd:
    """The event of byte ``offset`` of ``path``, for ``program``; ``where``: what it is, for errors.

    ``counter``: where in the file a semaphore is that counts who listens; 0: there is none.
    """
    try:
        return Fd(perf_event.uprobe(path, offset, at_return=at_return, counter=counter))
    except OSError as error:
        if not perf_event.has_unit("uprobe"):
            raise lacks(program, "uprobes (CONFIG_UPROBE_EVENTS)", "uprobes", "4.17") from error
        raise refused(program, where, error, "perf_event_open", HINTS) from error


def attach_multi(program: Program) -> Fd:
    """The link of ``program`` to all functions of FILE that PATTERN fits."""
    spec = program.spec
    place = _parse(program)
    with Executable(place.path) as binary:
        if is_pattern(place.function):
            offsets = sorted({found.offset for found in binary.functions(matcher(place.function))})
        else:
            offsets = [function_offset(binary, place.function) + place.offset]
    if not offsets:
        raise NotFoundError(f"{printable(place.path)}: no function is named like {printable(place.function)}")
    at_return = family(spec) == "uretprobe.multi"
    try:
        made = link.uprobe_multi(
            program.fd.number, spec.attach_type, place.path, offsets, at_return=at_return
        )
        return Fd(made)
    except OSError as error:
        need(probe.UPROBE_MULTI, program, error)
        where = f"{place.function} in {place.path} ({len(offsets)} functions)"
        raise refused(program, where, error, "BPF_LINK_CREATE", HINTS) from error


def _parse(program: Program) -> Place:
    """FILE:FUNCTION[+OFFSET], or FILE:OFFSET."""
    path, colon, function = program.spec.target.rpartition(":")
    if not colon or not path or not function:
        raise _not_a_place(program, "no FILE:FUNCTION")
    if "!/" in path:
        raise _not_a_place(program, "files inside of archives are not supported")
    name, plus, text = function.partition("+")
    offset = _number(text) if plus else 0
    if not plus and (start := _number(name)) is not None:
        return Place(find_binary(path), "", start)
    if offset is None or not name:
        raise _not_a_place(program, f"{printable(text)!r} is no offset")
    return Place(find_binary(path), name, offset)


def _number(text: str) -> int | None:
    try:
        value = int(text, 8 if text.isdigit() and text.startswith("0") else 0)
    except ValueError:
        return None
    return value if value >= 0 else None


def _not_a_place(program: Program, why: str) -> BpfctlError:
    return BpfctlError(
        f"program {printable(program.name)}: section {printable(program.spec.section)}: {why}",
        hint="it is FILE:FUNCTION, FILE:FUNCTION+OFFSET or FILE:OFFSET, in bytes",
    )


def find_binary(name: str) -> str:
    """The file that ``name`` means: as it stands with a slash, else where libraries or programs are.

    NotFoundError lists the folders that were searched.
    """
    if "/" in name:
        return name
    is_library = name.endswith(".so") or ".so." in name
    if is_library:
        triplet = f"/lib/{syscall.machine()}-linux-gnu"
        folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), "/usr/lib64", "/usr/lib", triplet]
    else:
        folders = [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin"]
    wanted = os.R_OK if is_library else os.R_OK | os.X_OK
    for folder in filter(None, folders):
        if os.access(f"{folder}/{name}", wanted):
            return f"{folder}/{name}"
    searched = ", ".join(dict.fromkeys(filter(None, folders)))
    raise NotFoundError(f"no file {printable(name)} in {searched}", hint="write its whole path")
