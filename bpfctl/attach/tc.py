"""cls_bpf filters on traffic control hooks, by rtnetlink as tc(8) does.

The semantics are iproute2's, with one difference: ``replace`` without a handle replaces the filter
that is there, where tc(8) adds another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from bpfctl.attach import refusals, tc_refusals
from bpfctl.attach.session import Rtnetlink
from bpfctl.attach.tc_target import FilterRequest, Target, resolve
from bpfctl.kernel import bpf, info, rtnl_tc
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.netlink import AnswerLostError, NetlinkError, NetlinkSocket
from bpfctl.kernel.rtnl_tc import EGRESS, INGRESS, ROOT, FilterOptions, FilterState, Key, Place
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import Command

if TYPE_CHECKING:
    from bpfctl.loader.transaction import Transaction

__all__ = [
    "EGRESS",
    "INGRESS",
    "ROOT",
    "FilterChange",
    "FilterRequest",
    "FilterState",
    "add",
    "change",
    "delete",
    "flush",
    "get",
    "replace",
    "show",
]

_LOWEST_CHOSEN_PREF = 0x8000


class FilterChange(NamedTuple):
    """The filter that a verb made or changed; ``replaced_id`` is the program it had, 0 for a new one."""

    pref: int
    protocol: int
    chain: int
    handle: int
    replaced_id: int = 0


def add(request: FilterRequest, program_fd: int, *, transaction: Transaction | None = None) -> FilterChange:
    """Add a filter; where nothing is said, protocol is all and the kernel chooses pref and handle.

    ``program_fd`` does not count where the request has ``bytecode``.

    Raises AlreadyAttachedError where pref and handle are taken, NotFoundError, KernelError.
    """
    with Rtnetlink(request) as netlink:
        return _create(resolve(netlink, request), program_fd, rtnl_tc.ADD, transaction)


def replace(
    request: FilterRequest, program_fd: int, *, transaction: Transaction | None = None
) -> FilterChange:
    """Exchange the program of the one filter that fits, without a gap; add a filter where none does.

    Raises AmbiguousError where several fit, NotFoundError (no such interface), KernelError.
    """
    with Rtnetlink(request) as netlink:
        target = resolve(netlink, request)
        existing = _find_one(target)
        if existing is None:
            return _create(target, program_fd, rtnl_tc.REPLACE, transaction)
        return _update(target, existing, program_fd, rtnl_tc.REPLACE, transaction)


def change(
    request: FilterRequest, program_fd: int, *, transaction: Transaction | None = None
) -> FilterChange:
    """As ``replace``, but NotFoundError where no filter fits."""
    with Rtnetlink(request) as netlink:
        target = resolve(netlink, request)
        existing = _find_one(target)
        if existing is None:
            raise tc_refusals.nothing_fits(target)
        return _update(target, existing, program_fd, rtnl_tc.CHANGE, transaction)


def delete(request: FilterRequest, *, transaction: Transaction | None = None) -> list[FilterState]:
    """Delete the one filter that fits or, given a pref without a handle, all filters of that pref.

    Returns what was deleted.  Raises AmbiguousError, NotFoundError, KernelError.
    """
    with Rtnetlink(request) as netlink:
        target = resolve(netlink, request)
        found = target.find()
        if not found:
            raise tc_refusals.nothing_fits(target)
        if len(found) > 1 and not request.pref:
            raise tc_refusals.ambiguous(target, found)
        key = target.key_of(found[0])
        with _undoing(target, found, rtnl_tc.ADD, transaction):
            _remove(target, key if len(found) == 1 else key._replace(handle=0))
        return found


def flush(request: FilterRequest) -> None:
    """Delete every filter of the hook's chain, whatever its kind.  It cannot be taken back."""
    with Rtnetlink(request) as netlink:
        target = resolve(netlink, request)
        try:
            rtnl_tc.flush_filters(netlink, target.place, request.chain)
        except NetlinkError as error:
            raise tc_refusals.explain(target, Key(), None, error) from error


def get(request: FilterRequest) -> FilterState:
    """The one filter with the request's pref and handle, both of which it needs.  Raises NotFoundError."""
    with Rtnetlink(request) as netlink:
        target = resolve(netlink, request)
        found = target.find()
        if not found:
            raise tc_refusals.nothing_fits(target)
        return found[0]


def show(request: FilterRequest, *, every_hook: bool = False) -> list[FilterState]:
    """Filters that fit, of every kind, as the kernel lists them; ``chain`` None here fits all chains.

    ``every_hook``: those of the interface's own qdisc, ingress and egress; ``parent`` is not looked at.
    """
    with Rtnetlink(request) as netlink:
        target = resolve(netlink, request)
        key = Key(request.pref, request.protocol or 0, request.chain)
        places = _hooks(target) if every_hook else [target.place]
        found = [state for place in places for state in rtnl_tc.list_filters(netlink, place, key)]
        return [state for state in found if request.handle in (0, state.handle)]


def _hooks(target: Target) -> list[Place]:
    # A qdisc of kind ingress would list its filters under both hooks, though it only has the one.
    kind = rtnl_tc.pseudo_qdisc(target.netlink, target.place.ifindex)
    parents = {"clsact": (0, INGRESS, EGRESS), "ingress": (0, INGRESS)}.get(kind, (0,))
    return [target.place._replace(parent=parent) for parent in parents]


# --- one change ---


def _find_one(target: Target) -> FilterState | None:
    found = target.find()
    if len(found) > 1:
        raise tc_refusals.ambiguous(target, found)
    return found[0] if found else None


def _create(target: Target, program_fd: int, flags: int, transaction: Transaction | None) -> FilterChange:
    if (
        target.place.parent == EGRESS
        and rtnl_tc.pseudo_qdisc(target.netlink, target.place.ifindex) == "ingress"
    ):
        raise tc_refusals.no_egress(target)
    made = _set(target, target.new_key(), program_fd, flags)
    if transaction:
        transaction.undo(f"delete the filter on {target.request}", lambda: _delete_again(target.place, made))
    return FilterChange(made.pref, made.protocol, made.chain or 0, made.handle)


def _update(
    target: Target, existing: FilterState, program_fd: int, flags: int, transaction: Transaction | None
) -> FilterChange:
    with _undoing(target, [existing], rtnl_tc.REPLACE, transaction):
        _set(target, target.key_of(existing), program_fd, flags)
    return FilterChange(
        existing.pref, existing.protocol, existing.chain, existing.handle, existing.program_id
    )


def _set(target: Target, key: Key, program_fd: int, flags: int) -> Key:
    """The one message that makes or changes a filter: its key in full."""
    options = target.request.options(program_fd)
    try:
        made = rtnl_tc.set_filter(target.netlink, target.place, key, options, flags)
    except AnswerLostError as lost:
        made = _find_ours(target, key, program_fd, lost)
        if made is None:
            raise refusals.not_done(target.request, lost) from lost
    except NetlinkError as error:
        raise tc_refusals.explain(target, key, program_fd, error) from error
    return made or key


def _find_ours(target: Target, key: Key, program_fd: int, lost: AnswerLostError) -> Key | None:
    """The key of the first filter that fits ``key`` and runs the program, or the classic filter.

    Where the kernel was to choose the pref this is the newest one: it counts downwards from 49152.
    """
    lowest = key.pref or _LOWEST_CHOSEN_PREF
    try:
        bytecode = target.request.bytecode
        wanted = (0 if bytecode else info.prog_info(program_fd).id, bytecode)
        listed = rtnl_tc.list_filters(target.netlink, target.place, key._replace(chain=key.chain or 0))
    except OSError as error:
        raise refusals.unknown_outcome(target.request, lost) from error
    for state in listed:
        found = (state.program_id, state.bytecode)
        if found == wanted and state.pref >= lowest and key.handle in (0, state.handle):
            return target.key_of(state)
    return None


def _remove(target: Target, key: Key) -> None:
    """The one message that deletes: a filter or, with handle 0, all of its pref."""
    try:
        rtnl_tc.delete_filter(target.netlink, target.place, key)
    except AnswerLostError as lost:
        try:
            left = target.find()
        except OSError as error:
            raise refusals.unknown_outcome(target.request, lost) from error
        if any(state.pref == key.pref and key.handle in (0, state.handle) for state in left):
            raise refusals.not_done(target.request, lost) from lost
    except NetlinkError as error:
        raise tc_refusals.explain(target, key, None, error) from error


# --- taking it back ---


@contextmanager
def _undoing(
    target: Target, states: list[FilterState], flags: int, transaction: Transaction | None
) -> Iterator[None]:
    """Once the block has changed ``states``, registers how to bring them back, their programs kept alive."""
    if transaction is None:
        yield
        return
    steps = [_restorer(target, state, flags, transaction) for state in states]
    yield
    for step in steps:
        transaction.undo(f"put the filter back on {target.request}", step)


def _restorer(target: Target, state: FilterState, flags: int, transaction: Transaction) -> Callable[[], None]:
    place, key = target.place, target.key_of(state)
    program_fd = -1
    if not state.bytecode:
        try:
            program_fd = transaction.hold(
                Fd(bpf.get_fd_by_id(Command.PROG_GET_FD_BY_ID, state.program_id))
            ).number
        except OSError as error:  # by id needs CAP_SYS_ADMIN
            return partial(_fail, error)
    options = FilterOptions(
        program_fd,
        state.name,
        state.classid,
        state.direct_action,
        state.skip_flags,
        state.bytecode,
        state.actions,
        state.police,
    )

    def restore() -> None:
        with NetlinkSocket() as netlink:
            rtnl_tc.set_filter(netlink, place, key, options, flags)

    return restore


def _fail(error: OSError) -> None:
    raise error


def _delete_again(place: Place, key: Key) -> None:
    with NetlinkSocket() as netlink:
        rtnl_tc.delete_filter(netlink, place, key)
