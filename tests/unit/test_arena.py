"""Variables in an arena: the section that holds them, and the instructions that name them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from btf_builder import BtfBuilder
from builders import Reloc, Sec, Sym, bss, code, elf_file, exit_, func, load, read

from bpfctl.errors import ObjectFileError, RelocationError
from bpfctl.insn import decode
from bpfctl.loader.arena import check_arena
from bpfctl.objfile import MapReference, link_program
from bpfctl.uapi import MapFlag, MapType

PAGE = os.sysconf("SC_PAGE_SIZE")
NAMES = ("shared", "second")


def arena_object(
    data: Sec | None,
    *,
    arenas: int = 1,
    addend: int = 0,
    value: int = 0,
    pages: int = 1,
    flags: int = MapFlag.MMAPABLE,
    sections: Sequence[Sec] = (),
) -> bytes:
    """``main`` loads the address of ``v``, at ``value`` of ``data``, with ``addend``."""
    b = BtfBuilder()
    struct_id = b.struct(
        "",
        24,
        [("type", b.uint(MapType.ARENA), 0), ("max_entries", b.uint(pages), 64),
         ("map_flags", b.uint(flags), 128)],
    )  # fmt: skip
    variables = [(b.var(name, struct_id), 24 * n, 24) for n, name in enumerate(NAMES[:arenas])]
    b.datasec(".maps", variables, 24 * len(variables))
    all_sections = [
        code("xdp", load(imm=addend) + exit_(), [Reloc(0, "v")] if data else ()),
        Sec(".maps", bytes(24 * max(arenas, 1))),
        *([data] if data else []),
        Sec(".BTF", b.blob()),
    ]
    symbols = [func("main", "xdp", 0, 24)]
    symbols += [Sym(name, ".maps", 24 * n, 24) for n, name in enumerate(NAMES[:arenas])]
    symbols += [Sym("v", data.name, value, 0)] if data else []
    return elf_file(all_sections, symbols)


def variables(size: int) -> Sec:
    return Sec(".addr_space.1", bytes(range(size)))


def test_the_section_is_the_arenas_data_and_no_map() -> None:
    obj = read(arena_object(variables(16)))
    assert list(obj.maps) == ["shared"]
    assert obj.maps["shared"].data == bytes(range(16))


@pytest.mark.parametrize(("value", "addend", "offset"), [(8, 0, 8), (8, 4, 12), (0, 16, 16)])
def test_an_address_is_an_offset_in_the_data(value: int, addend: int, offset: int) -> None:
    linked = link_program(read(arena_object(variables(16), value=value, addend=addend)), "main")
    assert linked.references == (MapReference(0, "shared", offset),)
    first, second = decode(linked.code)[:2]
    assert (first.src, first.imm, second.imm) == (2, 0, offset)


@pytest.mark.parametrize(("value", "addend"), [(0, 17), (0, -1), (16, 1), (8, -9)])
def test_an_address_outside_of_the_data(value: int, addend: int) -> None:
    obj = read(arena_object(variables(16), value=value, addend=addend))
    with pytest.raises(
        RelocationError, match=rf"symbol v points to byte {value + addend} of \.addr_space\.1"
    ):
        link_program(obj, "main")


def test_variables_without_an_arena() -> None:
    with pytest.raises(
        ObjectFileError, match=r"section \.addr_space\.1: variables of an arena, and no arena"
    ):
        read(arena_object(variables(8), arenas=0))


def test_two_arenas() -> None:
    with pytest.raises(ObjectFileError, match=r"offset 0x18: map second is an arena, and so is shared"):
        read(arena_object(None, arenas=2))


def test_a_section_without_bytes_is_no_data() -> None:
    """No compiler makes one, and libbpf knows none."""
    obj = read(arena_object(bss(".addr_space.1", 1 << 20)))
    assert obj.maps["shared"].data is None
    with pytest.raises(RelocationError, match="points to byte 8"):
        link_program(read(arena_object(bss(".addr_space.1", 16), value=8)), "main")


@pytest.mark.parametrize(
    ("size", "pages", "flags", "message"),
    [
        (PAGE + 1, 1, 0, f"{PAGE + 1} bytes of variables do not fit into the {PAGE} of arena shared"),
        (1, 0, 0, "1 bytes of variables do not fit into the 0 of arena shared"),
        (1, 1, MapFlag.SEGV_ON_FAULT, "arena shared has BPF_F_SEGV_ON_FAULT"),
    ],
)
def test_variables_that_the_arena_cannot_hold(size: int, pages: int, flags: int, message: str) -> None:
    obj = read(arena_object(Sec(".addr_space.1", bytes(size)), pages=pages, flags=flags))
    with pytest.raises(ObjectFileError, match=message) as caught:
        check_arena(obj.maps["shared"], obj.path)
    assert str(caught.value).startswith("test.o, section .addr_space.1, offset 0x0: ")


def test_an_arena_that_is_just_full() -> None:
    obj = read(arena_object(Sec(".addr_space.1", bytes(PAGE))))
    check_arena(obj.maps["shared"], obj.path)
