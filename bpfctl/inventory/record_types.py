"""Which types the records of a ring buffer or perf event array have.

The buffer does not say; the programs that write to it do: their code has the size of each record, their BTF
the types of that size.  Where more than one type fits, none is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from bpfctl import insn
from bpfctl.btf.kinds import Kind
from bpfctl.btf.scalars import Codec
from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, BtfError, NotFoundError, printable
from bpfctl.inventory import xlated
from bpfctl.inventory.elements import OpenMap
from bpfctl.inventory.listing import programs_by_map
from bpfctl.inventory.reference import Reference
from bpfctl.inventory.xlated import Dump
from bpfctl.kernel.kallsyms import Symbols
from bpfctl.record import NamedTuple
from bpfctl.uapi import BPF_PSEUDO_MAP_FD, MapType

# Functions of the kernel that write a record -> registers of the map and of the record's size.
_RING, _PERF = (1, 2), (2, 5)
_WRITERS = {
    "bpf_ringbuf_reserve": _RING,
    "bpf_ringbuf_reserve_dynptr": _RING,
    "bpf_ringbuf_output": (1, 3),
    "bpf_perf_event_output": _PERF,
    "bpf_perf_event_output_tp": _PERF,
    "bpf_perf_event_output_raw_tp": _PERF,
    "bpf_event_output_data": _PERF,
    "bpf_skb_event_output": _PERF,
    "bpf_xdp_event_output": _PERF,
}
_MOVE_IMMEDIATE, _MOVE_REGISTER = (0xB4, 0xB7), (0xBC, 0xBF)  # of 32 and of 64 bits
_MODE, _ATOMIC = 0xE0, 0xC0
_FIRST_KEPT = 6  # r6 to r9 are as they were after a call
_PERF_HEAD, _PERF_UNIT = 4, 8  # bytes: a record with its length is padded to the unit


class Candidate(NamedTuple):
    """A type that records of its size may have; ``shape`` tells types of one name apart."""

    name: str
    shape: tuple[object, ...]
    codec: Codec


class RecordTypes(NamedTuple):
    """``by_size``: the types that fit records of so many bytes; ``certain``: no other sizes are written.

    ``padded``: the buffer pads records.
    """

    by_size: dict[int, list[Candidate]]
    certain: bool
    padded: bool

    def codec(self, length: int) -> Codec | None:
        """That of a record as it was read, where only one type can be meant."""
        sizes = [size for size in self.by_size if self._length(size) == length]
        if self.padded and not sizes and len(self.by_size) == 1:
            sizes = [size for size in self.by_size if size < length]  # a part of the packet follows
        if not self.certain or len(sizes) != 1 or len(self.by_size[sizes[0]]) != 1:
            return None
        return self.by_size[sizes[0]][0].codec

    def _length(self, size: int) -> int:
        if not self.padded:
            return size
        return -(-(size + _PERF_HEAD) // _PERF_UNIT) * _PERF_UNIT - _PERF_HEAD


def named_codec(target: OpenMap, name: str) -> Codec:
    """The codec of the type ``name`` of a program that uses ``target``.  Raises NotFoundError."""
    from bpfctl.btf.values import value_codec
    from bpfctl.inventory.type_sources import named, of_program

    bare = name.removeprefix("struct ").removeprefix("union ")
    for number in programs_by_map().get(target.id, ()):
        try:
            btf = of_program(Reference("id", str(number))).btf
            return value_codec(btf, named(btf, bare)[0])
        except (NotFoundError, BtfError):
            continue
    raise NotFoundError(
        f"no program that uses {target} has a type {printable(name)}",
        hint="the compiler leaves out what nothing refers to: a variable of that type keeps it",
    )


def record_types(target: OpenMap) -> RecordTypes:
    """What the programs that use ``target`` now write to it; nothing where they cannot be looked at."""
    found = RecordTypes({}, True, target.map_type == MapType.PERF_EVENT_ARRAY)
    with suppress(BpfctlError, OSError):
        symbols = Symbols()
        for number in programs_by_map().get(target.id, ()):
            dump = xlated.read(Reference("id", str(number)))
            found = found._replace(certain=found.certain and bool(dump.code.xlated))
            for size in _sizes_written(dump, symbols, target.id):
                if size is None:
                    found = found._replace(certain=False)
                else:
                    known = found.by_size.setdefault(size, [])
                    known += [c for c in _candidates(dump, size) if c[:2] not in [k[:2] for k in known]]
    return found


def _sizes_written(dump: Dump, symbols: Symbols, map_id: int) -> Iterator[int | None]:
    """Bytes of each record that the code may write to the map; None: they are not in the code."""
    slots = insn.decode(dump.code.xlated)
    base = symbols.call_base()
    calls = {pc: base + s.imm for pc, s in enumerate(slots) if s.code == insn.CALL and not s.src and base}
    names = symbols.names(calls.values())
    reached = _reached_by_jumps(slots)
    for pc, address in calls.items():
        registers = _WRITERS.get(names.get(address, ""))
        if registers is None:
            continue
        source = _last_write(slots, reached, pc, registers[0])
        is_map = source and source.code == insn.LD_IMM64 and source.src == BPF_PSEUDO_MAP_FD
        if source and is_map and source.imm != map_id:
            continue
        size = _last_write(slots, reached, pc, registers[1])
        yield size.imm if size and size.code in _MOVE_IMMEDIATE else None


def _reached_by_jumps(slots: Sequence[insn.Instruction]) -> set[int]:
    """Instructions that another one than the one before may lead to; all, where a jump is computed."""
    reached = set()
    for pc, slot in enumerate(slots):
        if slot.code == insn.INDIRECT_JUMP:
            return set(range(len(slots)))
        if slot.instruction_class in (insn.JMP, insn.JMP32) and slot.code not in (insn.CALL, insn.EXIT):
            reached.add(pc + 1 + (slot.imm if slot.code == insn.LONG_JUMP else slot.off))
    return reached


def _last_write(
    slots: Sequence[insn.Instruction], reached: set[int], pc: int, register: int
) -> insn.Instruction | None:
    """The instruction that gave ``register`` its value at ``pc``, through moves; None: not in this block."""
    while pc and pc not in reached:
        pc -= 1
        slot = slots[pc]
        kind = slot.instruction_class
        if slot.code == insn.CALL or (kind == insn.LD and slot.code not in (0, insn.LD_IMM64)):
            if register < _FIRST_KEPT:
                return None
        elif kind in (insn.JMP, insn.JMP32) or (kind == insn.STX and slot.code & _MODE == _ATOMIC):
            return None
        elif kind in (insn.ST, insn.STX) or slot.dst != register or not slot.code:
            continue
        elif slot.code in _MOVE_REGISTER and not slot.off:
            register = slot.src
        else:
            return slot
    return None


def _candidates(dump: Dump, size: int) -> Iterator[Candidate]:
    """Structs and unions of ``size`` bytes; the program's context is none."""
    from bpfctl.btf.values import value_codec

    btf = dump.btf
    if btf is None:
        return
    context = _context(dump, btf)
    for kind in (Kind.STRUCT, Kind.UNION, Kind.TYPEDEF):
        for type_id in btf.ids(kind):
            with suppress(BtfError):
                body = btf.skip_modifiers(type_id)
                # A typedef counts where it is the only name.
                if kind is Kind.TYPEDEF and (btf.name(body) or btf.kind(body) not in _AGGREGATES):
                    continue
                name = btf.name(type_id)
                if name and body != context and btf.size_or_type(body) == size:
                    yield Candidate(name, _shape(btf, body), value_codec(btf, type_id))


_AGGREGATES = (Kind.STRUCT, Kind.UNION)


def _shape(btf: Btf, type_id: int) -> tuple[object, ...]:
    from bpfctl.btf.text import type_text

    return tuple((m.name, m.offset, m.bitfield_size, type_text(btf, m.type_id)) for m in btf.members(type_id))


def _context(dump: Dump, btf: Btf) -> int:
    """The struct that the program's first argument points to; 0 where there is none."""
    with suppress(BtfError, IndexError):
        prototype = btf.size_or_type(dump.code.functions[0].type_id)
        pointer = btf.skip_modifiers(btf.params(prototype)[0].type_id)
        if btf.kind(pointer) is Kind.PTR:
            return btf.skip_modifiers(btf.size_or_type(pointer))
    return 0
