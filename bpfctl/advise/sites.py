"""What the interpretation of a program is asked for: each use of a map, with what is certain there."""

from __future__ import annotations

from bpfctl.advise.state import Fact
from bpfctl.advise.values import MapToken
from bpfctl.record import NamedTuple

LOAD, STORE, ATOMIC = "load", "store", "atomic"


class MapCall(NamedTuple):
    """A helper gets one of ``maps``; none: any map.

    ``key``: the bytes as a number where they are known; ``place``: frame and offset of a key on the stack;
    ``own``: no other CPU uses that key at the time.  ``flags``: r4, where known.  ``facts``: before the call.
    """

    pc: int
    helper: int
    maps: frozenset[MapToken]
    key: int | None = None
    place: tuple[int, int] | None = None
    own: bool = False
    flags: int | None = None
    facts: frozenset[Fact] = frozenset()

    @property
    def map(self) -> MapToken | None:
        """The only map that it can be."""
        return next(iter(self.maps)) if len(self.maps) == 1 else None


class Access(NamedTuple):
    """An instruction reads or writes the value of one of ``maps`` in place.

    ``modifies``: a plain store of what was loaded from the same place, changed; ``own``: no other CPU uses
    the value at the time; ``locked``: a spin lock is held.
    """

    pc: int
    kind: str
    maps: frozenset[MapToken]
    offset: int | None
    modifies: bool = False
    own: bool = False
    locked: bool = False


class Uses(NamedTuple):
    """All of a program.  ``finished``: None, or why the interpretation was given up: then there is nothing.

    ``maps``: those that the code refers to.
    """

    calls: tuple[MapCall, ...] = ()
    accesses: tuple[Access, ...] = ()
    maps: frozenset[MapToken] = frozenset()
    unfinished: str | None = None
