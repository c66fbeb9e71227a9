"""An object's BTF made fit for BPF_BTF_LOAD: what only the ELF symbols know is written into it.

Type ids stay what they are: .BTF.ext, map specs and instructions refer to them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from struct import Struct

from bpfctl.btf.kinds import DatasecVar, Kind, Linkage
from bpfctl.btf.reader import VLEN_MASK, WORD
from bpfctl.btf.types import Btf
from bpfctl.errors import ObjectFileError, printable
from bpfctl.record import NamedTuple

# Their variables are not in the object: extern_fixup.py gives them a place.
EXTERN_SECTIONS = frozenset({".kconfig", ".ksyms"})

_UINT32_MAX = 0xFFFFFFFF
_WORDS = {"little": Struct("<I"), "big": Struct(">I")}


class VariablePlace(NamedTuple):
    """A global or weak data symbol: ``offset`` in bytes of its section; ``hidden`` or internal visibility."""

    offset: int
    hidden: bool


def kernel_btf(
    btf: Btf,
    *,
    section_sizes: Mapping[str, int],
    variables: Mapping[str, VariablePlace],
    hidden_functions: Collection[str] = (),
) -> bytes:
    """The bytes of ``btf``, in its own byte order, with sizes, offsets and linkage as the kernel wants them.

    - a DATASEC of size 0, as the compiler leaves it, gets the size of its section's value (``section_sizes``,
      in bytes) and its global variables their offsets;
    - variables of hidden symbols, and the global subprograms named in ``hidden_functions``, become static, so
      that the verifier treats such a subprogram as part of its callers;
    - the variables of each DATASEC come in the order of their offsets.

    Raises ObjectFileError when a DATASEC has no section, or a global variable no symbol: the file does not
    agree with itself, which is worse than types that nobody can read.
    """
    image = Image(btf)
    for section_id in btf.ids(Kind.DATASEC):
        if btf.name(section_id) in EXTERN_SECTIONS:
            placed = btf.datasec(section_id)
        else:
            placed = _place_variables(image, section_id, section_sizes, variables)
        image.write_datasec(section_id, sorted(placed, key=lambda variable: variable.offset))
    if hidden_functions:
        for func_id in btf.ids(Kind.FUNC):
            if btf.name(func_id) in hidden_functions and btf.linkage(func_id) is Linkage.GLOBAL:
                image.set_linkage(func_id, Linkage.STATIC)
    return bytes(image.data)


class Image:
    """A copy of the blob that single words are written into."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.data = bytearray(btf.data)
        self._word = _WORDS[btf.byte_order]

    def write(self, type_id: int, word: int, value: int) -> None:
        """Set word number ``word`` of the record of ``type_id``; ObjectFileError for what no word holds."""
        if not 0 <= value <= _UINT32_MAX:
            raise _error(self.btf, type_id, f"a size or offset of {value:#x} bytes, past 4 GiB")
        self._word.pack_into(self.data, self.btf.offset_of(type_id) + word * WORD, value)

    def set_linkage(self, type_id: int, linkage: Linkage) -> None:
        """Of a FUNC (in place of vlen) or VAR (the word after the fixed part)."""
        if self.btf.kind(type_id) is Kind.VAR:
            self.write(type_id, 3, linkage)
            return
        at = self.btf.offset_of(type_id) + WORD
        (info,) = self._word.unpack_from(self.data, at)
        self._word.pack_into(self.data, at, info & ~VLEN_MASK | linkage)

    def write_datasec(self, section_id: int, variables: list[DatasecVar]) -> None:
        for number, variable in enumerate(variables):
            for field, value in enumerate(variable):
                self.write(section_id, 3 + number * len(variable) + field, value)


def _place_variables(
    image: Image,
    section_id: int,
    section_sizes: Mapping[str, int],
    variables: Mapping[str, VariablePlace],
) -> list[DatasecVar]:
    """The variables of one DATASEC with their offsets; its size and their linkage go into ``image``."""
    btf = image.btf
    section = btf.type(section_id)
    from_compiler = not section.size_or_type  # the static linker has filled in sizes and offsets
    size = section_sizes.get(section.name, 0)
    if from_compiler and not size:
        raise _error(btf, section_id, f"no section, or an empty one, for the variables of {section.name}")
    if size > section.size_or_type:  # of a linked object too, where the map's value is padded
        image.write(section_id, 2, size)
    placed = []
    for variable in btf.datasec(section_id):
        if btf.kind(variable.type_id) is not Kind.VAR:
            raise _error(
                btf, section_id, f"section {section.name} holds type {variable.type_id}, no variable"
            )
        if btf.linkage(variable.type_id) is Linkage.GLOBAL:
            name = btf.name(variable.type_id)
            place = variables.get(name)
            if place is None:
                raise _error(btf, section_id, f"variable {name} of section {section.name} has no symbol")
            if from_compiler:
                variable = variable._replace(offset=place.offset)
            if place.hidden:
                image.set_linkage(variable.type_id, Linkage.STATIC)
        placed.append(variable)
    return placed


def _error(btf: Btf, type_id: int, message: str) -> ObjectFileError:
    return ObjectFileError(
        printable(message), path=btf.path, section=btf.section, offset=btf.offset_of(type_id)
    )
