"""Maps defined by their bytes: section ``maps`` -> :class:`MapSpec`.

A definition is a struct of 32-bit words whose first four everybody agrees on: type, key size, value size,
max entries.  What follows depends on the header the object was compiled with:

=====  ==============================  ==============================================================
words  header                          after the first four
=====  ==============================  ==============================================================
5      libbpf ``struct bpf_map_def``   flags
6      iproute2 4.5                    id, pinning
6      kernel samples 4.12             flags, inner_map_idx
7      iproute2 4.6                    flags, id, pinning
7      kernel samples 4.14             flags, inner_map_idx, numa_node
9      iproute2 4.13 ``bpf_elf_map``   flags, id, pinning, inner_id, inner_idx
=====  ==============================  ==============================================================

Length tells most of them apart.  Where it does not, a reading that the kernel or its own loader could
never have meant is discarded; two that remain are an error, and the user decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import iter_unpack

from bpfctl.errors import ObjectFileError, UsageError, printable
from bpfctl.objfile.elf import SHT_PROGBITS, STB_LOCAL, STT_NOTYPE, STT_OBJECT, Elf, Symbol
from bpfctl.objfile.spec import MapOrigin, MapSlot, MapSpec, SectionSpec
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import MapFlag, MapType, type_name

if TYPE_CHECKING:
    from bpfctl.btf.types import Btf

MAPS_SECTION = "maps"
ABIS = ("iproute2", "libbpf", "samples")

_COMMON = ("type", "key_size", "value_size", "max_entries")
_SMALLEST = 4 * len(_COMMON)  # bytes
_FIELDS = {
    "iproute2": ("flags", "id", "pinning", "inner_id", "inner_idx"),
    "libbpf": ("flags",),
    "samples": ("flags", "inner_map_idx", "numa_node"),
}
_FIELDS_BEFORE_FLAGS = ("id", "pinning")  # iproute2 4.5, recognised by its six words
_SIX_WORDS, _SEVEN_WORDS = 6, 7

_MAPS_OF_MAPS = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)
# Arrays have all their entries from the start: the kernel refuses NO_PREALLOC and NO_COMMON_LRU.
_ARRAYS = (
    MapType.ARRAY,
    MapType.PROG_ARRAY,
    MapType.PERF_EVENT_ARRAY,
    MapType.PERCPU_ARRAY,
    MapType.CGROUP_ARRAY,
)
_KNOWN_FLAGS = sum(MapFlag)
_NOT_INSERTED = 0xFFFFFFFF  # ``inner_idx`` -1

Reading = dict[str, int]  # field name -> value


class _Definition(NamedTuple):
    """One struct: ``offset`` in bytes of the section, ``words`` in the object's byte order."""

    name: str
    offset: int
    words: tuple[int, ...]

    def error(
        self, elf: Elf, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()
    ) -> ObjectFileError:
        text = f"map {printable(self.name)}: {message}"
        return ObjectFileError(
            text, path=elf.path, section=MAPS_SECTION, offset=self.offset, hint=hint, details=details
        )


def read_legacy_maps(elf: Elf, btf: Btf | None, *, abi: str | None, warnings: list[str]) -> list[MapSpec]:
    """The maps of section ``maps`` in creation order: outer maps after those they may hold.

    ``abi`` forces one of :data:`ABIS` on all definitions.  Raises ObjectFileError, naming map and offset.
    """
    if abi is not None and abi not in ABIS:
        raise UsageError(f"unknown maps-abi {printable(abi)}", hint=f"one of {', '.join(ABIS)}")
    section = elf.find_section(MAPS_SECTION)
    if section is None or not section.size:
        return []
    definitions = _slice(elf, section)
    sizes = {4 * len(definition.words): definition.name for definition in definitions}
    if len(sizes) > 1:
        text = ", ".join(f"{name} {size} bytes" for size, name in sorted(sizes.items()))
        warnings.append(f"section {MAPS_SECTION}: definitions of different length ({text})")
    maps = [
        _map(elf, definition, *chosen)
        for definition, chosen in zip(definitions, _choose(elf, definitions, abi), strict=True)
    ]
    for spec in maps:
        _set_types(spec, btf)
        if spec.map_type in _MAPS_OF_MAPS:
            _set_inner(elf, spec, maps)
    return sorted(maps, key=lambda spec: spec.map_type in _MAPS_OF_MAPS)


# -- where each definition lies ------------------------------------------------------------------------


def _slice(elf: Elf, section: SectionSpec) -> list[_Definition]:
    """One definition for each symbol; its length is the symbol's, or goes up to the next symbol."""
    if section.type != SHT_PROGBITS:
        raise elf.error("holds no map definitions: it has no contents", section=section.index)
    symbols = sorted((s for s in elf.symbols if _names_map(s, section)), key=lambda s: s.value)
    if not symbols:
        raise elf.error(f"holds {section.size} bytes, but no symbol names a map in it", section=section.index)
    data = elf.section_data(section.index)
    definitions: list[_Definition] = []
    end = 0
    for symbol, following in zip(symbols, [*(s.value for s in symbols[1:]), section.size], strict=True):
        name = elf.name(symbol)
        if not name:
            raise elf.error("a map definition without a name", section=section.index, offset=symbol.value)
        if symbol.value < end:
            raise elf.error(
                f"map {name} starts inside map {definitions[-1].name}",
                section=section.index,
                offset=symbol.value,
            )
        _check_gap(elf, section, data, end, symbol.value)
        size = symbol.size or following - symbol.value
        end = symbol.value + size
        _check_size(elf, section, name, symbol.value, size)
        words = tuple(word for (word,) in iter_unpack(elf.prefix + "I", data[symbol.value : end]))
        definitions.append(_Definition(name, symbol.value, words))
    _check_gap(elf, section, data, end, section.size)
    return definitions


def _names_map(symbol: Symbol, section: SectionSpec) -> bool:
    """An object, static or not; old compilers gave global ones no type."""
    if symbol.section_index != section.index:
        return False
    return symbol.type == STT_OBJECT or (symbol.type == STT_NOTYPE and symbol.binding != STB_LOCAL)


def _check_gap(elf: Elf, section: SectionSpec, data: bytes, start: int, end: int) -> None:
    """Between definitions there may be padding, nothing else."""
    if data[start:end].strip(b"\0"):
        raise elf.error(f"{end - start} bytes that no symbol names", section=section.index, offset=start)


def _check_size(elf: Elf, section: SectionSpec, name: str, offset: int, size: int) -> None:
    if offset + size > section.size:
        problem = f"{size} bytes run past the section's {section.size}"
    elif size < _SMALLEST:
        problem = f"a definition of {size} bytes; the smallest has {_SMALLEST}"
    elif size % 4:
        problem = f"a definition of {size} bytes, not whole 32-bit words"
    else:
        return
    raise elf.error(f"map {name}: {problem}", section=section.index, offset=offset)


# -- how its words are read ----------------------------------------------------------------------------


def _choose(elf: Elf, definitions: Sequence[_Definition], abi: str | None) -> list[tuple[str, Reading]]:
    """For each definition the name of its header and the fields."""
    if abi is not None:
        return [(abi, _forced(elf, definition, abi)) for definition in definitions]
    candidates = [_readings(elf, definition) for definition in definitions]
    # Maps of one length come from one header, so one that can be read in one way only speaks for all.
    witnesses: dict[int, set[str]] = {}
    for definition, readings in zip(definitions, candidates, strict=True):
        if len(readings) == 1:
            witnesses.setdefault(len(definition.words), set()).update(readings)
    return [
        _settle(elf, definition, readings, witnesses.get(len(definition.words), set()))
        for definition, readings in zip(definitions, candidates, strict=True)
    ]


def _settle(
    elf: Elf, definition: _Definition, readings: dict[str, Reading], witnesses: set[str]
) -> tuple[str, Reading]:
    candidates = set(readings)
    if len(candidates) > 1 and len(witnesses) == 1:
        candidates &= witnesses
    if len(candidates) == 1:
        (abi,) = candidates
        return abi, readings[abi]
    if len({tuple(_non_zero(reading)) for reading in readings.values()}) == 1:
        return "libbpf", next(iter(readings.values()))
    raise _undecided(elf, definition, readings, "can be read in two ways")


def _readings(elf: Elf, definition: _Definition) -> dict[str, Reading]:
    """Every header that could have made these words."""
    words = definition.words
    if len(words) <= len(_COMMON) + len(_FIELDS["libbpf"]):
        return {"libbpf": _read("libbpf", words)}
    if len(words) not in (_SIX_WORDS, _SEVEN_WORDS):
        return {"iproute2": _forced(elf, definition, "iproute2")}
    readings = {}
    if _is_iproute2(words):
        readings["iproute2"] = _read("iproute2", words)
    if _is_samples(words):
        readings["samples"] = _read("samples", words)
    if not readings:
        readings = {abi: _read(abi, words) for abi in ("iproute2", "samples")}
        raise _undecided(elf, definition, readings, "make no sense in either way of reading them")
    return readings


def _is_iproute2(words: Sequence[int]) -> bool:
    """These headers cannot say what a map holds; that of six words no flags, which an LPM trie needs."""
    return words[0] not in _MAPS_OF_MAPS and not (len(words) == _SIX_WORDS and words[0] == MapType.LPM_TRIE)


def _is_samples(words: Sequence[int]) -> bool:
    """Flags that the kernel takes, an inner map only for a map-in-map, a node only with its flag."""
    map_type, flags, inner, *node = words[0], *words[4:]
    if flags & ~_KNOWN_FLAGS or (
        map_type in _ARRAYS and flags & (MapFlag.NO_PREALLOC | MapFlag.NO_COMMON_LRU)
    ):
        return False
    return (not inner or map_type in _MAPS_OF_MAPS) and (not any(node) or bool(flags & MapFlag.NUMA_NODE))


def _read(abi: str, words: Sequence[int]) -> Reading:
    names = _FIELDS[abi]
    if abi == "iproute2" and len(words) == _SIX_WORDS:
        names = _FIELDS_BEFORE_FLAGS
    return dict(zip((*_COMMON, *names), words, strict=False))


def _forced(elf: Elf, definition: _Definition, abi: str) -> Reading:
    """The words as ``abi`` has them; only the choice of ``libbpf`` lets words fall under the table."""
    surplus = definition.words[len(_COMMON) + len(_FIELDS[abi]) :]
    if any(surplus) and abi != "libbpf":
        message = f"{4 * len(surplus)} bytes beyond the fields of {abi} are not zero"
        raise definition.error(
            elf, message, hint="maps-abi libbpf reads the first five words and ignores the rest"
        )
    return _read(abi, definition.words)


def _non_zero(reading: Reading) -> list[tuple[str, int]]:
    return [(name, value) for name, value in reading.items() if value]


def _undecided(
    elf: Elf, definition: _Definition, readings: Mapping[str, Reading], problem: str
) -> ObjectFileError:
    """The error that shows each reading as a column, field by field."""
    names = dict.fromkeys(name for reading in readings.values() for name in reading)
    rows = [("", *readings)]
    for name in names:
        values = [reading.get(name) for reading in readings.values()]
        rows.append((name, *("-" if v is None else _text(name, v) for v in values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return definition.error(
        elf,
        f"its {4 * len(definition.words)} bytes {problem}",
        hint=f"say which: maps-abi {{{'|'.join(ABIS)}}}",
        details=tuple(line.rstrip() for line in table),
    )


def _text(name: str, value: int) -> str:
    if name == "type":
        return type_name(MapType, value)
    return hex(value) if name == "flags" else str(value)


# -- what it means -------------------------------------------------------------------------------------


def _map(elf: Elf, definition: _Definition, abi: str, fields: Reading) -> MapSpec:
    if fields["type"] == MapType.UNSPEC:
        raise definition.error(elf, "has no type")
    is_outer = fields["type"] in _MAPS_OF_MAPS
    return MapSpec(
        name=definition.name,
        origin=MapOrigin.LEGACY,
        section=MAPS_SECTION,
        offset=definition.offset,
        map_type=fields["type"],
        key_size=fields["key_size"],
        value_size=4 if is_outer else fields["value_size"],  # a map's fd
        max_entries=fields["max_entries"],
        flags=fields.get("flags", 0),
        numa_node=fields.get("numa_node") if fields.get("flags", 0) & MapFlag.NUMA_NODE else None,
        pinning=fields.get("pinning", 0),
        abi=abi,
        id=fields.get("id", 0),
        inner_id=fields.get("inner_id", 0),
        inner_idx=fields.get("inner_idx", 0),
        inner_map_idx=fields.get("inner_map_idx") if is_outer else None,
    )


def _set_types(spec: MapSpec, btf: Btf | None) -> None:
    """Key and value types from ``struct ____btf_map_NAME { key; value; }`` (BPF_ANNOTATE_KV_PAIR)."""
    from bpfctl.btf.kinds import Kind

    annotation = btf.find(f"____btf_map_{spec.name}", Kind.STRUCT) if btf is not None else None
    if btf is None or annotation is None:
        return
    members = btf.members(annotation)
    if [member.name for member in members] != ["key", "value"]:
        return
    key, value = (member.type_id for member in members)
    # Sizes that disagree would make the kernel refuse the map, types being a courtesy.
    if (btf.resolve_size(key), btf.resolve_size(value)) == (spec.key_size, spec.value_size):
        spec.key_type_id, spec.value_type_id = key, value


def _set_inner(elf: Elf, outer: MapSpec, maps: Sequence[MapSpec]) -> None:
    """The template of ``outer``, and the maps that ask for a slot in it."""
    if outer.inner_map_idx is not None:
        inner = maps[outer.inner_map_idx] if outer.inner_map_idx < len(maps) else None
        wanted = f"inner map number {outer.inner_map_idx} of {len(maps)}"
    elif outer.inner_id:
        inner = next((m for m in maps if m.id == outer.inner_id and m.map_type not in _MAPS_OF_MAPS), None)
        wanted = f"inner map with id {outer.inner_id}"
    else:
        raise _inner_error(elf, outer, "names no inner map")
    if inner is None:
        raise _inner_error(elf, outer, f"{wanted} is not there")
    if inner.map_type in _MAPS_OF_MAPS:
        raise _inner_error(elf, outer, f"{wanted} holds maps itself; maps nest two levels deep")
    outer.inner = inner
    if outer.inner_id:
        outer.slots = tuple(
            MapSlot(m.inner_idx, m.name)
            for m in maps
            if m.id == outer.inner_id and not m.inner_id and m.inner_idx != _NOT_INSERTED
        )


def _inner_error(elf: Elf, outer: MapSpec, message: str) -> ObjectFileError:
    return _Definition(outer.name, outer.offset, ()).error(elf, f"map-in-map: {message}")
