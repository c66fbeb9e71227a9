"""The block of facts about a program in ``link show`` and ``filter show``: iproute2's, and ours behind."""

from __future__ import annotations

import struct

from bpfctl.cli.app import Options
from bpfctl.inventory.listing import find_program_quietly
from bpfctl.inventory.reference import Reference
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Facts: TypeAlias = "dict[str, Any]"


def program_facts(program_id: int, options: Options) -> Facts:
    """``id``, ``name``, ``tag``, ``jited`` (0 or 1) as iproute2 spells them; only ``id`` without privilege.

    ``-d`` adds ``load_time`` (ns since boot), ``created_by_uid`` and ``btf_id`` as ``ip -d`` does, and
    of our own ``map_ids``; ``-s`` adds ``run_cnt`` and ``run_time_ns``.
    """
    record = find_program_quietly(Reference("id", str(program_id)))
    if record is None:
        return {"id": program_id}
    facts: Facts = {"id": record.id, "name": record.name, "tag": record.tag, "jited": int(record.jited)}
    if options.details:
        facts |= {"load_time": record.load_time, "created_by_uid": record.uid}
        facts |= {"btf_id": record.btf_id} if record.btf_id else {}
        facts |= {"map_ids": record.map_ids}
    if options.stats:
        facts |= {"run_cnt": record.run_cnt, "run_time_ns": record.run_time_ns}
    return facts


def bytecode_record(code: bytes) -> dict[str, Any]:
    """A classic program: ``struct sock_filter``, 8 bytes an instruction."""
    fields = ("code", "jt", "jf", "k")
    insns = [dict(zip(fields, insn, strict=True)) for insn in struct.iter_unpack("=HBBI", code)]
    return {"length": len(insns), "insns": insns}


def bytecode_text(record: dict[str, Any]) -> str:
    """``bytecode '1,6 0 0 0'``, which tc(8) takes back."""
    insns = (" ".join(map(str, insn.values())) for insn in record["insns"])
    return f"bytecode '{','.join([str(record['length']), *insns])}'"


def facts_text(facts: Facts) -> str:
    """``id 12 name x tag 614b434cd8324ecc jited``, and what else there is in the same manner."""
    words = []
    for key, value in facts.items():
        if key == "jited":
            words += ["jited"] if value else []
        elif key == "map_ids":
            words += [f"map_ids {','.join(map(str, value))}"] if value else []
        else:
            words.append(f"{key} {value}")
    return " ".join(words)
