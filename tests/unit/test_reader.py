"""From bytes to blueprints: programs, data maps, licence, externs, BTF, and real objects."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from builders import (
    R_BPF_64_ABS64,
    Reloc,
    Sec,
    Sym,
    bss,
    call,
    code,
    elf_file,
    exit_,
    func,
    load,
    mov,
    read,
    words,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfctl.btf.kinds import Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.errors import ObjectFileError, RelocationError
from bpfctl.objfile import (
    ConfigValue,
    ExternSpec,
    MapOrigin,
    MapSlot,
    Relocation,
    TailCall,
    data_map_kernel_name,
    kernel_btf,
    link_program,
    object_name,
    read_object,
    relocations,
)
from bpfctl.objfile.elf import STB_LOCAL, STB_WEAK, STT_NOTYPE, STV_HIDDEN
from bpfctl.uapi import MapFlag, MapType, ProgramType

TESTDATA = Path(__file__).parents[2] / "testdata"
BODY = mov(0) + exit_()  # 16 bytes


# --- programs ---------------------------------------------------------------------------------------


def test_programs_in_file_order_with_what_their_section_says() -> None:
    obj = read(
        elf_file(
            [
                code("?xdp.frags", BODY * 2),
                code("kprobe/do_exit", BODY),
                code("anything", BODY),
                code(".text", BODY),
            ],
            [
                func("third", "kprobe/do_exit", 0, 16),
                func("second", "?xdp.frags", 16, 16),
                func("first", "?xdp.frags", 0, 16, binding=STB_WEAK),
                func("fourth", "anything", 0, 16),
                func("subprogram", ".text", 0, 16),
            ],
        )
    )
    assert list(obj.programs) == ["first", "second", "third", "fourth"]
    first, third, fourth = (obj.programs[name] for name in ("first", "third", "fourth"))
    assert (first.section, first.program_type, first.autoload, first.flags) == (
        "xdp.frags",
        ProgramType.XDP,
        False,
        32,
    )
    assert (third.program_type, third.target, third.autoload) == (ProgramType.KPROBE, "do_exit", True)
    assert (fourth.section, fourth.program_type, fourth.attach_type) == ("anything", None, 0)
    assert [f.name for f in obj.functions] == ["first", "second", "third", "fourth", "subprogram"]


@pytest.mark.parametrize(("section", "name"), [("prog", "prog"), ("?42/0", "42_0"), ("a-b c", "a_b_c")])
def test_section_without_symbols_is_one_program(section: str, name: str) -> None:
    program = read(elf_file([code(section, BODY * 2)])).programs[name]
    assert (program.function.offset, program.function.size) == (0, 32)


def test_symbols_without_size_reach_up_to_the_next() -> None:
    """Assembly without ``.size``."""
    obj = read(elf_file([code("xdp", BODY * 3)], [func("b", "xdp", 16, 0), func("a", "xdp", 0, 0)]))
    assert [(f.name, f.offset, f.size) for f in obj.functions] == [("a", 0, 16), ("b", 16, 32)]


def test_symbols_without_type_are_functions_where_there_are_no_others() -> None:
    """Old compilers; labels are local."""
    label, main = Sym("LBB0_1", "xdp", 8, 0, STT_NOTYPE, STB_LOCAL), Sym("main", "xdp", 0, 0, STT_NOTYPE)
    assert list(read(elf_file([code("xdp", BODY)], [label, main])).programs) == ["main"]
    assert list(read(elf_file([code("xdp", BODY)], [label])).programs) == ["xdp"]


def test_a_static_function_that_nobody_calls_is_an_entry_program() -> None:
    symbols = [func("main", "tc", 0, 16), func("helper", "own", 0, 16, binding=STB_LOCAL)]
    assert list(read(elf_file([code("tc", BODY), code("own", BODY)], symbols)).programs) == ["main", "helper"]
    calling = code("tc", call() + exit_(), [Reloc(0, "own", 10)])
    assert list(read(elf_file([calling, code("own", BODY)], symbols)).programs) == ["main"]


def test_text_alone_holds_programs() -> None:
    """An object compiled without any section name still has something to load."""
    symbols = [func("main", ".text", 0, 16), func("helper", ".text", 16, 16, binding=STB_LOCAL)]
    obj = read(elf_file([code(".text", call() + exit_() + BODY, [])], symbols))
    assert list(obj.programs) == ["main", "helper"]
    obj = read(elf_file([code(".text", call(1) + exit_() + BODY)], symbols))
    assert list(obj.programs) == ["main"]


def test_tail_call_sections() -> None:
    obj = read(elf_file([code("0x2a/1", BODY)], [func("f", "0x2a/1", 0, 16)]))
    assert obj.programs["f"].tail_call == TailCall(42, 1)


def test_a_second_program_of_one_name_is_hidden_with_a_warning() -> None:
    symbols = [func("f", "xdp", 0, 16, binding=STB_LOCAL), func("f", "tc", 0, 16, binding=STB_LOCAL)]
    obj = read(elf_file([code("xdp", BODY), code("tc", BODY)], symbols))
    assert [(p.name, p.section) for p in obj.programs.values()] == [("f", "xdp")]
    assert obj.warnings == ["program f of section tc is hidden by that of section xdp"]


# --- licence and version ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "expected"),
    [([], ""), ([Sec("license", b"GPL\0BSD")], "GPL"), ([Sec("license", b"Dual BSD/GPL")], "Dual BSD/GPL")],
)
def test_license(sections: list[Sec], expected: str) -> None:
    assert read(elf_file(sections)).license == expected


def test_version() -> None:
    assert read(elf_file([Sec("version", words(0x60C00))])).version == 0x60C00
    assert read(elf_file([Sec("version", words(7, order="big"))], byte_order="big")).version == 7
    with pytest.raises(
        ObjectFileError, match="section version: a kernel version has 4 bytes, this section 2"
    ):
        read(elf_file([Sec("version", b"12")]))


# --- data maps --------------------------------------------------------------------------------------


def test_data_sections_become_maps() -> None:
    obj = read(
        elf_file(
            [
                Sec(".data", b"1234"),
                Sec(".rodata", b"56"),
                Sec(".rodata.str1.1", b"hello\0"),
                bss(".bss", 100),
                bss(".bss.more", 8),
                Sec(".data.x", b"x"),
                Sec(".data.empty"),
                bss(".bss.none", 0),
                Sec(".database", b"no"),
                bss(".data.nobits", 4),
                Sec(".bss.filled", b"no"),
                Sec("data", b"no"),
            ]
        )
    )
    read_only = MapFlag.RDONLY_PROG
    assert [(m.name, m.value_size, m.flags, m.frozen, m.data) for m in obj.maps.values()] == [
        (".data", 4, 0, False, b"1234"),
        (".rodata", 2, read_only, True, b"56"),
        (".rodata.str1.1", 6, read_only, True, b"hello\0"),
        (".bss", 100, 0, False, None),
        (".bss.more", 8, 0, False, None),
        (".data.x", 1, 0, False, b"x"),
    ]
    assert {(m.origin, m.map_type, m.key_size, m.max_entries) for m in obj.maps.values()} == {
        (MapOrigin.DATA, MapType.ARRAY, 4, 1)
    }


@pytest.mark.parametrize(
    ("linkage", "visibility", "flags"),
    [
        (Linkage.GLOBAL, 0, MapFlag.MMAPABLE),
        (Linkage.STATIC, 0, 0),
        (Linkage.GLOBAL, STV_HIDDEN, 0),
    ],
)
def test_only_maps_with_a_public_variable_can_be_mapped(
    linkage: Linkage, visibility: int, flags: int
) -> None:
    b = BtfBuilder()
    variable = b.var("v", b.int(), linkage)
    section = b.datasec(".bss", [(variable, 0, 4)])
    obj = read(
        elf_file([bss(".bss", 8), Sec(".BTF", b.blob())], [Sym("v", ".bss", 4, 4, visibility=visibility)])
    )
    assert (obj.maps[".bss"].flags, obj.maps[".bss"].value_type_id) == (flags, section)
    assert obj.maps[".bss"].key_type_id == 0


def test_an_object_of_2_gb_of_zeros_costs_nothing() -> None:
    obj = read(elf_file([bss(".bss", (1 << 31) - 1)]))
    assert (obj.maps[".bss"].value_size, obj.maps[".bss"].data) == ((1 << 31) - 1, None)


@pytest.mark.parametrize(
    ("path", "section", "name"),
    [
        ("/x/my_object_name.bpf.o", ".rodata", "my_objec.rodata"),
        ("/x/my_object_name.bpf.o", ".bss", "my_objec.bss"),
        ("my_object_name", ".kconfig", "my_obje.kconfig"),
        ("a.o", ".data", "a.data"),
        ("a.o", ".data.counters", ".data.counters"),
        ("a.o", ".rodata.str1.1", ".rodata.str1.1"),
        ("a.o", ".data.a_very_long_name", ".data.a_very_lo"),
        ("xdp-pass.o", ".bss", "xdp_pass.bss"),
        ("/x/.hidden.o", ".bss", ".bss"),
    ],
)
def test_kernel_names_of_data_maps(path: str, section: str, name: str) -> None:
    assert data_map_kernel_name(path, section) == name


@given(st.text(max_size=40), st.text(max_size=40))
def test_kernel_names_are_always_legal(path: str, section: str) -> None:
    name = data_map_kernel_name(path, section)
    assert len(name.encode()) <= 15
    assert all(c.isascii() and (c.isalnum() or c in "_.") for c in name)
    assert len(object_name(path)) <= 15


# --- BTF --------------------------------------------------------------------------------------------


def _btf_map(b: BtfBuilder, name: str, *members: tuple[str, int]) -> int:
    """A definition in ``.maps``: (member, its ``__uint`` number)."""
    fields = [(label, b.uint(number), 64 * n) for n, (label, number) in enumerate(members)]
    return b.var(name, b.struct("", 8 * len(fields), fields))


def test_maps_of_both_generations_and_data_in_one_object() -> None:
    b = BtfBuilder()
    variable = _btf_map(b, "new", ("type", 2), ("key_size", 4), ("value_size", 8), ("max_entries", 3))
    b.datasec(".maps", [(variable, 0, 32)])
    data = elf_file(
        [
            Sec(".data", b"1234"),
            Sec(".maps", bytes(32)),
            Sec("maps", words(1, 4, 8, 16, 0)),
            Sec(".BTF", b.blob()),
            code("tc", load() * 3 + exit_(), [Reloc(0, "new"), Reloc(16, "old"), Reloc(32, ".data")]),
        ],
        [Sym("new", ".maps", 0, 32), Sym("old", "maps", 0, 20), func("main", "tc", 0, 56)],
    )
    obj = read(data)
    assert [(m.name, m.origin) for m in obj.maps.values()] == [
        ("old", MapOrigin.LEGACY),
        ("new", MapOrigin.BTF),
        (".data", MapOrigin.DATA),
    ]
    assert [r.map for r in link_program(obj, "main").references] == ["new", "old", ".data"]


@pytest.mark.parametrize("size", [0, 32])
def test_initial_entries_of_a_program_array(size: int) -> None:
    """From the compiler the DATASEC has no offsets yet; from the static linker it has."""
    b = BtfBuilder()
    pointer = b.ptr(b.func_proto(b.int()))
    fields = [("type", b.uint(3), 0), ("values", b.array(pointer, 0), 64)]
    variable = b.var("jumps", b.struct("", 8, fields))
    b.datasec(".maps", [(variable, 0, 32)], size)
    obj = read(
        elf_file(
            [
                Sec(".maps", bytes(32), relocations=[Reloc(24, "main", R_BPF_64_ABS64)]),
                Sec(".BTF", b.blob()),
                code("xdp", BODY),
            ],
            [Sym("jumps", ".maps", 0, 32), func("main", "xdp", 0, 16)],
        )
    )
    assert obj.maps["jumps"].slots == (MapSlot(2, "main"),)
    assert relocations(obj) == [Relocation(".maps", 24, 2, "main", "xdp", 0, 0)]


def test_maps_that_need_types_without_types() -> None:
    with pytest.raises(ObjectFileError, match=r"section \.maps: its maps are defined by types") as caught:
        read(elf_file([Sec(".maps", bytes(32))], [Sym("m", ".maps", 0, 32)]))
    assert caught.value.hint == "compile with -g, and strip with llvm-strip -g"


def test_broken_types_matter_only_where_maps_need_them() -> None:
    obj = read(elf_file([Sec(".BTF", b"nonsense"), code("xdp", BODY)], [func("main", "xdp", 0, 16)]))
    assert obj.btf is None
    assert len(obj.warnings) == 1
    assert "section .BTF" in obj.warnings[0]
    with pytest.raises(ObjectFileError, match=r"section \.BTF"):
        read(elf_file([Sec(".BTF", b"nonsense"), Sec(".maps", bytes(32))]))


def test_types_of_data_that_is_not_there() -> None:
    b = BtfBuilder()
    b.datasec(".bss", [(b.var("v", b.int()), 0, 4)])
    with pytest.raises(ObjectFileError, match=r"section \.BTF.*no section, or an empty one"):
        read(elf_file([bss(".bss", 0), Sec(".BTF", b.blob())], [Sym("v", ".bss", 0, 0)]))


def test_broken_source_lines_are_left_out() -> None:
    b = BtfBuilder()
    b.int()
    obj = read(elf_file([Sec(".BTF", b.blob()), Sec(".BTF.ext", b"nonsense")]))
    assert obj.btf is not None
    assert obj.btf_ext is None
    assert "section .BTF.ext" in obj.warnings[0]


def test_kernel_btf_has_sizes_offsets_and_linkage() -> None:
    b = BtfBuilder()
    first, second = b.var("first", b.int()), b.var("second", 1)
    for name in ("f", "entry"):
        b.func(name, b.func_proto(1))
    section = b.datasec(".bss", [(second, 0, 4), (first, 0, 4)])
    obj = read(
        elf_file(
            [bss(".bss", 8), Sec(".BTF", b.blob()), code(".text", BODY), code("xdp", BODY)],
            [
                Sym("first", ".bss", 0, 4),
                Sym("second", ".bss", 4, 4),
                func("f", ".text", 0, 16, visibility=STV_HIDDEN),
                func("entry", "xdp", 0, 16, visibility=STV_HIDDEN),
            ],
        )
    )
    data = kernel_btf(obj)
    assert data is not None
    btf = Btf.from_bytes(data)
    assert btf.type(section).size_or_type == 8
    assert [(btf.name(v.type_id), v.offset) for v in btf.datasec(section)] == [("first", 0), ("second", 4)]
    linkage = {btf.name(function): btf.linkage(function) for function in btf.ids(Kind.FUNC)}
    assert linkage == {"f": Linkage.STATIC, "entry": Linkage.GLOBAL}  # an entry program has no caller
    assert kernel_btf(read(elf_file())) is None


# --- externs and relocations ------------------------------------------------------------------------


def test_externs_and_what_they_are() -> None:
    b = BtfBuilder()
    number = b.int()
    b.datasec(".kconfig", [(b.var("CONFIG_X", number, Linkage.EXTERN), 0, 4)])
    proto = b.func_proto(1)
    function = b.func("kernel_function", proto, Linkage.EXTERN)
    b.datasec(".ksyms", [(b.var("jiffies", number, Linkage.EXTERN), 0, 4), (function, 0, 0)])
    names = ["CONFIG_X", "jiffies", "kernel_function", "nobody"]
    symbols = [Sym(name, None, type=STT_NOTYPE) for name in names]
    symbols += [Sym("perhaps", None, type=STT_NOTYPE, binding=STB_WEAK), Sym("", None, type=STT_NOTYPE)]
    assert read(elf_file([Sec(".BTF", b.blob())], symbols)).externs == (
        ExternSpec("nobody", "undefined", False),
        ExternSpec("perhaps", "undefined", True),
        ExternSpec("CONFIG_X", "kconfig", False, value=ConfigValue("int", 4, True, 0)),
        ExternSpec("jiffies", "ksym", False, number),
        ExternSpec("kernel_function", "kfunc", False, proto),
    )


def test_relocations_that_loading_looks_at() -> None:
    debug = Sec(".debug_info", bytes(16), relocations=[Reloc(0, ".data", 3)])
    obj = read(
        elf_file(
            [
                debug,
                code("tc", load(imm=2) + call(-1) + exit_(), [Reloc(16, "gone", 10), Reloc(0, ".data")]),
                Sec(".data", b"1234"),
            ],
            [func("main", "tc", 0, 32), Sym("gone", None, type=STT_NOTYPE)],
        )
    )
    assert relocations(obj) == [
        Relocation("tc", 0, 1, ".data", ".data", 0, 2),
        Relocation("tc", 16, 10, "gone", "", 0, -1),
    ]


# --- real objects -----------------------------------------------------------------------------------

NEEDS_A_KERNEL = {"core_kinds", "core_user", "core_missing"}
REFUSED = {"ambiguous_map": "can be read in two ways"}


@pytest.mark.parametrize("path", sorted(TESTDATA.glob("*.o")), ids=lambda path: path.name)
def test_every_test_object_reads_and_links(path: Path) -> None:
    stem = path.name.partition(".")[0]
    if stem in REFUSED:
        with pytest.raises(ObjectFileError, match=REFUSED[stem]):
            read_object(str(path))
        return
    obj = read_object(str(path))
    assert obj.programs
    if stem in NEEDS_A_KERNEL | {"undefined_symbol"}:
        return
    for name, program in obj.programs.items():
        linked = link_program(obj, name)
        assert linked.functions[0].name == program.function.name
        assert {reference.map for reference in linked.references} <= set(obj.maps) | set(linked.jump_tables)


REAL = (TESTDATA / "subprogs.bpf.o").read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_damage_to_a_real_object_ends_in_our_error_or_is_harmless(changes: list[tuple[int, int]]) -> None:
    data = bytearray(REAL)
    for offset, value in changes:
        data[offset] = value
    with suppress(ObjectFileError):
        obj = read(bytes(data))
        for name in obj.programs:
            with suppress(ObjectFileError):
                link_program(obj, name)


def test_names_in_messages_cannot_reach_the_terminal() -> None:
    symbol = Sym("\x1b[31mred", ".data", 0, 4)
    obj = elf_file(
        [code("tc", load(imm=9) + exit_(), [Reloc(0, symbol.name)]), Sec(".data", b"1234")], [symbol]
    )
    with pytest.raises(RelocationError) as caught:
        link_program(read(obj), "tc")
    assert "symbol \\x1b[31mred points to byte 9" in str(caught.value)


def test_legacy_maps_beside_globals() -> None:
    """What both builds of iproute2 refuse."""
    obj = read_object(str(TESTDATA / "legacy_globals.bpf.o"))
    assert set(obj.maps) == {"lengths", ".rodata", ".data", ".bss", ".bss.spare", ".rodata.str1.1"}
    references = {r.map for r in link_program(obj, "sort_by_length").references}
    assert references == set(obj.maps)
