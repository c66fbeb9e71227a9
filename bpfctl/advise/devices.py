"""Network devices that loaded programs are attached to, and the NUMA nodes that those are on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from bpfctl.advise.code import Device
from bpfctl.kernel import rtnl_link, rtnl_tc
from bpfctl.kernel.netlink import NetlinkSocket

SYSFS = "/sys/class/net"
_HOOKS = {"clsact": (rtnl_tc.INGRESS, rtnl_tc.EGRESS), "ingress": (rtnl_tc.INGRESS,)}


def attached() -> dict[int, list[Device]]:
    """Devices of this network namespace by the id of each program in their XDP slots and tc filters.

    Without those that are on no node, as virtual ones; those that the kernel does not show are missing.
    """
    found: dict[int, list[Device]] = {}
    with suppress(OSError), NetlinkSocket() as netlink:
        for link in rtnl_link.list_links(netlink):
            node = _node(link.name)
            if node < 0:
                continue
            with suppress(OSError):  # gone meanwhile
                for program in {*_programs(netlink, link)} - {0}:
                    found.setdefault(program, []).append(Device(link.name, node))
    return found


def _node(name: str) -> int:
    """-1 for none."""
    try:
        with open(os.path.join(SYSFS, name, "device", "numa_node"), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return -1


def _programs(netlink: NetlinkSocket, link: rtnl_link.LinkState) -> Iterator[int]:
    yield from link.xdp[1:]
    for parent in _HOOKS.get(rtnl_tc.pseudo_qdisc(netlink, link.ifindex), ()):
        place = rtnl_tc.Place(link.ifindex, parent)
        yield from (state.program_id for state in rtnl_tc.list_filters(netlink, place, rtnl_tc.Key()))
