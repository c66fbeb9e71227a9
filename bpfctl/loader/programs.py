"""From LinkedProgram to a live program: fds patched in, loaded, and a refusal explained."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping

from bpfctl.errors import BpfctlError, KernelError, NotSupportedError, ObjectFileError, printable
from bpfctl.kernel import bpf, privilege
from bpfctl.kernel.bpf import ProgAttributes, VerifierLog
from bpfctl.kernel.fd import Fd
from bpfctl.loader import verifier
from bpfctl.loader.explain import program_load_hint
from bpfctl.loader.fallbacks import lesser_program
from bpfctl.loader.live import LoadedObject, Program
from bpfctl.objfile.spec import LinkedProgram, ProgramSpec
from bpfctl.record import NamedTuple
from bpfctl.uapi import AttachType, ProgramType, type_name

_LOG_START = 1 << 16
_LOG_MAX = (1 << 30) - 1  # UINT_MAX >> 2, kernel/bpf/log.c; before Linux 5.2 UINT_MAX >> 8
_LOG_MAX_OLD = (1 << 24) - 1
_LOG_BRIEF = 1
_LOG_VERBOSE = 1 | 2
_TRACING_MULTI = (
    AttachType.TRACE_FENTRY_MULTI,
    AttachType.TRACE_FEXIT_MULTI,
    AttachType.TRACE_FSESSION_MULTI,
)


class ProgramRequest(NamedTuple):
    """How to load a program: its type, and what the section name leaves open.

    ``attach_btf_id`` and ``attach_fd`` say what it is for, where that is a type or function: ids of the
    running kernel's BTF, or of the module's or program's whose descriptor ``attach_fd`` is.  ``fd_array``:
    descriptors of the BTF of modules whose functions it calls, from place 1 on.
    """

    program_type: int
    attach_type: int
    attach_type_optional: bool
    ifindex: int
    verbose: bool
    attach_btf_id: int = 0
    attach_fd: int = 0
    fd_array: tuple[int, ...] = ()


def patch_maps(
    linked: LinkedProgram, loaded: LoadedObject, jump_tables: Mapping[str, Fd] | None = None
) -> bytes:
    """``linked.code`` with the fds of the live maps, and of its jump tables, in it.

    The linker has written all but the fd, the imm of a pair's first slot; of a map whose data starts
    somewhere else than at its first byte, also the imm of the second.
    """
    code = bytearray(linked.code)
    words = memoryview(code).cast("I")
    for (name, value_offset), slots in linked.map_loads.items():
        fd, start = _place_of(linked, name, loaded, jump_tables or {})
        for slot in slots:
            words[slot * 2 + 1] = fd
        if start:
            for slot in slots:
                words[slot * 2 + 3] = (value_offset or 0) + start & 0xFFFFFFFF
    return bytes(code)


def _place_of(
    linked: LinkedProgram, name: str, loaded: LoadedObject, jump_tables: Mapping[str, Fd]
) -> tuple[int, int]:
    if name in jump_tables:
        return jump_tables[name].number, 0
    live = loaded.maps.get(name)
    if live is None:
        raise _not_made(linked, name, loaded.spec.path)
    return live.fd.number, live.data_offset


def _not_made(linked: LinkedProgram, name: str, path: str) -> NotSupportedError:
    return NotSupportedError(
        f"{path}: program {printable(linked.name)} uses variables of section {printable(name)}, which this "
        "kernel cannot hold",
        feature="percpu_data" if name.startswith(".percpu") else "global_data",
        hint="`bpfctl feature` shows what it can",
    )


def load_program(
    loaded: LoadedObject, spec: ProgramSpec, linked: LinkedProgram, request: ProgramRequest
) -> Program:
    """BPF_PROG_LOAD of ``linked``.

    Raises VerifierError with source line and the log lines that matter, KernelError for a refusal
    without a log, ObjectFileError for a licence text that cannot be passed on.
    """
    tables = _jump_tables(linked, loaded.spec.path)
    try:
        attributes = _attributes(loaded, spec, linked, request, patch_maps(linked, loaded, tables))
        fd = _load(loaded, spec, linked, attributes, request)
    finally:
        for table in tables.values():
            table.close()  # the program holds its own
    return Program(spec, linked, request.program_type, Fd(fd), loaded.maps)


def _jump_tables(linked: LinkedProgram, path: str) -> dict[str, Fd]:
    if not linked.jump_tables:
        return {}
    from bpfctl.loader.jump_tables import make_jump_tables

    return make_jump_tables(linked, path)


def _attributes(
    loaded: LoadedObject, spec: ProgramSpec, linked: LinkedProgram, request: ProgramRequest, code: bytes
) -> ProgAttributes:
    btf = loaded.btf
    has_functions = btf is not None and loaded.has_function_types
    return ProgAttributes(
        prog_type=request.program_type,
        code=code,
        license=loaded.spec.license,
        name=spec.name,
        expected_attach_type=request.attach_type,
        flags=spec.flags,
        kern_version=loaded.spec.version or 0,
        ifindex=request.ifindex,
        btf_fd=btf.number if btf else 0,
        func_info=linked.func_info if has_functions else b"",
        func_info_size=linked.func_info_size,
        line_info=linked.line_info if has_functions else b"",
        line_info_size=linked.line_info_size,
        attach_btf_id=request.attach_btf_id,
        attach_fd=request.attach_fd,
        fd_array=request.fd_array,
    )


def _load(
    loaded: LoadedObject,
    spec: ProgramSpec,
    linked: LinkedProgram,
    attributes: ProgAttributes,
    request: ProgramRequest,
) -> int:
    try:
        if request.verbose:
            return _load_with_log(attributes, spec)
        return _load_plain(attributes)
    except OSError as error:
        lesser = lesser_program(attributes, error, attach_type_optional=request.attach_type_optional)
        return _explain(loaded, spec, linked, lesser or attributes, error, request.verbose)


def _load_plain(attributes: ProgAttributes) -> int:
    try:
        return bpf.prog_load(attributes)
    except PermissionError:
        if not privilege.raise_memlock():
            raise
        return bpf.prog_load(attributes)


def _load_with_log(attributes: ProgAttributes, spec: ProgramSpec) -> int:
    """Load and show the log on stderr even on success; a log that is too long never fails a load."""
    log = VerifierLog(_LOG_VERBOSE, _LOG_START)
    fd = load_logged(attributes, log)
    print(f"Verifier analysis of {printable(spec.name)}:\n{log.text}", file=sys.stderr)
    return fd


def load_logged(attributes: ProgAttributes, log: VerifierLog) -> int:
    """Load with ``log``, growing its buffer as far as the kernel allows.

    ENOSPC means that the log did not fit: since Linux 6.4 the kernel says how much it needs, before
    that the buffer is doubled; at the limit the program is loaded without a log.
    """
    while True:
        try:
            return bpf.prog_load(attributes, log)
        except OSError as error:
            if error.errno == errno.EINVAL and not log.text and log.size > _LOG_MAX_OLD:
                log.size = _LOG_MAX_OLD
            elif error.errno != errno.ENOSPC:
                raise
            elif log.size in (_LOG_MAX, _LOG_MAX_OLD):
                return bpf.prog_load(attributes)
            else:
                log.size = min(max(log.true_size, 2 * log.size), _LOG_MAX)


def _explain(
    loaded: LoadedObject,
    spec: ProgramSpec,
    linked: LinkedProgram,
    attributes: ProgAttributes,
    first: OSError,
    verbose: bool,
) -> int:
    """Load once more for the log; returns the fd should the kernel have changed its mind."""
    log = VerifierLog(_LOG_VERBOSE if verbose else _LOG_BRIEF, _LOG_START)
    try:
        return load_logged(attributes, log)
    except OSError as error:
        number = error.errno or first.errno or 0
    _need_tracing_multi(loaded, spec, attributes, first)
    if log.text.strip():
        raise verifier.refusal(loaded.spec, spec, linked, log.text, number, whole=verbose) from first
    raise KernelError(
        f"{loaded.spec.path}: the kernel refused program {printable(spec.name)} "
        f"(section {printable(spec.section)}, type {type_name(ProgramType, attributes.prog_type)}, "
        f"{len(linked.code) // 8} instructions) without a verifier log",
        call="BPF_PROG_LOAD",
        errno=number,
        hint=program_load_hint(number, attributes),
    ) from first


def _need_tracing_multi(
    loaded: LoadedObject, spec: ProgramSpec, attributes: ProgAttributes, error: OSError
) -> None:
    """NotSupportedError for a program of many functions where the kernel looks for its one target."""
    if attributes.prog_type != ProgramType.TRACING or attributes.expected_attach_type not in _TRACING_MULTI:
        return
    from bpfctl.kernel import probe

    feature = probe.TRACING_MULTI
    if feature.missing():
        raise NotSupportedError(
            f"{loaded.spec.path}: program {printable(spec.name)} (section {printable(spec.section)}): "
            f"the kernel lacks {feature.meaning}",
            feature=feature.name,
            hint=f"Linux {feature.since} has it, if it is configured",
        ) from error


def request_type(spec: ProgramSpec, path: str, wanted: int | None) -> int:
    """The type to load ``spec`` as: the command's, else the section's.

    Raises ObjectFileError when neither says one.
    """
    if wanted is not None:
        return wanted
    if spec.program_type is None:
        raise ObjectFileError(
            f"the section name says nothing of the type of program {printable(spec.name)}",
            path=path,
            section=spec.section,
            hint="say which: type xdp, type sched_cls, ...",
        )
    return spec.program_type


def check_native(byte_order: str, path: str) -> None:
    """BpfctlError for an object of the other byte order: it can be shown, not loaded."""
    if byte_order != sys.byteorder:
        raise BpfctlError(
            f"{path}: the object is {byte_order} endian, this machine is {sys.byteorder} endian",
            hint="compile it with -target bpf, or look at it with `bpfctl obj show`",
        )
