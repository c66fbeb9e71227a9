"""Objects loaded without a hook: pinned, tried, or planned."""

from __future__ import annotations

from contextlib import ExitStack
from warnings import warn as _python_warning

from bpfctl.api.pinning import pin_new
from bpfctl.api.sources import ObjectSource, Warn, pass_on, read_source, resolved
from bpfctl.errors import printable
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from bpfctl.inventory.records import ProgramInfo
    from bpfctl.loader import LoadedObject, LoadRequest, Session, Transaction
    from bpfctl.loader.live import Program
    from bpfctl.loader.migrate import Plan
    from bpfctl.loader.verdict import Verdict
    from bpfctl.objfile import ObjectSpec
    from bpfctl.objfile.spec import ProgramSpec


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
        obj, session = read_source(source, session, stack)
        chosen = _choose(obj, source, options)
        if options.autoattach:
            _check_attachable(obj, [chosen.name], options)
        with Transaction() as transaction:
            loaded = _load(obj, [chosen.name], source, options, session, warn, transaction)
            program = loaded.program(chosen.name)
            record = _record(program)
            pinned, link = _keep(program, path, options.autoattach, transaction)
            return record._replace(pinned=(pinned,), link_id=link)


def load_programs(
    source: ObjectSource,
    directory: str,
    *,
    options: LoadOptions | None = None,
    session: Session | None = None,
    warn: Warn = _python_warning,
    describe: bool = True,
) -> list[ProgramInfo]:
    """Load every program of an object and pin each at ``directory``/NAME; all or none.

    Left out are those whose section's name begins with ``?``: the object says that they are not loaded
    by default.  ``directory`` is made where it is missing, and may begin with ``m:``.  Without ``describe``
    the kernel is not asked what the programs are, and the list is empty.
    """
    from bpfctl.loader import Transaction
    from bpfctl.loader.directory import pin_directory
    from bpfctl.loader.pins import new_pin_path
    from bpfctl.objfile.select import default_programs

    options = options or LoadOptions()
    with ExitStack() as stack:
        obj, session = read_source(source, session, stack)
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
            records = {name: _record(program) for name, program in loaded.programs.items() if describe}
            directory = new_pin_path(directory, transaction)
            links: dict[str, int | None] = {}
            with pin_directory(directory, transaction) as staging:
                for name, program in loaded.programs.items():
                    attach = options.autoattach and name in names and not _is_in_table(program.spec)
                    _, links[name] = _keep(program, f"{staging}/{name}", attach, transaction)
                if options.autoattach:
                    links |= _register_links(loaded, staging, transaction)
            if options.autoattach:
                _register_unlinked(loaded, transaction)
            return [
                record._replace(pinned=(f"{directory}/{name}",), link_id=links[name])
                for name, record in records.items()
            ]


def plan_migration(
    source: ObjectSource, *, options: LoadOptions | None = None, session: Session | None = None
) -> list[Plan]:
    """What ``migrate`` would do to the pinned maps that differ from those of ``source``; changes nothing.

    ``options``: those of :func:`load_program`, which finds pins elsewhere than the hooks do.
    """
    from bpfctl.loader.dry_run import plan
    from bpfctl.loader.pins import wanted_bpffs

    with ExitStack() as stack:
        obj, session = read_source(source, session, stack)
        request = _request(obj, source, options or LoadOptions(), stack)
        if options is not None:
            pin_maps = options.pin_maps and resolved(Reference("pinned", options.pin_maps)).value
            request = request._replace(pin_root=wanted_bpffs(), pin_maps=pin_maps)
        return plan(obj, request._replace(relaxed_maps=options is None))


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
        obj, session = read_source(source, session, stack)
        names = loadable_programs(obj, options.program_type)
        if one or source.section is not None or source.program is not None:
            names = [_choose(obj, source, options).name]
        request = _request(obj, source, options, stack)
        kernel = kernel_types(obj, options.btf_path, options.program_type)
        if kernel:
            stack.callback(kernel.close)
        return list(verdicts(obj, names, request, kernel))


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
            warn=warn,
            pin_root=bpffs_mount(transaction) if by_name else None,
            pin_maps=None if options.pin_maps is None else new_pin_path(options.pin_maps, transaction),
        )
        loaded = session.load(obj, request, transaction)
    pass_on([f"{obj.path}: {warning}" for warning in obj.warnings] + loaded.warnings, warn)
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
        migrate=source.migrate,
        lossy=source.lossy,
    )


def _check_attachable(obj: ObjectSpec, names: list[str], options: LoadOptions) -> None:
    from bpfctl.attach import auto

    for name in names:
        auto.check(obj.programs[name], obj.path, has_target=bool(options.target and options.target.function))


def _is_in_table(program: ProgramSpec) -> bool:
    """Whether it is attached with its struct_ops map, not for itself."""
    return program.program_type == ProgramType.STRUCT_OPS


def _register_links(loaded: LoadedObject, directory: str, transaction: Transaction) -> dict[str, int]:
    """Register struct_ops maps, their links pinned as ``directory``/MAP; their ids by program."""
    if not loaded.struct_ops:
        return {}
    from bpfctl.attach.struct_ops import register_links

    return register_links(loaded, lambda fd, name: pin_new(fd, f"{directory}/{name}", transaction))


def _register_unlinked(loaded: LoadedObject, transaction: Transaction) -> None:
    if loaded.struct_ops:
        from bpfctl.attach.struct_ops import register_unlinked

        register_unlinked(loaded, transaction)


def _keep(program: Program, path: str, attach: bool, transaction: Transaction) -> tuple[str, int | None]:
    """Pin a program at ``path``, or the link of it if it is to be attached: the pin, and the link's id.

    The pin is the last step: whoever is killed before it can start again.
    """
    if not attach:
        return pin_new(program.fd.number, path, transaction), None
    from bpfctl.attach import auto
    from bpfctl.inventory.listing import link_id

    with auto.attach(program) as link:
        number = link_id(link.number)
        return pin_new(link.number, path, transaction), number


def _record(program: Program) -> ProgramInfo:
    from bpfctl.inventory.listing import program_info

    return program_info(program.fd.number)
