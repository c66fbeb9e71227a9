"""The entry and return of many functions of the kernel, by trampolines under one link."""

from __future__ import annotations

import errno

from bpfctl.attach.link_refusals import need, refused
from bpfctl.attach.pattern import is_pattern, matcher
from bpfctl.attach.tracepoint import mounted
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, KernelError, NotFoundError, printable
from bpfctl.kernel import link, probe, tracefs
from bpfctl.kernel.fd import Fd
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.live import Program

# Of one function, and bytes of each (kernel/bpf/btf.c, btf_distill_func_proto).
_MAX_PARAMETERS, _MAX_SIZE = 12, 16
_HINTS = {
    errno.EINVAL: "a function among them cannot be traced",
    errno.ENOENT: "a function among them is not where the kernel's types say",
    errno.EOPNOTSUPP: "this architecture has no trampolines for many functions",
}


def attach(program: Program) -> Fd:
    """The link of ``program`` to the function that its section names, or to all that the pattern fits."""
    spec = program.spec
    module, _, pattern = spec.target.rpartition(":")
    if module not in ("", "vmlinux"):
        raise BpfctlError(
            f"program {printable(program.name)}: section {printable(spec.section)}: functions of modules "
            "are not attached to under one link",
            hint="name each in a section of its own: fentry/MODULE:FUNCTION",
        )
    ids = _type_ids(program, pattern)
    try:
        return Fd(link.tracing_multi(program.fd.number, spec.attach_type, ids))
    except OSError as error:
        need(probe.TRACING_MULTI, program, error)
        where = f"{pattern} ({len(ids)} functions)"
        raise refused(program, where, error, "BPF_LINK_CREATE", _HINTS) from error


def _type_ids(program: Program, pattern: str) -> list[int]:
    """Of each function that ``pattern`` fits, if ftrace stops at it and a trampoline takes its arguments."""
    names = _names(program, pattern) if is_pattern(pattern) else [pattern]
    btf = KernelTypes().vmlinux()
    found = btf.find_each(names, Kind.FUNC)
    ids = sorted(type_id for type_id in found.values() if fits_trampoline(btf, type_id))
    if not ids:
        raise NotFoundError(
            f"cannot attach program {printable(program.name)}: no function that can be traced is named like "
            f"{printable(pattern)}",
            hint="available_filter_functions in tracefs lists them; the kernel's types must have them too",
        )
    return ids


def _names(program: Program, pattern: str) -> set[str]:
    fits = matcher(pattern)
    try:
        return {name for _, name in tracefs.traceable_functions(mounted(program)) if fits(name)}
    except OSError as error:
        what = "cannot read the functions that can be traced"
        raise KernelError(what, call="open", errno=error.errno or 0) from error


def fits_trampoline(btf: Btf, type_id: int) -> bool:
    """Whether a trampoline can pass on the arguments of function ``type_id``: as libbpf, before it asks."""
    prototype = btf.size_or_type(type_id)
    parameters = btf.params(prototype)
    if len(parameters) > _MAX_PARAMETERS or _is_struct(btf, btf.size_or_type(prototype)):
        return False
    return all(parameter.type_id and _size(btf, parameter.type_id) <= _MAX_SIZE for parameter in parameters)


def _is_struct(btf: Btf, type_id: int) -> bool:
    return bool(type_id) and btf.kind(btf.skip_modifiers(type_id)) in (Kind.STRUCT, Kind.UNION)


def _size(btf: Btf, type_id: int) -> int:
    plain = btf.skip_modifiers(type_id)
    return btf.resolve_size(plain) if plain else _MAX_SIZE + 1
