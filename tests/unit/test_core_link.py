"""CO-RE in the linker: records of a function reach the place that the function gets in the program."""

from __future__ import annotations

import pytest
from btf_builder import BtfBuilder, ext_area, ext_blob
from builders import Reloc, Sec, call, code, elf_file, exit_, func, insn, load, mov, read

from bpfctl.btf.core_patch import POISON_CALL
from bpfctl.btf.core_spec import CoreKind
from bpfctl.btf.types import Btf
from bpfctl.errors import CoreRelocationError
from bpfctl.insn import decode
from bpfctl.objfile import ObjectSpec, link_program
from bpfctl.objfile.core import CoreRelocator

OFFSET = CoreKind.FIELD_BYTE_OFFSET
ORDERS = ["little", "big"]


def kernel(*names: str, order: str = "little") -> Btf:
    """A kernel where ``struct point`` has the ints ``names``, from byte 8 on."""
    b = BtfBuilder(order)
    number = b.int()
    b.struct("point", 64, [(name, number, 64 + 32 * n) for n, name in enumerate(names)])
    return Btf.from_bytes(b.blob(), path="vmlinux", section=None)


def point_object(
    main: list[tuple[int, str, int]],
    helper: list[tuple[int, str, int]] = (),  # type: ignore[assignment]
    *,
    order: str = "little",
) -> ObjectSpec:
    """``main`` and ``idle`` in section tc, ``helper`` behind a filler in .text; each has r0 = 4 first.

    Records are (byte offset in the section, path, kind), of ``struct point { int x; int y; }``.
    """
    b = BtfBuilder(order)
    number = b.int()
    point = b.struct("point", 8, [("x", number, 0), ("y", number, 32)])
    blocks = [
        (b.string(section), [[at, point, b.string(path), kind] for at, path, kind in records])
        for section, records in (("tc", main), (".text", helper))
        if records
    ]
    end = exit_(order=order)
    tc = mov(4, order=order) + call(order=order) + end + mov(4, order=order) + end
    data = elf_file(
        [
            code("tc", tc, [Reloc(8, "helper", 10)]),
            code(".text", mov(9, order=order) + end + mov(4, order=order) + end),
            Sec(".BTF", b.blob()),
            Sec(".BTF.ext", ext_blob(core=ext_area(16, blocks, b.prefix), prefix=b.prefix)),
        ],
        [
            func("main", "tc", 0, 24),
            func("idle", "tc", 24, 16),
            func("unused", ".text", 0, 16),
            func("helper", ".text", 16, 16),
        ],
        byte_order=order,
    )
    return read(data)


@pytest.mark.parametrize("order", ORDERS)
def test_each_function_is_patched_where_it_was_placed(order: str) -> None:
    obj = point_object([(0, "0:1", OFFSET)], [(16, "0:1", OFFSET)], order=order)
    linked = link_program(obj, "main", CoreRelocator(obj, lambda: kernel("x", "y", order=order)))
    assert [i.imm for i in decode(linked.code, order)] == [12, 1, 0, 12, 0]
    assert linked.poisoned == {}


def test_records_of_functions_that_are_not_placed_do_not_matter() -> None:
    """That of ``idle`` has no sense, that of ``unused`` no match; and nobody asks the kernel."""

    def vmlinux() -> Btf:
        raise AssertionError("the kernel's types were asked for")

    obj = point_object([(24, "7:7:7", OFFSET)], [(0, "0:0", OFFSET)])
    linked = link_program(obj, "main", CoreRelocator(obj, vmlinux))
    assert [i.imm for i in decode(linked.code)] == [4, 1, 0, 4, 0]


def test_a_type_that_is_not_there_matters_only_where_it_is_used() -> None:
    b = BtfBuilder()
    blocks = [(b.string("tc"), [[0, 99, b.string("0"), OFFSET], [16, b.int(), b.string("0"), 8]])]
    data = elf_file(
        [
            code("tc", (mov(1) + exit_()) * 2),
            Sec(".BTF", b.blob()),
            Sec(".BTF.ext", ext_blob(core=ext_area(16, blocks))),
        ],
        [func("bad", "tc", 0, 16), func("good", "tc", 16, 16)],
    )
    obj = read(data)
    core = CoreRelocator(obj, lambda: kernel("x"))
    assert decode(link_program(obj, "good", core).code)[0].imm == 1
    with pytest.raises(CoreRelocationError, match=r"program bad, instruction 0: .*type id 99"):
        link_program(obj, "bad", core)


def test_the_kernel_is_opened_once_for_all_programs() -> None:
    opened: list[str] = []

    def vmlinux() -> Btf:
        opened.append("vmlinux")
        return kernel("y")

    def modules() -> list[Btf]:
        opened.append("modules")
        return []

    obj = point_object([(0, "0:1", OFFSET), (24, "0:1", OFFSET)])
    core = CoreRelocator(obj, vmlinux, modules)
    assert [decode(link_program(obj, name, core).code)[0].imm for name in ("main", "idle")] == [8, 8]
    assert opened == ["vmlinux"]


def test_what_the_kernel_lacks_is_poisoned_and_remembered() -> None:
    obj = point_object([], [(16, "0:1", OFFSET)])
    linked = link_program(obj, "main", CoreRelocator(obj, lambda: kernel("x")))
    assert decode(linked.code)[3] == (0x85, 0, 0, 0, POISON_CALL)
    why = "CO-RE relocation <byte_off> [2] struct point.y (0:1 @ offset 4) has no match in the kernel's BTF"
    assert linked.poisoned == {3: why}


def test_a_poisoned_load_of_two_slots_is_remembered_once() -> None:
    """The verifier cannot come to the second slot; what follows keeps its place."""
    b = BtfBuilder()
    root = b.enum("mode", {"GONE": 5})
    blocks = [(b.string("tc"), [[0, root, b.string("0"), CoreKind.ENUMVAL_VALUE]])]
    data = elf_file(
        [
            code("tc", load(imm=5) + exit_()),
            Sec(".BTF", b.blob()),
            Sec(".BTF.ext", ext_blob(core=ext_area(16, blocks))),
        ],
        [func("main", "tc", 0, 24)],
    )
    obj = read(data)
    linked = link_program(obj, "main", CoreRelocator(obj, lambda: kernel("x")))
    assert [i.imm for i in decode(linked.code)] == [POISON_CALL, POISON_CALL, 0]
    assert list(linked.poisoned) == [0]


def test_a_field_of_another_size_is_told_from_one_that_is_gone() -> None:
    """A signed int that has become a long: no load of either size reads it right."""
    b, k = BtfBuilder(), BtfBuilder()
    root = b.struct("point", 4, [("x", b.int(), 0)])
    k.struct("point", 8, [("x", k.int("long", 8), 0)])
    blocks = [(b.string("tc"), [[0, root, b.string("0:0"), OFFSET]])]
    data = elf_file(
        [
            code("tc", insn(0x61, 0, 1) + exit_()),
            Sec(".BTF", b.blob()),
            Sec(".BTF.ext", ext_blob(core=ext_area(16, blocks))),
        ],
        [func("main", "tc", 0, 16)],
    )
    obj = read(data)
    linked = link_program(obj, "main", CoreRelocator(obj, lambda: k.btf("vmlinux")))
    assert "the 4 bytes there cannot be read as the 8 of the kernel's BTF" in linked.poisoned[0]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ((16, "0:1", OFFSET), "unexpected instruction 2 .* carries no value that could be relocated"),
        ((0, "0:0", OFFSET), "holds 4, 0 expected"),
        ((0, "0:9", OFFSET), "has no member number 9"),
        ((0, "0:1", 77), "unknown kind 77"),
    ],
)
def test_errors_name_program_and_instruction(record: tuple[int, str, int], message: str) -> None:
    obj = point_object([record])
    with pytest.raises(CoreRelocationError, match=message) as caught:
        link_program(obj, "main", CoreRelocator(obj, lambda: kernel("x", "y")))
    assert f"program main, instruction {record[0] // 8}: " in str(caught.value)
    assert (caught.value.section, caught.value.offset) == ("tc", record[0])
