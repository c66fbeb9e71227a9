"""struct_ops variables: read from an object, changed before the load, fitted to a kernel's struct."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from btf_builder import BtfBuilder
from builders import R_BPF_64_ABS64, Reloc, Sec, Sym, code, elf_file, exit_, func, mov, read

from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, NotFoundError, ObjectFileError, UsageError
from bpfctl.objfile import ObjectSpec, read_object
from bpfctl.objfile.elf import STB_LOCAL
from bpfctl.objfile.spec import MapOrigin, MemberFunction
from bpfctl.objfile.struct_ops import maps_to_make, with_autocreate, with_member
from bpfctl.objfile.struct_ops_value import KernelFunction, kernel_value
from bpfctl.uapi import MapFlag, MapType

TESTDATA = Path(__file__).parents[2] / "testdata"
PROGRAM = mov(0) + exit_()
PROGRAM_SIZE = len(PROGRAM)


class Member(NamedTuple):
    """A member of the object's struct: ``kind`` as :func:`_type` knows it, ``offset`` in bytes."""

    name: str
    kind: str
    offset: int
    bits: int = 0


OPS = (Member("run", "function", 0), Member("flags", "int", 8), Member("name", "text", 12))
OPS_SIZE = 32


def _type(b: BtfBuilder, kind: str) -> int:
    if kind == "function":
        return b.ptr(b.func_proto(0))
    if kind == "pointer":
        return b.ptr(0)
    if kind == "text":
        return b.array(b.int("char", 1), 16)
    return b.int("long long", 8) if kind == "long" else b.int()


def ops_struct(b: BtfBuilder, name: str, members: Sequence[Member], size: int) -> int:
    words = [(m.name, _type(b, m.kind), 8 * m.offset, m.bits) for m in members]
    if any(m.bits for m in members):
        return b.bitfields(name, size, words)
    return b.struct(name, size, [word[:3] for word in words])


def ops_object(
    *,
    section: str = ".struct_ops",
    name: str = "ops",
    members: Sequence[Member] = OPS,
    size: int = OPS_SIZE,
    data: bytes = bytes(OPS_SIZE),
    relocations: Sequence[Reloc] = (Reloc(0, "run", R_BPF_64_ABS64),),
    program_section: str = "struct_ops/run",
    variables: Sequence[tuple[str, int]] = (("table", 0),),
    types: bool = True,
) -> bytes:
    """An object of two programs and, in ``section``, the ``variables`` (name, offset) of one struct."""
    b = BtfBuilder()
    type_id = ops_struct(b, name, members, size)
    b.datasec(section, [(b.var(v, type_id), at, size) for v, at in variables], len(data))
    sections = [
        code(program_section, PROGRAM * 2),
        Sec(section, data, relocations=relocations),
        *([Sec(".BTF", b.blob())] if types else []),
    ]
    programs = [
        func("run", program_section, 0, PROGRAM_SIZE),
        func("walk", program_section, PROGRAM_SIZE, PROGRAM_SIZE),
    ]
    return elf_file(sections, [*programs, *(Sym(v, section, at) for v, at in variables)])


def kernel_types(
    members: Sequence[Member] = OPS, size: int = OPS_SIZE, *, base: int = 64, holder: str = "ops"
) -> tuple[Btf, int]:
    """A kernel's BTF with struct ops in the value type at byte ``base``, and the id of that."""
    b = BtfBuilder()
    type_id = ops_struct(b, "ops", members, size)
    held = type_id if holder == "ops" else ops_struct(b, holder, (), size)
    value_id = b.struct("bpf_struct_ops_ops", base + size, [("common", b.int(), 0), ("data", held, 8 * base)])
    return b.btf(), value_id


# --- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "flags", "autocreate"),
    [
        (".struct_ops", 0, True),
        (".struct_ops.link", MapFlag.LINK, True),
        ("?.struct_ops", 0, False),
        ("?.struct_ops.link", MapFlag.LINK, False),
    ],
)
def test_a_variable_is_a_map(section: str, flags: int, autocreate: bool) -> None:
    data = struct.pack("<QI16s4x", 0, 7, b"one")
    obj = read(ops_object(section=section, data=data))
    spec = obj.maps["table"]
    assert (spec.origin, spec.map_type) == (MapOrigin.STRUCT_OPS, MapType.STRUCT_OPS)
    assert (spec.key_size, spec.value_size, spec.max_entries) == (4, OPS_SIZE, 1)
    assert (spec.flags, spec.autocreate, spec.data) == (flags, autocreate, data)
    assert spec.functions == (MemberFunction("run", "run"),)


def test_a_static_function_is_found_by_the_relocated_word() -> None:
    data = struct.pack("<Q", PROGRAM_SIZE) + bytes(24)
    obj = read(ops_object(data=data, relocations=(Reloc(0, "struct_ops/run", R_BPF_64_ABS64),)))
    assert obj.maps["table"].functions == (MemberFunction("run", "walk"),)
    assert obj.maps["table"].data == bytes(OPS_SIZE)


@pytest.mark.parametrize(("section", "loaded"), [(".struct_ops", True), ("?.struct_ops", False)])
@pytest.mark.parametrize("program_section", ["struct_ops/run", "?struct_ops/run"])
def test_programs_are_loaded_with_their_map(section: str, program_section: str, loaded: bool) -> None:
    obj = read(ops_object(section=section, program_section=program_section))
    assert obj.programs["run"].autoload is loaded
    assert obj.programs["walk"].autoload is not program_section.startswith("?")  # in no map: as it says


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 40}, "offset 0x0: variable table: 40 bytes run past the section's 32"),
        ({"variables": (("a", 0), ("b", 16)), "data": bytes(64)}, "offset 0x10: variable b overlaps a"),
        ({"relocations": (Reloc(8, "run"),)}, "table: a relocation at byte 8, which is no function"),
        ({"relocations": (Reloc(4, "run"),)}, "table: a relocation at byte 4, which is no function"),
        ({"data": bytes(48), "relocations": (Reloc(28, "run"),)}, "a relocation belongs to no variable"),
        ({"data": bytes(48), "relocations": (Reloc(40, "run"),)}, "a relocation belongs to no variable"),
        ({"relocations": (Reloc(0, "table"),)}, "table: table, set as run, is no struct_ops program"),
        ({"program_section": "xdp"}, "variable table: run, set as run, is no struct_ops program"),
        ({"data": b"\x08" + bytes(31)}, "variable table: run, set as run, is no struct_ops program"),
        ({"members": [Member(f"m{n}", "int", 0) for n in range(1025)], "relocations": ()},
         "variable table has 1025 members, more than any struct_ops"),
        ({"name": ""}, "variable table is struct '', no struct with a name"),
        ({"types": False}, "its variables are defined by types, and the object has none"),
    ],
)  # fmt: skip
def test_malformed(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ObjectFileError) as caught:
        read(ops_object(**arguments))  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "section .struct_ops" in str(caught.value)


def test_a_section_without_its_types() -> None:
    b = BtfBuilder()
    b.int()
    data = elf_file([Sec(".struct_ops", bytes(8)), Sec(".BTF", b.blob())])
    with pytest.raises(ObjectFileError, match=r"section \.struct_ops, offset 0x0: no types for this section"):
        read(data)


def test_a_variable_that_is_no_struct() -> None:
    b = BtfBuilder()
    b.datasec(".struct_ops", [(b.var("number", b.int()), 0, 4)], 8)
    data = elf_file(
        [Sec(".struct_ops", bytes(8)), Sec(".BTF", b.blob())], [Sym("number", ".struct_ops", 0, 4)]
    )
    with pytest.raises(ObjectFileError, match="variable number is int 'int', no struct with a name"):
        read(data)


def test_broken_types_are_an_error_where_they_are_needed() -> None:
    with pytest.raises(ObjectFileError, match=r"section \.BTF"):
        read(elf_file([Sec(".struct_ops", bytes(8)), Sec(".BTF", b"\x9f\xeb\x01")]))


def test_a_static_variable_has_its_place_from_the_types() -> None:
    b = BtfBuilder()
    type_id = ops_struct(b, "ops", OPS, OPS_SIZE)
    b.datasec(".struct_ops", [(b.var("table", type_id, 0), 0, OPS_SIZE)], OPS_SIZE)
    sections = [
        code("struct_ops/run", PROGRAM),
        Sec(".struct_ops", bytes(OPS_SIZE), relocations=(Reloc(0, "run", R_BPF_64_ABS64),)),
        Sec(".BTF", b.blob()),
    ]
    symbols = [
        func("run", "struct_ops/run", 0, PROGRAM_SIZE),
        Sym("table", ".struct_ops", 0, OPS_SIZE, binding=STB_LOCAL),
    ]
    assert read(elf_file(sections, symbols)).maps["table"].functions == (MemberFunction("run", "run"),)


# --- changes before the load -----------------------------------------------------------------------


@pytest.fixture
def two() -> ObjectSpec:
    """Map ``direct`` and ``linked``, and ``spare`` that is not made on its own."""
    return read_object(str(TESTDATA / "steady_window.bpf.o"))


def test_members_are_set_by_name(two: ObjectSpec) -> None:
    changed = with_member(two, "direct", "flags", 2)
    changed = with_member(changed, "direct", "name", "another")
    changed = with_member(changed, "direct", "init", None)
    spec = changed.maps["direct"]
    assert spec.data == bytes(32) + struct.pack("<I16s4x", 2, b"another")
    assert "init" not in {function.member for function in spec.functions}
    assert two.maps["direct"].functions[0] == MemberFunction("init", "start")  # as it was


def test_a_program_that_no_map_wants_any_more_is_not_loaded(two: ObjectSpec) -> None:
    assert two.programs["start"].autoload
    assert not with_member(two, "direct", "init", None).programs["start"].autoload
    assert with_member(two, "linked", "cong_avoid", "keep_quietly").programs["keep_quietly"].autoload


def test_optional_maps_are_made_where_they_are_asked_for(two: ObjectSpec) -> None:
    def names(obj: ObjectSpec, *programs: str) -> list[str]:
        return [spec.name for spec in maps_to_make(obj, programs)]

    assert names(two, "keep", "start", "ten_segments") == ["direct", "linked"]
    assert names(two, "keep_quietly") == ["direct", "linked", "spare"]
    asked = with_autocreate(two, "spare")
    assert names(asked) == ["direct", "linked", "spare"]
    assert asked.programs["keep_quietly"].autoload
    assert names(with_autocreate(two, "direct", wanted=False)) == ["linked"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("none", "flags", 1), NotFoundError, "no struct_ops map none"),
        ((".bss", "flags", 1), NotFoundError, "no struct_ops map .bss"),
        (("direct", "none", 1), NotFoundError, "struct_ops map direct has no member none"),
        (("direct", "flags", 1 << 32), UsageError, "direct.flags: 4294967296 does not fit into 4 bytes"),
        (("direct", "flags", -(1 << 31) - 1), UsageError, "does not fit into 4 bytes"),
        (("direct", "name", "x" * 17), UsageError, "direct.name: 17 bytes are more than its 16"),
        (("direct", "init", 3), UsageError, "direct.init: 3 is no struct_ops program"),
        (("direct", "init", "nothing"), UsageError, "direct.init: 'nothing' is no struct_ops program"),
    ],
)
def test_values_that_do_not_fit(
    two: ObjectSpec, change: tuple[str, str, int | str], error: type[BpfctlError], message: str
) -> None:
    with pytest.raises(error) as caught:
        with_member(two, *change)
    assert message in str(caught.value)


# --- the kernel's struct ---------------------------------------------------------------------------


def test_members_move_by_name() -> None:
    data = struct.pack("<QI16s4x", 0, 7, b"one")
    obj = read(ops_object(name="ops___mine", data=data))
    members = (Member("more", "long", 0), Member("name", "text", 8), Member("flags", "int", 24))
    kernel, value_id = kernel_types((*members, Member("run", "function", 32)), 40)
    value = kernel_value(obj, obj.maps["table"], kernel, value_id)
    assert (kernel.name(value.type_id), value.value_type_id) == ("ops", value_id)
    assert value.functions == (KernelFunction(64 + 32, 3, "run"),)
    assert value.data == bytes(72) + b"one" + bytes(13) + struct.pack("<I", 7) + bytes(12)


def test_a_member_that_the_kernel_lacks_may_be_zero() -> None:
    obj = read(ops_object())
    kernel, value_id = kernel_types((OPS[0],), 8)
    assert len(kernel_value(obj, obj.maps["table"], kernel, value_id).data) == 72


@pytest.mark.parametrize(
    ("members", "data", "kernel", "message"),
    [
        (OPS, b"\1", OPS[:1], "member flags is set, and the kernel's struct has none of that name"),
        (OPS, b"", OPS[1:], "member run is set, and the kernel's struct has none of that name"),
        (OPS, b"", (OPS[0], Member("flags", "long", 8)), "member flags has 4 bytes here, 8 in the kernel"),
        (OPS, b"", (OPS[0], Member("flags", "text", 8)), "member flags is int here, array in the kernel"),
        (OPS, b"", (OPS[0], Member("flags", "int", 8, 3)), "member flags is a bit-field"),
        ((OPS[0], Member("flags", "int", 8, 3)), b"", OPS, "member flags is a bit-field"),
        (OPS, b"", (Member("run", "pointer", 0),), "member run is no function pointer in the kernel"),
        ((OPS[0], Member("owner", "pointer", 8)), b"\1", (OPS[0], Member("owner", "pointer", 8)),
         "member owner is a pointer, and what it is set to is no program"),
        ((OPS[0], Member("name", "text", 24)), b"", OPS, "member name lies outside of its struct's 32 bytes"),
    ],
)  # fmt: skip
def test_structs_that_do_not_agree(
    members: Sequence[Member], data: bytes, kernel: Sequence[Member], message: str
) -> None:
    obj = read(ops_object(members=members, data=(bytes(8) + data).ljust(OPS_SIZE, b"\0")))
    with pytest.raises(ObjectFileError) as caught:
        kernel_value(obj, obj.maps["table"], *kernel_types(kernel))
    assert f"section .struct_ops, offset 0x0: struct_ops map table: {message}" in str(caught.value)


def test_a_value_type_that_holds_another_struct() -> None:
    obj = read(ops_object())
    with pytest.raises(ObjectFileError, match="the kernel's struct bpf_struct_ops_ops holds no struct ops"):
        kernel_value(obj, obj.maps["table"], *kernel_types(holder="other"))
