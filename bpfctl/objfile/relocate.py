"""ELF relocations in code: what each symbol means, and the instruction bytes that say so.

What decides is the instruction and the section of the symbol; the relocation's type number is never
looked at, as in every other BPF loader.  Two instructions can carry a relocation: a call, and a 64-bit
load of two slots.  Instruction layout: u8 code, u8 registers, s16 offset, s32 immediate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import reduce
from operator import or_
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
    Relocations,
    Symbol,
    symbol_of,
)
from bpfctl.objfile.externs import KCONFIG
from bpfctl.objfile.jump_tables import JUMP_TABLES_SECTION, BadTableError, read_jump_table
from bpfctl.objfile.programs import Place, code_sections
from bpfctl.objfile.sections import is_struct_ops_section
from bpfctl.objfile.spec import (
    ExternReference,
    FunctionSpec,
    MapOrigin,
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
_WORDS = Struct("=QQ")  # the same in two words
_MapPlace: TypeAlias = tuple[str, int | None]  # as in LinkedProgram
_MapLoad: TypeAlias = tuple[bytes, _MapPlace]  # both slots as they are relocated
_Handler: TypeAlias = Callable[[int, Symbol], _MapLoad | None]  # of a relocation: byte position, symbol
_Entry: TypeAlias = tuple[int, int | None, int | None]  # r_info, and the two words that are relocated
_KnownLoad: TypeAlias = tuple[int, int, _MapPlace]  # the words that they become

# Registers byte -> 1 where a 64-bit load with it names something by a number of the loading process.
_OWN_NUMBERS = frozenset(range(1, 16)) - {BPF_PSEUDO_BTF_ID}
_NAMES_NUMBER = {
    "<": bytes(registers >> 4 in _OWN_NUMBERS for registers in range(256)),
    ">": bytes(registers & 0xF in _OWN_NUMBERS for registers in range(256)),
}
_SUBPROGRAM_CALL = {"<": bytes([CALL, BPF_PSEUDO_CALL << 4]), ">": bytes([CALL, BPF_PSEUDO_CALL])}


class References:
    """What the code of one program refers to, gathered while its functions are relocated.

    ``map_loads``: the slots that wait for a map's fd, as in LinkedProgram; ``jump_tables`` what is to be in
    those maps of them that are made for the program alone; ``externs`` the slots that wait for the kernel's
    answer.
    """

    def __init__(self) -> None:
        self.map_loads: defaultdict[_MapPlace, list[int]] = defaultdict(list)
        self.jump_tables: dict[str, tuple[int, ...]] = {}
        self.externs: list[ExternReference] = []


class Relocator:
    """Relocates functions of ``obj`` as they are appended to the code of one program or another."""

    def __init__(self, obj: ObjectSpec) -> None:
        self._elf = elf = obj._elf
        self._imm = _IMM[elf.prefix]
        self._pair = _PAIR[elf.prefix]
        self._is_little = elf.byte_order == "little"
        self._functions = {(f.section_index, f.offset) for f in obj.functions}
        self._code_sections = {section.index for section in code_sections(elf)}
        self._externs = {extern.name: extern for extern in obj.externs}
        self._maps, self._data_maps = _map_places(obj)
        self._arena = find_arena(obj.maps.values())
        self._handlers: dict[int, _Handler] = {}
        self._known_loads: dict[_Entry, _KnownLoad] = {}
        # What is being relocated:
        self._program = ""
        self._references = References()
        self._code = bytearray()
        self._base = 0
        self._function = FunctionSpec("", 0, 0, 0, False)
        self._calls: list[tuple[int, Place]] = []

    def apply(
        self, code: bytearray, base: int, function: FunctionSpec, program: str, references: References
    ) -> list[tuple[int, Place]]:
        """Relocate ``function``, the last in ``code``, where it starts at byte ``base`` of ``program``.

        Adds to ``references`` what it refers to.  Returns where it refers to other functions, (byte position,
        place of the target) by position; the immediates there wait for the target's position.  Raises
        RelocationError.
        """
        self._program, self._references = program, references
        self._code, self._base, self._function = code, base, function
        self._calls = []
        entries = self._elf.relocations(function.section_index).between(
            function.offset, function.offset + function.size
        )
        self._refuse_unrelocated(entries)
        self._refuse_unaligned(entries)
        self._relocate(entries)
        self._add_local_calls(entries)
        self._calls.sort()
        return self._calls

    def _relocate(self, entries: Relocations) -> None:
        """Relocate what ``entries`` say of the function.

        Equal loads of a map by one symbol become equal loads, which are worked out once for the object.
        """
        start, origin = self._base // SLOT, self._function.offset
        with memoryview(self._code)[self._base :].cast("Q") as words:
            before = [*words, None]  # after the last slot nothing follows
            alike: defaultdict[_Entry, list[int]] = defaultdict(list)
            for offset, info in zip(entries.offsets, entries.infos, strict=True):
                slot = (offset - origin) // SLOT
                alike[info, before[slot], before[slot + 1]].append(slot)
            for entry, slots in alike.items():
                load = self._known_loads.get(entry) or self._work_out(entry, slots)
                if load:
                    first, second, place = load
                    for slot in slots:
                        words[slot], words[slot + 1] = first, second
                    self._references.map_loads[place] += [start + slot for slot in slots]

    def _work_out(self, entry: _Entry, slots: list[int]) -> _KnownLoad | None:
        """What ``entry``, at ``slots`` of the function, becomes; None, and all done, if it loads no map."""
        symbol_index = symbol_of(entry[0])
        symbol = self._elf.symbols[symbol_index]
        positions = [self._base + slot * SLOT for slot in slots]
        handler = self._handlers.get(symbol_index)
        if handler is None:
            handler = self._handlers[symbol_index] = self._handler(symbol, positions[0])
        for position in positions:
            load = handler(position, symbol)
            if load:
                relocated, place = load
                first, second = _WORDS.unpack(relocated)
                return self._known_loads.setdefault(entry, (first, second, place))
        return None

    # -- what a symbol is ------------------------------------------------------------------------------

    def _handler(self, symbol: Symbol, position: int) -> _Handler:
        index = symbol.section_index
        if index in self._data_maps:
            return self._data
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
    #
    # A load of a map is the same wherever it stands, and returned; the others are dealt with where they are.

    def _map(self, position: int, symbol: Symbol) -> _MapLoad:
        load = self._read_load(position, symbol)
        offset = symbol.value + load[_IMM_FIELD]
        name = self._maps.get((symbol.section_index, offset))
        if name is None:
            section = self._elf.sections[symbol.section_index].name
            raise self._error(
                f"points to {offset:#x} of section {section}, where no map starts", position, symbol
            )
        return self._relocated(load, BPF_PSEUDO_MAP_FD, 0), (name, None)

    def _data(self, position: int, symbol: Symbol) -> _MapLoad:
        load = self._read_load(position, symbol)
        name, size = self._data_maps[symbol.section_index]
        offset = symbol.value + load[_IMM_FIELD]
        if not 0 <= offset < size:
            raise self._error(f"points to byte {offset} of {name}, which has {size}", position, symbol)
        return self._relocated(load, BPF_PSEUDO_MAP_VALUE, offset), (name, offset)

    def _arena_variable(self, position: int, symbol: Symbol) -> _MapLoad:
        """An offset in the data of the arena; the loader knows where in the arena that is."""
        load = self._read_load(position, symbol)
        offset = symbol.value + load[_IMM_FIELD]
        assert self._arena is not None
        size = len(self._arena.data or b"")
        if not 0 <= offset <= size:  # the kernel lets a program name the end
            raise self._error(
                f"points to byte {offset} of {ARENA_SECTION}, which has {size}", position, symbol
            )
        return self._relocated(load, BPF_PSEUDO_MAP_VALUE, offset), (self._arena.name, offset)

    def _jump_table(self, position: int, symbol: Symbol) -> None:
        """A table belongs to the function that uses it; all of that function's uses share one map."""
        load = self._read_load(position, symbol)
        name = f"{JUMP_TABLES_SECTION}+{symbol.value:#x}"
        try:
            targets = read_jump_table(self._elf, symbol, self._function, self._base // SLOT)
        except BadTableError as error:
            raise self._error(str(error), position, symbol) from None
        if self._references.jump_tables.setdefault(name, targets) != targets:
            raise self._error("is a table that another function uses too", position, symbol)
        self._put(position, self._relocated(load, BPF_PSEUDO_MAP_VALUE, 0))
        self._references.map_loads[name, 0].append(position // SLOT)

    def _subprogram(self, position: int, symbol: Symbol) -> None:
        code = self._code
        if code[position] == CALL:
            if self._source(position) != BPF_PSEUDO_CALL:
                raise self._error("is called as if it were a helper", position, symbol)
            (imm,) = self._imm.unpack_from(code, position + 4)
        else:
            load = self._read_load(position, symbol)
            imm = load[_IMM_FIELD]
            self._put(position, self._relocated(load, BPF_PSEUDO_FUNC, 0))
        place = _target(symbol, code[position] == CALL, imm)
        if place not in self._functions:
            section = self._elf.sections[symbol.section_index].name
            raise self._error(
                f"points to {place[1]:#x} of section {section}, where no function starts", position, symbol
            )
        self._calls.append((position, place))

    def _extern(self, position: int, symbol: Symbol) -> _MapLoad | None:
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
            return self._relocated(load, BPF_PSEUDO_MAP_VALUE, offset), (KCONFIG, offset)
        if addend:
            raise self._error(f"is used at byte {addend}; only its start has a name", position, symbol)
        self._references.externs.append(ExternReference(position // SLOT, name, is_call))
        return None

    # -- references without relocation -----------------------------------------------------------------

    def _add_local_calls(self, entries: Relocations) -> None:
        """Calls inside one section: the assembler knew the distance and left no relocation."""
        function, code = self._function, self._code
        for position in _find_calls(code, self._base, self._elf.prefix):
            offset = position - self._base + function.offset
            if entries.has(offset):
                continue
            (imm,) = self._imm.unpack_from(code, position + 4)
            place = (function.section_index, offset + (imm + 1) * SLOT)
            if place not in self._functions:
                raise self._error(f"calls {place[1]:#x} of its section, where no function starts", position)
            self._calls.append((position, place))

    def _refuse_unrelocated(self, entries: Relocations) -> None:
        """A load that names a map or function by a number from the file would hit any fd of ours."""
        code = bytes(memoryview(self._code)[self._base :])
        marks = code[1::SLOT].translate(_NAMES_NUMBER[self._elf.prefix])
        index = marks.find(1)
        while index >= 0:
            offset = index * SLOT + self._function.offset
            if code[index * SLOT] == LD_IMM64 and not entries.has(offset):
                message = "loads a map, map value or function by number, without a relocation"
                raise self._error(message, self._base + index * SLOT)
            index = marks.find(1, index + 1)

    def _refuse_unaligned(self, entries: Relocations) -> None:
        if reduce(or_, entries.offsets, 0) % SLOT:
            offset, info = next(
                pair for pair in zip(entries.offsets, entries.infos, strict=True) if pair[0] % SLOT
            )
            position = offset - self._function.offset + self._base
            symbol = self._elf.symbols[symbol_of(info)]
            raise self._error("is relocated inside an instruction", position, symbol)

    # -- bytes -----------------------------------------------------------------------------------------

    def _read_load(self, position: int, symbol: Symbol) -> _Load:
        """The fields of a 64-bit load; an error if the instruction is something else."""
        code = self._code
        if code[position] != LD_IMM64 or position + 2 * SLOT > len(code) or code[position + SLOT]:
            raise self._error("is used by an instruction that is no 64-bit load", position, symbol)
        return self._pair.unpack_from(code, position)

    def _relocated(self, load: _Load, source: int, second: int) -> bytes:
        """``load`` again, of ``source``, with 0 and ``second`` as its immediates."""
        operation, registers, offset, _, following, _ = load
        registers = registers & 0x0F | source << 4 if self._is_little else registers & 0xF0 | source
        return self._pair.pack(operation, registers, offset, 0, following, second)

    def _put(self, position: int, load: bytes) -> None:
        self._code[position : position + 2 * SLOT] = load

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
        entries = elf.relocations(index)
        for offset, info in zip(entries.offsets, entries.infos, strict=True):
            symbol = elf.symbols[symbol_of(info)]
            if symbol.section_index in sections:
                places.add(_target(symbol, code[offset] == CALL, unpack(code, offset + 4)[0]))
        for offset in _find_calls(code, 0, elf.prefix):
            if not entries.has(offset):
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
