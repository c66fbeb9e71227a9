"""Actions of traffic control over rtnetlink: alone, and behind a filter.

Layouts and numbers: include/uapi/linux/pkt_cls.h, rtnetlink.h and tc_act/tc_{bpf,gact,mirred}.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from bpfctl.kernel import rtnl_police
from bpfctl.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    number,
    parse_attributes,
    text,
)
from bpfctl.kernel.rtnl_police import TCA_POLICE_TM, Police
from bpfctl.record import NamedTuple

ADD = NLM_F_EXCL | NLM_F_CREATE
REPLACE = NLM_F_CREATE | NLM_F_REPLACE  # of `change` too

_NLM_F_ROOT = 0x100
_NESTED = 0x8000

_RTM_NEWACTION = 48
_RTM_DELACTION = 49
_RTM_GETACTION = 50

_TCA_ACT_TAB = 1
_TCA_ROOT_FLAGS = 2
_TCA_ROOT_COUNT = 3
_LARGE_DUMP = struct.pack("=II", 1, 1)  # struct nla_bitfield32 of TCA_ACT_FLAG_LARGE_DUMP_ON

_TCA_ACT_KIND = 1
_TCA_ACT_OPTIONS = 2
_TCA_ACT_INDEX = 3
_TCA_ACT_STATS = 4
_TCA_ACT_COOKIE = 6
_TCA_ACT_HW_STATS = 8
_TCA_ACT_USED_HW_STATS = 9
_TCA_ACT_IN_HW_COUNT = 10

_TCA_PARMS = 2  # the same number in every kind
_TCA_TM = 1  # of bpf, gact and mirred
_TCA_GACT_PROB = 3
_TCA_ACT_BPF_OPS_LEN = 3
_TCA_ACT_BPF_OPS = 4
_TCA_ACT_BPF_FD = 5
_TCA_ACT_BPF_NAME = 6
_TCA_ACT_BPF_TAG = 8
_TCA_ACT_BPF_ID = 9

_TCA_STATS_BASIC = 1
_TCA_STATS_QUEUE = 3

_TCAMSG = bytes(4)  # struct tcamsg: family and padding
_GENERIC = struct.Struct("=IIiii")  # tc_gen: index, capab, action, refcnt, bindcnt
_MIRRED = struct.Struct("=ii")  # eaction, ifindex, behind tc_gen
_PROB = struct.Struct("=HHi")  # struct tc_gact_p: ptype, pval, paction
_TIMES = struct.Struct("=QQQQ")  # struct tcf_t: installed, last used, expires, first used
_QUEUE = struct.Struct("=IIIII")  # struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits


class Action(NamedTuple):
    """An action to be made.

    ``control``: TC_ACT_*; ``number``: its index among those of its kind, 0 for the next.  A ``bpf`` has
    ``program_fd`` and ``name``, or ``bytecode``; a ``mirred`` what it does (TCA_EGRESS_REDIR, ...) and the
    ``ifindex`` where packets go, a ``police`` its limits.  ``random``, of a ``gact``: kind of chance
    (0 none), what it is in place of ``control``, and its value.
    """

    kind: str
    control: int
    number: int = 0
    cookie: bytes = b""
    program_fd: int = -1
    name: str = ""
    bytecode: bytes = b""
    mirred: int = 0
    ifindex: int = 0
    random: tuple[int, int, int] = (0, 0, 0)
    police: Police | None = None


class ActionStats(NamedTuple):
    """Times are in ticks of 1/100 s, ago; 0 where the kernel says nothing."""

    installed: int = 0
    last_used: int = 0
    first_used: int = 0
    bytes: int = 0
    packets: int = 0
    drops: int = 0
    overlimits: int = 0
    requeues: int = 0
    backlog: int = 0
    qlen: int = 0


class ActionState(NamedTuple):
    """One action as the kernel reports it; fields that its kind does not have are empty.

    ``gact_random``: kind of chance (0 none), its verdict, and its value.  ``hw_stats`` and ``in_hw`` are
    None where the kernel does not say: TCA_ACT_HW_STATS_* bits, number of devices that run it;
    ``asked_hw_stats``: the former as the user wanted them, where not any would do.
    """

    order: int
    kind: str
    control: int
    number: int
    ref: int
    bind: int
    stats: ActionStats
    cookie: bytes = b""
    hw_stats: int | None = None
    in_hw: int | None = None
    name: str = ""
    bytecode: bytes = b""
    program_id: int = 0
    tag: str = ""
    mirred: int = 0
    ifindex: int = 0
    gact_random: tuple[int, int, int] = (0, 0, 0)
    police: Police | None = None
    asked_hw_stats: int | None = None


# --- attributes ---


def encode(actions: Iterable[Action]) -> bytes:
    """The payload of TCA_ACT_TAB or of a filter's action attribute: ``actions`` by order, from 1."""
    return b"".join(attribute(order, _encode_one(action)) for order, action in enumerate(actions, 1))


def _encode_one(action: Action) -> bytes:
    generic = _GENERIC.pack(action.number, 0, action.control, 0, 0)
    options = b""
    if action.kind == "mirred":
        generic += _MIRRED.pack(action.mirred, action.ifindex)
    if action.bytecode:
        length = struct.pack("=H", len(action.bytecode) // 8)
        options = attribute(_TCA_ACT_BPF_OPS_LEN, length) + attribute(_TCA_ACT_BPF_OPS, action.bytecode)
    elif action.kind == "bpf":
        options = attribute_u32(_TCA_ACT_BPF_FD, action.program_fd)
        options += attribute_text(_TCA_ACT_BPF_NAME, action.name)
    options += attribute(_TCA_PARMS, generic)
    if action.police:
        options = rtnl_police.encode(action.police, action.control, action.number)
    elif action.random[0]:
        chance, verdict, value = action.random
        options += attribute(_TCA_GACT_PROB, _PROB.pack(chance, value, verdict))
    encoded = attribute_text(_TCA_ACT_KIND, action.kind)
    encoded += attribute(_TCA_ACT_OPTIONS | _NESTED, options)
    return encoded + (attribute(_TCA_ACT_COOKIE, action.cookie) if action.cookie else b"")


def decode(payload: bytes) -> Iterator[ActionState]:
    """What :func:`encode` makes, as the kernel gives it back; OSError EBADMSG where it is malformed."""
    for order, data in parse_attributes(payload).items():
        found = parse_attributes(data)
        kind = text(found.get(_TCA_ACT_KIND))
        options = parse_attributes(found.get(_TCA_ACT_OPTIONS, b""))
        generic = options.get(_TCA_PARMS, b"") if kind in ("bpf", "gact", "mirred") else b""
        index, _, control, ref, bind = _GENERIC.unpack(generic[:20].ljust(20, b"\0"))
        state = ActionState(
            order,
            kind,
            control,
            index,
            ref,
            bind,
            _decode_stats(found, options, kind == "police"),
            cookie=found.get(_TCA_ACT_COOKIE, b""),
            hw_stats=_optional(found.get(_TCA_ACT_USED_HW_STATS)),
            asked_hw_stats=_optional(found.get(_TCA_ACT_HW_STATS)),
            in_hw=_optional(found.get(_TCA_ACT_IN_HW_COUNT)),
        )
        yield _with_kind(state, options, generic)


def decode_police(payload: bytes) -> ActionState:
    """The policer that a filter has beside its actions, from the attribute that holds it."""
    options = parse_attributes(payload)
    return _with_kind(ActionState(0, "police", 0, 0, 0, 0, _decode_stats({}, options, True)), options, b"")


def _with_kind(state: ActionState, options: dict[int, bytes], generic: bytes) -> ActionState:
    """``state`` with the fields of its kind."""
    if state.kind == "police":
        index, control, ref, bind, told = rtnl_police.decode(options)
        return state._replace(number=index, control=control, ref=ref, bind=bind, police=told)
    if state.kind == "mirred":
        mirred, ifindex = _MIRRED.unpack(generic[20:28].ljust(8, b"\0"))
        return state._replace(mirred=mirred, ifindex=ifindex)
    if state.kind == "gact":
        kind, value, verdict = _PROB.unpack(options.get(_TCA_GACT_PROB, b"")[:8].ljust(8, b"\0"))
        return state._replace(gact_random=(kind, verdict, value))
    if state.kind == "bpf":
        return state._replace(
            name=text(options.get(_TCA_ACT_BPF_NAME)),
            bytecode=options.get(_TCA_ACT_BPF_OPS, b""),
            program_id=number(options.get(_TCA_ACT_BPF_ID, b"")),
            tag=options.get(_TCA_ACT_BPF_TAG, b"").hex(),
        )
    return state


def _optional(payload: bytes | None) -> int | None:
    """The first word of an attribute: a u32, or the value of a struct nla_bitfield32."""
    return None if payload is None else number(payload[:4])


def _decode_stats(found: dict[int, bytes], options: dict[int, bytes], is_police: bool) -> ActionStats:
    times = options.get(TCA_POLICE_TM if is_police else _TCA_TM, b"")[:32].ljust(32, b"\0")
    installed, last_used, _, first_used = _TIMES.unpack(times)
    stats = parse_attributes(found.get(_TCA_ACT_STATS, b""))
    basic = stats.get(_TCA_STATS_BASIC, b"").ljust(12, b"\0")
    queue = stats.get(_TCA_STATS_QUEUE, b"")[:20].ljust(20, b"\0")
    qlen, backlog, drops, requeues, overlimits = _QUEUE.unpack(queue)
    return ActionStats(
        installed,
        last_used,
        first_used,
        number(basic[:8]),
        number(basic[8:12]),
        drops,
        overlimits,
        requeues,
        backlog,
        qlen,
    )


# --- requests ---


def set_actions(netlink: NetlinkSocket, actions: Iterable[Action], flags: int) -> None:
    """RTM_NEWACTION with ADD or REPLACE."""
    netlink.request(_RTM_NEWACTION, flags, _TCAMSG + attribute(_TCA_ACT_TAB, encode(actions)))


def delete_action(netlink: NetlinkSocket, kind: str, index: int) -> None:
    """RTM_DELACTION of one action."""
    netlink.request(_RTM_DELACTION, 0, _one(kind, index))


def get_action(netlink: NetlinkSocket, kind: str, index: int) -> list[ActionState]:
    """RTM_GETACTION of one action; NetlinkError ENOENT where there is none."""
    messages = netlink.request(_RTM_GETACTION, 0, _one(kind, index))
    return [state for message in messages for state in _decode_message(message.body)]


def flush_actions(netlink: NetlinkSocket, kind: str) -> None:
    """RTM_DELACTION of all actions of a kind; NetlinkError EPERM when a filter uses one."""
    netlink.request(_RTM_DELACTION, _NLM_F_ROOT, _all(kind))


def list_actions(netlink: NetlinkSocket, kind: str) -> list[tuple[int, list[ActionState]]]:
    """Actions of a kind by message: how many the kernel says it holds, and those; empty without any."""
    return [
        (
            number(parse_attributes(message.body, 4).get(_TCA_ROOT_COUNT, b"")),
            list(_decode_message(message.body)),
        )
        for message in netlink.dump(_RTM_GETACTION, _all(kind))
        if message.type in (_RTM_GETACTION, _RTM_NEWACTION)
    ]


def _one(kind: str, index: int) -> bytes:
    action = attribute_text(_TCA_ACT_KIND, kind) + attribute_u32(_TCA_ACT_INDEX, index)
    return _TCAMSG + attribute(_TCA_ACT_TAB, attribute(1, action))


def _all(kind: str) -> bytes:
    table = attribute(1, attribute_text(_TCA_ACT_KIND, kind))
    return _TCAMSG + attribute(_TCA_ACT_TAB, table) + attribute(_TCA_ROOT_FLAGS, _LARGE_DUMP)


def _decode_message(body: bytes) -> Iterator[ActionState]:
    return decode(parse_attributes(body, 4).get(_TCA_ACT_TAB, b""))
