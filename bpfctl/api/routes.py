"""Routes and nexthop objects with programs in their tunnels: load, then attach, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from warnings import warn as _python_warning

from bpfctl.api.sources import (
    Before,
    ProgramSource,
    Warn,
    annotation,
    nothing,
    open_source,
    pass_on,
    read_source,
    reference_annotation,
)
from bpfctl.inventory.reference import Reference
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.attach.lwt import Encap
    from bpfctl.attach.nexthop import NexthopRequest
    from bpfctl.attach.route import RouteRequest, RouteState
    from bpfctl.loader import Session, Transaction


class Tunnel(NamedTuple):
    """What runs in the lightweight tunnel of one way of a route: (hook, program) pairs.

    Hooks are ``in``, ``out`` and ``xmit``, or alone ``endpoint``, which is seg6local's End.BPF.
    ``headroom``: bytes that ``xmit`` may put in front of a packet, at most 256; 0 is none.
    """

    programs: tuple[tuple[str, ProgramSource], ...]
    headroom: int = 0


def attach_route(
    request: RouteRequest,
    tunnels: Sequence[Tunnel | None],
    *,
    how: str = "add",
    session: Session | None = None,
    warn: Warn = _python_warning,
    before: Before = nothing,
) -> None:
    """Put a route with programs in its tunnels: ``how`` is ``add``, ``append``, ``prepend``, ``replace``
    or ``change``, as in ip(8).

    ``tunnels``: one for each of ``request.legs``, None for a leg without.  All or nothing, ``session``,
    ``warn`` and ``before`` as in :func:`bpfctl.api.hooks.attach_xdp`.
    """
    from bpfctl.attach import route
    from bpfctl.loader import Transaction

    with Transaction() as transaction, ExitStack() as stack:
        alone = sum(tunnel is not None for tunnel in tunnels) == 1
        encaps = [
            _open_tunnel(tunnel, transaction, stack, session, warn, alone=alone) if tunnel else None
            for tunnel in tunnels
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
    before: Before = nothing,
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
    tunnel: Tunnel,
    transaction: Transaction,
    stack: ExitStack,
    session: Session | None,
    warn: Warn,
    *,
    alone: bool = True,
) -> Encap:
    """The programs of ``tunnel``, open as long as ``stack``; ``alone``: the command has no other tunnel."""
    from bpfctl.attach.lwt import HOOK_TYPES, new_encap

    alone = alone and len(tunnel.programs) == 1
    opened = []
    for hook, source in tunnel.programs:
        program = open_source(source, HOOK_TYPES[hook], transaction, stack, session, warn=warn, alone=alone)
        pass_on(program.warnings, warn)
        opened.append((hook, program.fd, program.annotation))
    return new_encap(opened, tunnel.headroom)


def _named_tunnel(tunnel: Tunnel, session: Session | None) -> Encap:
    """``tunnel`` by names alone."""
    from bpfctl.attach.lwt import HOOK_TYPES, new_encap
    from bpfctl.objfile.select import select_for_hook

    named = []
    for hook, source in tunnel.programs:
        if isinstance(source, Reference):
            name = reference_annotation(source)
        else:
            with ExitStack() as stack:
                obj, _ = read_source(source, session, stack)
            chosen, _ = select_for_hook(obj, HOOK_TYPES[hook], section=source.section, program=source.program)
            name = annotation(source.path, chosen.section)
        named.append((hook, -1, name))
    return new_encap(named, tunnel.headroom)
