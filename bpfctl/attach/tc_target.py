"""A request about filters, resolved against one hook of the running system."""

from __future__ import annotations

from bpfctl.attach.interfaces import interface_index
from bpfctl.errors import printable
from bpfctl.kernel import rtnl_tc
from bpfctl.kernel.netlink import NetlinkSocket
from bpfctl.kernel.rtnl_tc import EGRESS, INGRESS, ROOT, FilterOptions, FilterState, Key, Place
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.attach.actions import ActionRequest
    from bpfctl.kernel.rtnl_action import Action

ETH_P_ALL = 3


class FilterRequest(NamedTuple):
    """Which filter, and what it is to do; a part that is left out fits any filter that is there.

    ``device`` and ``parent``, or a shared ``block``, are the hook: INGRESS and EGRESS of a clsact qdisc,
    0 for the interface's own qdisc, or any class.  ``pref`` 0, ``protocol`` None (else an ETH_P_*
    number) and ``handle`` 0 are left out; ``chain`` None means chain 0.  ``name`` is the annotation
    that the kernel shows again, 255 bytes at most.  ``bytecode`` is a classic filter in the place of a
    program, 8 bytes an instruction; ``actions`` come after either, or in the old way ``police``.
    """

    device: str = ""
    parent: int = 0
    block: int = 0
    pref: int = 0
    protocol: int | None = None
    chain: int | None = None
    handle: int = 0
    classid: int = 0
    direct_action: bool = False
    skip_hw: bool = False
    skip_sw: bool = False
    name: str = ""
    bytecode: bytes = b""
    actions: tuple[Action, ...] = ()
    police: ActionRequest | None = None

    def __str__(self) -> str:
        """The hook in words: ``v0 ingress``."""
        if self.block:
            return f"block {self.block}"
        names = {INGRESS: "ingress", EGRESS: "egress", ROOT: "root", 0: ""}
        parent = names.get(self.parent, f"parent {self.parent >> 16:x}:{self.parent & 0xFFFF:x}")
        return f"{printable(self.device)} {parent}".rstrip()

    @property
    def skip_flags(self) -> int:
        """FLAG_SKIP_HW and FLAG_SKIP_SW."""
        return rtnl_tc.FLAG_SKIP_HW * self.skip_hw | rtnl_tc.FLAG_SKIP_SW * self.skip_sw

    def options(self, program_fd: int) -> FilterOptions:
        return FilterOptions(
            program_fd,
            self.name,
            self.classid,
            self.direct_action,
            self.skip_flags,
            self.bytecode,
            self._encoded_actions(),
            self._encoded_police(),
        )

    def _encoded_actions(self) -> bytes:
        if not self.actions:
            return b""
        from bpfctl.kernel import rtnl_action

        return rtnl_action.encode(self.actions)

    def _encoded_police(self) -> bytes:
        if self.police is None or self.police.police is None:
            return b""
        from bpfctl.kernel import rtnl_police

        return rtnl_police.encode(self.police.police, self.police.control, self.police.number)


class Target(NamedTuple):
    """The hook, and the socket to reach it by."""

    netlink: NetlinkSocket
    place: Place
    request: FilterRequest

    def new_key(self) -> Key:
        """The key of a filter yet to be made: what was left out the kernel chooses, but protocol is all."""
        _, _, _, pref, protocol, chain, handle, *_ = self.request
        return Key(pref, ETH_P_ALL if protocol is None else protocol, chain, handle)

    def key_of(self, state: FilterState) -> Key:
        return Key(state.pref, state.protocol, self.request.chain, state.handle)

    def find(self) -> list[FilterState]:
        """The cls_bpf filters that fit the request."""
        wanted = self.request
        key = Key(wanted.pref, wanted.protocol or 0, wanted.chain or 0, wanted.handle)
        if wanted.pref and wanted.handle:
            state = rtnl_tc.get_filter(self.netlink, self.place, key)
            return [state] if state else []
        return [
            state
            for state in rtnl_tc.list_filters(self.netlink, self.place, key)
            # An entry with handle 0 stands for a whole pref.
            if state.kind == "bpf" and state.handle and wanted.handle in (0, state.handle)
        ]


def resolve(netlink: NetlinkSocket, request: FilterRequest) -> Target:
    """Raises NotFoundError when there is no such interface."""
    if request.block:
        return Target(netlink, Place(0, 0, request.block), request)
    return Target(netlink, Place(interface_index(netlink, request.device), request.parent), request)
