"""Maps that a command puts in the place of the object's own: ``map counters pinned PATH``."""

from __future__ import annotations

import os

from bpfctl.errors import KernelError, NotFoundError, PinMismatchError, printable
from bpfctl.kernel import info
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.loader.reuse import differences, mismatch_table
from bpfctl.objfile.spec import ObjectSpec
from bpfctl.record import NamedTuple

# The verifier relies on these; of the others a program sees no more than that the map is larger or smaller.
_MUST_AGREE = ("type", "key size", "value size")
_MAX_LISTED = 20


class GivenMap(NamedTuple):
    """``name`` of the object's map, and an open map ``fd``, which the caller keeps open."""

    name: str
    fd: int


def map_name(obj: ObjectSpec, *, name: str | None = None, number: int | None = None) -> str:
    """The map of ``obj`` that is called ``name``, or number ``number`` from 0 in ``obj show``.

    NotFoundError lists what there is.
    """
    names = list(obj.maps)
    if name in obj.maps:
        return str(name)
    if name is None and number is not None and number < len(names):
        return names[number]
    known = ", ".join(f"{place} {printable(each)}" for place, each in enumerate(names[:_MAX_LISTED]))
    wanted = f"map {printable(name)}" if name is not None else f"map number {number}"
    raise NotFoundError(
        f"{obj.path}: no {wanted} in the object",
        hint=f"its maps: {known}" if names else "it has no maps",
    )


def take(given: GivenMap, wanted: MapAttributes, path: str) -> Fd:
    """A descriptor of our own of the map that is given for one of the object ``path``.

    Raises PinMismatchError with a table of what does not fit.
    """
    try:
        facts = info.map_info(given.fd)
    except OSError as error:
        raise KernelError("cannot read the map that is given", errno=error.errno or 0) from error
    found = [each for each in differences(wanted, facts) if each.field in _MUST_AGREE]
    if found:
        raise PinMismatchError(
            f"{path}: map {printable(given.name)} cannot be map id {facts.id}, which differs",
            details=mismatch_table(found, "given"),
            hint="programs are compiled for these sizes: give a map that has them",
        )
    return Fd(os.dup(given.fd))
