"""ELF relocations in code: what each symbol means, and the instruction bytes that say so.

What decides is the instruction and the section of the symbol; the relocation's type number is never
looked at, as in every other BPF loader.  Two instructions can carry a relocation: a call, and a 64-bit
load of two slots.  Instruction layout: u8 code, u8 registers, s16 offset, s32 immediate.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from struct import Struct

from bpfctl.errors import RelocationError, printable
from bpfctl.insn import CALL, LD_IMM64, SLOT
from bpfctl.objfile.arena import ARENA_SECTION, find_arena
from bpfctl.objfile.elf import (
    MAX_MESSAGE_SIZE,
    SHN_ABS,
    SHN_COMMON,
    SHN_LORESERVE,
    SHN_UNDEF,
    Elf,
    RelocationEntry,
    Symbol,
)
from bpfctl.objfile.externs import KCONFIG
from bpfctl.objfile.jump_tables import JUMP_TABLES_SECTION, BadTableError, read_jump_table
from bpfctl.objfile.programs import Place, code_sections
from bpfctl.objfile.sections import is_struct_ops_section
from bpfctl.objfile.spec import (
    ExternReference,
    FunctionSpec,
    MapOrigin,
    MapReference,
    ObjectSpec,
    Relocation,
)
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import (
    BPF_PSEUDO_BTF_ID,
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
)

if TYPE_CHECKING:
    from typing import TypeAlias, TypedDict

    class _Where(TypedDict):
        path: str
        section: str
        offset: int


_IMM = {"<": Struct("<i"), ">": Struct(">i")}
_PAIR = {"<": Struct("<BBhiIi"), ">": Struct(">BBhiIi")}  # both slots of a 64-bit load

_Load: TypeAlias = tuple[int, int, int, int, int, int]  # the fields of _PAIR
_IMM_FIELD = 3
_VALUE_HIGH = BPF_PSEUDO_MAP_VALUE << 4
_SYMBOL_OF = itemgetter(2)  # of a RelocationEntry

# Registers byte -> 1 where a 64-bit load with it names something by a number of the loading process.
_OWN_NUMBERS = frozenset(range(1, 16)) - {BPF_PSEUDO_BTF_ID}
_NAMES_NUMBER = {
    "<": bytes(registers >> 4 in _OWN_NUMBERS for registers in range(256)),
    ">": bytes(registers & 0xF in _OWN_NUMBERS for registers in range(256)),
}
_SUBPROGRAM_CALL = {"<": bytes([CALL, BPF_PSEUDO_CALL << 4]), ">": bytes([CALL, BPF_PSEUDO_CALL])}


class Relocator:
    """Relocates functions of ``obj`` as they are appended to the code of one program.

    ``references`` gathers the slots that wait for a map's fd, ``jump_tables`` what is to be in those maps of
    them that are made for the program alone; ``extern_references`` the slots that wait for the kernel's
    answer.
    """

    def __init__(self, obj: ObjectSpec, program: str) -> None:
        self.references: list[MapReference] = []
        self.jump_tables: dict[str, tuple[int, ...]] = {}
        self.extern_references: list[ExternReference] = []
        self._program = program
        self._elf = elf = obj._elf
        self._imm = _IMM[elf.prefix]
        self._pair = _PAIR[elf.prefix]
        self._is_little = elf.byte_order == "little"
        self._code = bytearray()
        self._functions = {(f.section_index, f.offset) for f in obj.functions}
        self._code_sections = {section.index for section in code_sections(elf)}
        self._externs = {extern.name: extern for extern in obj.externs}
        self._maps, self._data_maps = _map_places(obj)
        self._arena = find_arena(obj.maps.values())
        self._handlers: dict[int, Callable[[list[int], Symbol], None]] = {}
        self._calls: list[tuple[int, Place]] = []
        self._function = FunctionSpec("", 0, 0, 0, False)
        self._base = 0

    def apply(self, code: bytearray, base: int, function: FunctionSpec) -> list[tuple[int, Place]]:
        """Relocate ``function``, the last in ``code``, where it starts at byte ``base``.

        Returns where it refers to other functions, (byte position, place of the target) by position; the
        immediates there wait for the target's position.  Raises RelocationError.
        """
        self._code, self._base, self._function = code, base, function
        self._calls = []
        entries = _entries_of(self._elf, function)
        self._refuse_unrelocated(entries)
        shift = base - function.offset
        for symbol_index, run in groupby(entries, _SYMBOL_OF):
            symbol = self._elf.symbols[symbol_index]
            positions = [offset + shift for offset, _, _ in run]
            for position in positions:
                if position % SLOT:
                    raise self._error("is relocated inside an instruction", position, symbol)
            handler = self._handlers.get(symbol_index)
            if handler is None:
                handler = self._handlers[symbol_index] = self._handler(symbol, positions[0])
            handler(positions, symbol)
        self._add_local_calls(entries)
        self._calls.sort()
        return self._calls

    # -- what a symbol is ------------------------------------------------------------------------------

    def _handler(self, symbol: Symbol, position: int) -> Callable[[list[int], Symbol], None]:
        """What handles the positions, one after the other, that refer to ``symbol``."""
        if symbol.section_index in self._data_maps:
            return self._data
        handle = self._single_handler(symbol, position)

        def each(positions: list[int], symbol: Symbol) -> None:
            for position in positions:
                handle(position, symbol)

        return each

    def _single_handler(self, symbol: Symbol, position: int) -> Callable[[int, Symbol], None]:
        index = symbol.section_index
        if index == SHN_UNDEF:
            return self._extern
        if index in self._code_sections:
            return self._subprogram
        if index >= len(self._elf.sections) or index >= SHN_LORESERVE:
            raise self._reserved_section(symbol, position)
        section = self._elf.sections[index].name
        if section in ("maps", ".maps"):
            return self._map
        if section == ARENA_SECTION and self._arena is not None:
            return self._arena_variable
        if section == JUMP_TABLES_SECTION:
            return self._jump_table
        raise self._error(
            f"lies in section {section}, which becomes no map and holds no code", position, symbol
        )

    def _reserved_section(self, symbol: Symbol, position: int) -> RelocationError:
        if symbol.section_index == SHN_COMMON:
            hint = "initialise the variable, or compile with -fno-common"
            return self._error(
                "is a common symbol: a global that was not initialised", position, symbol, hint=hint
            )
        if symbol.section_index == SHN_ABS:
            return self._error("is an absolute number, not a place in the object", position, symbol)
        return self._error(f"lies in section {symbol.section_index}, which is not there", position, symbol)

    # -- one method for each kind of reference ---------------------------------------------------------

    def _map(self, position: int, symbol: Symbol) -> None:
        load = self._read_load(position, symbol)
        offset = symbol.value + load[_IMM_FIELD]
        name = self._maps.get((symbol.section_index, offset))
        if name is None:
            section = self._elf.sections[symbol.section_index].name
            raise self._error(
                f"points to {offset:#x} of section {section}, where no map starts", position, symbol
            )
        self._write_load(position, load, BPF_PSEUDO_MAP_FD, 0)
        self.references.append(MapReference(position // SLOT, name, None))

    def _data(self, positions: list[int], symbol: Symbol) -> None:
        """Variables are what objects refer to most, so what all positions share is worked out once."""
        name, size = self._data_maps[symbol.section_index]
        code, read, write = self._code, self._pair.unpack_from, self._pair.pack_into
        add, is_little = self.references.append, self._is_little
        for position in positions:
            if code[position] != LD_IMM64 or position + 2 * SLOT > len(code) or code[position + SLOT]:
                raise self._no_load(position, symbol)
            operation, registers, middle, addend, following, _ = read(code, position)
            offset = symbol.value + addend
            if not 0 <= offset < size:
                raise self._error(f"points to byte {offset} of {name}, which has {size}", position, symbol)
            registers = (
                registers & 0x0F | _VALUE_HIGH if is_little else registers & 0xF0 | BPF_PSEUDO_MAP_VALUE
            )
            write(code, position, operation, registers, middle, 0, following, offset)
            add(MapReference(position // SLOT, name, offset))

    def _arena_variable(self, position: int, symbol: Symbol) -> None:
        """An offset in the data of the arena; the loader knows where in the arena that is."""
        load = self._read_load(position, symbol)
        offset = symbol.value + load[_IMM_FIELD]
        assert self._arena is not None
        size = len(self._arena.data or b"")
        if not 0 <= offset <= size:  # the kernel lets a program name the end
            raise self._error(
                f"points to byte {offset} of {ARENA_SECTION}, which has {size}", position, symbol
            )
        self._write_load(position, load, BPF_PSEUDO_MAP_VALUE, offset)
        self.references.append(MapReference(position // SLOT, self._arena.name, offset))

    def _jump_table(self, position: int, symbol: Symbol) -> None:
        """A table belongs to the function that uses it; all of that function's uses share one map."""
        load = self._read_load(position, symbol)
        name = f"{JUMP_TABLES_SECTION}+{symbol.value:#x}"
        try:
            targets = read_jump_table(self._elf, symbol, self._function, self._base // SLOT)
        except BadTableError as error:
            raise self._error(str(error), position, symbol) from None
        if self.jump_tables.setdefault(name, targets) != targets:
            raise self._error("is a table that another function uses too", position, symbol)
        self._write_load(position, load, BPF_PSEUDO_MAP_VALUE, 0)
        self.references.append(MapReference(position // SLOT, name, 0))

    def _subprogram(self, position: int, symbol: Symbol) -> None:
        code = self._code
        if code[position] == CALL:
            if self._source(position) != BPF_PSEUDO_CALL:
                raise self._error("is called as if it were a helper", position, symbol)
            (imm,) = self._imm.unpack_from(code, position + 4)
        else:
            load = self._read_load(position, symbol)
            imm = load[_IMM_FIELD]
            self._write_load(position, load, BPF_PSEUDO_FUNC, 0)
        place = _target(symbol, code[position] == CALL, imm)
        if place not in self._functions:
            section = self._elf.sections[symbol.section_index].name
            raise self._error(
                f"points to {place[1]:#x} of section {section}, where no function starts", position, symbol
            )
        self._calls.append((position, place))

    def _extern(self, position: int, symbol: Symbol) -> None:
        name = self._elf.name(symbol)
        extern = self._externs.get(name)
        if extern is None or extern.kind == "undefined":
            hint = "link the object that defines it: bpftool gen object OUT IN..."
            raise self._error("is not defined in this object", position, symbol, hint=hint)
        is_call = self._code[position] == CALL
        if is_call and extern.kind != "kfunc":
            raise self._error("is called, and is no function", position, symbol)
        load = None if is_call else self._read_load(position, symbol)
        addend = load[_IMM_FIELD] if load else 0
        if load and extern.kind == "kconfig":
            if not 0 <= addend < extern.value.size:
                text = f"is used at byte {addend}, and has {extern.value.size}"
                raise self._error(text, position, symbol)
            offset = extern.value.offset + addend
            self._write_load(position, load, BPF_PSEUDO_MAP_VALUE, offset)
            self.references.append(MapReference(position // SLOT, KCONFIG, offset))
        elif addend:
            raise self._error(f"is used at byte {addend}; only its start has a name", position, symbol)
        else:
            self.extern_references.append(ExternReference(position // SLOT, name, is_call))

    # -- references without relocation -----------------------------------------------------------------

    def _add_local_calls(self, entries: list[RelocationEntry]) -> None:
        """Calls inside one section: the assembler knew the distance and left no relocation."""
        function, code = self._function, self._code
        for position in _find_calls(code, self._base, self._elf.prefix):
            offset = position - self._base + function.offset
            if _is_relocated(entries, offset):
                continue
            (imm,) = self._imm.unpack_from(code, position + 4)
            place = (function.section_index, offset + (imm + 1) * SLOT)
            if place not in self._functions:
                raise self._error(f"calls {place[1]:#x} of its section, where no function starts", position)
            self._calls.append((position, place))

    def _refuse_unrelocated(self, entries: list[RelocationEntry]) -> None:
        """A load that names a map or function by a number from the file would hit any fd of ours."""
        code = bytes(memoryview(self._code)[self._base :])
        marks = code[1::SLOT].translate(_NAMES_NUMBER[self._elf.prefix])
        index = marks.find(1)
        while index >= 0:
            offset = index * SLOT + self._function.offset
            if code[index * SLOT] == LD_IMM64 and not _is_relocated(entries, offset):
                message = "loads a map, map value or function by number, without a relocation"
                raise self._error(message, self._base + index * SLOT)
            index = marks.find(1, index + 1)

    # -- bytes -----------------------------------------------------------------------------------------

    def _read_load(self, position: int, symbol: Symbol) -> _Load:
        """The fields of a 64-bit load; an error if the instruction is something else."""
        code = self._code
        if code[position] != LD_IMM64 or position + 2 * SLOT > len(code) or code[position + SLOT]:
            raise self._no_load(position, symbol)
        return self._pair.unpack_from(code, position)

    def _no_load(self, position: int, symbol: Symbol) -> RelocationError:
        return self._error("is used by an instruction that is no 64-bit load", position, symbol)

    def _write_load(self, position: int, load: _Load, source: int, second: int) -> None:
        """``load`` again, of ``source``, with 0 and ``second`` as its immediates."""
        operation, registers, offset, _, following, _ = load
        registers = registers & 0x0F | source << 4 if self._is_little else registers & 0xF0 | source
        self._pair.pack_into(self._code, position, operation, registers, offset, 0, following, second)

    def _source(self, position: int) -> int:
        registers = self._code[position + 1]
        return registers >> 4 if self._is_little else registers & 0xF

    # -- errors ----------------------------------------------------------------------------------------

    def _error(
        self, message: str, position: int, symbol: Symbol | None = None, *, hint: str | None = None
    ) -> RelocationError:
        return RelocationError(self._sentence(message, position, symbol), hint=hint, **self._where(position))

    def _sentence(self, message: str, position: int, symbol: Symbol | None) -> str:
        subject = f"symbol {self._elf.name(symbol) or '(unnamed)'} " if symbol else ""
        text = f"program {self._program}, instruction {position // SLOT}: {subject}{message}"
        return printable(text, MAX_MESSAGE_SIZE)

    def _where(self, position: int) -> _Where:
        function = self._function
        return {
            "path": self._elf.path,
            "section": self._elf.sections[function.section_index].name,
            "offset": position - self._base + function.offset,
        }


def _map_places(obj: ObjectSpec) -> tuple[dict[Place, str], dict[int, tuple[str, int]]]:
    """Defined maps by the place of the definition; data maps with their size in bytes by section number."""
    defined: dict[Place, str] = {}
    data: dict[int, tuple[str, int]] = {}
    for name, spec in obj.maps.items():
        section = obj._elf.find_section(spec.section)
        if section is None:
            continue
        if spec.origin is MapOrigin.DATA:
            data[section.index] = name, section.size
        else:
            defined[section.index, spec.offset] = name
    return defined, data


def _is_relocated(entries: list[RelocationEntry], offset: int) -> bool:
    found = bisect_left(entries, (offset,))
    return found < len(entries) and entries[found].offset == offset


def _entries_of(elf: Elf, function: FunctionSpec) -> list[RelocationEntry]:
    entries = elf.relocations(function.section_index)
    first = bisect_left(entries, (function.offset,))
    return entries[first : bisect_left(entries, (function.offset + function.size,), first)]


def _target(symbol: Symbol, is_call: bool, imm: int) -> Place:
    """The function that an instruction with immediate ``imm`` refers to through ``symbol``.

    A global one is the symbol itself, with -1 in a call and 0 in a load; for a static one the symbol is its
    section, and the immediate says where in there: in slots less one for a call, in bytes for a load.
    """
    return symbol.section_index, symbol.value + ((imm + 1) * SLOT if is_call else imm)


def _find_calls(code: bytes | bytearray, start: int, prefix: str) -> Iterator[int]:
    """Byte positions from ``start`` of calls to other functions.

    A second slot of a 64-bit load begins with a zero byte, so that an aligned match is a call.
    """
    pattern = _SUBPROGRAM_CALL[prefix]
    position = code.find(pattern, start)
    while position >= 0:
        if (position - start) % SLOT == 0:
            yield position
        position = code.find(pattern, position + 1)


def called_places(elf: Elf) -> set[Place]:
    """Every place that some instruction of the object calls or takes the address of."""
    places: set[Place] = set()
    sections = {section.index for section in code_sections(elf)}
    unpack = _IMM[elf.prefix].unpack_from
    for index in sections:
        code = elf.section_data(index)
        relocated = set()
        for offset, _, symbol_index in elf.relocations(index):
            relocated.add(offset)
            symbol = elf.symbols[symbol_index]
            if symbol.section_index in sections:
                places.add(_target(symbol, code[offset] == CALL, unpack(code, offset + 4)[0]))
        for offset in _find_calls(code, 0, elf.prefix):
            if offset not in relocated:
                places.add((index, offset + (unpack(code, offset + 4)[0] + 1) * SLOT))
    return places


def relocations(obj: ObjectSpec) -> list[Relocation]:
    """Every relocation that loading the object looks at, by section and offset.

    Those are the relocations of code, of ``.maps`` (initial entries) and of struct_ops values.
    """
    elf = obj._elf
    code = {section.index for section in code_sections(elf)}
    found: list[Relocation] = []
    for section in elf.sections:
        if section.index in code or section.name == ".maps" or is_struct_ops_section(section.name):
            data = elf.section_data(section.index)
            # The addend: an instruction's immediate, or the whole word of data.
            addend = Struct(elf.prefix + ("4xi" if section.index in code else "q"))
            for entry in elf.relocations(section.index):
                found.append(_relocation(elf, section.name, entry, addend.unpack_from(data, entry.offset)[0]))
    return found


def _relocation(elf: Elf, section: str, entry: RelocationEntry, addend: int) -> Relocation:
    symbol = elf.symbols[entry.symbol_index]
    is_defined = SHN_UNDEF < symbol.section_index < len(elf.sections)
    return Relocation(
        section=section,
        offset=entry.offset,
        type=entry.type,
        symbol=elf.name(symbol),
        target_section=elf.sections[symbol.section_index].name if is_defined else "",
        target_offset=symbol.value,
        addend=addend,
    )
