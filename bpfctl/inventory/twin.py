"""Is the program that holds a hook the very one that this command would put there?

A command that was killed after the kernel took its attach, and is run again, finds its own work.  Then
there is nothing left to do; anything less than the same program is somebody else's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import Command

if TYPE_CHECKING:
    from typing import TypeAlias

_Facts: TypeAlias = tuple[object, ...]


def is_twin(program_fd: int, other_id: int, shared_maps: Callable[[], Collection[int]]) -> bool:
    """True when program ``other_id`` has the instructions, name and maps of ``program_fd``.

    Maps with an id that ``shared_maps`` gives (the pinned ones) must be the same maps; the others, which each
    load makes anew, must agree in definition and constant contents.  False where ids cannot be opened
    (needs CAP_SYS_ADMIN).
    """
    try:
        with Fd(bpf.get_fd_by_id(Command.PROG_GET_FD_BY_ID, other_id)) as other_fd:
            ours, other = info.prog_info(program_fd), info.prog_info(other_fd.number)
        if ours.id == other.id:
            return True
        if (ours.type, ours.tag, ours.name) != (other.type, other.tag, other.name):
            return False
        shared = shared_maps()
        return _maps(ours, shared) == _maps(other, shared)
    except OSError:
        return False


def _maps(program: info.ProgInfo, shared: Collection[int]) -> Counter[_Facts]:
    return Counter((number,) if number in shared else _definition(number) for number in program.map_ids)


def _definition(map_id: int) -> _Facts:
    """What tells one private map from another: all facts but its ids, and its contents if constant."""
    with Fd(bpf.get_fd_by_id(Command.MAP_GET_FD_BY_ID, map_id)) as fd:
        facts = info.map_info(fd.number)
        frozen = info.fdinfo(fd.number).get("frozen") == "1"
        contents = bpf.map_lookup(fd.number, bytes(facts.key_size), facts.value_size) if frozen else b""
    return (*facts._replace(id=0, btf_id=0), contents)
