"""Linking: an entry program and the functions that it needs become one stream of instructions.

Functions stand in the order in which libbpf puts them: the program first, then each function when the walk
over the instructions meets its first call, its own callees right after it.  So instruction streams, and
with them the kernel's program tags, are those of libbpf.
"""

from __future__ import annotations

from struct import Struct

from bpfctl.errors import NotFoundError, ObjectFileError, UnsupportedObjectError, printable
from bpfctl.insn import SLOT
from bpfctl.objfile.programs import Place
from bpfctl.objfile.relocate import References, Relocator
from bpfctl.objfile.spec import FunctionSpec, LinkedProgram, ObjectSpec, PlacedFunction
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.btf.kinds import BtfType
    from bpfctl.btf.types import Btf
    from bpfctl.objfile.core import CoreRelocator

_EXCEPTION_TAG = "exception_callback:"


def link_program(
    obj: ObjectSpec, name: str, core: CoreRelocator | None = None, *, unfitted: bool = False
) -> LinkedProgram:
    """One program of ``obj``: see :class:`Linker`, which costs less for several."""
    return Linker(obj, core, unfitted=unfitted).link(name)


class Linker:
    """Links entry programs of ``obj``.

    ``core``, made for ``obj``, fits them to a kernel's types; without, a program that asks for that is
    refused, unless ``unfitted``: its code is to be shown, not loaded.
    """

    def __init__(self, obj: ObjectSpec, core: CoreRelocator | None = None, *, unfitted: bool = False) -> None:
        self.obj = obj
        self.core = core
        self.unfitted = unfitted
        self.relocator = Relocator(obj)
        self.functions: dict[Place, FunctionSpec] = {}
        for function in obj.functions:  # of aliases the first
            self.functions.setdefault((function.section_index, function.offset), function)

    def link(self, name: str) -> LinkedProgram:
        """The program ``name`` with every function it calls, relocated but for the maps' fds and externs.

        Raises NotFoundError when the object has no such program, RelocationError when a reference cannot be
        resolved, UnsupportedObjectError when one needs a piece that bpfctl does not handle.
        """
        program = self.obj.programs.get(name)
        if program is None:
            known = ", ".join(printable(known) for known in self.obj.programs) or "none"
            raise NotFoundError(
                f"{self.obj.path}: no program {printable(name)}", hint=f"programs in this object: {known}"
            )
        return _Growing(self, name).link(program.function)


class _Growing:
    """One program while it grows: ``starts`` holds the byte position of each function placed so far."""

    def __init__(self, linker: Linker, name: str) -> None:
        self._linker = linker
        self._obj = linker.obj
        self._name = name
        self._poisoned: dict[int, str] = {}
        self._code = bytearray()
        self._references = References()
        self._starts: dict[Place, int] = {}
        self._placed: list[tuple[FunctionSpec, int]] = []

    def link(self, main: FunctionSpec) -> LinkedProgram:
        self._append(main)
        callback = _exception_callback(self._obj, main)
        if callback and (callback.section_index, callback.offset) not in self._starts:
            self._append(callback)
        return self._result()

    def _append(self, function: FunctionSpec) -> None:
        """Place ``function`` and, depth first, those of its callees that are not placed yet."""
        imm = Struct(self._obj._elf.prefix + "i")
        # With a stack of our own: a chain of calls in a hostile object may be long.
        walk = [iter(self._place(function))]
        while walk:
            for position, place in walk[-1]:
                is_new = place not in self._starts
                if is_new:
                    walk.append(iter(self._place(self._linker.functions[place])))
                imm.pack_into(self._code, position + 4, (self._starts[place] - position) // SLOT - 1)
                if is_new:
                    break
            else:
                walk.pop()

    def _place(self, function: FunctionSpec) -> list[tuple[int, Place]]:
        """Append ``function`` and relocate it; returns its references to other functions."""
        start = len(self._code)
        self._starts[function.section_index, function.offset] = start
        self._placed.append((function, start // SLOT))
        section = self._obj._elf.sections[function.section_index]
        first = section.offset + function.offset
        self._code += self._obj._elf.data[first : first + function.size]
        if self._linker.core:
            self._poisoned |= self._linker.core.apply(self._code, start, function, self._name)
        elif not self._linker.unfitted:
            self._refuse_core_relocations(function)
        return self._linker.relocator.apply(self._code, start, function, self._name, self._references)

    def _refuse_core_relocations(self, function: FunctionSpec) -> None:
        if self._obj.btf_ext is None:
            return
        section = self._obj._elf.sections[function.section_index].name
        found = self._obj.btf_ext.core_relocations_for(section, function.offset, function.size)
        if found:
            what = f"program {printable(self._name)}: function {printable(function.name)}"
            raise UnsupportedObjectError(
                f"{what} needs the kernel's BTF for {len(found)} CO-RE relocations",
                path=self._obj.path,
                section=section,
                offset=found[0].offset,
            )

    def _result(self) -> LinkedProgram:
        func_info, func_size, line_info, line_size = self._debug_info()
        return LinkedProgram(
            name=self._name,
            code=bytes(self._code),
            map_loads=dict(self._references.map_loads),
            externs=tuple(sorted(self._references.externs)),
            functions=tuple(PlacedFunction(f.name, start, f.size // SLOT) for f, start in self._placed),
            func_info=func_info,
            func_info_size=func_size,
            line_info=line_info,
            line_info_size=line_size,
            poisoned=self._poisoned,
            jump_tables=self._references.jump_tables,
        )

    def _debug_info(self) -> tuple[bytes, int, bytes, int]:
        """func_info and line_info with their record sizes; the kernel wants all functions in it, or none."""
        ext = self._obj.btf_ext
        if ext is None:
            return b"", 0, b"", 0
        places = [
            (self._obj._elf.sections[f.section_index].name, f.offset, f.size, start)
            for f, start in self._placed
        ]
        functions = [ext.func_info_for(*place) for place in places]
        lines = [ext.line_info_for(*place) for place in places]
        func_info = b"".join(functions) if all(functions) else b""
        line_info = b"".join(lines) if all(lines) else b""
        return (
            func_info,
            ext.func_info.record_size if func_info else 0,
            line_info,
            ext.line_info.record_size if line_info else 0,
        )


def _exception_callback(obj: ObjectSpec, main: FunctionSpec) -> FunctionSpec | None:
    """The function that a declaration tag ``exception_callback:NAME`` of ``main`` asks for.

    Nothing calls it: the kernel does when the program throws, and finds it by the same tag.  It refuses a
    program with several tags, for which none is appended.
    """
    btf = obj.btf
    if btf is None or next(btf.strings_with(_EXCEPTION_TAG), None) is None:
        return None
    from bpfctl.btf.kinds import Kind, Linkage

    found: list[FunctionSpec] = []
    for tag_id in btf.ids(Kind.DECL_TAG):
        tag = btf.type(tag_id)
        if not tag.name.startswith(_EXCEPTION_TAG) or btf.component(tag_id) != -1:
            continue  # -1: of the function itself, not of a parameter
        of_function = btf.kind(tag.size_or_type) is Kind.FUNC
        if not of_function or btf.linkage(tag.size_or_type) is not Linkage.GLOBAL:
            message = f"the tag {printable(tag.name)} is of no global function"
            raise ObjectFileError(message, path=obj.path, section=".BTF", offset=btf.offset_of(tag_id))
        if btf.name(tag.size_or_type) == main.name:
            found.append(_callback(obj, btf, main, tag))
    return found[0] if len(found) == 1 else None


def _callback(obj: ObjectSpec, btf: Btf, main: FunctionSpec, tag: BtfType) -> FunctionSpec:
    """The function named by ``tag``; hidden ones have become static in ``btf``, which the kernel refuses."""
    from bpfctl.btf.kinds import Kind, Linkage

    wanted = tag.name.removeprefix(_EXCEPTION_TAG)
    type_id = btf.find(wanted, Kind.FUNC)
    is_visible = type_id is not None and btf.linkage(type_id) is Linkage.GLOBAL
    for function in obj.functions if is_visible else ():
        if function.name == wanted and function.is_global:
            return function
    message = f"program {printable(main.name)}: its exception callback {printable(wanted)} "
    message += "is no global function"
    raise ObjectFileError(message, path=obj.path, section=".BTF", offset=btf.offset_of(tag.id))
