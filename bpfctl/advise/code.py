"""Code to be interpreted: instructions, what they refer to, and where each may go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bpfctl.advise.values import MapToken
from bpfctl.insn import CALL, EXIT, JMP, JMP32, LD_IMM64, Instruction
from bpfctl.record import NamedTuple
from bpfctl.uapi import (
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_KFUNC_CALL,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    MapType,
)

# What a call is of, where it is no helper that we know.
UNKNOWN_HELPER, KERNEL_FUNCTION = -1, -2

JUMP, LONG_JUMP, INDIRECT_JUMP = JMP, JMP32, 0x0D


class Device(NamedTuple):
    """A network device by name, and its NUMA node."""

    name: str
    node: int


class MapDefinition(NamedTuple):
    """A map as programs see it; sizes in bytes.  ``data``: made for the variables of a data section;
    ``placed``: in a map of maps, or the pattern of what goes there; ``deferred``: values have a timer or the
    like, which names the map that it is in; ``counted``: bytes of a live map that the kernel counts now;
    ``devices``: that programs which use it are attached to.
    """

    token: MapToken
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    numa_node: int | None = None
    pinned: bool = False
    data: bool = False
    placed: bool = False
    deferred: bool = False
    counted: int = 0
    devices: tuple[Device, ...] = ()

    @property
    def holds_maps(self) -> bool:
        """Whether a lookup returns a map."""
        return self.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)


class MapLoad(NamedTuple):
    """A 64-bit load of a map, or with ``offset`` of an address in its only value."""

    token: MapToken
    offset: int | None


class SourceLine(NamedTuple):
    """Where an instruction comes from."""

    file: str
    line: int
    text: str


@dataclass(slots=True)
class Code:
    """One program.  Everything is by instruction number.

    ``loads``: maps; ``helpers``: number of the helper called, or one of the two above, where the instruction
    does not say; ``calls``: first instruction of the function called; ``unsure``: instructions whose operand
    the loader changes; ``indirect``: where computed jumps may lead, None: nobody knows; ``generic``: calls
    that the kernel left to serve any map; ``translated``: the kernel has turned lookups into instructions.
    """

    name: str
    type: int | None
    slots: list[Instruction]
    maps: dict[MapToken, MapDefinition]
    loads: dict[int, MapLoad]
    helpers: dict[int, int] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    unsure: frozenset[int] = frozenset()
    indirect: tuple[int, ...] | None = None
    lines: list[tuple[int, SourceLine]] = field(default_factory=list)
    generic: frozenset[int] = frozenset()
    translated: bool = False

    def helper(self, pc: int) -> int:
        """Number of the helper that the call at ``pc`` is of."""
        slot = self.slots[pc]
        known = self.helpers.get(pc)
        if known is not None:
            return known
        return KERNEL_FUNCTION if slot.src == BPF_PSEUDO_KFUNC_CALL else slot.imm

    def callee(self, pc: int) -> int:
        """Where the function begins that ``pc`` calls, or whose address it loads."""
        return self.calls.get(pc, pc + self.slots[pc].imm + 1)

    def calls_function(self, pc: int) -> bool:
        """Whether ``pc`` calls a function of this program."""
        slot = self.slots[pc]
        return slot.code == CALL and slot.src == BPF_PSEUDO_CALL and pc not in self.helpers

    def loads_function(self, pc: int) -> bool:
        """Whether ``pc`` loads the address of one."""
        slot = self.slots[pc]
        return slot.code == LD_IMM64 and slot.src == BPF_PSEUDO_FUNC

    def next(self, pc: int) -> int:
        """The instruction after ``pc``."""
        return pc + 2 if self.slots[pc].code == LD_IMM64 else pc + 1

    def source(self, pc: int) -> SourceLine | None:
        """The line that ``pc`` was compiled from."""
        from bisect import bisect_right

        at = bisect_right(self.lines, pc, key=lambda record: record[0])
        return self.lines[at - 1][1] if at else None

    def block_starts(self) -> frozenset[int]:
        """Every instruction that another one than the one before leads to."""
        starts = set(self.indirect or ())
        pc = 0
        while pc < len(self.slots):
            after = self.next(pc)
            if is_jump(self.slots[pc]):
                starts.add(after)
                starts.update(self.targets(pc))
            elif self.calls_function(pc):
                starts |= {after, self.callee(pc)}
            elif self.loads_function(pc):
                starts.add(self.callee(pc))
            pc = after
        return frozenset(starts)

    def targets(self, pc: int) -> Iterator[int]:
        """Where the jump at ``pc`` leads, the next instruction left out."""
        slot = self.slots[pc]
        if slot.code == INDIRECT_JUMP:
            yield from self.indirect or ()
        elif slot.code == LONG_JUMP:
            yield pc + 1 + slot.imm
        elif slot.code != EXIT:
            yield pc + 1 + slot.off


def is_jump(slot: Instruction) -> bool:
    """Any jump or the end of a function; no call."""
    return slot.code & 7 in (JMP, JMP32) and slot.code != CALL


def map_loads(slots: list[Instruction]) -> Iterator[tuple[int, MapLoad]]:
    """Loads that carry the number of their map (an id, a descriptor) in the instruction."""
    for pc, slot in enumerate(slots[:-1]):
        if slot.code == LD_IMM64 and slot.src == BPF_PSEUDO_MAP_FD:
            yield pc, MapLoad(slot.imm, None)
        elif slot.code == LD_IMM64 and slot.src == BPF_PSEUDO_MAP_VALUE:
            yield pc, MapLoad(slot.imm, slots[pc + 1].imm & 0xFFFFFFFF)
