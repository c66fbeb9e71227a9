"""What the number that a program returns means: names by program type.

From include/uapi/linux: bpf.h (``enum xdp_action``, ``bpf_ret_code``, ``sk_action``), pkt_cls.h, netfilter.h.
"""

from __future__ import annotations

from bpfctl.uapi import ProgramType

_XDP = {0: "XDP_ABORTED", 1: "XDP_DROP", 2: "XDP_PASS", 3: "XDP_TX", 4: "XDP_REDIRECT"}
_TC = {
    -1: "TC_ACT_UNSPEC",
    0: "TC_ACT_OK",
    1: "TC_ACT_RECLASSIFY",
    2: "TC_ACT_SHOT",
    3: "TC_ACT_PIPE",
    4: "TC_ACT_STOLEN",
    5: "TC_ACT_QUEUED",
    6: "TC_ACT_REPEAT",
    7: "TC_ACT_REDIRECT",
    8: "TC_ACT_TRAP",
}
_LWT = {0: "BPF_OK", 2: "BPF_DROP", 7: "BPF_REDIRECT", 128: "BPF_LWT_REROUTE"}
_SK = {0: "SK_DROP", 1: "SK_PASS"}
_NETFILTER = {0: "NF_DROP", 1: "NF_ACCEPT"}
_DISSECTOR = {0: "BPF_OK", 2: "BPF_DROP", 129: "BPF_FLOW_DISSECTOR_CONTINUE"}

_BY_TYPE: dict[int, dict[int, str]] = {
    ProgramType.XDP: _XDP,
    ProgramType.SCHED_CLS: _TC,
    ProgramType.SCHED_ACT: _TC,
    ProgramType.LWT_IN: _LWT,
    ProgramType.LWT_OUT: _LWT,
    ProgramType.LWT_XMIT: _LWT,
    ProgramType.LWT_SEG6LOCAL: _LWT,
    ProgramType.SK_LOOKUP: _SK,
    ProgramType.SK_SKB: _SK,
    ProgramType.SK_MSG: _SK,
    ProgramType.NETFILTER: _NETFILTER,
    ProgramType.FLOW_DISSECTOR: _DISSECTOR,
}


def signed(value: int) -> int:
    """The returned 32 bits as the C ``int`` that they are."""
    return (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000


def verdict_name(program_type: int, value: int) -> str | None:
    """``XDP_PASS`` for 2 of an XDP program; None where the number is only a number."""
    return _BY_TYPE.get(program_type, {}).get(signed(value))


def verdict_names(program_type: int) -> dict[str, int]:
    """Name -> number for programs of that type; empty where numbers have no names."""
    return {name: number for number, name in _BY_TYPE.get(program_type, {}).items()}
