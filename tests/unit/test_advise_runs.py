"""What ``advise`` takes for certain is so in every run: random programs, interpreted and then run for real.

The runs are of a small machine made here.  At each call it compares keys, maps and every fact with what has
happened.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest

from bpfctl.advise.code import Code, MapDefinition, map_loads
from bpfctl.advise.interpret import interpret
from bpfctl.advise.sites import MapCall
from bpfctl.advise.state import CURRENT, HIT, LOOKED, MISS, Fact
from bpfctl.asm import FP
from bpfctl.asm import Code as Asm
from bpfctl.insn import ALU64, CALL, EXIT, JMP, LD_IMM64, LDX, ST, STX, Instruction, decode
from bpfctl.uapi import BPF_PSEUDO_CALL, BPF_PSEUDO_MAP_FD, MapType, ProgramType

LOOKUP, UPDATE, DELETE, LOAD_BYTES = 1, 2, 3, 26
FUNCTION = 999  # as the number of a helper: the function at the end
MAPS = {
    token: MapDefinition(token, f"map{token}", MapType.HASH, size, 8, 64)
    for token, size in ((1, 4), (2, 4), (3, 8))
}
STACK, VALUE, MAP, CONTEXT = (place << 40 for place in (1, 2, 3, 4))
FRAME = 1 << 20  # bytes between the frames of two functions
SIZES = (4, 2, 1, 8)
MASK = (1 << 64) - 1
STEPS = 600
KEYS, WORDS = (-8, -8, -12, -16, -24), (-4, -8, -12, -16, -24, -32)


# --- programs ------------------------------------------------------------------------------------


class Maker:
    """A program of random steps.  r6 is the context, r7 a number, r8 what some lookup returned, r9 counts."""

    def __init__(self, random: Random) -> None:
        self.asm = Asm()
        self.random = random
        self._count = 0
        self._ahead: list[str] = []
        self._behind: list[str] = []

    def program(self) -> list[Instruction]:
        """Its instructions, those of the function that it calls at the end."""
        asm = self.asm
        asm.alu("mov", 6, 1)
        self._start()
        self._steps(self.random.randint(10, 40), calls=True)
        start = len(decode(asm.build()))
        asm.alu("mov", 6, 2)  # r1: an address in the caller's frame
        self._start()
        asm.store_imm(self.random.choice((1, 4)), 1, self.random.choice((0, 4)), 3)
        self._steps(self.random.randint(1, 8), calls=False)
        slots = decode(asm.build())
        for pc, slot in enumerate(slots):
            if slot.code == CALL and slot.imm == FUNCTION:
                slots[pc] = slot._replace(src=BPF_PSEUDO_CALL, imm=start - pc - 1)
        return slots

    def _start(self) -> None:
        for register in (7, 8, 9):
            self.asm.alu_imm("mov", register, 0)
        for offset in range(-64, 0, 8):
            self.asm.store_imm(8, FP, offset, self.random.choice((0, 1)))

    def _steps(self, count: int, *, calls: bool) -> None:
        steps = [self._number, self._store, self._load, self._map, self._map, self._map, self._map]
        steps += [self._branch, self._test, self._bytes, self._somewhere, self._loop, self._loop]
        steps += [self._function] if calls else []
        for _ in range(count):
            self.random.choice(steps)()
            if self._ahead and self.random.random() < 0.4:
                self.asm.label(self._ahead.pop())
        while self._ahead:
            self.asm.label(self._ahead.pop())
        self._behind.clear()
        self.asm.alu_imm("mov", 0, 0)
        self.asm.exit()

    def _label(self) -> str:
        self._count += 1
        return f"label{self._count}"

    def _number(self) -> None:
        if self.random.random() < 0.5:
            self.asm.load(4, 7, 6, 0)
        else:
            self.asm.alu_imm("mov", 7, self.random.choice((0, 1, 2)))

    def _store(self) -> None:
        size = self.random.choice((1, 2, 4, 8))
        offset = self.random.choice(WORDS) // size * size
        if size == 4 and self.random.random() < 0.5:
            self.asm.store(4, FP, offset, 7)
        else:
            self.asm.store_imm(size, FP, offset, self.random.choice((0, 1, 3)))

    def _load(self) -> None:
        size = self.random.choice((1, 2, 4))
        self.asm.load(size, 7, FP, self.random.choice(WORDS) // size * size)

    def _map(self) -> None:
        asm, random = self.asm, self.random
        helper = random.choice((LOOKUP, LOOKUP, LOOKUP, UPDATE, DELETE))
        if random.random() < 0.2:
            label = self._label()
            asm.map_fd(1, 1)
            asm.jump_if("jeq", 7, random.choice((0, 1)), label)
            asm.map_fd(1, 2)
            asm.label(label)
        else:
            asm.map_fd(1, random.choice((1, 2, 3)))
        asm.alu("mov", 2, FP)
        asm.alu_imm("add", 2, random.choice(KEYS))
        asm.alu("mov", 3, FP)
        asm.alu_imm("add", 3, -48)
        asm.alu_imm("mov", 4, 0)
        asm.call(helper)
        if helper == LOOKUP and random.random() < 0.6:
            asm.alu("mov", 8, 0)
        if helper == LOOKUP and random.random() < 0.6:
            self._ahead.append(self._label())
            asm.jump_if(random.choice(("jeq", "jne")), 0, 0, self._ahead[-1])

    def _branch(self) -> None:
        self._ahead.append(self._label())
        self.asm.jump_if("jeq", 7, self.random.choice((0, 1)), self._ahead[-1])

    def _test(self) -> None:
        self._ahead.append(self._label())
        self.asm.jump_if(self.random.choice(("jeq", "jne")), 8, 0, self._ahead[-1])

    def _bytes(self) -> None:
        """A helper that writes to the stack."""
        self.asm.alu_imm("mov", 2, 0)
        self.asm.alu("mov", 3, FP)
        self.asm.alu_imm("add", 3, self.random.choice((-32, -24, -16)))
        self.asm.alu_imm("mov", 4, self.random.choice((4, 8, 12)))
        self.asm.call(LOAD_BYTES)

    def _somewhere(self) -> None:
        self.asm.load(4, 7, 6, 0)
        self.asm.alu_imm("and", 7, 15)
        self.asm.alu("mov", 3, FP)
        self.asm.alu_imm("add", 3, -32)
        self.asm.alu("add", 3, 7)
        self.asm.store_imm(1, 3, 0, 9)

    def _loop(self) -> None:
        if self._behind and self.random.random() < 0.5:
            self.asm.alu_imm("add", 9, 1)
            self.asm.jump_if("jne", 9, 3, self._behind.pop())
        else:
            self._behind.append(self._label())
            self.asm.label(self._behind[-1])

    def _function(self) -> None:
        self.asm.alu("mov", 1, FP)
        self.asm.alu_imm("add", 1, self.random.choice(WORDS))
        self.asm.alu("mov", 2, 6)
        self.asm.call(FUNCTION)


# --- runs ----------------------------------------------------------------------------------------


class Looked(NamedTuple):
    """The latest run of a lookup: when, what with, whether it found something."""

    time: int
    map: int
    key: int
    hit: bool


class Run:
    """One run, in which what the program does not decide is decided by ``random``."""

    def __init__(self, code: Code, sites: dict[int, MapCall], random: Random) -> None:
        self._code = code
        self._sites = sites
        self._random = random
        self._registers = [0] * 11
        self._memory: dict[int, int] = {}
        self._frames: dict[int, int] = {0: STACK}  # function -> address of its frame's end
        self._returns: list[tuple[int, list[int], int]] = []
        self._function = 0
        self._looked: dict[int, Looked] = {}
        self._changed: dict[int, int] = {}
        self._time = 0
        self.checked = 0

    def run(self) -> None:
        """To the end, or as far as a loop lets us."""
        self._registers[1], self._registers[FP] = CONTEXT, STACK
        pc: int | None = 0
        for _ in range(STEPS):
            if pc is None:
                return
            pc = self._step(pc, self._code.slots[pc])

    def _step(self, pc: int, slot: Instruction) -> int | None:
        kind = slot.code & 7
        if slot.code == EXIT:
            return self._return()
        if slot.code == CALL:
            return self._call(pc, slot)
        if kind == JMP:
            return pc + 1 + (slot.off if self._taken(slot) else 0)
        if slot.code == LD_IMM64:
            assert slot.src == BPF_PSEUDO_MAP_FD
            self._registers[slot.dst] = MAP + slot.imm
            return pc + 2
        size = SIZES[slot.code >> 3 & 3]
        if kind == ALU64:
            self._calculate(slot)
        elif kind == LDX:
            self._registers[slot.dst] = self._load(self._registers[slot.src] + slot.off, size)
        else:
            assert kind in (ST, STX)
            value = slot.imm & MASK if kind == ST else self._registers[slot.src]
            self._write(self._registers[slot.dst] + slot.off, value.to_bytes(8, "little")[:size])
        return pc + 1

    def _operand(self, slot: Instruction) -> int:
        return self._registers[slot.src] if slot.code & 8 else slot.imm & MASK

    def _taken(self, slot: Instruction) -> bool:
        equal = self._registers[slot.dst] == self._operand(slot)
        return equal if slot.code >> 4 == 1 else not equal

    def _calculate(self, slot: Instruction) -> None:
        old, operand = self._registers[slot.dst], self._operand(slot)
        results = {0x0: old + operand, 0x5: old & operand, 0xB: operand}
        self._registers[slot.dst] = results[slot.code >> 4] & MASK

    def _load(self, address: int, size: int) -> int:
        if address >= CONTEXT:
            return self._random.choice((0, 1, 2, 77))
        return sum(self._memory.get(address + at, 0xAA) << 8 * at for at in range(size))

    def _write(self, address: int, data: bytes) -> None:
        self._memory.update({address + at: byte for at, byte in enumerate(data)})

    def _return(self) -> int | None:
        if not self._returns:
            return None
        result = self._registers[0]
        pc, self._registers, self._function = self._returns.pop()
        self._registers[0] = result
        return pc

    def _call(self, pc: int, slot: Instruction) -> int:
        if slot.src == BPF_PSEUDO_CALL:
            self._returns.append((pc + 1, self._registers.copy(), self._function))
            self._function = pc + 1 + slot.imm
            self._frames[self._function] = self._registers[FP] = STACK - FRAME * len(self._returns)
            return self._function
        self._time += 1
        if slot.imm == LOAD_BYTES:
            self._write(self._registers[3], self._random.randbytes(self._registers[4]))
        else:
            self._registers[0] = self._map_call(pc, slot.imm)
        return pc + 1

    def _map_call(self, pc: int, helper: int) -> int:
        token = self._registers[1] - MAP
        key = self._load(self._registers[2], MAPS[token].key_size)
        site = self._sites[pc]
        self.checked += 1
        assert token in site.maps
        assert site.key in (None, key)
        if site.place is not None:
            assert self._frames[site.place[0]] + site.place[1] == self._registers[2]
        for fact in site.facts:
            assert self._is_so(fact), (pc, fact)
        if helper != LOOKUP:
            self._changed[token] = self._time
            return 0
        hit = self._random.random() < 0.5
        self._looked[pc] = Looked(self._time, token, key, hit)
        return VALUE + pc * 64 if hit else 0

    def _is_so(self, fact: Fact) -> bool:
        looked = self._looked.get(fact.pc)
        if looked is None:
            return False
        if fact.kind in (HIT, MISS):
            return looked.hit is (fact.kind == HIT)
        assert fact.kind in (LOOKED, CURRENT)
        key = self._load(self._frames[fact.frame] + fact.offset, fact.size)
        since = self._changed.get(looked.map, 0) if fact.kind == CURRENT else 0
        return (looked.map, looked.key) == (fact.map, key) and since <= looked.time


@pytest.mark.parametrize("seed", range(40))
def test_what_is_certain_is_so_in_every_run(seed: int) -> None:
    random = Random(seed)
    checked = 0
    for _ in range(3):
        slots = Maker(random).program()
        code = Code("random", ProgramType.XDP, slots, dict(MAPS), dict(map_loads(slots)))
        uses = interpret(code)
        assert uses.unfinished is None
        for _ in range(15):
            run = Run(code, {site.pc: site for site in uses.calls}, random)
            run.run()
            checked += run.checked
    assert checked
