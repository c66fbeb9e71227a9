"""Actions as tc(8) shows them: records with its keys in its order, and their lines."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bpfctl.attach.actions import CONTROLS, GOTO_CHAIN, JUMP, MIRRED, ActionState, decode, device_names
from bpfctl.cli.app import Options
from bpfctl.cli.progtext import bytecode_record, bytecode_text, facts_text, program_facts
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Record: TypeAlias = "dict[str, Any]"

_VERDICTS = {number: name for name, number in reversed(CONTROLS.items())}  # the first name of each
_WAYS = {number: way for way, number in MIRRED.items()}
_CHANCES = ("none", "netrand", "determ")
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


def _record(state: ActionState, options: Options, names: dict[int, str]) -> Record:
    record: Record = {"order": state.order, "kind": state.kind}
    if state.kind == "bpf":
        record |= _bpf(state, options)
    elif state.kind == "mirred":
        way, do = _WAYS.get(state.mirred, ("unknown", "unknown"))
        device = names.get(state.ifindex, f"if{state.ifindex}")
        record |= {"mirred_action": do, "direction": way, "to_dev": device}
    record["control_action"] = _control(state.control)
    if state.kind == "gact":
        chance, verdict, value = state.gact_random
        word = _CHANCES[chance] if chance < len(_CHANCES) else str(chance)
        record["prob"] = {"random_type": word, "control_action": _control(verdict), "val": value}
    record |= {"index": state.number, "ref": state.ref, "bind": state.bind}
    if options.stats:
        record |= _stats(state)
    if state.cookie:
        record["cookie"] = state.cookie.hex()
    if state.in_hw is not None:
        record["in_hw" if state.in_hw else "not_in_hw"] = True
    if state.hw_stats is not None:
        words = [word for bit, word in _HW_STATS if state.hw_stats & bit]
        record["used_hw_stats"] = words or ["disabled"]
    return record


def _bpf(state: ActionState, options: Options) -> Record:
    record: Record = {"bpf_name": state.name} if state.name else {}
    if state.bytecode:
        record["bytecode"] = bytecode_record(state.bytecode)
    if state.program_id:
        facts = program_facts(state.program_id, options, details=options.details)
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
    head = f"\taction order {record['order']}: {record['kind']}"
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
    lines = [head, *between, f"\t{index} {record['index']} ref {record['ref']} bind {record['bind']}"]
    for key, word in (("installed", "installed"), ("last_used", "used"), ("first_used", "firstused")):
        lines[-1] += f" {word} {record[key]} sec" if key in record else ""
    more = _more_lines(record)
    if more and record["kind"] == "bpf":
        more[0] = " " + more[0]  # iproute2 tc/m_bpf.c ends with a blank
    return lines + more


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
    if "used_hw_stats" in record:
        lines.append(f"\tused_hw_stats {' '.join(record['used_hw_stats'])}")
    return lines


def _control_words(control: Record) -> list[str]:
    if control["type"] == "goto":
        return ["goto", "chain", str(control["chain"])]
    return [str(value) for value in control.values()]
