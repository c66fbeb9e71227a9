"""The verbs of bpfctl as functions: what each command of the command line does, for Python.

A program to attach is named by a :class:`ObjectSource` (load it from an object file) or a
:class:`Reference` (one that is loaded).  Loading and attaching together are all or nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from warnings import warn as _python_warning

from bpfctl.errors import AlreadyAttachedError, KernelError, NotFoundError, UsageError, printable
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from bpfctl.attach.lwt import Encap
    from bpfctl.attach.nexthop import NexthopRequest
    from bpfctl.attach.route import RouteRequest, RouteState
    from bpfctl.attach.tc import FilterChange, FilterRequest
    from bpfctl.attach.xdp import XdpChange, XdpMode
    from bpfctl.inventory.records import MapInfo, ProgramInfo
    from bpfctl.loader import LoadedObject, LoadRequest, Session, Transaction
    from bpfctl.loader.export import Exporter
    from bpfctl.loader.live import Program
    from bpfctl.loader.new_map import NewMap
    from bpfctl.loader.verdict import Verdict
    from bpfctl.objfile import ObjectSpec
    from bpfctl.objfile.spec import ProgramSpec, Setting

_ANNOTATION_BYTES = 255  # CLS_BPF_NAME_LEN less its NUL (net/sched/cls_bpf.c)


class ObjectSource(NamedTuple):
    """A program in an object file, to be loaded.

    ``section`` and ``program`` (a function name) choose one; with neither, iproute2's default section for
    the hook, or the only program that suits.  ``maps_abi`` (``iproute2``, ``libbpf``, ``samples``) decides
    where a legacy map definition can be read in two ways.  ``verbose`` shows the verifier's log on stderr.
    ``settings`` are values for global variables.  ``export``: path of a unix socket, where another process
    waits for the object's maps (tc filters and actions only).
    """

    path: str
    section: str | None = None
    program: str | None = None
    maps_abi: str | None = None
    verbose: bool = False
    settings: tuple[Setting, ...] = ()
    export: str | None = None


ProgramSource: TypeAlias = ObjectSource | Reference


class Tunnel(NamedTuple):
    """What runs in the lightweight tunnel of one way of a route: (hook, program) pairs.

    Hooks are ``in``, ``out`` and ``xmit``, or alone ``endpoint``, which is seg6local's End.BPF.
    ``headroom``: bytes that ``xmit`` may put in front of a packet, at most 256; 0 is none.
    """

    programs: tuple[tuple[str, ProgramSource], ...]
    headroom: int = 0


Warn: TypeAlias = Callable[[str], object]
Before: TypeAlias = Callable[[], object]


def _nothing() -> None:
    pass


# --- hooks ---


def attach_xdp(
    device: str,
    source: ProgramSource,
    *,
    mode: str = "xdp",
    force: bool = False,
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = _nothing,
) -> XdpChange:
    """Attach an XDP program to ``device``; whatever was made for it is gone again if that fails.

    ``mode``: ``xdp`` (native where the driver can), ``xdpgeneric``, ``xdpdrv`` or ``xdpoffload``.  An
    occupied slot is AlreadyAttachedError unless ``force``.  ``session`` keeps the object for the next
    call; ``warn`` is called with each remark about it.  ``before`` is called once the program is loaded,
    before it is attached.
    """
    from bpfctl.attach import xdp
    from bpfctl.loader import Transaction

    slot = xdp.XdpMode(mode)
    ifindex = _index(device) if slot is xdp.XdpMode.OFFLOAD else 0
    with Transaction() as transaction, ExitStack() as stack:
        program = _open_source(source, ProgramType.XDP, transaction, stack, session, ifindex)
        _pass_on(program.warnings, warn)
        before()
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
    before: Before = _nothing,
) -> FilterChange:
    """Put a program into a cls_bpf filter: ``how`` is ``add``, ``replace`` or ``change``, as in tc(8).

    The filter's annotation says where the program came from, unless ``request.name`` says something
    else.  All or nothing, ``session``, ``warn`` and ``before`` as in :func:`attach_xdp`.
    """
    from bpfctl.attach import tc
    from bpfctl.loader import Transaction

    verb = {"add": tc.add, "replace": tc.replace, "change": tc.change}[how]
    ifindex = _index(request.device) if request.skip_sw else 0
    with Transaction() as transaction, ExitStack() as stack:
        outbox = _Outbox(source, stack, warn)
        program = _open_source(
            source, ProgramType.SCHED_CLS, transaction, stack, session, ifindex, outbox=outbox
        )
        _pass_on(program.warnings, warn)
        before()
        request = request._replace(name=request.name or program.annotation)
        with transaction.step():
            change = verb(request, program.fd, transaction=transaction)
        outbox.send(program)
        return change


def attach_route(
    request: RouteRequest,
    tunnels: Sequence[Tunnel | None],
    *,
    how: str = "add",
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = _nothing,
) -> None:
    """Put a route with programs in its tunnels: ``how`` is ``add``, ``append``, ``prepend``, ``replace``
    or ``change``, as in ip(8).

    ``tunnels``: one for each of ``request.legs``, None for a leg without.  All or nothing, ``session``,
    ``warn`` and ``before`` as in :func:`attach_xdp`.
    """
    from bpfctl.attach import route
    from bpfctl.loader import Transaction

    with Transaction() as transaction, ExitStack() as stack:
        encaps = [
            _open_tunnel(tunnel, transaction, stack, session, warn) if tunnel else None for tunnel in tunnels
        ]
        before()
        with transaction.step():
            route.set_route(request, encaps, how, transaction=transaction)


def delete_route(
    request: RouteRequest, tunnels: Sequence[Tunnel | None] = (), *, session: Session | None = None
) -> RouteState:
    """Delete the one route with programs that fits ``request``; nothing is loaded.

    ``tunnels`` are compared by what the kernel shows of a program, which is where it came from.
    """
    from bpfctl.attach import route

    encaps = [_named_tunnel(tunnel, session) if tunnel else None for tunnel in tunnels]
    return route.delete(request, encaps)


def attach_nexthop(
    request: NexthopRequest,
    tunnel: Tunnel,
    *,
    how: str = "add",
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = _nothing,
) -> None:
    """Make a nexthop object with programs in its tunnel: ``how`` is ``add`` or ``replace``."""
    from bpfctl.attach import nexthop
    from bpfctl.loader import Transaction

    with Transaction() as transaction, ExitStack() as stack:
        encap = _open_tunnel(tunnel, transaction, stack, session, warn)
        before()
        with transaction.step():
            nexthop.set_nexthop(request, encap, how, transaction=transaction)


def _open_tunnel(
    tunnel: Tunnel, transaction: Transaction, stack: ExitStack, session: Session | None, warn: Warn
) -> Encap:
    """The programs of ``tunnel``, open as long as ``stack``."""
    from bpfctl.attach.lwt import HOOK_TYPES, new_encap

    opened = []
    for hook, source in tunnel.programs:
        # A session closes what it loaded before when it loads again.
        shared = session if len(tunnel.programs) == 1 else None
        program = _open_source(source, HOOK_TYPES[hook], transaction, stack, shared)
        _pass_on(program.warnings, warn)
        opened.append((hook, program.fd, program.annotation))
    return new_encap(opened, tunnel.headroom)


def _named_tunnel(tunnel: Tunnel, session: Session | None) -> Encap:
    """``tunnel`` by names alone."""
    from bpfctl.attach.lwt import HOOK_TYPES, new_encap
    from bpfctl.objfile.select import select_program

    named = []
    for hook, source in tunnel.programs:
        if isinstance(source, Reference):
            name = _reference_annotation(source)
        else:
            with ExitStack() as stack:
                obj, _ = _read(source, session, stack)
            chosen = select_program(obj, HOOK_TYPES[hook], section=source.section, program=source.program)
            name = _annotation(source.path, chosen.section)
        named.append((hook, -1, name))
    return new_encap(named, tunnel.headroom)


def _index(device: str) -> int:
    """The ``ifindex`` that an offloaded program is loaded for."""
    from bpfctl.attach import xdp

    return xdp.list_interfaces(device)[0].ifindex


def graft(
    path: str,
    source: ProgramSource,
    *,
    key: int | None = None,
    program_type: int = ProgramType.SCHED_CLS,
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> int:
    """Put a program into slot ``key`` of the program array pinned at ``path``; the slot.

    Without ``key`` it is KEY of a section that is called ID/KEY.  ``path`` may begin with ``m:``.
    """
    from bpfctl.loader import Transaction
    from bpfctl.loader.graft import PinnedArray
    from bpfctl.objfile.sections import tail_call

    with Transaction() as transaction, ExitStack() as stack:
        array = stack.enter_context(PinnedArray(resolved(Reference("pinned", path)).value))
        program = _open_source(source, program_type, transaction, stack, session)
        _pass_on(program.warnings, warn)
        if key is None:
            called = tail_call(program.section)
            if called is None:
                raise UsageError(
                    f"{array.shown}: which slot? Section {printable(program.section)!r} does not say it",
                    hint="key N; or a section called ID/KEY",
                )
            key = called.key
        array.put(key, program.fd, transaction)
        return key


# --- loading and pinning ---


class MapChoice(NamedTuple):
    """A map that is there in the place of one of the object's, named by ``name`` or ``number`` from 0."""

    source: Reference
    name: str | None = None
    number: int | None = None


class Target(NamedTuple):
    """What a program is for, in place of its section's name: a function or hook of the kernel.

    ``source``: a loaded program that the function is in (freplace, or fentry and fexit of a program).
    """

    source: Reference | None = None
    function: str = ""


class LoadOptions(NamedTuple):
    """What a command says of a load beside the object: it goes before what the object says.

    ``program_type``, ``attach_type``: numbers; None: what the section's name says.  ``btf_path``: a file
    of raw BTF, whose types stand for the kernel's in CO-RE.  ``autoattach``: attach each program where its
    section's name says, and pin the link in place of the program.  ``maps``: maps that are there, in the
    place of the object's own.  ``pin_maps``: a directory to find or pin those maps in that the object does
    not pin itself.  ``target``: for programs that are verified for one.
    """

    program_type: int | None = None
    attach_type: int | None = None
    btf_path: str | None = None
    autoattach: bool = False
    maps: tuple[MapChoice, ...] = ()
    pin_maps: str | None = None
    target: Target | None = None


def load_program(
    source: ObjectSource,
    path: str,
    *,
    options: LoadOptions | None = None,
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> ProgramInfo:
    """Load one program and pin it at ``path``; its maps are made, reused and pinned as the object says.

    ``path`` may begin with ``m:``, which is iproute2's folder of the bpffs.  With ``autoattach`` it is the
    link that is pinned, and a program that cannot be attached is an error before anything is loaded.
    """
    from bpfctl.loader import Transaction

    options = options or LoadOptions()
    with ExitStack() as stack:
        obj, session = _read(source, session, stack)
        chosen = _choose(obj, source, options)
        if options.autoattach:
            _check_attachable(obj, [chosen.name], options)
        with Transaction() as transaction:
            loaded = _load(obj, [chosen.name], source, options, session, warn, transaction)
            return _keep(loaded.program(chosen.name), path, options.autoattach, transaction)


def load_programs(
    source: ObjectSource,
    directory: str,
    *,
    options: LoadOptions | None = None,
    session: Session | None = None,
    warn: Warn = _python_warning,
) -> list[ProgramInfo]:
    """Load every program of an object and pin each at ``directory``/NAME; all or none.

    Left out are those whose section's name begins with ``?``: the object says that they are not loaded
    by default.  ``directory`` is made where it is missing, and may begin with ``m:``.
    """
    from bpfctl.loader import Transaction
    from bpfctl.loader.directory import pin_directory
    from bpfctl.loader.pins import new_pin_path
    from bpfctl.objfile.select import default_programs

    options = options or LoadOptions()
    with ExitStack() as stack:
        obj, session = _read(source, session, stack)
        names = default_programs(obj, options.program_type)
        if options.autoattach:
            by_name = [name for name in names if not _is_in_table(obj.programs[name])]
            _check_attachable(obj, by_name, options)
        with Transaction() as transaction:
            loaded = _load(obj, names, source, options, session, warn, transaction)
            idle = [spec for spec in obj.programs.values() if spec.name not in loaded.programs]
            left_out = [printable(spec.name) for spec in idle if not spec.autoload]
            if left_out:
                warn(f"{obj.path}: not loaded by default, and left out: {', '.join(left_out)}")
            elif not names:
                warn(f"{obj.path}: the object holds no program, so nothing is pinned")
            directory = new_pin_path(directory, transaction)
            records = []
            with pin_directory(directory, transaction) as staging:
                for name, program in loaded.programs.items():
                    attach = options.autoattach and name in names and not _is_in_table(program.spec)
                    record = _keep(program, f"{staging}/{name}", attach, transaction)
                    records.append(record._replace(pinned=(f"{directory}/{name}",)))
                if options.autoattach:
                    records = _register_links(loaded, staging, records, transaction)
            if options.autoattach:
                _register_unlinked(loaded, transaction)
            return records


def try_programs(
    source: ObjectSource,
    *,
    one: bool = False,
    options: LoadOptions | None = None,
    session: Session | None = None,
) -> list[Verdict]:
    """Load each program of an object alone and let go of it again: what does this kernel say to it?

    All programs, those left out by default too, or the ``one`` that :func:`load_program` would load.
    Nothing is pinned, no pin is used.
    """
    from bpfctl.loader.load import kernel_types
    from bpfctl.loader.verdict import verdicts
    from bpfctl.objfile.select import loadable_programs

    options = options or LoadOptions()
    with ExitStack() as stack:
        obj, session = _read(source, session, stack)
        names = loadable_programs(obj, options.program_type)
        if one or source.section is not None or source.program is not None:
            names = [_choose(obj, source, options).name]
        request = _request(obj, source, options, stack)
        kernel = kernel_types(obj, options.btf_path, options.program_type)
        if kernel:
            stack.callback(kernel.close)
        return list(verdicts(obj, names, request, kernel))


def _read(source: ObjectSource, session: Session | None, stack: ExitStack) -> tuple[ObjectSpec, Session]:
    """The object of ``source``, and the session to load it in: the one given, else one of its own."""
    if session is None:
        from bpfctl.loader import Session

        session = stack.enter_context(Session())
    return session.read(source.path, source.maps_abi, source.settings), session


def _choose(obj: ObjectSpec, source: ObjectSource, options: LoadOptions) -> ProgramSpec:
    from bpfctl.objfile.select import select_program

    kind = options.program_type
    return select_program(obj, kind, section=source.section, program=source.program)


def _load(
    obj: ObjectSpec,
    names: list[str],
    source: ObjectSource,
    options: LoadOptions,
    session: Session,
    warn: Warn,
    transaction: Transaction,
) -> LoadedObject:
    """Load programs ``names`` of ``obj``.

    Maps with LIBBPF_PIN_BY_NAME are pinned in the root of the bpffs, where bpftool and libbpf have them.
    """
    from bpfctl.loader.pins import bpffs_mount, new_pin_path

    by_name = any(spec.pins_by_name for spec in obj.maps.values())
    with ExitStack() as stack:
        request = _request(obj, source, options, stack)._replace(
            programs=tuple(names),
            pin_root=bpffs_mount(transaction) if by_name else None,
            pin_maps=None if options.pin_maps is None else new_pin_path(options.pin_maps, transaction),
        )
        loaded = session.load(obj, request, transaction)
    _pass_on([f"{obj.path}: {warning}" for warning in obj.warnings] + loaded.warnings, warn)
    return loaded


def _request(obj: ObjectSpec, source: ObjectSource, options: LoadOptions, stack: ExitStack) -> LoadRequest:
    """What ``options`` ask for, yet without programs; what it names is open as long as ``stack``."""
    from bpfctl.loader import AttachTarget, LoadRequest
    from bpfctl.loader.given import GivenMap, map_name

    names = [map_name(obj, name=choice.name, number=choice.number) for choice in options.maps]
    fds = [stack.enter_context(open_map(resolved(choice.source))).number for choice in options.maps]
    target = None
    if options.target is not None:
        owner = options.target.source
        fd = stack.enter_context(open_program(resolved(owner))).number if owner else 0
        target = AttachTarget(options.target.function, fd)
    return LoadRequest(
        (),
        options.program_type,
        options.attach_type,
        verbose=source.verbose,
        btf_path=options.btf_path,
        target=target,
        maps=tuple(map(GivenMap, names, fds)),
    )


def _check_attachable(obj: ObjectSpec, names: list[str], options: LoadOptions) -> None:
    from bpfctl.attach import auto

    for name in names:
        auto.check(obj.programs[name], obj.path, has_target=bool(options.target and options.target.function))


def _is_in_table(program: ProgramSpec) -> bool:
    """Whether it is attached with its struct_ops map, not for itself."""
    return program.program_type == ProgramType.STRUCT_OPS


def _register_links(
    loaded: LoadedObject, directory: str, records: list[ProgramInfo], transaction: Transaction
) -> list[ProgramInfo]:
    """Register struct_ops maps, their links pinned as ``directory``/MAP; ``records`` with the links."""
    if not loaded.struct_ops:
        return records
    from bpfctl.attach.struct_ops import register_links

    links = register_links(loaded, lambda fd, name: _pin(fd, f"{directory}/{name}", transaction))
    names = list(loaded.programs)
    return [r._replace(link_id=links.get(name, r.link_id)) for name, r in zip(names, records, strict=True)]


def _register_unlinked(loaded: LoadedObject, transaction: Transaction) -> None:
    if loaded.struct_ops:
        from bpfctl.attach.struct_ops import register_unlinked

        register_unlinked(loaded, transaction)


def _keep(program: Program, path: str, attach: bool, transaction: Transaction) -> ProgramInfo:
    """Pin a program at ``path``, or the link of it if it is to be attached, and say what it is."""
    from bpfctl.inventory.listing import link_id, program_info

    record = program_info(program.fd.number)
    if not attach:
        return record._replace(pinned=(_pin(program.fd.number, path, transaction),))
    from bpfctl.attach import auto

    with auto.attach(program) as link:
        record = record._replace(link_id=link_id(link.number))
        return record._replace(pinned=(_pin(link.number, path, transaction),))


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


def create_map(wanted: NewMap, path: str) -> MapInfo:
    """Make a map that no object defines, and pin it at ``path``."""
    from bpfctl.inventory.listing import map_info
    from bpfctl.loader import Transaction
    from bpfctl.loader.new_map import make_map

    with Transaction() as transaction, make_map(wanted) as fd:
        pinned = _pin(fd.number, path, transaction)
        return map_info(fd.number)._replace(pinned=(pinned,))


def interface_index(device: str) -> int:
    """The number of an interface, for a map or program that is to be offloaded to it."""
    return _index(device)


def resolved(reference: Reference) -> Reference:
    """``reference`` with a pinned path ``m:REST`` spelled out."""
    if reference.by != "pinned" or not reference.value.startswith("m:"):
        return reference
    from bpfctl.loader.pins import resolve_pin_path

    return reference._replace(value=resolve_pin_path(reference.value))


def _pin(fd: int, path: str, transaction: Transaction) -> str:
    from bpfctl.loader.pins import new_pin_path, pin

    path = new_pin_path(path, transaction)
    if not pin(fd, path, transaction):
        what = f"cannot pin to {printable(path, 4096)}"
        raise KernelError(what, call="BPF_OBJ_PIN", errno=errno.EEXIST, hint="another name, or rm it first")
    return path


# --- one program, from wherever it comes ---


class _OpenProgram(NamedTuple):
    """A program ready to be attached, and what its hook is told of where it comes from."""

    fd: int
    annotation: str
    warnings: list[str]
    pinned_maps: Callable[[], frozenset[int]]  # kernel ids
    loaded: LoadedObject | None = None
    section: str = ""


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

    def send(self, program: _OpenProgram) -> None:
        """Send the maps, if that was asked for."""
        if self._exporter and program.loaded:
            self._exporter.send(program.loaded)


def _open_source(
    source: ProgramSource,
    program_type: int | None,
    transaction: Transaction,
    stack: ExitStack,
    session: Session | None,
    ifindex: int = 0,
    outbox: _Outbox | None = None,
) -> _OpenProgram:
    """The program that ``source`` names, open as long as ``stack``.

    ``ifindex``: the device to load for when the program is to be offloaded.  ``outbox``: for what the hook
    can export.
    """
    if isinstance(source, Reference):
        fd = stack.enter_context(open_program(resolved(source)))
        return _OpenProgram(fd.number, _reference_annotation(source), [], frozenset)
    from bpfctl.loader import LoadRequest
    from bpfctl.objfile.select import select_program

    if source.export is not None and outbox is None:
        raise UsageError("export: maps are handed over by tc filters and actions only")
    obj, session = _read(source, session, stack)
    chosen = select_program(obj, program_type, section=source.section, program=source.program)
    if outbox:
        outbox.check(obj)
    request = LoadRequest(
        (chosen.name,), program_type, ifindex=ifindex, verbose=source.verbose, relaxed_maps=True
    )
    loaded = session.load(obj, request, transaction)
    warnings = [f"{obj.path}: {warning}" for warning in obj.warnings] + loaded.warnings
    return _OpenProgram(
        loaded.program(chosen.name).fd.number,
        _annotation(source.path, chosen.section),
        warnings,
        loaded.pinned_map_ids,
        loaded,
        chosen.section,
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
