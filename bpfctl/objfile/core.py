"""CO-RE in an object: its records, answered from a kernel's types, written into functions as they are placed.

libbpf patches each function once, before it copies any; patching every copy gives the same bytes, and leaves
alone the records of functions that no program asked for needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bpfctl.btf.core import CoreFixup, CoreResolver
from bpfctl.btf.core_patch import apply
from bpfctl.btf.ext import CoreRelocation
from bpfctl.btf.types import Btf
from bpfctl.errors import CoreRelocationError, printable
from bpfctl.insn import SLOT
from bpfctl.objfile.elf import MAX_MESSAGE_SIZE
from bpfctl.objfile.spec import FunctionSpec, ObjectSpec


class CoreRelocator:
    """Relocates functions of ``obj``; one for all of its programs, so that they agree on each type.

    ``vmlinux`` gives the kernel's types and is called once, when the first record is met; ``modules`` those
    of its modules, once, when vmlinux lacks a name.
    """

    def __init__(
        self, obj: ObjectSpec, vmlinux: Callable[[], Btf], modules: Callable[[], Sequence[Btf]] = tuple
    ) -> None:
        self.obj = obj
        self._vmlinux = vmlinux
        self._modules = modules
        self._resolver: CoreResolver | None = None

    def apply(self, code: bytearray, base: int, function: FunctionSpec, program: str) -> dict[int, str]:
        """Patch ``function``, which starts at byte ``base`` of the ``code`` of ``program``.

        Returns the instructions that must not be reached: number in ``code`` -> a sentence that says why.
        Raises CoreRelocationError where a record is malformed, ambiguous or about another instruction, and
        what the callables raise.
        """
        ext = self.obj.btf_ext
        if ext is None:
            return {}
        section = self.obj._elf.sections[function.section_index].name
        poisoned: dict[int, str] = {}
        for record in ext.core_relocations_for(section, function.offset, function.size):
            index = (base + record.offset - function.offset) // SLOT
            try:
                fixup = self._resolve(record)
                if not apply(code, index, fixup, self.obj.byte_order):
                    poisoned[index] = _reason(fixup)
            except CoreRelocationError as error:
                raise _in_program(error, section, record.offset, program, index) from error
        return poisoned

    def _resolve(self, record: CoreRelocation) -> CoreFixup:
        if self._resolver is None:
            assert self.obj.btf is not None  # without it there is no .BTF.ext
            assert self.obj.btf_ext is not None
            known = len(self.obj.btf)  # a record of a type that is not there is an error where it is used
            roots = [type_id for type_id in self.obj.btf_ext.core_type_ids() if type_id < known]
            self._resolver = CoreResolver(self.obj.btf, self._vmlinux(), roots, self._modules)
        return self._resolver.resolve(record)


def _reason(fixup: CoreFixup) -> str:
    spec = printable(str(fixup.spec), MAX_MESSAGE_SIZE)
    if fixup.target is None:
        return f"CO-RE relocation {spec} has no match in the kernel's BTF"
    return (
        f"CO-RE relocation {spec}: the {fixup.local_size} bytes there cannot be read as "
        f"the {fixup.target_size} of the kernel's BTF"
    )


def _in_program(
    error: CoreRelocationError, section: str, offset: int, program: str, index: int
) -> CoreRelocationError:
    """``error`` about instruction ``index`` of ``program``, which is at byte ``offset`` of ``section``."""
    text = printable(f"program {program}, instruction {index}: {error.reason}", MAX_MESSAGE_SIZE)
    return CoreRelocationError(text, path=error.path, section=section, offset=offset)
