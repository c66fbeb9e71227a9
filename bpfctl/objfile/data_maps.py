"""Global variables: one array map of one entry for each data section, one per-CPU array for ``.percpu``.

Sections and flags follow libbpf, so that maps of one object are the same from every loader.
"""

from __future__ import annotations

from bpfctl.objfile.elf import SHT_NOBITS, SHT_PROGBITS, Elf
from bpfctl.objfile.spec import MapOrigin, MapSpec, SectionSpec
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import BPF_OBJ_NAME_LEN, MapFlag, MapType

if TYPE_CHECKING:
    from bpfctl.btf.types import Btf

_SECTION_TYPES = {
    ".data": SHT_PROGBITS,
    ".rodata": SHT_PROGBITS,
    ".percpu": SHT_PROGBITS,
    ".bss": SHT_NOBITS,
}
_NAME_SIZE = BPF_OBJ_NAME_LEN - 1  # bytes of a kernel name, without its NUL
_UINT32_MAX = 0xFFFFFFFF
_LONGEST_PLAIN_SECTION = 7  # ``.rodata``


def read_data_maps(elf: Elf, btf: Btf | None) -> list[MapSpec]:
    """A map for each data section that is not empty, in file order, named as the section.

    ``btf`` has hidden variables made static (:func:`bpfctl.btf.fixup.kernel_btf`).
    """
    return [_data_map(elf, section, btf) for section in elf.sections if is_data_section(section)]


def is_data_section(section: SectionSpec) -> bool:
    """Whether ``section`` becomes a map: .data, .rodata, .bss, .percpu or dotted kin, and not empty."""
    return section.size > 0 and _SECTION_TYPES.get(_family(section.name)) == section.type


def _family(name: str) -> str:
    """``.data`` of ``.data.cold``; "" for a name without a leading dot."""
    return "." + name[1:].partition(".")[0] if name.startswith(".") else ""


def value_size(section: SectionSpec) -> int:
    """Bytes of the value of the map of ``section``; a per-CPU one is made of whole words."""
    return -(-section.size // 8) * 8 if _family(section.name) == ".percpu" else section.size


def _data_map(elf: Elf, section: SectionSpec, btf: Btf | None) -> MapSpec:
    if section.size > _UINT32_MAX:
        raise elf.error(f"{section.size} bytes are more than a map's value holds", section=section.index)
    is_constant = _family(section.name) == ".rodata"
    is_percpu = _family(section.name) == ".percpu"
    size = value_size(section)
    datasec = _find_datasec(btf, section.name)
    flags = int(MapFlag.RDONLY_PROG) if is_constant else 0
    if btf is not None and datasec and not is_percpu and _has_public_variable(btf, datasec):
        flags |= MapFlag.MMAPABLE
    return MapSpec(
        name=section.name,
        origin=MapOrigin.DATA,
        section=section.name,
        offset=0,
        map_type=int(MapType.PERCPU_ARRAY if is_percpu else MapType.ARRAY),
        key_size=4,
        value_size=size,
        max_entries=1,
        flags=int(flags),
        value_type_id=datasec,
        data=None if section.type == SHT_NOBITS else elf.section_data(section.index).ljust(size, b"\0"),
        frozen=is_constant,
    )


def _find_datasec(btf: Btf | None, name: str) -> int:
    """Type id of the DATASEC of that name; 0 when there is none, as for ``.rodata.str1.1``."""
    from bpfctl.btf.kinds import Kind

    return (btf.find(name, Kind.DATASEC) or 0) if btf is not None else 0


def _has_public_variable(btf: Btf, datasec: int) -> bool:
    """Whether user space may see one: hidden ones count as static."""
    from bpfctl.btf.kinds import Linkage

    return any(btf.linkage(variable.type_id) is not Linkage.STATIC for variable in btf.datasec(datasec))


def object_name(path: str) -> str:
    """The name that libbpf gives an object: its file's base name up to the first dot, 15 characters.

    >>> object_name("/usr/lib/bpf/xdp_pass.bpf.o")
    'xdp_pass'
    """
    return path.rpartition("/")[2].partition(".")[0][:_NAME_SIZE]


def data_map_kernel_name(path: str, section: str) -> str:
    """The name that the kernel gets for the map of ``section`` of object file ``path``, by libbpf's rule.

    Dotted sections keep their own name; the plain three follow as much of the object's as there is room.

    >>> data_map_kernel_name("my_object_name.o", ".bss"), data_map_kernel_name("x.o", ".data.cold")
    ('my_objec.bss', '.data.cold')
    """
    if "." in section[1:]:
        name = section
    else:
        room = _NAME_SIZE - min(max(_LONGEST_PLAIN_SECTION, len(section)), _NAME_SIZE)
        name = object_name(path)[:room] + section
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name[:_NAME_SIZE])
