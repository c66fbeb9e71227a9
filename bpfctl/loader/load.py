"""The load, step by step: BTF, maps, programs, program arrays, and last the pins."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from warnings import warn as _python_warning

from bpfctl.errors import KernelError, NotFoundError, printable
from bpfctl.kernel import bpf
from bpfctl.loader.graft import slot_restorer
from bpfctl.loader.live import LoadedObject, Map
from bpfctl.loader.maps import MAP_IN_MAP, MapMaker, check_definition, unknown_members
from bpfctl.loader.object_btf import load_btf
from bpfctl.loader.pins import NoPins, PinPlan, pin
from bpfctl.loader.programs import ProgramRequest, check_native, load_program, request_type
from bpfctl.loader.reuse import check_owner
from bpfctl.loader.transaction import Transaction
from bpfctl.objfile import Linker, kernel_btf
from bpfctl.objfile.externs import KCONFIG
from bpfctl.objfile.spec import MapOrigin, MapSpec, ObjectSpec, ProgramSpec
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import AttachType, MapType, ProgramType

if TYPE_CHECKING:
    from bpfctl.loader.externs import Externs
    from bpfctl.loader.given import GivenMap
    from bpfctl.loader.kernel_types import KernelTypes
    from bpfctl.objfile.spec import LinkedProgram

_WITH_TARGET = frozenset({ProgramType.TRACING, ProgramType.LSM, ProgramType.EXT})
_USDT = ("usdt", "usdt.s")
_RACES = 10  # each lost race leaves one pin fewer to race for


class AttachTarget(NamedTuple):
    """What a command says in place of a section's name: a function, a hook ...; "": as the section says.

    ``program_fd``: an open program that it is in, which the caller keeps open; 0: the kernel.
    """

    function: str = ""
    program_fd: int = 0


class LoadRequest(NamedTuple):
    """What to load of an object, and as what.

    ``programs``: names; program arrays add the programs that they are filled with.
    ``program_type``/``attach_type``: None takes them from the section name.  ``pin_root``: directory
    of LIBBPF_PIN_BY_NAME maps, None for iproute2's globals.  ``ifindex``: device to offload to.
    ``verbose``: show the verifier's log, on stderr.  ``btf_path``: a file of raw BTF, whose types stand for
    the kernel's in CO-RE.  ``trial``: nothing is to stay: the programs alone, without those that program
    arrays are filled with; all maps are new, whatever is pinned, and none is pinned.  ``relaxed_maps``: as
    iproute2, pass over unknown members of BTF-defined maps, which are an error to libbpf.  ``target``: what
    programs are for, where that is a type or function; None takes it from the section name.  ``maps``: open
    maps in the place of the object's; ``pin_maps``: a directory for the maps that the object does not pin.
    ``migrate``: a pinned map that differs from the object's is replaced by a new one, filled from it; its pin
    follows when the transaction ends, after the program is attached; ``warn`` is told then.  ``lossy``: also
    if members are dropped.
    """

    programs: tuple[str, ...]
    program_type: int | None = None
    attach_type: int | None = None
    pin_root: str | None = None
    ifindex: int = 0
    verbose: bool = False
    btf_path: str | None = None
    trial: bool = False
    relaxed_maps: bool = False
    target: AttachTarget | None = None
    maps: tuple[GivenMap, ...] = ()
    pin_maps: str | None = None
    migrate: bool = False
    lossy: bool = False
    warn: Callable[[str], object] = _python_warning


class _RaceLostError(Exception):
    """Another command pinned a map of that name first: load again, with its map."""


def load(
    obj: ObjectSpec, request: LoadRequest, transaction: Transaction, kernel: KernelTypes | None = None
) -> LoadedObject:
    """Create or reuse the maps of ``obj``, load its programs and pin what is to be pinned.

    The caller closes the result.  What is made is undone by ``transaction``; pins come last, so that
    a name in bpffs always leads to a complete map.  ``kernel``: what ``kernel_types`` gave, where several
    loads share it.  Raises ObjectFileError, KernelError (VerifierError among them) and PinMismatchError.
    """
    check_native(obj.byte_order, obj.path)
    for spec in obj.maps.values():
        check_definition(spec, obj.path, relaxed=request.relaxed_maps)
    if kernel is not None:
        return _load(obj, request, transaction, kernel)
    kernel = kernel_types(obj, request.btf_path, request.program_type)
    try:
        return _load(obj, request, transaction, kernel)
    finally:
        if kernel:
            kernel.close()


def _load(
    obj: ObjectSpec, request: LoadRequest, transaction: Transaction, kernel: KernelTypes | None
) -> LoadedObject:
    """:func:`load`, again and again while others win the race for a pin."""
    for _ in range(_RACES):
        loaded = LoadedObject(obj)
        try:
            _load_once(loaded, request, transaction, kernel)
        except _RaceLostError:
            loaded.close()
        except BaseException:
            loaded.close()
            raise
        else:
            return loaded
    raise KernelError(f"{obj.path}: other commands keep replacing the pins of its maps")


def kernel_types(
    obj: ObjectSpec, btf_path: str | None, program_type: int | None = None
) -> KernelTypes | None:
    """What ``obj`` asks the kernel's types for, still unopened; None for an object that asks nothing.

    ``program_type``: that of the request.
    """
    has_core = obj.btf_ext is not None and bool(obj.btf_ext.core_relocations.sections)
    types = {program_type, *(program.program_type for program in obj.programs.values())}
    if not (has_core or obj.externs or _has_struct_ops(obj) or types & _WITH_TARGET):
        return None
    from bpfctl.loader.kernel_types import KernelTypes

    return KernelTypes(btf_path)


def _load_once(
    loaded: LoadedObject, request: LoadRequest, transaction: Transaction, kernel: KernelTypes | None
) -> None:
    specs = _programs_to_load(loaded.spec, request)
    _fit_struct_ops(loaded, request.programs, kernel)
    how = {spec.name: _program_request(spec, loaded, specs[0], request) for spec in specs}
    loaded.warnings += _member_warnings(loaded.spec)
    loaded.warnings += [] if request.trial else _tail_call_warnings(loaded.spec, request)
    externs = _resolve_externs(loaded, kernel)
    core = kernel.relocator(loaded.spec) if kernel else None
    linker = Linker(loaded.spec, core)
    linked = {spec.name: linker.link(spec.name) for spec in specs}
    if externs:
        linked = {name: externs.apply(program) for name, program in linked.items()}
        how = {name: one._replace(fd_array=externs.fd_array) for name, one in how.items()}
    how = _with_targets(loaded.spec, how, request, kernel)
    loaded.warnings += kernel.new_warnings() if kernel else []
    types, linked = _without_tags(loaded.spec, linked, how)
    _load_types(loaded, types)
    plan = NoPins() if request.trial else _pin_plan(loaded.spec, request, transaction)
    MapMaker(loaded, plan, request).make_all()
    for spec in specs:
        _check_reused_arrays(loaded, how[spec.name].program_type)
        loaded.programs[spec.name] = load_program(loaded, spec, linked[spec.name], how[spec.name])
    if request.trial:
        return
    _bind_constants(loaded)
    _fill_new_arrays(loaded)
    _fill_struct_ops(loaded)
    _pin_new(loaded, transaction)
    if request.migrate:
        from bpfctl.loader.migrate import prepare

        prepare(loaded, transaction, request.warn)
    _fill_reused_arrays(loaded, transaction)


def _resolve_externs(loaded: LoadedObject, kernel: KernelTypes | None) -> Externs | None:
    if not loaded.spec.externs or kernel is None:
        return None
    externs = kernel.externs(loaded.spec)
    loaded.config = externs.config
    return externs


def _pin_plan(obj: ObjectSpec, request: LoadRequest, transaction: Transaction) -> PinPlan:
    return PinPlan(obj, transaction, request.pin_root, request.pin_maps)


def _programs_to_load(obj: ObjectSpec, request: LoadRequest) -> list[ProgramSpec]:
    """The programs asked for, then those that go into program arrays and struct_ops maps, each once."""
    wanted = dict.fromkeys(request.programs)
    for array in _program_arrays(obj) if not request.trial else ():
        wanted.update(dict.fromkeys(target for _, target in _array_entries(obj, array)))
    for spec in _struct_ops_maps(obj, request.programs) if not request.trial else ():
        wanted.update(dict.fromkeys(function.program for function in spec.functions))
    missing = [name for name in wanted if name not in obj.programs]
    if missing:
        raise NotFoundError(f"{obj.path}: no program {printable(missing[0])} in the object")
    return [obj.programs[name] for name in wanted]


def _program_arrays(obj: ObjectSpec) -> list[MapSpec]:
    return [spec for spec in obj.maps.values() if spec.map_type == MapType.PROG_ARRAY]


def _array_entries(obj: ObjectSpec, array: MapSpec) -> list[tuple[int, str]]:
    """(key, program) of ``array``: its `values`, and the sections ``ID/KEY`` that carry its id."""
    entries = list(array.slots)
    by_section = [
        (program.tail_call.key, program.name)
        for program in obj.programs.values()
        if program.tail_call and array.origin is MapOrigin.LEGACY and program.tail_call.map_id == array.id
    ]
    return [(key, name) for key, name in entries] + by_section


def _tail_call_warnings(obj: ObjectSpec, request: LoadRequest) -> list[str]:
    """What of the object's tail calls will not work, though everything loads."""
    arrays = _program_arrays(obj)
    ids = {array.id for array in arrays if array.origin is MapOrigin.LEGACY}
    unreachable = [
        f"{obj.path}: program {printable(program.name)} of section {printable(program.section)} is not "
        f"loaded: no program array of the object has id {program.tail_call.map_id}"
        for program in obj.programs.values()
        if program.tail_call and program.tail_call.map_id not in ids and program.name not in request.programs
    ]
    # The kernel empties an array when its last descriptor and pin are gone (prog_array_map_clear).
    emptied = [
        f"{obj.path}: program array {printable(array.name)} is not pinned: "
        "the kernel empties it when this command ends"
        for array in arrays
        if not array.pinning and _array_entries(obj, array)
    ]
    return unreachable + emptied


def _member_warnings(obj: ObjectSpec) -> list[str]:
    return [
        f"{obj.path}: map {printable(spec.name)}: unknown member {printable(name)} is passed over"
        for spec in obj.maps.values()
        for name in unknown_members(spec)
    ]


def _program_request(
    spec: ProgramSpec, loaded: LoadedObject, main: ProgramSpec, request: LoadRequest
) -> ProgramRequest:
    """How to load ``spec``.

    A section ``ID/KEY`` says nothing: its program gets type and attach type of the one that calls it,
    since a program array holds programs of one kind only (kernel/bpf/core.c, bpf_prog_map_compatible).
    Asked for alone, it gets those of the object's first program.
    """
    model, obj = spec, loaded.spec
    if spec.tail_call:
        callers = (program for program in obj.programs.values() if program.tail_call is None)
        model = next(callers, main) if main.tail_call else main
    program_type = request_type(model, obj.path, request.program_type)
    attach_type = request.attach_type
    if attach_type is None:
        # What the section says of its own type means nothing for another one.
        attach_type = _section_attach_type(model) if program_type == model.program_type else 0
    how = ProgramRequest(
        program_type, attach_type, model.attach_type_optional, request.ifindex, request.verbose
    )
    return _for_struct_ops(how, spec, loaded) if program_type == ProgramType.STRUCT_OPS else how


def _section_attach_type(spec: ProgramSpec) -> int:
    """What the section name says; USDT probes share one link where the kernel has it, as under libbpf."""
    if spec.section.partition("/")[0] in _USDT:
        from bpfctl.kernel import probe

        if probe.UPROBE_MULTI.available():
            return AttachType.TRACE_UPROBE_MULTI
    return spec.attach_type


def _for_struct_ops(how: ProgramRequest, spec: ProgramSpec, loaded: LoadedObject) -> ProgramRequest:
    """A struct_ops program is for one member of one of the kernel's structs."""
    from bpfctl.loader.struct_ops import program_target

    target = program_target(loaded, spec)
    return how._replace(
        attach_type=target.member_index, attach_btf_id=target.attach_btf_id, attach_fd=target.btf_fd
    )


def _with_targets(
    obj: ObjectSpec, how: dict[str, ProgramRequest], request: LoadRequest, kernel: KernelTypes | None
) -> dict[str, ProgramRequest]:
    if not any(one.program_type in _WITH_TARGET for one in how.values()):
        return how
    from bpfctl.loader.targets import with_targets

    return with_targets(obj, how, request.target, kernel.running if kernel else None)


def _has_struct_ops(obj: ObjectSpec) -> bool:
    return any(spec.origin is MapOrigin.STRUCT_OPS for spec in obj.maps.values())


def _struct_ops_maps(obj: ObjectSpec, programs: tuple[str, ...]) -> list[MapSpec]:
    if not _has_struct_ops(obj):
        return []
    from bpfctl.objfile.struct_ops import maps_to_make

    return maps_to_make(obj, programs)


def _fit_struct_ops(loaded: LoadedObject, programs: tuple[str, ...], kernel: KernelTypes | None) -> None:
    specs = _struct_ops_maps(loaded.spec, programs)
    if specs and kernel:
        from bpfctl.loader.struct_ops import fit

        fit(loaded, specs, kernel.running)


def _fill_struct_ops(loaded: LoadedObject) -> None:
    if loaded.struct_ops:
        from bpfctl.loader.struct_ops import fill_values

        fill_values(loaded)


def _without_tags(
    obj: ObjectSpec, linked: dict[str, LinkedProgram], how: Mapping[str, ProgramRequest]
) -> tuple[bytes | None, dict[str, LinkedProgram]]:
    """BTF of ``obj`` and its programs, with what a kernel knows that does not know ``arg:ctx``."""
    types = kernel_btf(obj)
    if types is None or obj.btf is None or b"\0arg:ctx\0" not in types:
        return types, linked
    from bpfctl.kernel import probe

    if not probe.ARG_CTX.missing():
        return types, linked
    from bpfctl.objfile.context_tags import with_contexts

    return with_contexts(obj.btf, {name: (one, how[name].program_type) for name, one in linked.items()})


def load_types(loaded: LoadedObject) -> None:
    """Give the kernel the object's BTF, for its maps alone."""
    _load_types(loaded, kernel_btf(loaded.spec))


def _load_types(loaded: LoadedObject, data: bytes | None) -> None:
    """Give the kernel the object's BTF; all but struct_ops maps works without, so a refusal is a warning."""
    if data is None:
        return
    try:
        loaded.btf, loaded.has_function_types = load_btf(data, loaded.spec.path)
    except OSError as error:
        if _has_struct_ops(loaded.spec):
            what = f"{loaded.spec.path}: the kernel refused the BTF, which struct_ops maps need"
            raise KernelError(what, call="BPF_BTF_LOAD", errno=error.errno or 0) from error
        loaded.warnings.append(
            f"{loaded.spec.path}: the kernel refused the BTF ({error.strerror}); loading without"
        )


def _check_reused_arrays(loaded: LoadedObject, program_type: int) -> None:
    for live in loaded.maps.values():
        if live.reused and live.spec.map_type == MapType.PROG_ARRAY:
            where = f"pinned at {live.pin_path}" if live.pin_path else "that is given"
            check_owner(live.fd, where, program_type)


def _bind_constants(loaded: LoadedObject) -> None:
    """Each program holds the read-only data of its object, used or not, as under libbpf.

    Tools look there for what an object says of itself; a kernel that cannot do it (before 5.10) loses
    nothing else.  The kernel's configuration is read-only too, but says nothing of the object.
    """
    for live in loaded.maps.values():
        if live.spec.frozen and live.spec.name != KCONFIG:
            for program in loaded.programs.values():
                with suppress(OSError):
                    bpf.prog_bind_map(program.fd.number, live.fd.number)


def _fill_new_arrays(loaded: LoadedObject) -> None:
    for live in loaded.maps.values():
        if live.spec.map_type == MapType.PROG_ARRAY and not live.reused:
            for key, name in _array_entries(loaded.spec, live.spec):
                _put_program(loaded, live, key, loaded.program(name).fd.number)


def _fill_reused_arrays(loaded: LoadedObject, transaction: Transaction) -> None:
    """Programs in use change here: the last step, and each one can be put back."""
    for live in loaded.maps.values():
        if live.spec.map_type == MapType.PROG_ARRAY and live.reused:
            for key, name in _array_entries(loaded.spec, live.spec):
                restore = slot_restorer(live.fd.number, key, transaction)
                with transaction.step():
                    _put_program(loaded, live, key, loaded.program(name).fd.number)
                    transaction.undo(f"restore slot {key} of {live.spec.name}", restore)


def _put_program(loaded: LoadedObject, array: Map, key: int, fd: int) -> None:
    try:
        bpf.map_update(array.fd.number, struct.pack("=I", key), struct.pack("=I", fd))
    except OSError as error:
        outside = key >= array.spec.max_entries
        raise KernelError(
            f"{loaded.spec.path}: cannot put a program into slot {key} of {array.spec.name}",
            call="BPF_MAP_UPDATE_ELEM",
            errno=error.errno or 0,
            hint=f"the array has {array.spec.max_entries} slots" if outside else None,
        ) from error


def _pin_new(loaded: LoadedObject, transaction: Transaction) -> None:
    """Pin what is new: inner maps before the outer ones, program arrays last.

    Killed in between, the next run finds no pin that leads to something it would not find itself.
    """
    for live in sorted(loaded.maps.values(), key=_pin_order):
        if live.pin_path is None or live.reused or live.migration:
            continue
        if not pin(live.fd.number, live.pin_path, transaction):
            raise _RaceLostError


def _pin_order(live: Map) -> int:
    if live.spec.map_type == MapType.PROG_ARRAY:
        return 2
    return 1 if live.spec.map_type in MAP_IN_MAP else 0
