"""BTF written: what is read again is what was there; and CO-RE finds the same in a part as in the whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.core import CoreResolver
from bpfctl.btf.core_needs import CoreNeeds
from bpfctl.btf.core_spec import CoreKind
from bpfctl.btf.ext import CoreRelocation
from bpfctl.btf.kinds import Kind
from bpfctl.btf.raw_dump import raw_types
from bpfctl.btf.types import Btf
from bpfctl.btf.writer import BtfWriter, subset
from bpfctl.errors import CoreRelocationError, ObjectFileError
from bpfctl.objfile import read_object

TESTDATA = Path(__file__).parents[2] / "testdata"


@pytest.mark.parametrize("name", ["btf_layouts", "subprogs_bigendian", "kconfig_user", "core_kinds"])
def test_all_types_written_are_all_types_read(name: str) -> None:
    btf = read_object(str(TESTDATA / f"{name}.bpf.o")).btf
    assert btf is not None
    again = Btf.from_bytes(subset(btf, dict.fromkeys(range(1, len(btf)))))
    assert again.byte_order == btf.byte_order
    assert list(raw_types(again)) == list(raw_types(btf))


def test_a_part_has_new_numbers_and_void_for_what_is_left_out() -> None:
    b = BtfBuilder()
    number = b.int()
    left_out = b.struct("left_out", 4, [("a", number, 0)])
    pointer = b.ptr(left_out)
    kept = b.struct("kept", 16, [("a", number, 0), ("b", pointer, 64)])
    part = Btf.from_bytes(subset(b.btf(), {number: None, pointer: None, kept: {1}}))
    assert [(r["id"], r["kind"], r["name"]) for r in raw_types(part)] == [
        (1, "INT", "int"),
        (2, "PTR", "(anon)"),
        (3, "STRUCT", "kept"),
    ]
    assert part.size_or_type(2) == 0
    assert [(m.name, m.type_id, m.offset) for m in part.members(3)] == [("b", 2, 64)]


def test_strings_are_stored_once() -> None:
    writer = BtfWriter()
    assert len(writer) == 1
    writer.add(Kind.FWD, "name")
    writer.add(Kind.TYPEDEF, "name", 1)
    assert writer.blob().count(b"name\0") == 1


# --- what CO-RE needs ----------------------------------------------------------------------------


def _kernel() -> Btf:
    """Structs of which some fit and some only look as if they did."""
    b = BtfBuilder()
    number = b.int()
    opaque = b.struct("opaque", 4, [("x", number, 0)])
    b.add(Kind.TYPEDEF, "handle", b.ptr(opaque))
    b.struct("thing", 24, [("id", number, 0), ("next", b.ptr(opaque), 64), ("tail", b.array(number, 0), 128)])
    b.struct("sparse", 12, [("empty", b.array(number, 0), 0), ("more", number, 0), ("last", number, 64)])
    b.enum("color", {"RED": 1, "GREEN": 2})
    return b.btf()


def _local() -> tuple[Btf, dict[str, int]]:
    b = BtfBuilder()
    number = b.int()
    ids = {
        "handle": b.add(Kind.TYPEDEF, "handle", b.ptr(0)),  # another shape than the kernel's
        "thing": b.struct("thing", 16, [("next", b.ptr(0), 0), ("tail", b.array(number, 0), 64)]),
        "sparse": b.struct("sparse", 4, [("empty", b.array(number, 0), 0)]),
        "color": b.enum("color", {"GREEN": 5}),
    }
    return b.btf(), ids


@pytest.mark.parametrize(
    "asked",
    [
        [("handle", "0", CoreKind.TYPE_EXISTS), ("handle", "0", CoreKind.TYPE_SIZE)],
        [("thing", "0:0", CoreKind.FIELD_BYTE_OFFSET), ("thing", "0", CoreKind.TYPE_MATCHES)],
        [("thing", "0:1:7", CoreKind.FIELD_BYTE_OFFSET), ("thing", "0", CoreKind.TYPE_SIZE)],
        [("sparse", "0:0", CoreKind.FIELD_EXISTS), ("sparse", "0:0:3", CoreKind.FIELD_EXISTS)],
        [("color", "0", CoreKind.ENUMVAL_VALUE)],
    ],
    ids=lambda asked: f"{asked[0][0]}-{asked[0][2].name.lower()}",
)
def test_the_part_answers_as_the_whole(asked: list[tuple[str, str, CoreKind]]) -> None:
    kernel = _kernel()
    local, ids = _local()
    records = [CoreRelocation(8 * n, ids[name], access, kind) for n, (name, access, kind) in enumerate(asked)]
    needs = CoreNeeds(kernel)
    needs.add(local, records)
    part = Btf.from_bytes(subset(kernel, needs.types))
    assert len(part) < len(kernel)

    def answers(btf: Btf) -> list[tuple[int, bool]]:
        resolver = CoreResolver(local, btf, [record.type_id for record in records])
        return [(fixup.target_value, fixup.poison) for fixup in map(resolver.resolve, records)]

    assert answers(part) == answers(kernel)


def test_a_broken_relocation_is_an_error() -> None:
    local, ids = _local()
    with pytest.raises(CoreRelocationError, match="no member number 9"):
        CoreNeeds(_kernel()).add(local, [CoreRelocation(0, ids["thing"], "0:9", 0)])
    with pytest.raises(CoreRelocationError, match="type id 99 is out of range"):
        CoreNeeds(_kernel()).add(local, [CoreRelocation(0, 99, "0:9", 0)])


# --- a hostile kernel ----------------------------------------------------------------------------


def _typedefs_in_a_circle(b: BtfBuilder) -> None:
    b.add(Kind.TYPEDEF, "thing", 2)
    b.add(Kind.TYPEDEF, "other", 1)


def _nameless_in_itself(b: BtfBuilder) -> None:
    b.struct("thing", 8, [("", 2, 0)])
    b.struct("", 8, [("", 1, 0)])


def _array_of_itself(b: BtfBuilder) -> None:
    b.struct("thing", 8, [("next", 2, 0)])
    b.array(2, 1)


def _member_out_of_range(b: BtfBuilder) -> None:
    b.struct("thing", 8, [("next", 4_000_000_000, 0)])


def _prototypes_that_grow(b: BtfBuilder) -> None:
    below = b.ptr(0)
    for _ in range(40):
        below = b.ptr(b.func_proto(below, [("a", below), ("b", below)]))
    b.add(Kind.TYPEDEF, "thing", below)
    b.struct("thing", 8, [("next", below, 0)])


@pytest.mark.parametrize(
    "make",
    [
        _typedefs_in_a_circle,
        _nameless_in_itself,
        _array_of_itself,
        _member_out_of_range,
        _prototypes_that_grow,
    ],
    ids=lambda make: make.__name__,
)
def test_a_hostile_kernel_takes_no_time(make: Callable[[BtfBuilder], None]) -> None:
    """It may have nothing of the type, or be wrong about it: an answer or our error, at once."""
    b = BtfBuilder()
    make(b)
    local = BtfBuilder()
    ids = [local.struct("thing", 16, [("next", local.next_id + 1, 0)])]
    local.ptr(0)
    ids.append(local.add(Kind.TYPEDEF, "thing", 2))
    asked = [CoreRelocation(0, ids[0], "0:0", kind) for kind in range(6)]
    asked += [CoreRelocation(0, type_id, "0", kind) for type_id in ids for kind in (7, 8, 9, 12)]
    started = time.process_time()
    for record in asked:
        needs = CoreNeeds(b.btf())
        with suppress(ObjectFileError):
            needs.add(local.btf(), [record])
        assert len(subset(b.btf(), needs.types)) <= len(b.blob())
    assert time.process_time() - started < 2
