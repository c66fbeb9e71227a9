"""Blueprints: what an object file asks for, as plain values.

Everything here follows from the file's bytes alone and is the same on every machine; whatever
depends on the running kernel waits for ``loader``.
"""

from __future__ import annotations

from bpfctl.record import TYPE_CHECKING, IntEnum, NamedTuple, dataclass, field

if TYPE_CHECKING:
    from bpfctl.btf.ext import BtfExt
    from bpfctl.btf.types import Btf
    from bpfctl.objfile.elf import Elf


class Pinning(IntEnum):
    """``pinning`` of a legacy map (iproute2 ``include/bpf_elf.h``); other numbers are custom."""

    NONE = 0
    OBJECT_NS = 1
    GLOBAL_NS = 2


class MapOrigin(IntEnum):
    """Where a map's definition comes from."""

    LEGACY = 1  # section ``maps``
    BTF = 2  # section ``.maps``
    DATA = 3  # a data section: .data, .rodata, .bss and their dotted kin; or configuration values
    STRUCT_OPS = 4  # a variable of a section .struct_ops or .struct_ops.link


class MapSlot(NamedTuple):
    """One initial entry of a map-in-map or program array.

    ``key`` is the slot number; ``target`` names a map (map-in-map) or a program (program array).
    """

    key: int
    target: str


class MemberFunction(NamedTuple):
    """A function pointer of a struct_ops variable: ``member`` of its struct is set to ``program``."""

    member: str
    program: str


@dataclass(slots=True)
class MapSpec:
    """A map as the object defines it.  Sizes in bytes; type ids count in ``ObjectSpec.btf``."""

    name: str
    origin: MapOrigin
    section: str
    offset: int  # of the definition, bytes from the start of ``section``
    map_type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    map_extra: int = 0
    numa_node: int | None = None
    key_type_id: int = 0
    value_type_id: int = 0
    pinning: int = 0  # legacy: Pinning or a custom number; BTF: 1 = LIBBPF_PIN_BY_NAME
    # legacy only
    abi: str = ""  # "iproute2", "libbpf" or "samples": how the definition's words were read
    id: int = 0  # loader-local identifier, target of inner_id and of ID/KEY sections
    inner_id: int = 0
    inner_idx: int = 0
    inner_map_idx: int | None = None  # kernel samples: index of the inner map in ``maps``
    # map-in-map: the template that BPF_MAP_CREATE needs an fd of
    inner: MapSpec | None = None
    unknown_members: tuple[str, ...] = ()  # BTF: of a definition newer than this program, or of none
    # initial contents
    slots: tuple[MapSlot, ...] = ()
    data: bytes | None = None  # of the one entry, None for all zero or .kconfig; of an arena its variables
    frozen: bool = False  # DATA only: frozen before any program is loaded
    # STRUCT_OPS only
    functions: tuple[MemberFunction, ...] = ()  # their words in ``data`` are zero
    autocreate: bool = True  # False: the section's name began with ``?``, made only where asked for

    @property
    def pins_by_name(self) -> bool:
        """True for LIBBPF_PIN_BY_NAME of a BTF definition."""
        return self.origin is MapOrigin.BTF and self.pinning == 1


class Setting(NamedTuple):
    """A value for a global variable: ``path`` is it or a part of it, ``text`` words that fit its type."""

    path: str
    text: str


class FunctionSpec(NamedTuple):
    """One function: ``offset`` and ``size`` in bytes within section number ``section_index``."""

    name: str
    section_index: int
    offset: int
    size: int
    is_global: bool


class TailCall(NamedTuple):
    """What a section named ``ID/KEY`` says: put the program at ``key`` of the program array ``map_id``."""

    map_id: int
    key: int


@dataclass(slots=True)
class ProgramSpec:
    """An entry program, before linking.

    ``program_type`` and ``attach_type`` follow from the section name (libbpf's SEC() table);
    ``program_type`` is None where the name says nothing.  ``section`` stands without a leading ``?``,
    which ``autoload`` tells.
    """

    name: str
    section: str
    function: FunctionSpec
    program_type: int | None
    attach_type: int = 0
    attach_type_optional: bool = False  # send 0 where the kernel does not know the field
    flags: int = 0  # ProgramFlag
    autoload: bool = True
    tail_call: TailCall | None = None
    target: str = ""  # what follows the slash in the section name: hook, function, ...


class MapReference(NamedTuple):
    """A pair of instruction slots whose first ``imm`` must receive the fd of a map, or of a jump table's.

    ``index``: slot number in the linked code.  ``value_offset`` None: BPF_PSEUDO_MAP_FD;
    else BPF_PSEUDO_MAP_VALUE at that byte offset of the map's value.  The linker has written
    ``src_reg`` and the second slot already.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    map: str
    value_offset: int | None


class PlacedFunction(NamedTuple):
    """A function inside linked code: ``start`` and ``size`` in instruction slots."""

    name: str
    start: int
    size: int


@dataclass(slots=True)
class LinkedProgram:
    """A program ready for BPF_PROG_LOAD but for file descriptors.

    ``code``: 8 bytes a slot in the object's byte order, subprograms appended, calls resolved.
    ``func_info``/``line_info``: records for the kernel (instruction numbers from the start of
    ``code``), each of the record size given; b"" when the object has none.
    ``map_loads``: (``map``, ``value_offset``) -> every ``index``, of MapReference, which ``references``
    makes of each; there may be tens of thousands.
    ``poisoned``: instructions that CO-RE found no value for and that must not be reached, as number ->
    a sentence that says why.  ``jump_tables``: instructions that each may jump to, by the name that
    ``map_loads`` has for it.
    """

    name: str
    code: bytes
    map_loads: dict[tuple[str, int | None], list[int]]
    functions: tuple[PlacedFunction, ...]
    externs: tuple[ExternReference, ...] = ()
    func_info: bytes = b""
    func_info_size: int = 0
    line_info: bytes = b""
    line_info_size: int = 0
    poisoned: dict[int, str] = field(default_factory=dict)
    jump_tables: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def references(self) -> tuple[MapReference, ...]:
        """Every load of a map's address, by slot number."""
        return tuple(
            sorted(
                MapReference(index, name, value_offset)
                for (name, value_offset), slots in self.map_loads.items()
                for index in slots
            )
        )


class ConfigValue(NamedTuple):
    """How a value of the kernel's configuration is stored in the map ``.kconfig``.

    ``form``: ``bool``, ``tristate``, ``char``, ``int`` or ``string``; ``size`` and ``offset`` in bytes.
    """

    form: str
    size: int
    signed: bool = False
    offset: int = 0

    @property
    def alignment(self) -> int:
        """Bytes; that of a string is 1."""
        return 1 if self.form == "string" else self.size


class ExternSpec(NamedTuple):
    """An undefined symbol: ``kind`` is ``kconfig``, ``ksym``, ``kfunc`` or ``undefined``.

    ``type_id``: in ``ObjectSpec.btf``, modifiers skipped, what a ksym is declared as, 0 for a bare address;
    of a kfunc its prototype.  ``value``: of a kconfig extern.
    """

    name: str
    kind: str
    weak: bool
    type_id: int = 0
    value: ConfigValue = ConfigValue("", 1)


class ExternReference(NamedTuple):
    """An instruction that waits for what the kernel says of an extern (ksym or kfunc).

    ``index``: slot number in the linked code.  A call, or a 64-bit load of the address.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index
    extern: str
    is_call: bool


class SectionSpec(NamedTuple):
    """A section header as read: ``offset`` and ``size`` in bytes of the file."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entsize: int


class Relocation(NamedTuple):
    """One ELF relocation that the loader honours.

    ``offset``: bytes from the start of section ``section``; ``type``: number of the BPF ELF ABI;
    ``symbol`` is the symbol's name (the section's for STT_SECTION); ``addend`` the value that the
    instruction or data word carried.
    """

    section: str
    offset: int
    type: int
    symbol: str
    target_section: str  # "" for an undefined symbol
    target_offset: int  # st_value
    addend: int


@dataclass(slots=True)
class ObjectSpec:
    """Everything in one object file.

    ``maps`` in creation order, ``programs`` in file order, ``externs`` in libbpf's order, which numbers them.
    """

    path: str
    byte_order: str  # "little" or "big"
    license: str
    version: int | None
    sections: tuple[SectionSpec, ...]
    maps: dict[str, MapSpec]
    programs: dict[str, ProgramSpec]
    functions: tuple[FunctionSpec, ...]
    externs: tuple[ExternSpec, ...]
    btf: Btf | None
    btf_ext: BtfExt | None
    warnings: list[str] = field(default_factory=list)
    _elf: Elf = field(kw_only=True, repr=False, compare=False)  # what ``link_program`` works on

    @property
    def sha1(self) -> str:
        """40 hex digits over all bytes of the file: iproute2's object namespace."""
        import hashlib

        return hashlib.sha1(self._elf.data, usedforsecurity=False).hexdigest()
