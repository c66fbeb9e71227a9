"""Does it load?  Each program of an object on its own, on the running kernel; nothing stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpfctl.errors import (
    BpfctlError,
    BtfError,
    CoreRelocationError,
    KernelError,
    MissingExternError,
    MissingTargetError,
    ObjectFileError,
    RelocationError,
    VerifierError,
)
from bpfctl.kernel import info
from bpfctl.loader import verifier
from bpfctl.loader.load import LoadRequest, load
from bpfctl.loader.transaction import Transaction
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import AttachType, ProgramType, type_name

if TYPE_CHECKING:
    from bpfctl.loader.kernel_types import KernelTypes
    from bpfctl.loader.live import LoadedObject
    from bpfctl.objfile.spec import ObjectSpec, ProgramSpec

OK, FAIL = "ok", "fail"

# Where a load ends, by what failed; the first that fits.
_STAGES: tuple[tuple[type[BpfctlError], str], ...] = (
    (CoreRelocationError, "core"),
    (RelocationError, "relocation"),
    (BtfError, "btf"),
    (ObjectFileError, "object"),
    (VerifierError, "verifier"),
    (MissingExternError, "extern"),
    (MissingTargetError, "target"),
)
_CALLS = {"BPF_MAP_CREATE": "map", "BPF_MAP_UPDATE_ELEM": "map", "BPF_BTF_LOAD": "btf"}


class Verdict(NamedTuple):
    """What became of one program.  Sizes in bytes, instructions in slots of 8 bytes."""

    program: str
    section: str
    type: str | None  # None: neither the section's name nor the command says one
    attach_type: str | None
    autoload: bool  # False: the section's name begins with ``?``
    verdict: str  # "ok" or "fail"
    stage: str | None = (
        None  # what failed: object, btf, extern, relocation, core, target, map, attach, load, verifier
    )
    errno: int | None = None  # the kernel's, where it was the kernel that refused
    reason: str | None = None  # one line
    source: str | None = None  # FILE:LINE: text, where the verifier stopped
    hint: str | None = None
    verified_insns: int | None = None  # instructions that the verifier visited, also of a refused program
    insns: int | None = None  # as handed to the kernel, subprograms included
    bytes_xlated: int | None = None
    bytes_jited: int | None = None
    tag: str | None = None
    maps: tuple[str, ...] | None = None


def verdicts(
    obj: ObjectSpec, names: Sequence[str], request: LoadRequest, kernel: KernelTypes | None
) -> Iterator[Verdict]:
    """Load each program of ``names`` alone, as ``request`` says, and let go of it again.

    Every load starts from nothing: maps are made anew and filled, pins neither used nor made, so what is
    in use on this machine can neither help nor be harmed.
    """
    for name in names:
        yield _verdict(obj, obj.programs[name], request._replace(programs=(name,), trial=True), kernel)


def _verdict(obj: ObjectSpec, spec: ProgramSpec, request: LoadRequest, kernel: KernelTypes | None) -> Verdict:
    given = request.program_type if request.program_type is not None else spec.program_type
    attach = request.attach_type if request.attach_type is not None else spec.attach_type
    start = Verdict(
        program=spec.name,
        section=spec.section,
        type=None if given is None else type_name(ProgramType, given),
        attach_type=type_name(AttachType, attach) if attach else None,
        autoload=spec.autoload,
        verdict=OK,
    )
    try:
        with Transaction() as transaction, load(obj, request, transaction, kernel) as loaded:
            return _accepted(start, loaded)
    except BpfctlError as error:
        return _refused(start, error, obj.path)


def _accepted(start: Verdict, loaded: LoadedObject) -> Verdict:
    program = loaded.program(start.program)
    try:
        facts = info.prog_info(program.fd.number)
        ids = {info.map_info(live.fd.number).id: name for name, live in loaded.maps.items()}
    except OSError as error:
        raise KernelError("cannot read a program's info", errno=error.errno or 0) from error
    return start._replace(
        type=type_name(ProgramType, program.program_type),
        verified_insns=facts.verified_insns,
        insns=len(program.linked.code) // 8,
        bytes_xlated=facts.xlated_prog_len,
        bytes_jited=facts.jited_prog_len,
        tag=facts.tag,
        maps=tuple(ids[number] for number in facts.map_ids if number in ids),
    )


def _refused(start: Verdict, error: BpfctlError, path: str) -> Verdict:
    message = error.reason if isinstance(error, ObjectFileError) else error.message
    refused = start._replace(
        verdict=FAIL, stage=_stage(error), reason=message.removeprefix(f"{path}: "), hint=error.hint
    )
    if isinstance(error, VerifierError):
        visited = verifier.visited_instructions(error.log)
        refused = refused._replace(reason=error.reason, source=error.source, verified_insns=visited)
    if isinstance(error, KernelError) and error.errno:
        refused = refused._replace(errno=error.errno)
    return refused


def _stage(error: BpfctlError) -> str:
    stage = next((stage for kind, stage in _STAGES if isinstance(error, kind)), None)
    if stage is None and isinstance(error, KernelError):
        stage = _CALLS.get(error.call, "load")
    return stage or "object"


def failure(path: str, results: Sequence[Verdict]) -> BpfctlError | None:
    """The error that a command ends with when a program that is loaded by default does not load.

    A KernelError if the kernel refused one, else it was the object: exit status 2 or 1.
    """
    due = [result for result in results if result.autoload] or results
    failed = [result for result in due if result.verdict == FAIL]
    if not failed:
        return None
    kind = KernelError if any(result.errno for result in failed) else BpfctlError
    return kind(f"{path}: {len(failed)} of {len(due)} programs do not load")
