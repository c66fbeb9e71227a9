"""Linking: order of functions, every kind of reference, and the refusals that name them."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from btf_builder import BtfBuilder, ext_area, ext_blob
from builders import (
    Reloc,
    Sec,
    Sym,
    bss,
    call,
    code,
    elf_file,
    exit_,
    func,
    insn,
    load,
    mov,
    read,
    words,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfctl.btf.kinds import Kind
from bpfctl.errors import NotFoundError, ObjectFileError, RelocationError, UnsupportedObjectError
from bpfctl.insn import decode
from bpfctl.objfile import LinkedProgram, MapReference, link_program, read_object
from bpfctl.objfile.elf import SHN_ABS, SHN_COMMON, STB_LOCAL, STB_WEAK, STT_NOTYPE

TESTDATA = Path(__file__).parents[2] / "testdata"
ORDERS = ["little", "big"]

MAP = words(2, 4, 8, 1, 0)


def link(data: bytes, name: str = "main") -> LinkedProgram:
    return link_program(read(data), name)


def shape(linked: LinkedProgram) -> list[tuple[str, int, int]]:
    return [(function.name, function.start, function.size) for function in linked.functions]


def calls(linked: LinkedProgram, order: str = "little") -> dict[int, int]:
    """Instruction number of each call or function address -> the instruction it leads to."""
    found = {}
    for index, i in enumerate(decode(linked.code, order)):
        if (i.code == 0x85 and i.src == 1) or (i.code == 0x18 and i.src == 4):
            found[index] = index + i.imm + 1
    return found


def refusal(data: bytes, kind: type[ObjectFileError] = RelocationError, name: str = "main") -> str:
    obj = read(data)
    with pytest.raises(kind) as caught:
        link_program(obj, name)
    return str(caught.value)


# --- functions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_callees_follow_depth_first(order: str) -> None:
    """main calls a then b, a calls c then b: the order is main, a, c, b; each function comes once."""
    to = lambda: call(order=order)  # noqa: E731
    end = exit_(order=order)
    text = to() + to() + end + mov(2, order=order) + end + mov(3, order=order) + end
    data = elf_file(
        [
            code("xdp", to() + to() + end, [Reloc(0, "a", 10), Reloc(8, "b", 10)]),
            code(".text", text, [Reloc(0, "c", 10), Reloc(8, "b", 10)]),
        ],
        [
            func("main", "xdp", 0, 24),
            func("a", ".text", 0, 24),
            func("b", ".text", 24, 16),
            func("c", ".text", 40, 16),
        ],
        byte_order=order,
    )
    linked = link(data)
    assert shape(linked) == [("main", 0, 3), ("a", 3, 3), ("c", 6, 2), ("b", 8, 2)]
    assert calls(linked, order) == {0: 3, 1: 8, 3: 6, 4: 8}
    assert [i.imm for i in decode(linked.code, order) if i.code == 0xB7] == [3, 2]


def test_static_callee_is_its_section_and_a_distance() -> None:
    data = elf_file(
        [
            code("xdp", call(2) + exit_(), [Reloc(0, ".text", 10)]),
            code(".text", mov(1) + mov(1) + exit_() + mov(2) + exit_()),
        ],
        [
            func("main", "xdp", 0, 16),
            func("one", ".text", 0, 24, binding=STB_LOCAL),
            func("two", ".text", 24, 16, binding=STB_LOCAL),
        ],
    )
    linked = link(data)
    assert shape(linked) == [("main", 0, 2), ("two", 2, 2)]
    assert calls(linked) == {0: 2}


def test_callee_in_any_executable_section() -> None:
    data = elf_file(
        [
            code("xdp", call() + call() + exit_(), [Reloc(0, "other", 10), Reloc(8, "shared", 10)]),
            code("tc", mov(1) + exit_()),
            code("shared", mov(2) + exit_()),
        ],
        [
            func("main", "xdp", 0, 24),
            func("other", "tc", 0, 16),
            func("hidden", "shared", 0, 16, binding=STB_LOCAL),
        ],
    )
    assert shape(link(data)) == [("main", 0, 3), ("other", 3, 2), ("hidden", 5, 2)]
    assert list(read(data).programs) == ["main", "other"]


@pytest.mark.parametrize("order", ORDERS)
def test_address_of_a_function(order: str) -> None:
    """Global: the symbol itself.  Static: the section, and bytes in the immediate."""
    end = exit_(order=order)
    data = elf_file(
        [
            code(
                "xdp",
                load(order=order) + load(imm=16, order=order) + end,
                [Reloc(0, "callback"), Reloc(16, ".text")],
            ),
            code(".text", (mov(1, order=order) + end) * 2),
        ],
        [
            func("main", "xdp", 0, 40),
            func("callback", ".text", 0, 16),
            func("other", ".text", 16, 16, binding=STB_LOCAL),
        ],
        byte_order=order,
    )
    linked = link(data)
    assert shape(linked) == [("main", 0, 5), ("callback", 5, 2), ("other", 7, 2)]
    assert calls(linked, order) == {0: 5, 2: 7}


def test_calls_that_the_assembler_resolved() -> None:
    """No relocation inside a section: the distance counts from the call in its own section."""
    text = mov(1) + exit_() + call(-3) + call(-4) + exit_()
    data = elf_file(
        [code("xdp", call() + exit_(), [Reloc(0, "far", 10)]), code(".text", text)],
        [func("main", "xdp", 0, 16), func("near", ".text", 0, 16), func("far", ".text", 16, 24)],
    )
    linked = link(data)
    assert shape(linked) == [("main", 0, 2), ("far", 2, 3), ("near", 5, 2)]
    assert calls(linked) == {0: 2, 2: 5, 3: 5}


def test_second_half_of_a_load_is_no_call() -> None:
    """The bytes of a call inside an immediate are a number."""
    data = elf_file([code("xdp", load(imm=0x1085, high=0x1085) + exit_())], [func("main", "xdp", 0, 24)])
    assert shape(link(data)) == [("main", 0, 3)]


def test_recursion_ends() -> None:
    data = elf_file(
        [
            code("xdp", call() + call() + exit_(), [Reloc(0, "main", 10), Reloc(8, "f", 10)]),
            code(".text", call() + call() + exit_(), [Reloc(0, "f", 10), Reloc(8, "main", 10)]),
        ],
        [func("main", "xdp", 0, 24), func("f", ".text", 0, 24)],
    )
    linked = link(data)
    assert shape(linked) == [("main", 0, 3), ("f", 3, 3)]
    assert calls(linked) == {0: 0, 1: 3, 3: 3, 4: 0}


def test_a_chain_of_calls_deeper_than_the_stack_of_python() -> None:
    depth = 3000
    data = elf_file(
        [code("xdp", (call(1) + exit_()) * depth + mov(0) + exit_())],
        [func(f"f{n}" if n else "main", "xdp", 16 * n, 16) for n in range(depth + 1)],
    )
    assert len(link(data).functions) == depth + 1


def test_code_that_no_symbol_covers_is_passed_over() -> None:
    """The static linker leaves bodies of weak functions that lost; what they refer to does not matter."""
    data = elf_file(
        [code("xdp", mov(1) + exit_() + call() + exit_(), [Reloc(16, "nowhere", 10)])],
        [func("main", "xdp", 0, 16), Sym("nowhere", None, type=STT_NOTYPE)],
    )
    assert shape(link(data)) == [("main", 0, 2)]


def test_aliases_are_one_function() -> None:
    data = elf_file(
        [
            code("xdp", call() + call() + exit_(), [Reloc(0, "a", 10), Reloc(8, "b", 10)]),
            code(".text", mov(1) + exit_()),
        ],
        [
            func("main", "xdp", 0, 24),
            func("b", ".text", 0, 16, binding=STB_WEAK),
            func("a", ".text", 0, 16),
        ],
    )
    assert len(link(data).functions) == 2


def test_exception_callback_is_appended_although_nobody_calls_it() -> None:
    b = BtfBuilder()
    main = b.func("main", b.func_proto(b.int()))
    b.func("on_throw", b.func_proto(1))
    b.add(Kind.DECL_TAG, "exception_callback:on_throw", main, words=[-1])
    sections = [code("tc", mov(0) + exit_()), code(".text", mov(1) + exit_()), Sec(".BTF", b.blob())]
    symbols = [func("main", "tc", 0, 16), func("on_throw", ".text", 0, 16)]
    assert shape(link(elf_file(sections, symbols))) == [("main", 0, 2), ("on_throw", 2, 2)]
    text = refusal(elf_file(sections, symbols[:1]), ObjectFileError)
    assert "program main: its exception callback on_throw is no global function" in text


@pytest.mark.parametrize(
    ("linkage", "tags", "functions", "message"),
    [
        (1, ["on_throw", "other"], ["main"], None),  # the kernel says what is wrong
        (0, ["on_throw"], [], "the tag exception_callback:on_throw is of no global function"),
        (1, ["hidden"], [], "its exception callback hidden is no global function"),
        (1, [""], [], "its exception callback  is no global function"),
    ],
)
def test_exception_callbacks_that_are_not_appended(
    linkage: int, tags: list[str], functions: list[str], message: str | None
) -> None:
    b = BtfBuilder()
    proto = b.func_proto(0)
    main = b.func("main", proto, linkage)
    for name, its in (("on_throw", 1), ("other", 1), ("hidden", 0)):
        b.func(name, proto, its)
    for tag in tags:
        b.add(Kind.DECL_TAG, f"exception_callback:{tag}", main, words=[-1])
    body = mov(0) + exit_()
    names = ("on_throw", "other", "hidden")
    symbols = [func(name, ".text", 16 * n, 16) for n, name in enumerate(names)]
    sections = [code("tc", body), code(".text", body * 3), Sec(".BTF", b.blob())]
    data = elf_file(sections, [func("main", "tc", 0, 16), *symbols])
    if message:
        assert message in refusal(data, ObjectFileError)
    else:
        assert [name for name, _, _ in shape(link(data))] == functions


# --- maps and data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_map_reference(order: str) -> None:
    definition = words(2, 4, 8, 1, 0, order=order)
    data = elf_file(
        [
            code("tc", load(3, order=order) * 2 + exit_(order=order), [Reloc(0, "m"), Reloc(16, "maps")]),
            Sec("maps", definition * 2),
        ],
        [
            func("main", "tc", 0, 40),
            Sym("m", "maps", 20, 20),
            Sym("first", "maps", 0, 20, binding=STB_LOCAL),
        ],
        byte_order=order,
    )
    linked = link(data)
    assert linked.references == (MapReference(0, "m", None), MapReference(2, "first", None))
    assert decode(linked.code, order)[:4] == [(0x18, 3, 1, 0, 0), (0, 0, 0, 0, 0)] * 2


@pytest.mark.parametrize("order", ORDERS)
def test_value_reference(order: str) -> None:
    """A static variable: section and addend.  A global one: its own offset; both may carry an addend."""
    data = elf_file(
        [
            code(
                "tc",
                load(1, 4, order=order)
                + load(2, order=order)
                + load(2, -4, order=order)
                + exit_(order=order),
                [Reloc(0, ".bss"), Reloc(16, "counter"), Reloc(32, "counter")],
            ),
            bss(".bss", 32),
        ],
        [func("main", "tc", 0, 56), Sym("counter", ".bss", 24, 8)],
        byte_order=order,
    )
    linked = link(data)
    assert linked.references == tuple(MapReference(n, ".bss", o) for n, o in ((0, 4), (2, 24), (4, 20)))
    instructions = decode(linked.code, order)
    assert [(i.src, i.imm) for i in instructions[:6]] == [(2, 0), (0, 4), (2, 0), (0, 24), (2, 0), (0, 20)]


def test_references_of_a_subprogram_count_from_the_start_of_the_program() -> None:
    data = elf_file(
        [
            code("tc", call() + exit_(), [Reloc(0, "f", 10)]),
            code(".text", mov(0) + load() + exit_(), [Reloc(8, ".data")]),
            Sec(".data", b"\x01\0\0\0"),
        ],
        [func("main", "tc", 0, 16), func("f", ".text", 0, 32)],
    )
    assert link(data).references == (MapReference(3, ".data", 0),)


# --- refusals ---------------------------------------------------------------------------------------


def main_with(
    relocation: Reloc, *symbols: Sym, text: bytes = load() + exit_(), more: tuple[Sec, ...] = ()
) -> bytes:
    """``main``, one load and an exit, with one relocation."""
    return elf_file(
        [code("tc", mov(0) + text, [relocation]), *more], [func("main", "tc", 0, 8 + len(text)), *symbols]
    )


TEXT = code(".text", mov(1) + mov(1) + exit_())
F = func("f", ".text", 0, 24)

REFUSED: dict[str, tuple[bytes, str]] = {
    "undefined": (
        main_with(Reloc(8, "gone"), Sym("gone", None, type=STT_NOTYPE)),
        "symbol gone is not defined in",
    ),
    "undefined call": (
        main_with(Reloc(8, "gone", 10), Sym("gone", None, type=STT_NOTYPE), text=call() + exit_()),
        "symbol gone is not defined in this object",
    ),
    "common": (
        main_with(Reloc(8, "g"), Sym("g", SHN_COMMON, 8, 8)),
        "symbol g is a common symbol: a global that",
    ),
    "absolute": (main_with(Reloc(8, "g"), Sym("g", SHN_ABS, 8, 8)), "symbol g is an absolute number"),
    "no such section": (
        main_with(Reloc(8, "g"), Sym("g", 99)),
        "symbol g lies in section 99, which is not there",
    ),
    "section that is no map": (
        main_with(Reloc(8, "g"), Sym("g", "comment", 0, 4), more=(Sec("comment", b"1234"),)),
        "symbol g lies in section comment, which becomes no map and holds no code",
    ),
    "no load": (
        main_with(Reloc(8, "m"), Sym("m", "maps", 0, 20), text=mov(0) + exit_(), more=(Sec("maps", MAP),)),
        "symbol m is used by an instruction that is no 64-bit load",
    ),
    "load cut off": (
        main_with(Reloc(8, "m"), Sym("m", "maps", 0, 20), text=load()[:8], more=(Sec("maps", MAP),)),
        "symbol m is used by an instruction that is no 64-bit load",
    ),
    "inside a map": (
        main_with(
            Reloc(8, "m"), Sym("m", "maps", 0, 20), text=load(imm=4) + exit_(), more=(Sec("maps", MAP),)
        ),
        "symbol m points to 0x4 of section maps, where no map starts",
    ),
    "before a map": (
        main_with(
            Reloc(8, "m"), Sym("m", "maps", 0, 20), text=load(imm=-4) + exit_(), more=(Sec("maps", MAP),)
        ),
        "symbol m points to -0x4 of section maps",
    ),
    "past the data": (
        main_with(Reloc(8, ".bss"), text=load(imm=8) + exit_(), more=(bss(".bss", 8),)),
        "symbol .bss points to byte 8 of .bss, which has 8",
    ),
    "before the data": (
        main_with(Reloc(8, ".bss"), text=load(imm=-1) + exit_(), more=(bss(".bss", 8),)),
        "symbol .bss points to byte -1 of .bss, which has 8",
    ),
    "into a function": (
        main_with(Reloc(8, ".text", 10), F, text=call(0) + exit_(), more=(TEXT,)),
        "symbol .text points to 0x8 of section .text, where no function starts",
    ),
    "address inside a function": (
        main_with(Reloc(8, ".text"), F, text=load(imm=8) + exit_(), more=(TEXT,)),
        "symbol .text points to 0x8 of section .text, where no function starts",
    ),
    "before the code": (
        main_with(Reloc(8, ".text", 10), F, text=call(-5) + exit_(), more=(TEXT,)),
        "symbol .text points to -0x20 of section .text",
    ),
    "helper call": (
        main_with(Reloc(8, "f", 10), F, text=call(src=0) + exit_(), more=(TEXT,)),
        "symbol f is called as if it were a helper",
    ),
    "call of data": (
        main_with(Reloc(8, ".bss", 10), text=call() + exit_(), more=(bss(".bss", 8),)),
        "symbol .bss is used by an instruction that is no 64-bit load",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, text = REFUSED[name]
    message = refusal(data)
    assert message.startswith("test.o, section tc, offset 0x8: program main, instruction 1: symbol ")
    assert text in message


def test_relocation_inside_an_instruction() -> None:
    message = refusal(main_with(Reloc(12, ".bss"), more=(bss(".bss", 8),)))
    assert message.startswith(
        "test.o, section tc, offset 0xc: program main, instruction 1: symbol .bss is relocated"
    )


def test_local_call_into_the_middle() -> None:
    message = refusal(elf_file([code("tc", call(0) + exit_())], [func("main", "tc", 0, 16)]))
    assert message.endswith("instruction 0: calls 0x8 of its section, where no function starts")


@pytest.mark.parametrize("source", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("order", ORDERS)
def test_a_descriptor_number_in_the_file_is_not_ours(source: int, order: str) -> None:
    """Such a load would pick whatever the loading process has open under that number."""
    text = mov(0, order=order) + load(imm=3, src=source, order=order) + exit_(order=order)
    message = refusal(elf_file([code("tc", text)], [func("main", "tc", 0, 32)], byte_order=order))
    assert "instruction 1: loads a map, map value or function by number, without a relocation" in message


def test_error_in_a_subprogram_names_its_own_place() -> None:
    data = elf_file(
        [
            code("tc", call() + exit_(), [Reloc(0, "f", 10)]),
            code(".text", mov(1) + load() + exit_(), [Reloc(8, "gone")]),
        ],
        [func("main", "tc", 0, 16), func("f", ".text", 0, 32), Sym("gone", None, type=STT_NOTYPE)],
    )
    message = refusal(data)
    assert message.startswith("test.o, section .text, offset 0x8: program main, instruction 3: symbol gone")


def test_no_such_program() -> None:
    obj = read(elf_file([code("tc", mov(0) + exit_())], [func("main", "tc", 0, 16)]))
    with pytest.raises(NotFoundError, match="no program mian") as caught:
        link_program(obj, "mian")
    assert caught.value.hint == "programs in this object: main"


# --- what is left to others -------------------------------------------------------------------------


def test_without_the_kernels_types_core_is_refused_where_it_is_needed() -> None:
    b = BtfBuilder()
    number = b.int()
    blocks = [(b.string("tc"), [[16, number, b.string("0"), 0]])]
    data = elf_file(
        [
            code("tc", (mov(0) + exit_()) * 2),
            Sec(".BTF", b.blob()),
            Sec(".BTF.ext", ext_blob(core=ext_area(16, blocks))),
        ],
        [func("main", "tc", 0, 16), func("other", "tc", 16, 16)],
    )
    assert shape(link(data)) == [("main", 0, 2)]
    message = refusal(data, UnsupportedObjectError, "other")
    assert "section tc, offset 0x10: program other: function other needs the kernel's BTF" in message


# --- func_info and line_info ------------------------------------------------------------------------


def _debug_object(*, func_of_f: bool = True, lines_of_f: bool = True) -> bytes:
    """``main`` of section tc calls ``f``, the second function of .text."""
    b = BtfBuilder()
    proto = b.func_proto(b.int())
    main, f = b.func("main", proto), b.func("f", proto)
    tc, text = b.string("tc"), b.string(".text")
    funcs = [(tc, [[0, main]]), *([(text, [[16, f]])] if func_of_f else [])]
    lines = [
        (tc, [[0, 0, 0, 1 << 10]]),
        *([(text, [[0, 0, 0, 2 << 10], [16, 0, 0, 3 << 10]])] if lines_of_f else []),
    ]
    ext = ext_blob(ext_area(8, funcs), ext_area(16, lines))
    return elf_file(
        [
            code("tc", call() + exit_(), [Reloc(0, "f", 10)]),
            code(".text", (mov(1) + exit_()) * 2),
            Sec(".BTF", b.blob()),
            Sec(".BTF.ext", ext),
        ],
        [func("main", "tc", 0, 16), func("unused", ".text", 0, 16), func("f", ".text", 16, 16)],
    )


def test_debug_records_count_instructions_from_the_start_of_the_program() -> None:
    linked = link(_debug_object())
    assert linked.func_info_size == 8
    assert list(struct.iter_unpack("<II", linked.func_info)) == [(0, 3), (2, 4)]
    assert linked.line_info_size == 16
    assert list(struct.iter_unpack("<IIII", linked.line_info)) == [(0, 0, 0, 1 << 10), (2, 0, 0, 3 << 10)]


def test_debug_records_are_for_all_functions_or_none() -> None:
    """The kernel compares their number with that of the functions it finds."""
    linked = link(_debug_object(func_of_f=False))
    assert (linked.func_info, linked.func_info_size, len(linked.line_info)) == (b"", 0, 32)
    linked = link(_debug_object(lines_of_f=False))
    assert (len(linked.func_info), linked.line_info, linked.line_info_size) == (16, b"", 0)


# --- real compilers, real sizes ---------------------------------------------------------------------


@pytest.mark.parametrize("program", ["sum_up", "sum_once", "sum_xdp"])
def test_an_object_of_the_other_byte_order_links_alike(program: str) -> None:
    little = link_program(read_object(str(TESTDATA / "subprogs.bpf.o")), program)
    big = link_program(read_object(str(TESTDATA / "subprogs_bigendian.bpf.o")), program)
    assert decode(little.code, "little") == decode(big.code, "big")
    assert (little.functions, little.references) == (big.functions, big.references)
    assert list(struct.iter_unpack("<II", little.func_info)) == list(struct.iter_unpack(">II", big.func_info))


def test_forty_thousand_relocations_link_in_a_blink() -> None:
    count = 40_000
    relocations = [Reloc(24 * n, "m" if n % 2 else ".bss") for n in range(count)]
    data = elf_file(
        [code("xdp", (load() + mov(0)) * count + exit_(), relocations), Sec("maps", MAP), bss(".bss", 8)],
        [func("main", "xdp", 0, 24 * count + 8), Sym("m", "maps", 0, 20)],
    )
    start = time.process_time()
    linked = link(data)
    assert time.process_time() - start < 1  # seconds; 0.1 on a laptop of 2022
    assert len(linked.references) == count


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_call_of_any_graph_arrives(data: st.DataObject) -> None:
    """Functions that call each other at random: each reachable one is placed once, and calls hit it."""
    count = data.draw(st.integers(1, 7))
    graph = [data.draw(st.lists(st.integers(0, count - 1), max_size=4)) for _ in range(count)]
    body, starts, relocations = b"", [], []
    for number, callees in enumerate(graph):
        starts.append(len(body))
        for callee in callees:
            relocations.append(Reloc(len(body), f"f{callee}", 10))
            body += call()
        body += mov(number) + exit_()
    symbols = [
        func(f"f{n}", "xdp", start, end - start)
        for n, (start, end) in enumerate(zip(starts, [*starts[1:], len(body)], strict=True))
    ]
    linked = link(elf_file([code("xdp", body, relocations)], symbols), "f0")
    at = {function.start: int(function.name[1:]) for function in linked.functions}
    assert sorted(at.values()) == sorted(_reachable(graph))
    for function in linked.functions:
        own = [calls(linked)[function.start + n] for n in range(len(graph[int(function.name[1:])]))]
        assert [at[target] for target in own] == graph[int(function.name[1:])]


def _reachable(graph: list[list[int]]) -> set[int]:
    found, pending = {0}, [0]
    while pending:
        new = set(graph[pending.pop()]) - found
        found |= new
        pending += new
    return found


def test_instruction_that_only_looks_like_a_call_to_a_function() -> None:
    """A helper call has src 0 and stays as it is."""
    linked = link(elf_file([code("tc", insn(0x85, imm=7) + exit_())], [func("main", "tc", 0, 16)]))
    assert decode(linked.code)[0] == (0x85, 0, 0, 0, 7)
