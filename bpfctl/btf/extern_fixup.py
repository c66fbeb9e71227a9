"""An object's BTF made fit for BPF_BTF_LOAD, last part: the kernel takes no extern, so they become defined.

Type ids stay what they are, as in fixup.py; what has to be added comes at the end.  What an extern was
declared as is lost here: read it before (objfile/externs.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from bpfctl.btf.extend import Extension
from bpfctl.btf.fixup import Image
from bpfctl.btf.kinds import DatasecVar, Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.errors import ObjectFileError, printable

_SIZE = 4  # bytes that each ksym pretends to have, as an int
_DUMMY = "dummy_ksym"
_INT_WORD = 1 << 24 | 32  # signed, 32 bits


def define_externs(btf: Btf, config: Mapping[str, tuple[int, int]], names: Set[str]) -> bytes:
    """The bytes of ``btf`` with the variables of ``.kconfig`` and ``.ksyms`` as global ones.

    ``config``: offset and size, in bytes, of each configuration value in its map; ``names``: all extern
    symbols.  A ksym becomes an int; a function of ``.ksyms`` a global one, and in the section a dummy
    stands for it.  Raises ObjectFileError for a variable of these sections without a symbol.
    """
    config_id = btf.find(".kconfig", Kind.DATASEC)
    ksyms_id = btf.find(".ksyms", Kind.DATASEC)
    for section_id, known in ((config_id, config.keys()), (ksyms_id, names - config.keys())):
        for variable in btf.datasec(section_id) if section_id else ():
            if btf.name(variable.type_id) not in known:
                text = f"extern {printable(btf.name(variable.type_id))} has no symbol"
                raise ObjectFileError(
                    text, path=btf.path, section=btf.section, offset=btf.offset_of(section_id or 1)
                )
    if ksyms_id and names - config.keys():
        btf = Btf.from_bytes(_with_stand_ins(btf, ksyms_id), path=btf.path)
    image = Image(btf)
    if config_id and config:
        _define_config(image, config_id, config)
    if ksyms_id and names - config.keys():
        _define_ksyms(image, ksyms_id)
    return bytes(image.data)


def _define_config(image: Image, section_id: int, config: Mapping[str, tuple[int, int]]) -> None:
    btf, placed = image.btf, []
    for variable in btf.datasec(section_id):
        image.set_linkage(variable.type_id, Linkage.GLOBAL)
        placed.append(variable._replace(offset=config[btf.name(variable.type_id)][0]))
    image.write_datasec(section_id, sorted(placed, key=lambda variable: variable.offset))
    image.write(section_id, 2, max(offset + size for offset, size in config.values()))


def _define_ksyms(image: Image, section_id: int) -> None:
    btf = image.btf
    int_id, dummy_id = _int_id(btf), len(btf) - 1
    placed = []
    for number, variable in enumerate(btf.datasec(section_id)):
        type_id = variable.type_id
        if btf.kind(type_id) is Kind.FUNC:
            image.set_linkage(type_id, Linkage.GLOBAL)
            _name_parameters(image, btf.type(type_id).size_or_type, dummy_id)
            type_id = dummy_id
        else:
            image.set_linkage(type_id, Linkage.GLOBAL)
            image.write(type_id, 2, int_id)
        placed.append(DatasecVar(type_id, number * _SIZE, _SIZE))
    image.write_datasec(section_id, placed)
    image.write(section_id, 2, len(placed) * _SIZE)


def _name_parameters(image: Image, proto_id: int, dummy_id: int) -> None:
    """The kernel wants names of a function's parameters, and a declaration need not have them."""
    btf = image.btf
    name = btf.name_offsets()[dummy_id - btf.first_id]
    for number, parameter in enumerate(btf.params(proto_id)):
        if parameter.type_id and not parameter.name:
            image.write(proto_id, 3 + 2 * number, name)


def _int_id(btf: Btf) -> int:
    """The first integer of 32 bits; 0 if there is none."""
    return next((i for i in btf.ids(Kind.INT) if btf.int_encoding(i).bits == 32), 0)


def _with_stand_ins(btf: Btf, section_id: int) -> bytes:
    """``btf`` with what stands for ksyms: an int if it has none, and the dummy if there is a function."""
    more = Extension(btf)
    int_id = _int_id(btf) or more.add(more.string("int"), Kind.INT, _SIZE, _INT_WORD)
    if any(btf.kind(variable.type_id) is Kind.FUNC for variable in btf.datasec(section_id)):
        more.add(more.string(_DUMMY), Kind.VAR, int_id, Linkage.GLOBAL)
    return more.blob()
