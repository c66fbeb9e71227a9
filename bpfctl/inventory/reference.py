"""How a person names a program or map: ``id N``, ``pinned PATH``, ``name NAME``, ``tag TAG``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from bpfctl.errors import AmbiguousError, KernelError, NotFoundError, UsageError, printable
from bpfctl.inventory import names
from bpfctl.kernel import bpf, bpffs, info
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import permission_hint
from bpfctl.record import NamedTuple
from bpfctl.uapi import Command

_MAX_LISTED = 16  # candidates that an error lists


class Reference(NamedTuple):
    """``by`` is ``id``, ``pinned``, ``name`` or ``tag``; ``value`` what the user gave (an id in decimal)."""

    by: str
    value: str

    def __str__(self) -> str:
        return f"{self.by} {printable(self.value, 4096)}"


class Noun(NamedTuple):
    """One of the kinds of object that an id can mean."""

    word: str
    next_id: Command
    fd_by_id: Command
    matches: Callable[[int, Reference], bool]


def _program_matches(fd: int, reference: Reference) -> bool:
    facts = info.prog_info(fd)
    if reference.by == "tag":
        return facts.tag == reference.value.lower()
    return names.fits(reference.value, facts.name) and reference.value in (
        facts.name,
        names.full_program_name(fd, facts),
    )


def _map_matches(fd: int, reference: Reference) -> bool:
    return names.fits(reference.value, info.map_info(fd).name)


def _btf_matches(fd: int, reference: Reference) -> bool:
    return info.btf_info(fd).name == reference.value


PROGRAM = Noun("program", Command.PROG_GET_NEXT_ID, Command.PROG_GET_FD_BY_ID, _program_matches)
MAP = Noun("map", Command.MAP_GET_NEXT_ID, Command.MAP_GET_FD_BY_ID, _map_matches)
BTF = Noun("BTF object", Command.BTF_GET_NEXT_ID, Command.BTF_GET_FD_BY_ID, _btf_matches)


def open_program(reference: Reference) -> Fd:
    """The program that ``reference`` names; the caller closes it.

    Raises NotFoundError, AmbiguousError (several fit), or KernelError, which names a capability that
    the process lacks: ids, names and tags need CAP_SYS_ADMIN, pins only access to the file.
    """
    return _open(PROGRAM, reference)


def open_map(reference: Reference) -> Fd:
    """The map that ``reference`` names; otherwise as :func:`open_program`."""
    if reference.by == "tag":
        raise UsageError("a map has no tag: name it by id, pinned or name")
    return _open(MAP, reference)


def iter_open(noun: Noun) -> Iterator[Fd]:
    """An open descriptor of every object of that kind, closed before the next one is opened.

    Those that vanish meanwhile are left out.
    """
    try:
        for number in bpf.iter_ids(noun.next_id):
            with suppress(FileNotFoundError), Fd(bpf.get_fd_by_id(noun.fd_by_id, number)) as fd:
                yield fd
    except OSError as error:
        raise _access_error(f"cannot list {noun.word}s", noun.next_id, error) from error


def _open(noun: Noun, reference: Reference) -> Fd:
    if reference.by == "id":
        return open_id(noun, int(reference.value))
    if reference.by == "pinned":
        return _open_pin(noun, reference.value)
    return open_id(noun, _search(noun, reference))


def open_id(noun: Noun, number: int) -> Fd:
    """The object of that kind with this id; the caller closes it.  Raises as :func:`open_program`."""
    try:
        return Fd(bpf.get_fd_by_id(noun.fd_by_id, number))
    except FileNotFoundError as error:
        raise NotFoundError(f"no {noun.word} has id {number}") from error
    except OSError as error:
        raise _access_error(f"cannot open {noun.word} id {number}", noun.fd_by_id, error) from error


def _access_error(what: str, command: Command, error: OSError) -> KernelError:
    hint = None
    if isinstance(error, PermissionError):
        hint = permission_hint("CAP_SYS_ADMIN")
    return KernelError(what, call=f"BPF_{command.name}", errno=error.errno or 0, hint=hint)


def _open_pin(noun: Noun, path: str) -> Fd:
    shown = printable(path, 4096)
    try:
        fd = Fd(bpf.obj_get(path))
    except FileNotFoundError as error:
        raise NotFoundError(f"nothing is pinned at {shown}") from error
    except OSError as error:
        hint = None if bpffs.is_bpffs(path) else "that is no pin: pins are files on a bpffs"
        if hint is None and isinstance(error, PermissionError):
            hint = "opening a pin needs read and write permission on the file, and CAP_BPF"
        what = f"cannot open the pin {shown}"
        raise KernelError(what, call="BPF_OBJ_GET", errno=error.errno or 0, hint=hint) from error
    found = kind_of(fd.number)
    if found != noun.word:
        fd.close()
        raise NotFoundError(f"{shown} is a pinned {found}, not a {noun.word}")
    return fd


def kind_of(fd: int) -> str:
    """``program``, ``map`` or ``link``: what the descriptor of a pin stands for."""
    facts = info.fdinfo(fd)
    return "map" if "map_type" in facts else "program" if "prog_type" in facts else "link"


def _search(noun: Noun, reference: Reference) -> int:
    """The id of the only object that fits."""
    try:
        ids = [_id_of(noun, fd.number) for fd in iter_open(noun) if noun.matches(fd.number, reference)]
    except OSError as error:
        raise KernelError(f"cannot read the info of a {noun.word}", errno=error.errno or 0) from error
    if not ids:
        raise NotFoundError(f"no {noun.word} has {reference}")
    if len(ids) > 1:
        listed = ", ".join(map(str, ids[:_MAX_LISTED])) + (", ..." if len(ids) > _MAX_LISTED else "")
        raise AmbiguousError(f"{len(ids)} {noun.word}s have {reference}: ids {listed}", hint="name it by id")
    return ids[0]


def _id_of(noun: Noun, fd: int) -> int:
    return info.map_info(fd).id if noun is MAP else info.prog_info(fd).id
