"""What a program attaches to, where that is a type or function: tracing, LSM, iterators, other programs.

The kernel checks such a program against its target, so that BPF_PROG_LOAD wants it, as an id of the BTF of
vmlinux, of a module or of the program that is to be traced or replaced in part.
"""

from __future__ import annotations

from collections.abc import Mapping

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import KernelError, MissingTargetError, NotFoundError, ObjectFileError, printable
from bpfctl.kernel import info
from bpfctl.objfile.spec import ObjectSpec, ProgramSpec
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import AttachType, ProgramType

if TYPE_CHECKING:
    from bpfctl.loader.kernel_types import KernelTypes
    from bpfctl.loader.load import AttachTarget
    from bpfctl.loader.programs import ProgramRequest


class _Family(NamedTuple):
    """How the kernel's BTF names the targets of one attach type; ``what`` they are, for messages."""

    prefix: str
    kind: Kind
    what: str


_FUNCTION = _Family("", Kind.FUNC, "function")
_LSM = _Family("bpf_lsm_", Kind.FUNC, "LSM hook")
_FAMILIES: dict[tuple[int, int], _Family] = {
    (ProgramType.TRACING, AttachType.TRACE_RAW_TP): _Family("btf_trace_", Kind.TYPEDEF, "tracepoint"),
    (ProgramType.TRACING, AttachType.TRACE_FENTRY): _FUNCTION,
    (ProgramType.TRACING, AttachType.TRACE_FEXIT): _FUNCTION,
    (ProgramType.TRACING, AttachType.MODIFY_RETURN): _FUNCTION,
    (ProgramType.TRACING, AttachType.TRACE_FSESSION): _FUNCTION,
    (ProgramType.TRACING, AttachType.TRACE_ITER): _Family("bpf_iter_", Kind.FUNC, "iterator"),
    (ProgramType.LSM, AttachType.LSM_MAC): _LSM,
    (ProgramType.LSM, AttachType.LSM_CGROUP): _LSM,
    (ProgramType.EXT, 0): _FUNCTION,
}


def with_targets(
    obj: ObjectSpec,
    requests: Mapping[str, ProgramRequest],
    wanted: AttachTarget | None,
    kernel: KernelTypes | None,
) -> dict[str, ProgramRequest]:
    """``requests``, by program, with the targets of those that need one.

    ``wanted``: what the command names in place of the section's names; descriptors are ``kernel``'s or its.
    Raises ObjectFileError for a program whose section names nothing, MissingTargetError for what the kernel
    does not have, NotFoundError for what the other program does not have.
    """
    names: dict[str, str] = {}
    for name, request in requests.items():
        if _family(request):
            names[name] = _target_name(obj, obj.programs[name], request, wanted)
    found = dict(requests)
    if wanted and wanted.program_fd:
        for name, target in names.items():
            type_id = _in_program(obj, obj.programs[name], target, wanted.program_fd)
            found[name] = requests[name]._replace(attach_btf_id=type_id, attach_fd=wanted.program_fd)
    elif names and kernel:
        for name, (btf, type_id) in _in_kernel(obj, requests, names, kernel).items():
            fd = kernel.descriptor(btf)
            found[name] = requests[name]._replace(attach_btf_id=type_id, attach_fd=fd)
    return found


def _family(request: ProgramRequest) -> _Family | None:
    return _FAMILIES.get((request.program_type, request.attach_type))


def _target_name(
    obj: ObjectSpec, program: ProgramSpec, request: ProgramRequest, wanted: AttachTarget | None
) -> str:
    where = f"program {printable(program.name)}"
    if request.program_type == ProgramType.EXT and not (wanted and wanted.program_fd):
        raise ObjectFileError(
            f"{where} replaces a function of another program, and nothing says of which",
            path=obj.path,
            section=program.section,
            hint="say which: target id N, or target pinned PATH",
        )
    name = (wanted.function if wanted else "") or program.target
    if not name:
        family = _family(request)
        assert family is not None  # else nobody asks
        raise ObjectFileError(
            f"the section's name does not say which {family.what} {where} is for",
            path=obj.path,
            section=program.section,
            hint=f'SEC("{printable(program.section)}/NAME")',
        )
    return name


def _in_kernel(
    obj: ObjectSpec, requests: Mapping[str, ProgramRequest], names: Mapping[str, str], kernel: KernelTypes
) -> dict[str, tuple[Btf, int]]:
    """Whose BTF and which id, by program; all names of one kind are looked for together."""
    wanted: dict[Kind, set[str]] = {}
    for program, name in names.items():
        family = _family(requests[program])
        if family and ":" not in name:
            wanted.setdefault(family.kind, set()).add(family.prefix + name)
    known = {kind: kernel.find_each(found, kind) for kind, found in wanted.items()}
    targets = {}
    for program, name in names.items():
        family = _family(requests[program])
        assert family is not None  # those without are not among ``names``
        module, colon, bare = name.rpartition(":")
        if colon:
            target = kernel.find(family.prefix + bare, family.kind, module)
        else:
            target = known[family.kind].get(family.prefix + name)
        if target is None:
            holder = f"module {printable(module)}" if module not in ("", "vmlinux") else "the kernel"
            raise MissingTargetError(
                f"{obj.path}: {holder} has no {family.what} called {printable(bare)}, which program "
                f"{printable(program)} (section {printable(obj.programs[program].section)}) is for",
                feature=name,
            )
        targets[program] = target
    return targets


def _in_program(obj: ObjectSpec, program: ProgramSpec, name: str, fd: int) -> int:
    """The id of function ``name`` in the BTF of the program ``fd``."""
    try:
        holder = info.prog_info(fd)
        data = info.btf_data(holder.btf_id) if holder.btf_id else b""
    except OSError as error:
        message = f"{obj.path}: cannot read the types of the program that {printable(program.name)} is for"
        raise KernelError(message, call="BPF_OBJ_GET_INFO_BY_FD", errno=error.errno or 0) from error
    label = f"program {printable(holder.name)} (id {holder.id})"
    if not data:
        raise NotFoundError(f"{label} was loaded without types, so that nothing in it can be named")
    btf = Btf.from_bytes(data, path=label, section=None)
    type_id = btf.find(name, Kind.FUNC)
    if type_id is None:
        known = ", ".join(sorted(printable(btf.name(each)) for each in btf.ids(Kind.FUNC))[:20])
        raise NotFoundError(
            f"{obj.path}: {label} has no function {printable(name)}, which program "
            f"{printable(program.name)} is for",
            hint=f"its functions: {known}",
        )
    return type_id
