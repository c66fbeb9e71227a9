"""Actions as tc(8) shows them: records with its keys in its order, and their lines."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bpfctl.attach.actions import (
    CHANCES,
    CONTROLS,
    ETHERNET,
    GOTO_CHAIN,
    JUMP,
    MIRRED,
    ActionState,
    decode,
    decode_police,
    device_names,
)
from bpfctl.cli.app import Options
from bpfctl.cli.progtext import bytecode_record, bytecode_text, facts_text, program_facts
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Record: TypeAlias = "dict[str, Any]"

_VERDICTS = {number: name for name, number in reversed(CONTROLS.items())}  # the first name of each
_WAYS = {number: way for way, number in MIRRED.items()}
_LINKLAYERS = ("unspec", "ethernet", "atm")
_HW_STATS = ((1, "immediate"), (2, "delayed"))
_VALUE = 0x0FFFFFFF


def action_records(payload: bytes, options: Options) -> list[Record]:
    """The actions of a filter, from the attribute that holds them."""
    # tc(8) shows what hardware does only of actions that stand alone.
    return state_records((state._replace(in_hw=None) for state in decode(payload)), options)


def state_records(states: Iterable[ActionState], options: Options) -> list[Record]:
    """Actions as records: those keys that the kind has, statistics with ``-s``."""
    found = list(states)
    names = device_names() if any(state.kind == "mirred" for state in found) else {}
    return [_record(state, options, names) for state in found]


def police_record(payload: bytes, options: Options) -> Record:
    """The policer beside a filter's actions, as a record without order."""
    record = _record(decode_police(payload), options._replace(stats=False), {})
    del record["order"]
    return record


def _record(state: ActionState, options: Options, names: dict[int, str]) -> Record:
    record: Record = {"order": state.order, "kind": state.kind}
    if state.kind == "bpf":
        record |= _bpf(state, options)
    elif state.kind == "mirred":
        way, do = _WAYS.get(state.mirred, ("unknown", "unknown"))
        device = names.get(state.ifindex, f"if{state.ifindex}")
        record |= {"mirred_action": do, "direction": way, "to_dev": device}
    elif state.kind == "police":
        return record | _police(state, options) | _rest(state, options)
    record["control_action"] = _control(state.control)
    if state.kind == "gact":
        chance, verdict, value = state.gact_random
        word = CHANCES[chance] if chance < len(CHANCES) else str(chance)
        record["prob"] = {"random_type": word, "control_action": _control(verdict), "val": value}
    return record | {"index": state.number, "ref": state.ref, "bind": state.bind} | _rest(state, options)


def _police(state: ActionState, options: Options) -> Record:
    """tc(8)'s keys, among which are neither rates nor sizes, and these as its text has them."""
    told = state.police
    assert told is not None
    record: Record = {"index": state.number, "rate": told.rate, "burst": told.burst, "mtu": told.mtu}
    record |= {"peakrate": told.peakrate} if told.peakrate else {}
    record |= {"avrate": told.average} if told.average else {}
    if told.packet_rate:
        record |= {"pkts_rate": told.packet_rate, "pkts_burst": told.packet_burst}
    record["control_action"] = _control(state.control)
    record |= {"conform_action": _control(told.result)} if told.result else {}
    record["overhead"] = told.overhead
    if told.linklayer > ETHERNET or options.details:
        known = told.linklayer < len(_LINKLAYERS)
        record["linklayer"] = _LINKLAYERS[told.linklayer] if known else str(told.linklayer)
    return record | {"ref": state.ref, "bind": state.bind}


def _rest(state: ActionState, options: Options) -> Record:
    """What actions of all kinds have at their end."""
    record: Record = {}
    if options.stats:
        record |= _stats(state)
    if state.cookie:
        record["cookie"] = state.cookie.hex()
    if state.in_hw is not None:
        record["in_hw" if state.in_hw else "not_in_hw"] = True
    for key, bits in (("hw_stats", state.asked_hw_stats), ("used_hw_stats", state.hw_stats)):
        if bits is not None:
            record[key] = [word for bit, word in _HW_STATS if bits & bit] or ["disabled"]
    return record


def _bpf(state: ActionState, options: Options) -> Record:
    record: Record = {"bpf_name": state.name} if state.name else {}
    if state.bytecode:
        record["bytecode"] = bytecode_record(state.bytecode)
    if state.program_id:
        facts = program_facts(state.program_id, options)
        record["prog"] = facts
        if "tag" not in facts and state.tag:
            record["tag"] = state.tag
    return record


def _control(number: int) -> Record:
    if number & ~_VALUE == JUMP:
        return {"type": "jump", "jump": number & _VALUE}
    if number & ~_VALUE == GOTO_CHAIN:
        return {"type": "goto", "chain": number & _VALUE}
    return {"type": _VERDICTS.get(number, str(number))}


def _stats(state: ActionState) -> Record:
    hertz = os.sysconf("SC_CLK_TCK")
    installed, last_used, first_used, *counters = state.stats
    times = {"installed": installed, "last_used": last_used, "first_used": first_used}
    record: Record = {name: ticks // hertz for name, ticks in times.items() if ticks}
    names = ("bytes", "packets", "drops", "overlimits", "requeues", "backlog", "qlen")
    record["stats"] = dict(zip(names, counters, strict=True))
    return record


# --- text ---


def action_lines(record: Record) -> list[str]:
    """The lines of one action, from ``action order`` on."""
    head = f"\taction order {record['order']}: "
    if record["kind"] == "police":
        first, known = police_lines(record)
        return [head + first, known, *_more_lines(record)]
    head += record["kind"]
    control = " ".join(_control_words(record["control_action"]))
    index = " index" if record["kind"] != "mirred" else "index"
    between = []
    if record["kind"] == "mirred":
        way, do = record["direction"].capitalize(), record["mirred_action"].capitalize()
        head += f" ({way} {do} to device {record['to_dev']}) {control}"
    elif record["kind"] == "gact":
        prob = record["prob"]
        head += f" action {control}"
        verdict = " ".join(_control_words(prob["control_action"]))
        between = [f"\t random type {prob['random_type']} {verdict} val {prob['val']}"]
    elif record["kind"] != "bpf":
        return [head]
    else:
        head += " " + " ".join([*_bpf_words(record), f"default-action {control}"])
    known = f"\t{index} {record['index']} ref {record['ref']} bind {record['bind']}"
    lines = [head, *between, known + _times_text(record)]
    more = _more_lines(record)
    if more and record["kind"] == "bpf":
        more[0] = " " + more[0]  # iproute2 tc/m_bpf.c ends with a blank
    return lines + more


def police_lines(record: Record) -> list[str]:
    """The two lines of a policer, as tc(8) prints them behind ``action order`` or alone."""
    words = [f" police {record['index']:#x} rate {_rate_text(record['rate'])}"]
    words += [f"burst {_size_text(record['burst'])} mtu {_size_text(record['mtu'])}"]
    words += [f"{key} {_rate_text(record[key])}" for key in ("peakrate", "avrate") if key in record]
    words += [f"{key} {record[key]}" for key in ("pkts_rate", "pkts_burst") if key in record]
    verdicts = [record[key] for key in ("control_action", "conform_action") if key in record]
    words.append("action " + "/".join(" ".join(_control_words(verdict)) for verdict in verdicts))
    words.append(f"overhead {_size_text(record['overhead'])}")
    words += [f"linklayer {record['linklayer']}"] if "linklayer" in record else []
    known = f"\tref {record['ref']} bind {record['bind']} {_times_text(record)}".rstrip()
    return [" ".join(words), known]


def stats_line(stats: Record) -> str:
    """What a policer beside the actions has seen, as tc(8) prints it behind the filter."""
    counts = f"{stats['bytes']} bytes {stats['packets']} pkts"
    return f" Sent {counts} (dropped {stats['drops']}, overlimits {stats['overlimits']})"


def _rate_text(rate: int) -> str:
    """Bytes a second in bits: ``1Mbit``; as tc(8) has it, the largest unit that loses little or nothing."""
    bits, unit, *units = rate * 8, "", "K", "M", "G", "T"
    while units and bits >= 1000 and (bits % 1000 == 0 or bits >= 1000_000):
        bits, unit = bits // 1000, units.pop(0)
    return f"{bits}{unit}bit"


def _size_text(size: int) -> str:
    """``10Kb``; in full where that would not be the size."""
    for unit, name, slack in ((1024**2, "Mb", 1024), (1024, "Kb", 16)):
        count = round(size / unit)
        if size >= unit and abs(count * unit - size) < slack:
            return f"{count:g}{name}"
    return f"{size}b"


def _times_text(record: Record) -> str:
    times = (("installed", "installed"), ("last_used", "used"), ("first_used", "firstused"))
    return "".join(f" {word} {record[key]} sec" for key, word in times if key in record)


def _bpf_words(record: Record) -> list[str]:
    words = [record["bpf_name"]] if "bpf_name" in record else []
    words += [bytecode_text(record["bytecode"])] if "bytecode" in record else []
    words += [facts_text(record["prog"])] if "prog" in record else []
    return words + ([f"tag {record['tag']}"] if "tag" in record else [])


def _more_lines(record: Record) -> list[str]:
    lines = []
    if "stats" in record:
        stats = record["stats"]
        lines += [
            "\tAction statistics:",
            f"\tSent {stats['bytes']} bytes {stats['packets']} pkt (dropped {stats['drops']}, "
            f"overlimits {stats['overlimits']} requeues {stats['requeues']})",
            f"\tbacklog {stats['backlog']}b {stats['qlen']}p requeues {stats['requeues']}",
        ]
    lines += [f"\tcookie {record['cookie']}"] if "cookie" in record else []
    lines += [f"\t{word}" for word in ("in_hw", "not_in_hw") if word in record]
    return lines + [
        f"\t{key} {' '.join(record[key])}" for key in ("hw_stats", "used_hw_stats") if key in record
    ]


def _control_words(control: Record) -> list[str]:
    if control["type"] == "goto":
        return ["goto", "chain", str(control["chain"])]
    return [str(value) for value in control.values()]
