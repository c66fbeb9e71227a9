"""Externs: what types say of them, their places, the BTF that the kernel takes, and the answers in code."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from builders import Reloc, Sec, Sym, call, code, elf_file, exit_, func, load, mov, read

from bpfctl.btf.extern_fixup import define_externs
from bpfctl.btf.kinds import DatasecVar, Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.errors import NotSupportedError, ObjectFileError, RelocationError
from bpfctl.insn import decode
from bpfctl.kernel import kconfig as kernel_kconfig
from bpfctl.kernel import ksyms
from bpfctl.loader.externs import MISSING_KFUNC, Externs, KernelSymbol
from bpfctl.loader.kconfig import config_image
from bpfctl.objfile import ConfigValue, ExternSpec, MapReference, link_program
from bpfctl.objfile.elf import STB_WEAK, STT_NOTYPE
from bpfctl.uapi import MapFlag

ORDERS = ["little", "big"]


def extern(name: str, weak: bool = False) -> Sym:
    return Sym(name, None, type=STT_NOTYPE, **({"binding": STB_WEAK} if weak else {}))


# --- configuration values: types and places ---------------------------------------------------------


def kconfig_object(*values: tuple[str, str], order: str = "little") -> bytes:
    """An object with these configuration values, (name, type); their program loads the address of each."""
    b = BtfBuilder(order)
    letter, char = b.int("char", 1), b.int("unsigned char", 1, signed=False)
    types = {
        "bool": b.int("_Bool", 1, boolean=True),
        "long bool": b.int("_Bool", 4, boolean=True),
        "char": letter,
        "int": b.int(),
        "u16": b.int("unsigned short", 2, signed=False),
        "u64": b.add(Kind.CONST, "", b.int("unsigned long", 8, signed=False)),
        "i128": b.int("__int128", 16),
        "tristate": b.add(Kind.ENUM, "libbpf_tristate", 4),
        "enum": b.add(Kind.ENUM, "other", 4),
        "text": b.array(char, 5),
        "no text": b.array(char, 0),
        "numbers": b.array(b.int(), 4),
        "struct": b.struct("s", 4),
    }
    variables = [(b.var(name, types[kind], Linkage.EXTERN), 0, 0) for name, kind in values]
    b.datasec(".kconfig", variables)
    names = [name for name, _ in values]
    body = b"".join(load(order=order) for _ in names) + exit_(order=order)
    relocations = [Reloc(16 * n, name) for n, name in enumerate(names)]
    symbols = [func("main", "tc", 0, len(body)), *map(extern, names)]
    return elf_file([code("tc", body, relocations), Sec(".BTF", b.blob())], symbols, byte_order=order)


@pytest.mark.parametrize("order", ORDERS)
def test_configuration_values_are_placed_by_alignment_size_and_name(order: str) -> None:
    values = [
        ("Z", "char"),
        ("B", "int"),
        ("A", "bool"),
        ("T", "text"),
        ("L", "u64"),
        ("H", "u16"),
        ("C", "tristate"),
    ]
    obj = read(kconfig_object(*values, order=order))
    assert [(e.name, *e.value) for e in obj.externs] == [
        ("L", "int", 8, False, 0),
        ("B", "int", 4, True, 8),
        ("C", "tristate", 4, False, 12),
        ("H", "int", 2, False, 16),
        ("A", "bool", 1, False, 18),
        ("Z", "char", 1, True, 19),
        ("T", "string", 5, False, 20),
    ]
    config = obj.maps[".kconfig"]
    assert (config.key_size, config.value_size, config.max_entries, config.frozen) == (4, 25, 1, True)
    assert config.flags == MapFlag.RDONLY_PROG | MapFlag.MMAPABLE
    assert obj.btf is not None
    section = obj.btf.find(".kconfig", Kind.DATASEC)
    assert config.value_type_id == section
    assert obj.btf.type(section or 0).size_or_type == 25
    placed = [(obj.btf.name(v.type_id), v.offset) for v in obj.btf.datasec(section or 0)]
    assert placed == [("L", 0), ("B", 8), ("C", 12), ("H", 16), ("A", 18), ("Z", 19), ("T", 20)]
    assert {obj.btf.linkage(v.type_id) for v in obj.btf.datasec(section or 0)} == {Linkage.GLOBAL}
    references = [MapReference(2 * n, ".kconfig", o) for n, o in enumerate([19, 8, 18, 20, 0, 16, 12])]
    linked = link_program(obj, "main")
    assert linked.references == tuple(references)
    assert linked.externs == ()


@pytest.mark.parametrize("kind", ["long bool", "i128", "enum", "no text", "numbers", "struct"])
def test_types_that_no_configuration_has(kind: str) -> None:
    with pytest.raises(ObjectFileError, match=r"extern CONFIG_X is of no type that a configuration value"):
        read(kconfig_object(("CONFIG_X", kind)))


def test_a_function_is_no_configuration_value() -> None:
    b = BtfBuilder()
    b.datasec(".kconfig", [(b.func("CONFIG_X", b.func_proto(0), Linkage.EXTERN), 0, 0)])
    with pytest.raises(ObjectFileError, match="extern CONFIG_X is of no type"):
        read(elf_file([Sec(".BTF", b.blob())], [extern("CONFIG_X")]))


def test_configuration_values_of_gigabytes_are_refused() -> None:
    b = BtfBuilder()
    text = b.array(b.int("char", 1), 1 << 31)
    b.datasec(".kconfig", [(b.var("CONFIG_X", text, Linkage.EXTERN), 0, 0)])
    with pytest.raises(ObjectFileError, match="would take 2147483648 bytes"):
        read(elf_file([Sec(".BTF", b.blob())], [extern("CONFIG_X")]))


# --- configuration values: content ------------------------------------------------------------------

BOOL, CHAR, TRISTATE = ConfigValue("bool", 1), ConfigValue("char", 1), ConfigValue("tristate", 4)
U8, S8 = ConfigValue("char", 1), ConfigValue("char", 1, True)
U16, S16 = ConfigValue("int", 2), ConfigValue("int", 2, True)
U32, S64, TEXT = ConfigValue("int", 4), ConfigValue("int", 8, True), ConfigValue("string", 5)


def answer(
    monkeypatch: pytest.MonkeyPatch, value: ConfigValue, text: str | None, name: str = "CONFIG_X"
) -> bytes:
    known = {} if text is None else {"CONFIG_X": text}
    monkeypatch.setattr(kernel_kconfig, "config_values", lambda names: ("/proc/config.gz", known))
    return config_image([ExternSpec(name, "kconfig", False, value=value)], value.size, "x.o")


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        (BOOL, "y", b"\1"),
        (BOOL, "n", b"\0"),
        (CHAR, "m", b"m"),
        (CHAR, "65", b"A"),
        (TRISTATE, "y", struct.pack("=I", 1)),
        (TRISTATE, "m", struct.pack("=I", 2)),
        (U16, "0xffff", struct.pack("=H", 0xFFFF)),
        (U16, "010", struct.pack("=H", 8)),
        (S16, "-32768", struct.pack("=h", -32768)),
        (U32, "0", bytes(4)),
        (S64, "-1", b"\xff" * 8),
        (S8, "-128", b"\x80"),
        (TEXT, '"ab"', b"ab\0\0\0"),
        (TEXT, '"abcdefg"', b"abcd\0"),
        (TEXT, '""', bytes(5)),
    ],
)
def test_text_becomes_bytes(
    monkeypatch: pytest.MonkeyPatch, value: ConfigValue, text: str, expected: bytes
) -> None:
    assert answer(monkeypatch, value, text) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((BOOL, text) for text in ("m", "1", '"y"', "")),
        *((TRISTATE, text) for text in ("1", '"y"')),
        *(
            (U16, text)
            for text in ("y", '"1"', "0x10000", "-1", "12x", "0b1", "1_0", "08", "99999999999999999999")
        ),
        *((S16, text) for text in ("32768", "-32769")),
        *((U8, text) for text in ("256", "-1")),
        *((TEXT, text) for text in ("y", "1", '"', '"open')),
    ],
)
def test_text_of_another_type_is_an_error(
    monkeypatch: pytest.MonkeyPatch, value: ConfigValue, text: str
) -> None:
    with pytest.raises(ObjectFileError, match=r"x\.o: CONFIG_X is .* and the object declares"):
        answer(monkeypatch, value, text)


def test_what_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotSupportedError, match=r"CONFIG_X is not set in /proc/config\.gz"):
        answer(monkeypatch, BOOL, None)
    with pytest.raises(ObjectFileError, match="extern LINUX_HAS_WINGS is no configuration value"):
        answer(monkeypatch, BOOL, None, "LINUX_HAS_WINGS")
    weak = [ExternSpec(name, "kconfig", True, value=U32) for name in ("CONFIG_X", "LINUX_HAS_WINGS")]
    assert config_image(weak, 4, "x.o") == bytes(4)
    with pytest.raises(ObjectFileError, match="extern WINGS is no configuration value"):
        config_image([ExternSpec("WINGS", "kconfig", True, value=U32)], 4, "x.o")


def test_a_kernel_that_publishes_no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernel_kconfig, "_PLACES", (str(tmp_path / "none"),))
    with pytest.raises(NotSupportedError, match=r"it asks for CONFIG_X, and .*/none with the kernel's"):
        config_image([ExternSpec("CONFIG_X", "kconfig", True, value=U32)], 4, "x.o")
    (tmp_path / "none").write_bytes(b"\x1f\x8brubbish")
    with pytest.raises(NotSupportedError, match="cannot be read"):
        config_image([ExternSpec("CONFIG_X", "kconfig", True, value=U32)], 4, "x.o")


def test_the_first_line_of_a_name_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "CONFIG_A=1\n# CONFIG_B is not set\nCONFIG_AB=2\nCONFIG_A=3\nCONFIG_C=last"
    (tmp_path / "config").write_text(text)
    monkeypatch.setattr(kernel_kconfig, "_PLACES", (str(tmp_path / "none"), str(tmp_path / "config")))
    found = {"CONFIG_A": "1", "CONFIG_C": "last"}
    names = ["CONFIG_A", "CONFIG_B", "CONFIG_C"]
    assert kernel_kconfig.config_values(names) == (str(tmp_path / "config"), found)


@pytest.mark.parametrize(
    ("release", "version", "expected"),
    [
        ("6.18.44-cloud", "#1 SMP", 0x06122C),
        ("5.10.0-30-amd64", "#1 SMP Debian 5.10.218-1 (2024-06-01)", 0x050ADA),
        ("4.14.336", "#1", 0x040EFF),
        ("6.19.0-rc1", "#1", 0x061300),
        ("rubbish", "#1", 0),
        ("6.x.1", "#1 Debian 6.", 0),
    ],
)
def test_the_kernels_version(
    monkeypatch: pytest.MonkeyPatch, release: str, version: str, expected: int
) -> None:
    monkeypatch.setattr(
        kernel_kconfig.os, "uname", lambda: kernel_kconfig.os.uname_result(("", "", release, version, ""))
    )
    assert kernel_kconfig.version() == expected


# --- kernel symbols: the BTF that the kernel takes --------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("has_int", [True, False])
def test_ksyms_become_defined(order: str, has_int: bool) -> None:
    b = BtfBuilder(order)
    number = b.int() if has_int else b.int("char", 1)
    proto = b.func_proto(0, [("", number), ("given", number), ("", 0)])
    function = b.func("called", proto, Linkage.EXTERN)
    variable = b.var("variable", number, Linkage.EXTERN)
    section = b.datasec(".ksyms", [(variable, 0, 4), (function, 0, 0)])
    old = b.btf()
    btf = Btf.from_bytes(define_externs(old, {}, {"called", "variable"}))
    dummy = len(btf) - 1
    int_id = number if has_int else dummy - 1
    assert len(btf) - len(old) == 2 - has_int
    assert btf.name(dummy) == "dummy_ksym"
    assert (btf.linkage(dummy), btf.type(dummy).size_or_type) == (Linkage.GLOBAL, int_id)
    assert (btf.name(int_id), btf.resolve_size(int_id), btf.int_encoding(int_id).bits) == ("int", 4, 32)
    assert btf.datasec(section) == [DatasecVar(variable, 0, 4), DatasecVar(dummy, 4, 4)]
    assert btf.type(section).size_or_type == 8
    assert (btf.linkage(variable), btf.type(variable).size_or_type) == (Linkage.GLOBAL, int_id)
    assert btf.linkage(function) is Linkage.GLOBAL
    assert [p.name for p in btf.params(proto)] == ["dummy_ksym", "given", ""]
    assert [btf.name(i) for i in range(len(old))] == [old.name(i) for i in range(len(old))]


def test_variables_alone_need_no_dummy() -> None:
    b = BtfBuilder()
    b.datasec(".ksyms", [(b.var("variable", b.int(), Linkage.EXTERN), 0, 4)])
    old = b.btf()
    assert len(Btf.from_bytes(define_externs(old, {}, {"variable"}))) == len(old)


def test_an_extern_without_a_symbol_is_an_error() -> None:
    b = BtfBuilder()
    b.datasec(".ksyms", [(b.var("variable", b.int(), Linkage.EXTERN), 0, 4)])
    with pytest.raises(ObjectFileError, match="extern variable has no symbol"):
        define_externs(b.btf(), {}, {"another"})


# --- kernel symbols: addresses ----------------------------------------------------------------------


def test_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kallsyms").write_text(
        "ffffffff81000010 T schedule\nffffffff81000020 t schedule_tail\n"
        "ffffffff81000030 d moved.llvm.123\nffffffff81000040 t elsewhere.llvm.123\n"
        "ffffffffa0000050 T of_module\t[veth]\nffffffff81000060 t twice\nffffffff81000070 t twice\n"
        "ffffffff81000080 t same\nffffffff81000080 t same\n0000000000000001 A last"
    )
    monkeypatch.setattr(ksyms, "_PLACE", str(tmp_path / "kallsyms"))
    names = ["schedule", "moved", "elsewhere", "of_module", "twice", "same", "last", "none", ""]
    assert ksyms.addresses(names) == {
        "schedule": [0xFFFFFFFF81000010],
        "moved": [0xFFFFFFFF81000030],
        "of_module": [0xFFFFFFFFA0000050],
        "twice": [0xFFFFFFFF81000060, 0xFFFFFFFF81000070],
        "same": [0xFFFFFFFF81000080],
        "last": [1],
    }


# --- answers in instructions ------------------------------------------------------------------------


def ksyms_object(body: bytes, relocations: list[Reloc]) -> bytes:
    b = BtfBuilder()
    number, proto = b.int(), b.func_proto(0)
    variable = b.var("variable", number, Linkage.EXTERN)
    bare = b.var("bare", b.add(Kind.CONST), Linkage.EXTERN)
    function = b.func("function", proto, Linkage.EXTERN)
    b.datasec(".ksyms", [(variable, 0, 4), (bare, 0, 0), (function, 0, 0)])
    symbols = [func("main", "tc", 0, len(body)), *(extern(n, True) for n in ("variable", "bare", "function"))]
    return elf_file([code("tc", body, relocations), Sec(".BTF", b.blob())], symbols)


def test_answers_are_written_as_the_kernel_reads_them() -> None:
    body = load() + load() + load() + call() + exit_()
    names = ["bare", "variable", "function", "function"]
    obj = read(ksyms_object(body, [Reloc(16 * n, name) for n, name in enumerate(names)]))
    linked = link_program(obj, "main")
    assert [e.extern for e in linked.externs] == names
    answers = Externs(obj)
    answers.symbols = {
        "bare": KernelSymbol(address=0xFFFFFFFF81234567),
        "variable": KernelSymbol(btf_id=70000),
        "function": KernelSymbol(btf_id=80000, btf_fd=9, fd_index=2),
    }
    applied = answers.apply(linked)
    assert [(i.code, i.src, i.off, i.imm & 0xFFFFFFFF) for i in decode(applied.code)] == [
        (0x18, 0, 0, 0x81234567),
        (0, 0, 0, 0xFFFFFFFF),
        (0x18, 3, 0, 70000),
        (0, 0, 0, 0),
        (0x18, 3, 0, 80000),
        (0, 0, 0, 9),
        (0x85, 2, 2, 80000),
        (0x95, 0, 0, 0),
    ]
    assert applied.poisoned == {}


def test_what_is_missing_is_zero_and_its_call_no_helper() -> None:
    body = load() + call() + exit_()
    obj = read(ksyms_object(body, [Reloc(0, "variable"), Reloc(16, "function")]))
    answers = Externs(obj)
    answers.symbols = dict.fromkeys(("variable", "function"), KernelSymbol())
    applied = answers.apply(link_program(obj, "main"))
    number = [e.name for e in obj.externs].index("function")
    assert [(i.code, i.src, i.off, i.imm) for i in decode(applied.code)] == [
        (0x18, 0, 0, 0),
        (0, 0, 0, 0),
        (0x85, 0, 0, MISSING_KFUNC + number),
        (0x95, 0, 0, 0),
    ]
    assert list(applied.poisoned) == [2]
    assert "function" in applied.poisoned[2]


@pytest.mark.parametrize(
    ("body", "relocation", "message"),
    [
        (call() + exit_(), Reloc(0, "variable"), "symbol variable is called, and is no function"),
        (mov(0) + exit_(), Reloc(0, "variable"), "is used by an instruction that is no 64-bit load"),
        (load(imm=4) + exit_(), Reloc(0, "variable"), "is used at byte 4; only its start has a name"),
    ],
)
def test_instructions_that_cannot_hold_an_answer(body: bytes, relocation: Reloc, message: str) -> None:
    obj = read(ksyms_object(body, [relocation]))
    with pytest.raises(RelocationError, match=message):
        link_program(obj, "main")
