"""Policers of traffic control as attributes: include/uapi/linux/pkt_cls.h, net/sched/act_police.c.

Times are the kernel's ticks of 64 ns (PSCHED_SHIFT), computed as tc(8) does: from whole microseconds.
"""

from __future__ import annotations

import struct

from bpfctl.kernel.netlink import attribute, attribute_u32, number
from bpfctl.record import NamedTuple

_TCA_POLICE_TBF = 1
_TCA_POLICE_RATE = 2
_TCA_POLICE_PEAKRATE = 3
_TCA_POLICE_AVRATE = 4
_TCA_POLICE_RESULT = 5
_TCA_POLICE_RATE64 = 8
_TCA_POLICE_PEAKRATE64 = 9
_TCA_POLICE_PKTRATE64 = 10
_TCA_POLICE_PKTBURST64 = 11
TCA_POLICE_TM = 6

ETHERNET, ATM = 1, 2  # TC_LINKLAYER_*

_RATESPEC = "BBHhHI"  # cell_log, linklayer, overhead, cell_align, mpu, rate
# struct tc_police: index, action, limit, burst, mtu, rate, peakrate, refcnt, bindcnt, capab
_TBF = struct.Struct(f"=IiIII{_RATESPEC}{_RATESPEC}iiI")
_TABLE_SIZE = 256
_DEFAULT_MTU = 2047
_U32 = 0xFFFFFFFF
_MICROSECONDS = 1_000_000
_TICKS = 1000 / 64  # a microsecond


class Police(NamedTuple):
    """What a policer is told; rates are a second's bytes, sizes are in bytes, 0 stands for not given.

    ``result``: the verdict (TC_ACT_*) for what keeps within the rate.  ``cell`` and ``peak_cell``: log2 of
    a table's step, -1 for what the mtu asks for.  ``packet_rate`` and ``packet_burst`` are in packets.
    """

    rate: int = 0
    burst: int = 0
    mtu: int = 0
    mpu: int = 0
    overhead: int = 0
    linklayer: int = ETHERNET
    peakrate: int = 0
    average: int = 0
    packet_rate: int = 0
    packet_burst: int = 0
    result: int = 0
    cell: int = -1
    peak_cell: int = -1


class PoliceState(NamedTuple):
    """A policer as the kernel reports it: how it is known, and what it was told."""

    number: int
    control: int
    ref: int
    bind: int
    told: Police


def encode(police: Police, control: int, index: int) -> bytes:
    """The attributes of ``police``, whose verdict is ``control`` for what exceeds the rate."""
    spec, table = _ratespec(police, police.rate, police.cell)
    peak_spec, peak_table = _ratespec(police, police.peakrate, police.peak_cell)
    burst = _ticks(police.burst, police.rate) if police.rate else 0
    encoded = attribute(
        _TCA_POLICE_TBF, _TBF.pack(index, control, 0, burst, police.mtu, *spec, *peak_spec, 0, 0, 0)
    )
    encoded += _rate(_TCA_POLICE_RATE, _TCA_POLICE_RATE64, police.rate, table)
    encoded += _rate(_TCA_POLICE_PEAKRATE, _TCA_POLICE_PEAKRATE64, police.peakrate, peak_table)
    if police.packet_rate:
        burst = _ticks(police.packet_burst, police.packet_rate)
        encoded += attribute(_TCA_POLICE_PKTRATE64, struct.pack("=Q", police.packet_rate))
        encoded += attribute(_TCA_POLICE_PKTBURST64, struct.pack("=Q", burst))
    if police.average:
        encoded += attribute_u32(_TCA_POLICE_AVRATE, police.average)
    return encoded + (attribute_u32(_TCA_POLICE_RESULT, police.result & _U32) if police.result else b"")


def decode(options: dict[int, bytes]) -> PoliceState:
    """What the kernel reports of a policer, from its attributes by number."""
    index, control, _, burst, mtu, _, linklayer, overhead, _, mpu, rate, *more = _TBF.unpack(
        options.get(_TCA_POLICE_TBF, b"")[: _TBF.size].ljust(_TBF.size, b"\0")
    )
    peakrate, ref, bind = more[5:8]
    rate = number(options.get(_TCA_POLICE_RATE64, b"")) or rate
    peakrate = number(options.get(_TCA_POLICE_PEAKRATE64, b"")) or peakrate
    packet_rate = number(options.get(_TCA_POLICE_PKTRATE64, b""))
    (result,) = struct.unpack("=i", options.get(_TCA_POLICE_RESULT, b"")[:4].ljust(4, b"\0"))
    told = Police(
        rate=rate,
        burst=_amount(burst, rate),
        mtu=mtu,
        mpu=mpu,
        overhead=overhead,
        linklayer=linklayer,
        peakrate=peakrate,
        average=number(options.get(_TCA_POLICE_AVRATE, b"")),
        packet_rate=packet_rate,
        packet_burst=_amount(number(options.get(_TCA_POLICE_PKTBURST64, b"")), packet_rate),
        result=result,
    )
    return PoliceState(index, control, ref, bind, told)


def _rate(kind: int, kind64: int, rate: int, table: bytes) -> bytes:
    if not rate:
        return b""
    return attribute(kind, table) + (attribute(kind64, struct.pack("=Q", rate)) if rate > _U32 else b"")


def _ratespec(police: Police, rate: int, cell: int) -> tuple[tuple[int, ...], bytes]:
    """The struct tc_ratespec of a rate, and its table of times, which kernels of today only want to see."""
    if not rate:
        return (0, 0, 0, 0, 0, 0), b""
    mtu = police.mtu or _DEFAULT_MTU
    if cell < 0:
        cell = max(0, mtu.bit_length() - 8)
    sizes = (max((step + 1) << cell, police.mpu) for step in range(_TABLE_SIZE))
    if police.linklayer == ATM:
        sizes = (-(-size // 48) * 53 for size in sizes)  # bytes in cells
    table = struct.pack(f"={_TABLE_SIZE}I", *(_ticks(size, rate) for size in sizes))
    return (cell, police.linklayer, police.overhead, -1, police.mpu, min(rate, _U32)), table


def _ticks(amount: int, rate: int) -> int:
    """How long ``amount`` takes at ``rate``."""
    return int(int(_MICROSECONDS * (amount / rate)) * _TICKS) & _U32


def _amount(ticks: int, rate: int) -> int:
    """What fits into ``ticks`` at ``rate``."""
    return int(rate * int(ticks / _TICKS) / _MICROSECONDS)
