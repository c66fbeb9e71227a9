"""Jump tables: section ``.jumptables``, what ``switch`` becomes with indirect jumps (LLVM 21, ISA v4).

An entry of 8 bytes is the place of an instruction, in bytes from the start of its function's section.  The
kernel wants it as a number in the code of the program, in a map of its own.
"""

from __future__ import annotations

from struct import Struct

from bpfctl.insn import SLOT
from bpfctl.objfile.elf import Elf, Symbol
from bpfctl.objfile.spec import FunctionSpec

JUMP_TABLES_SECTION = ".jumptables"
_ENTRY_SIZE = 8  # bytes


class BadTableError(ValueError):
    """What is wrong with a table, to follow its name in a sentence."""


def read_jump_table(elf: Elf, symbol: Symbol, function: FunctionSpec, start: int) -> tuple[int, ...]:
    """The targets of the table ``symbol`` of ``function``, whose code starts at slot ``start`` of a program.

    Raises BadTableError for a table that is not one of places in the function.
    """
    data = elf.section_data(symbol.section_index)
    if symbol.value % _ENTRY_SIZE or symbol.size % _ENTRY_SIZE or not symbol.size:
        raise BadTableError(f"is no table: {symbol.size} bytes at {symbol.value:#x} of {JUMP_TABLES_SECTION}")
    if symbol.value + symbol.size > len(data):
        raise BadTableError(f"is a table that ends outside of the {len(data)} bytes of {JUMP_TABLES_SECTION}")
    targets = []
    count = symbol.size // _ENTRY_SIZE
    for offset in Struct(f"{elf.prefix}{count}Q").unpack_from(data, symbol.value):
        inside = offset - function.offset
        if inside % SLOT or not 0 <= inside < function.size:
            raise BadTableError(f"is a table that leads to {offset:#x}, not into function {function.name}")
        targets.append(inside // SLOT + start)
    return tuple(targets)
