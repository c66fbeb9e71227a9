"""Loaded programs as code to interpret: the instructions as the verifier left them, the maps as they are.

The verifier has turned calls of helpers into calls of a map's own functions, or into instructions, wherever
it knew the map; which function is called is told by the kernel's symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from bpfctl.advise import effects
from bpfctl.advise.code import UNKNOWN_HELPER, Code, Device, MapDefinition, SourceLine, map_loads
from bpfctl.advise.subject import Subject
from bpfctl.advise.values import MapToken
from bpfctl.errors import BpfctlError, KernelError, NotFoundError, printable
from bpfctl.helpers import HELPER_COUNT, helper_name
from bpfctl.insn import CALL, Instruction, decode
from bpfctl.inventory import xlated
from bpfctl.inventory.reference import MAP, PROGRAM, Reference, iter_open, open_id, open_program
from bpfctl.inventory.xlated import Dump
from bpfctl.kernel import info
from bpfctl.kernel.kallsyms import Symbols
from bpfctl.uapi import BPF_PSEUDO_CALL, MapFlag

# How the names of a map's own functions end (kernel/bpf/*map*.c, hashtab.c, lpm_trie.c).
_OWN_FUNCTIONS = {
    "_lookup_elem": effects.LOOKUP,
    "_update_elem": effects.UPDATE,
    "_delete_elem": effects.DELETE,
    "_lookup_percpu_elem": effects.LOOKUP_PER_CPU,
}
_OTHER_NAMES = {
    "bpf_user_rnd_u32": 7,
    "bpf_get_raw_cpu_id": 8,
    "bpf_skb_event_output": 25,
    "bpf_xdp_event_output": 25,
}
_GENERIC = frozenset(
    {effects.LOOKUP, effects.UPDATE, effects.DELETE, effects.PUSH, effects.POP, effects.PEEK}
)
_HIDDEN = "the kernel does not show its instructions"
_NO_SYMBOLS = "the kernel hides its symbols, and so what is called"


def read_live(reference: Reference | None, attached: Mapping[int, Sequence[Device]] | None = None) -> Subject:
    """The program that ``reference`` names, or every one that is loaded.  Raises as ``open_program``.

    ``attached``: devices by the id of the program, where it matters on which NUMA node they are.
    """
    reader = _Reader(attached or {})
    if reference is not None:
        with open_program(reference) as fd:
            reader.add(_facts(fd.number))
        where = f"program {reference}"
    else:
        for facts in [_facts(fd.number) for fd in iter_open(PROGRAM)]:
            with suppress(NotFoundError):  # gone meanwhile
                reader.add(facts)
        where = "live"
    return Subject(where, True, reader.codes, reader.maps, reader.skipped)


def _facts(fd: int) -> info.ProgInfo:
    try:
        return info.prog_info(fd)
    except OSError as error:
        raise KernelError("cannot read a program's info", errno=error.errno or 0) from error


class _Reader:
    """Programs and maps as they are found; maps that programs share are read once."""

    def __init__(self, attached: Mapping[int, Sequence[Device]]) -> None:
        self._attached = attached
        self.codes: list[Code] = []
        self.maps: dict[MapToken, MapDefinition] = {}
        self.skipped: list[str] = []
        self._symbols = Symbols()
        self._base = self._symbols.call_base()
        self._numbers = {helper_name(number): number for number in range(1, HELPER_COUNT)}

    def add(self, facts: info.ProgInfo) -> None:
        """One program, unless the kernel hides it."""
        name = f"{printable(facts.name) or '-'} id {facts.id}"
        dump = xlated.read(Reference("id", str(facts.id)))
        if not dump.code.xlated or not self._base:
            self.skipped.append(f"program {name}: {_HIDDEN if not dump.code.xlated else _NO_SYMBOLS}")
            return
        for number in facts.map_ids:
            if number not in self.maps:
                self._add_map(number)
            if number in self.maps:
                known = self.maps[number]
                devices = dict.fromkeys((*known.devices, *self._attached.get(facts.id, ())))
                self.maps[number] = known._replace(devices=tuple(devices))
        slots = decode(dump.code.xlated)
        helpers, generic = self._helpers(slots)
        self.codes.append(
            Code(
                name=name,
                type=facts.type,
                slots=slots,
                maps=self.maps,
                loads=dict(map_loads(slots)),
                helpers=helpers,
                calls=dict(_calls(dump, slots)),
                lines=list(_lines(dump)),
                generic=frozenset(generic) if facts.jited_prog_len else frozenset(),
                translated=True,
            )
        )

    def _add_map(self, number: int) -> None:
        try:
            with open_id(MAP, number) as fd:
                facts = info.map_info(fd.number)
                counted = int(info.fdinfo(fd.number).get("memlock", 0))
        except (BpfctlError, OSError):
            return
        self.maps[number] = MapDefinition(
            token=number,
            name=f"{printable(facts.name) or '-'} id {number}",
            type=facts.type,
            key_size=facts.key_size,
            value_size=facts.value_size,
            max_entries=facts.max_entries,
            flags=facts.map_flags,
            numa_node=0 if facts.map_flags & MapFlag.NUMA_NODE else None,
            data="." in facts.name,
            counted=counted,
        )

    def _helpers(self, slots: list[Instruction]) -> tuple[dict[int, int], list[int]]:
        """Number of each helper called, and the calls that serve any map."""
        targets = {
            pc: self._base + slot.imm for pc, slot in enumerate(slots) if slot.code == CALL and not slot.src
        }
        names = self._symbols.names(targets.values())
        helpers = {pc: self._helper(names.get(target, "")) for pc, target in targets.items()}
        generic = [
            pc
            for pc, helper in helpers.items()
            if helper in _GENERIC and names.get(targets[pc]) == helper_name(helper)
        ]
        return helpers, generic

    def _helper(self, name: str) -> int:
        number = self._numbers.get(name) or _OTHER_NAMES.get(name)
        if number is None:
            number = next((n for end, n in _OWN_FUNCTIONS.items() if name.endswith(end)), UNKNOWN_HELPER)
        return number


def _calls(dump: Dump, slots: list[Instruction]) -> Iterator[tuple[int, int]]:
    """Of compiled programs ``imm`` is the number of the function, of interpreted ones the distance."""
    functions = dump.code.functions
    for pc, slot in enumerate(slots):
        if slot.code == CALL and slot.src == BPF_PSEUDO_CALL and dump.code.ksyms:
            if 0 <= slot.imm < len(functions):
                yield pc, functions[slot.imm].insn_off
            else:
                yield pc, pc + slot.off + 1


def _lines(dump: Dump) -> Iterator[tuple[int, SourceLine]]:
    for number, record in enumerate(dump.code.lines):
        source = dump.source(number)
        if source.file is not None:
            yield record.insn_off, SourceLine(source.file, source.line or 0, source.text or "")
