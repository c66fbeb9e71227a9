"""Functions of an object, and which of them are entry programs.

A function is an STT_FUNC symbol in an executable section.  Older compilers and assemblers left less:
symbols without type, symbols without size, or none at all; then the section itself is the program.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from bpfctl.insn import SLOT
from bpfctl.objfile.elf import (
    SHF_EXECINSTR,
    SHT_PROGBITS,
    STB_LOCAL,
    STT_FUNC,
    STT_NOTYPE,
    Elf,
    Symbol,
)
from bpfctl.objfile.sections import section_kind, tail_call
from bpfctl.objfile.spec import FunctionSpec, ProgramSpec, SectionSpec

SUBPROGRAMS = ".text"  # its functions are not loaded alone, but appended to programs that call them

Place = tuple[int, int]  # section number, offset in bytes


def code_sections(elf: Elf) -> list[SectionSpec]:
    """Sections that hold instructions, in file order."""
    return [s for s in elf.sections if s.type == SHT_PROGBITS and s.flags & SHF_EXECINSTR and s.size]


def read_functions(elf: Elf) -> tuple[FunctionSpec, ...]:
    """All functions by section and offset; they do not overlap, though aliases may share one place.

    Raises ObjectFileError for code that is no whole number of instructions or outside of its section.
    """
    symbols: dict[int, list[Symbol]] = {section.index: [] for section in code_sections(elf)}
    for symbol in elf.symbols:
        if symbol.info & 0xF in (STT_FUNC, STT_NOTYPE) and symbol.section_index in symbols:
            symbols[symbol.section_index].append(symbol)
    functions: list[FunctionSpec] = []
    for index, candidates in symbols.items():
        if elf.sections[index].size % SLOT:
            raise elf.error(
                f"its {elf.sections[index].size} bytes are no whole number of instructions", section=index
            )
        functions += _section_functions(elf, index, candidates)
    return tuple(functions)


def _section_functions(elf: Elf, index: int, candidates: list[Symbol]) -> list[FunctionSpec]:
    symbols = [symbol for symbol in candidates if symbol.type == STT_FUNC]
    if not symbols:
        symbols = [symbol for symbol in candidates if symbol.binding != STB_LOCAL]
    size = elf.sections[index].size
    symbols.sort(key=lambda symbol: (symbol.value, symbol.binding == STB_LOCAL))
    if not symbols or (symbols[0].type != STT_FUNC and symbols[0].value):
        return [FunctionSpec(_name_from_section(elf.sections[index].name), index, 0, size, True)]
    ends = [*sorted({symbol.value for symbol in symbols}), size]
    following = dict(pairwise(ends))
    functions: list[FunctionSpec] = []
    for symbol in symbols:
        name = elf.name(symbol) or _name_from_section(elf.sections[index].name)
        length = symbol.size or following.get(symbol.value, size) - symbol.value
        function = FunctionSpec(name, index, symbol.value, length, symbol.binding != STB_LOCAL)
        _check_function(elf, function, functions[-1] if functions else None)
        functions.append(function)
    return functions


def _check_function(elf: Elf, function: FunctionSpec, previous: FunctionSpec | None) -> None:
    """Aligned, inside its section, and clear of the one before: linked code stays as small as the file."""
    name, index, offset, size, _ = function
    if offset % SLOT or size % SLOT:
        problem = f"function {name} ({size} bytes) is not aligned to instructions of 8 bytes"
    elif size <= 0 or offset + size > elf.sections[index].size:
        problem = f"function {name} ({size} bytes) lies outside of its section"
    elif previous and previous[2:4] != (offset, size) and offset < previous.offset + previous.size:
        problem = f"function {name} overlaps function {previous.name}"
    else:
        return
    raise elf.error(problem, section=index, offset=offset)


def _name_from_section(section: str) -> str:
    """A program name that the kernel accepts: ``42/0`` becomes ``42_0``."""
    bare = section.removeprefix("?")
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in bare) or "_"


def read_programs(
    elf: Elf, functions: Collection[FunctionSpec], called: Collection[Place], warnings: list[str]
) -> dict[str, ProgramSpec]:
    """Entry programs in file order by name.  ``called``: places of functions that others call.

    A second program of one name cannot be told from the first and is left out with a warning.
    """
    programs: dict[str, ProgramSpec] = {}
    for function in _entry_functions(elf, functions, called):
        section = elf.sections[function.section_index].name
        if function.name in programs:
            first = programs[function.name].section
            warnings.append(
                f"program {function.name} of section {section} is hidden by that of section {first}"
            )
            continue
        kind = section_kind(section)
        programs[function.name] = ProgramSpec(
            name=function.name,
            section=section.removeprefix("?"),
            function=function,
            program_type=kind.program_type,
            attach_type=kind.attach_type,
            attach_type_optional=kind.attach_type_optional,
            flags=kind.flags,
            autoload=kind.autoload,
            tail_call=tail_call(section) if kind.program_type is None else None,
            target=kind.target,
        )
    return programs


def _entry_functions(
    elf: Elf, functions: Collection[FunctionSpec], called: Collection[Place]
) -> Iterator[FunctionSpec]:
    """All but ``.text``, unless there is nothing else; of static ones those that nobody calls."""
    names = {function.section_index: elf.sections[function.section_index].name for function in functions}
    only_text = set(names.values()) == {SUBPROGRAMS}
    for function in functions:
        if names[function.section_index] == SUBPROGRAMS and not only_text:
            continue
        if function.is_global or (function.section_index, function.offset) not in called:
            yield function
