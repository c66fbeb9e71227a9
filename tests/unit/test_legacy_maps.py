"""Section ``maps``: slicing, the structs of every header, and readings that exclude each other."""

from __future__ import annotations

from contextlib import suppress

import pytest
from btf_builder import BtfBuilder
from builders import Sec, Sym, bss, elf_file, maps_object, read, words
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfctl.errors import ObjectFileError, UsageError
from bpfctl.objfile import MapOrigin, MapSlot, MapSpec
from bpfctl.objfile.elf import STB_LOCAL, STB_WEAK, STT_NOTYPE
from bpfctl.uapi import MapFlag, MapType

HASH, ARRAY, LPM_TRIE = MapType.HASH, MapType.ARRAY, MapType.LPM_TRIE
ARRAY_OF_MAPS, HASH_OF_MAPS = MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS
NUMA_NODE = MapFlag.NUMA_NODE


def single(*numbers: int, abi: str | None = None) -> MapSpec:
    """The one map of an object whose ``maps`` holds these words."""
    return read(maps_object(("m", words(*numbers))), maps_abi=abi).maps["m"]


def refusal(data: bytes, *, abi: str | None = None) -> ObjectFileError:
    with pytest.raises(ObjectFileError) as caught:
        read(data, maps_abi=abi)
    return caught.value


# --- the structs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["little", "big"])
def test_bpf_elf_map_of_nine_words(order: str) -> None:
    m = read(maps_object(("m", words(HASH, 4, 8, 16, 1, 42, 2, 0, 7, order=order)), order=order)).maps["m"]
    assert m == MapSpec(
        name="m",
        origin=MapOrigin.LEGACY,
        section="maps",
        offset=0,
        map_type=HASH,
        key_size=4,
        value_size=8,
        max_entries=16,
        flags=1,
        pinning=2,
        abi="iproute2",
        id=42,
        inner_idx=7,
    )


def test_four_words_are_what_all_headers_begin_with() -> None:
    m = single(HASH, 4, 8, 16)
    assert (m.map_type, m.key_size, m.value_size, m.max_entries, m.flags, m.pinning) == (1, 4, 8, 16, 0, 0)


def test_fifth_word_is_flags() -> None:
    assert (single(HASH, 4, 8, 16, 1).flags, single(HASH, 4, 8, 16, 1).abi) == (1, "libbpf")


def test_eight_words_are_bpf_elf_map_without_its_last() -> None:
    m = single(HASH, 4, 8, 16, 1, 2, 3, 0)
    assert (m.flags, m.id, m.pinning, m.abi) == (1, 2, 3, "iproute2")


def test_zero_words_beyond_bpf_elf_map_are_of_a_future_version() -> None:
    assert single(HASH, 4, 8, 16, 0, 5, 2, 0, 0, 0, 0).pinning == 2


@pytest.mark.parametrize("count", [6, 7])
def test_zero_tail_means_the_same_to_all(count: int) -> None:
    m = single(*(HASH, 4, 8, 16, 0, 0, 0)[:count])
    assert (m.flags, m.id, m.pinning, m.numa_node, m.inner_map_idx) == (0, 0, 0, None, None)


# --- six and seven words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "abi", "expected"),
    [
        # iproute2 4.6: flags, id, pinning
        ((HASH, 4, 8, 16, 1, 9, 2), "iproute2", {"flags": 1, "id": 9, "pinning": 2}),
        ((HASH, 4, 8, 16, 0, 0, 2), "iproute2", {"pinning": 2}),
        ((HASH, 4, 8, 16, 0, 9, 0), "iproute2", {"id": 9}),
        ((HASH, 4, 8, 16, NUMA_NODE, 9, 2), "iproute2", {"flags": NUMA_NODE, "id": 9, "pinning": 2}),
        # iproute2 4.5: id, pinning
        ((HASH, 4, 8, 16, 9, 2), "iproute2", {"id": 9, "pinning": 2, "flags": 0}),
        ((ARRAY, 4, 8, 16, 1, 0), "iproute2", {"id": 1, "flags": 0}),  # no such flag for an array
        ((MapType.PROG_ARRAY, 4, 4, 8, 0xABCCBA, 0), "iproute2", {"id": 0xABCCBA, "flags": 0}),
        # kernel samples: flags, inner_map_idx[, numa_node]
        ((LPM_TRIE, 8, 4, 16, 1, 0), "samples", {"flags": 1}),
        ((ARRAY_OF_MAPS, 4, 4, 2, 0, 1), "samples", {"inner_map_idx": 1}),
        ((ARRAY_OF_MAPS, 4, 4, 2, 0, 1, 0), "samples", {"inner_map_idx": 1}),
        ((HASH_OF_MAPS, 4, 4, 2, NUMA_NODE, 1, 3), "samples", {"inner_map_idx": 1, "numa_node": 3}),
    ],
)
def test_the_only_reading_that_makes_sense(
    numbers: tuple[int, ...], abi: str, expected: dict[str, int]
) -> None:
    inner = words(HASH, 4, 4, 1, 0)
    m = read(maps_object(("m", words(*numbers)), ("inner", inner))).maps["m"]
    assert m.abi == abi
    assert {name: getattr(m, name) for name in expected} == expected


def test_two_readings_are_an_error_that_shows_both() -> None:
    error = refusal(
        maps_object(("first", words(HASH, 4, 4, 1, 0)), ("m", words(HASH, 4, 8, 16, NUMA_NODE, 0, 2)))
    )
    assert "section maps, offset 0x14: map m: its 28 bytes can be read in two ways" in str(error)
    assert error.hint == "say which: maps-abi {iproute2|libbpf|samples}"
    assert error.details == (
        "               iproute2  samples",
        "type           hash      hash",
        "key_size       4         4",
        "value_size     8         8",
        "max_entries    16        16",
        "flags          0x4       0x4",
        "id             0         -",
        "pinning        2         -",
        "inner_map_idx  -         0",
        "numa_node      -         2",
    )


def test_six_words_may_be_an_id_or_flags() -> None:
    assert "can be read in two ways" in str(refusal(maps_object(("m", words(HASH, 4, 8, 16, 1, 0)))))


@pytest.mark.parametrize(
    "numbers",
    [
        (LPM_TRIE, 4, 8, 16, 1, 2),  # without flags no trie, with them an inner map in one
        (ARRAY_OF_MAPS, 4, 4, 16, 0, 0, 2),  # a pin, but nothing to hold; or a node that nobody asked for
    ],
)
def test_words_that_fit_no_header(numbers: tuple[int, ...]) -> None:
    error = refusal(maps_object(("m", words(*numbers))))
    assert "make no sense in either way of reading them" in str(error)
    assert error.details[0].split() == ["iproute2", "samples"]


def test_a_sibling_of_the_same_length_decides() -> None:
    """``open`` could be either; ``trie`` can only come from the samples' header."""
    unclear = ("open", words(HASH, 4, 8, 16, 1, 0))
    assert read(maps_object(unclear, ("trie", words(LPM_TRIE, 8, 4, 16, 1, 0)))).maps["open"].flags == 1
    m = read(maps_object(unclear, ("pinned", words(HASH, 4, 8, 16, 0, 2)))).maps["open"]
    assert (m.abi, m.id, m.flags) == ("iproute2", 1, 0)


def test_siblings_of_another_length_do_not_decide() -> None:
    error = refusal(maps_object(("m", words(HASH, 4, 8, 16, 1, 0)), ("other", words(HASH, 4, 8, 1, 0, 0, 2))))
    assert "map m: its 24 bytes can be read in two ways" in str(error)


def test_siblings_that_disagree_do_not_decide() -> None:
    trie, pinned = ("t", words(LPM_TRIE, 8, 4, 16, 1, 0)), ("p", words(HASH, 4, 8, 16, 0, 2))
    assert "map m: its 24 bytes" in str(
        refusal(maps_object(("m", words(HASH, 4, 8, 16, 1, 0)), trie, pinned))
    )
    assert [m.abi for m in read(maps_object(trie, pinned)).maps.values()] == ["samples", "iproute2"]


# --- maps-abi ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("abi", "numbers", "expected"),
    [
        ("iproute2", (HASH, 4, 8, 16, 4, 0, 2), {"flags": 4, "id": 0, "pinning": 2}),
        ("iproute2", (HASH, 4, 8, 16, 1, 2), {"flags": 0, "id": 1, "pinning": 2}),
        ("samples", (HASH, 4, 8, 16, 4, 0, 2), {"flags": 4, "numa_node": 2, "pinning": 0}),
        ("samples", (HASH, 4, 8, 16, 1, 0), {"flags": 1, "numa_node": None}),
        ("libbpf", (HASH, 4, 8, 16, 4, 5, 6), {"flags": 4, "id": 0, "pinning": 0, "numa_node": None}),
        ("libbpf", (HASH, 4, 8, 16, 1, 2, 3, 4, 5, 6, 7), {"flags": 1, "id": 0, "pinning": 0}),
        ("libbpf", (HASH, 4, 8, 16), {"flags": 0}),
    ],
)
def test_maps_abi_decides(abi: str, numbers: tuple[int, ...], expected: dict[str, int | None]) -> None:
    m = single(*numbers, abi=abi)
    assert m.abi == abi
    assert {name: getattr(m, name) for name in expected} == expected


def test_maps_abi_that_loses_words_is_refused() -> None:
    error = refusal(maps_object(("m", words(HASH, 4, 8, 16, 0, 0, 0, 9))), abi="samples")
    assert "map m: 4 bytes beyond the fields of samples are not zero" in str(error)


def test_maps_abi_that_nobody_knows() -> None:
    with pytest.raises(UsageError, match="unknown maps-abi bcc"):
        single(HASH, 4, 8, 16, abi="bcc")


# --- slicing ----------------------------------------------------------------------------------------


def test_lengths_may_differ_and_are_named() -> None:
    obj = read(
        maps_object(("nine", words(HASH, 4, 8, 16, 0, 5, 0, 0, 0)), ("five", words(ARRAY, 4, 8, 2, 0)))
    )
    assert [(m.name, m.offset, m.map_type) for m in obj.maps.values()] == [
        ("nine", 0, HASH),
        ("five", 36, ARRAY),
    ]
    assert obj.warnings == ["section maps: definitions of different length (five 20 bytes, nine 36 bytes)"]


@pytest.mark.parametrize("kind", [STT_NOTYPE, 1])
def test_symbols_without_size_reach_up_to_the_next(kind: int) -> None:
    data = words(HASH, 4, 8, 16, 1) + words(ARRAY, 4, 8, 2, 0)
    obj = read(elf_file([Sec("maps", data)], [Sym("b", "maps", 20, 0, kind), Sym("a", "maps", 0, 0, kind)]))
    assert [(m.name, m.max_entries, m.flags) for m in obj.maps.values()] == [("a", 16, 1), ("b", 2, 0)]


def test_static_and_weak_maps_count() -> None:
    data = words(HASH, 4, 8, 16, 0) + words(ARRAY, 4, 8, 2, 0)
    symbols = [Sym("s", "maps", 0, 20, binding=STB_LOCAL), Sym("w", "maps", 20, 20, binding=STB_WEAK)]
    assert list(read(elf_file([Sec("maps", data)], symbols)).maps) == ["s", "w"]


def test_padding_between_maps_is_passed_over() -> None:
    data = words(HASH, 4, 8, 16, 0, 0) + words(ARRAY, 4, 8, 2, 0, 0)
    obj = read(elf_file([Sec("maps", data)], [Sym("a", "maps", 0, 20), Sym("b", "maps", 24, 20)]))
    assert list(obj.maps) == ["a", "b"]


def test_an_empty_section_holds_nothing() -> None:
    assert read(elf_file([Sec("maps")])).maps == {}


DEFINITION = words(HASH, 4, 8, 16, 0)

SLICING_REFUSED: dict[str, tuple[bytes, str]] = {
    "no symbol": (
        elf_file([Sec("maps", DEFINITION)]),
        "section maps: holds 20 bytes, but no symbol names a map",
    ),
    "no contents": (
        elf_file([bss("maps", 20)], [Sym("m", "maps", 0, 20)]),
        "section maps: holds no map definitions: it has no contents",
    ),
    "no name": (
        elf_file([Sec("maps", DEFINITION)], [Sym("", "maps", 0, 20)]),
        "section maps, offset 0x0: a map definition without a name",
    ),
    "two at one place": (
        elf_file([Sec("maps", DEFINITION)], [Sym("a", "maps", 0, 20), Sym("b", "maps", 0, 20)]),
        "section maps, offset 0x0: map b starts inside map a",
    ),
    "one inside the other": (
        elf_file([Sec("maps", DEFINITION * 2)], [Sym("a", "maps", 0, 36), Sym("b", "maps", 20, 20)]),
        "section maps, offset 0x14: map b starts inside map a",
    ),
    "two of no size at one place": (
        elf_file([Sec("maps", DEFINITION)], [Sym("a", "maps", 0, 0), Sym("b", "maps", 0, 0)]),
        "map a: a definition of 0 bytes; the smallest has 16",
    ),
    "too small": (
        maps_object(("m", words(HASH, 4, 8))),
        "map m: a definition of 12 bytes; the smallest has 16",
    ),
    "half a word": (
        maps_object(("m", DEFINITION + b"\0\0")),
        "map m: a definition of 22 bytes, not whole 32-bit",
    ),
    "too large": (
        maps_object(("m", words(HASH, 4, 8, 16, 0, 0, 0, 0, 0, 1))),
        "map m: 4 bytes beyond the fields of iproute2 are not zero",
    ),
    "nameless bytes": (
        elf_file([Sec("maps", DEFINITION * 2)], [Sym("m", "maps", 0, 20)]),
        "section maps, offset 0x14: 20 bytes that no symbol names",
    ),
    "no type": (maps_object(("m", words(0, 4, 8, 16, 0))), "section maps, offset 0x0: map m: has no type"),
    "twice the name": (
        maps_object(("m", DEFINITION), ("m", DEFINITION)),
        "section maps, offset 0x14: a second map called m",
    ),
    "name of a data map": (
        elf_file([Sec("maps", DEFINITION), Sec(".data", b"1234")], [Sym(".data", "maps", 0, 20)]),
        "section .data, offset 0x0: a second map called .data",
    ),
}


@pytest.mark.parametrize("name", SLICING_REFUSED)
def test_sections_refused(name: str) -> None:
    data, text = SLICING_REFUSED[name]
    assert text in str(refusal(data))


# --- map-in-map -------------------------------------------------------------------------------------


def elf_map(map_type: int, *, id: int = 0, inner_id: int = 0, inner_idx: int = 0) -> bytes:
    return words(map_type, 4, 4, 8, 0, id, 0, inner_id, inner_idx)


def test_inner_maps_by_id() -> None:
    obj = read(
        maps_object(
            ("outer", elf_map(ARRAY_OF_MAPS, id=1, inner_id=42)),
            ("first", elf_map(HASH, id=42, inner_idx=3)),
            ("second", elf_map(HASH, id=42, inner_idx=5)),
            ("template", elf_map(HASH, id=42, inner_idx=0xFFFFFFFF)),
            ("stranger", elf_map(HASH, id=7, inner_idx=1)),
            ("no id", elf_map(HASH)),
            ("other", elf_map(HASH_OF_MAPS, inner_id=7)),
        )
    )
    outer, other = obj.maps["outer"], obj.maps["other"]
    assert outer.inner is obj.maps["first"]
    assert outer.slots == (MapSlot(3, "first"), MapSlot(5, "second"))
    assert (other.inner, other.slots) == (obj.maps["stranger"], (MapSlot(1, "stranger"),))
    assert list(obj.maps) == ["first", "second", "template", "stranger", "no id", "outer", "other"]


def test_value_of_an_outer_map_is_a_descriptor() -> None:
    data = maps_object(
        ("outer", words(ARRAY_OF_MAPS, 4, 8, 2, 0, 0, 0, 42, 0)), ("inner", elf_map(HASH, id=42))
    )
    assert read(data).maps["outer"].value_size == 4


def test_inner_map_by_position() -> None:
    obj = read(
        maps_object(
            ("a", words(HASH, 4, 8, 16, 0, 0, 0)),
            ("outer", words(HASH_OF_MAPS, 4, 4, 2, 0, 2, 0)),
            ("b", words(ARRAY, 4, 8, 16, 0, 0, 0)),
        )
    )
    assert obj.maps["outer"].inner is obj.maps["b"]
    assert obj.maps["outer"].slots == ()


@pytest.mark.parametrize(
    ("definitions", "text"),
    [
        ([elf_map(ARRAY_OF_MAPS), elf_map(HASH, id=1)], "map a: map-in-map: names no inner map"),
        ([elf_map(ARRAY_OF_MAPS, inner_id=2), elf_map(HASH, id=1)], "inner map with id 2 is not there"),
        ([elf_map(ARRAY_OF_MAPS, id=2, inner_id=2)], "inner map with id 2 is not there"),
        ([words(ARRAY_OF_MAPS, 4, 4, 2, 0)], "map a: map-in-map: names no inner map"),
        ([words(ARRAY_OF_MAPS, 4, 4, 2, 0, 5)], "inner map number 5 of 1 is not there"),
        ([words(ARRAY_OF_MAPS, 4, 4, 2, 0, 0)], "inner map number 0 of 1 holds maps itself"),
    ],
)
def test_inner_maps_refused(definitions: list[bytes], text: str) -> None:
    assert text in str(refusal(maps_object(*zip("abc", definitions, strict=False))))


# --- key and value types ----------------------------------------------------------------------------


def _annotated(key_size: int, *, members: tuple[str, str] = ("key", "value")) -> MapSpec:
    b = BtfBuilder()
    key, value = b.int("key", key_size), b.int("value", 8)
    b.struct("____btf_map_m", 16, [(members[0], key, 0), (members[1], value, 64)])
    sections = [Sec("maps", words(HASH, 4, 8, 16, 0)), Sec(".BTF", b.blob())]
    return read(elf_file(sections, [Sym("m", "maps", 0, 20)])).maps["m"]


def test_types_of_an_annotated_map() -> None:
    m = _annotated(4)
    assert (m.key_type_id, m.value_type_id) == (1, 2)


def test_annotation_of_another_size_is_passed_over() -> None:
    assert _annotated(2).key_type_id == 0


def test_annotation_of_another_shape_is_passed_over() -> None:
    assert _annotated(4, members=("key", "val")).key_type_id == 0


# --- anything at all --------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.integers(0, 15), st.just(0)), min_size=4, max_size=11), min_size=1, max_size=4
    )
)
def test_any_words_are_maps_or_our_error(definitions: list[list[int]]) -> None:
    data = maps_object(*((f"m{n}", words(*numbers)) for n, numbers in enumerate(definitions)))
    with suppress(ObjectFileError):
        assert sorted(read(data).maps) == [f"m{n}" for n in range(len(definitions))]
