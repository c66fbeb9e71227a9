"""Who is there: what can be found out about a program that holds a hook, within bounds.

For error messages, so nothing here raises and nothing takes long: what cannot be read is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from time import monotonic

from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import Command, LinkType

if TYPE_CHECKING:
    from typing import TypeVar

    _Item = TypeVar("_Item")

_SECONDS = 0.25  # for each of the scans
_ENTRIES = 5000  # pins, or bpf_links, looked at
_SHOWN = 3  # pins and processes named


def describe_program(program_id: int) -> str:
    """``program 12 "xdp_pass", pinned at /sys/fs/bpf/x, held open by 811 (agent)``."""
    words = f"program {program_id}"
    with suppress(OSError), Fd(bpf.get_fd_by_id(Command.PROG_GET_FD_BY_ID, program_id)) as fd:
        name = info.prog_info(fd.number).name
        if name:
            words += f' "{name}"'
    return words + _holders("prog", program_id)


def find_xdp_link(ifindex: int, program_id: int) -> int | None:
    """Id of the bpf_link that attaches the program to the interface (needs CAP_SYS_ADMIN)."""
    with suppress(OSError):
        for number in _bounded(bpf.iter_ids(Command.LINK_GET_NEXT_ID)):
            with suppress(OSError, KeyError), Fd(bpf.get_fd_by_id(Command.LINK_GET_FD_BY_ID, number)) as fd:
                facts = info.fdinfo(fd.number)
                place = (facts["link_type"], int(facts["ifindex"]), int(facts["prog_id"]))
                if place == (LinkType.XDP.name.lower(), ifindex, program_id):
                    return number
    return None


def describe_link(link_id: int) -> str:
    """``bpf_link 7, held open by 811 (agent)``."""
    return f"bpf_link {link_id}{_holders('link', link_id)}"


def _holders(kind: str, number: int) -> str:
    pins = list(islice(_pins(kind, number), _SHOWN))
    processes = list(islice(_processes(kind, number), _SHOWN))
    words = f", pinned at {', '.join(pins)}" if pins else ""
    return words + (f", held open by {', '.join(processes)}" if processes else "")


def _pins(kind: str, number: int) -> Iterator[str]:
    from bpfctl.inventory import holders  # only a refusal asks

    with suppress(OSError):
        for path, pinned in _bounded(holders.iter_pins(kind)):
            if pinned == number:
                yield path


def _processes(kind: str, number: int) -> Iterator[str]:
    from bpfctl.kernel import procfs

    with suppress(OSError):
        for pid, command, ids in _bounded(procfs.iter_holders(kind)):
            if number in ids:
                yield f"{pid} ({command})"


def _bounded(items: Iterable[_Item]) -> Iterator[_Item]:
    """``items`` until the time is over."""
    end = monotonic() + _SECONDS
    for item in islice(items, _ENTRIES):
        yield item
        if monotonic() > end:
            return
