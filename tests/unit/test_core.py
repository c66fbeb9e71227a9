"""CO-RE answers: which type and field of the kernel is meant, and what value follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from btf_builder import BtfBuilder
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.btf.core import CoreFixup, CoreResolver
from bpfctl.btf.core_spec import CoreKind
from bpfctl.btf.ext import CoreRelocation
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import CoreRelocationError

Make = Callable[[BtfBuilder], int]

EVERY_KIND = list(CoreKind)


def _resolve(
    local: Make,
    target: Make,
    kind: CoreKind,
    access: str = "0",
    *,
    byte_order: str = "little",
) -> CoreFixup:
    """The answer for a relocation of the type that ``local`` makes, with ``target`` as the kernel."""
    lb, tb = BtfBuilder(byte_order), BtfBuilder(byte_order)
    root = local(lb)
    target(tb)
    resolver = CoreResolver(lb.btf("test.o"), tb.btf("vmlinux"), [root])
    return resolver.resolve(CoreRelocation(0, root, access, kind))


def _values(fixup: CoreFixup) -> tuple[int, int]:
    return fixup.local_value, fixup.target_value


def _point(b: BtfBuilder) -> int:
    number = b.int()
    return b.struct("point", 8, [("x", number, 0), ("y", number, 32)])


def _wide_point(b: BtfBuilder) -> int:
    number, long = b.int(), b.int("long", 8)
    return b.struct("point", 24, [("pad", long, 0), ("y", long, 64), ("x", number, 128)])


def _nothing(b: BtfBuilder) -> int:
    return b.int("unrelated")


# --- fields --------------------------------------------------------------------------------------


def test_offset_and_size_follow_the_name_of_the_field() -> None:
    offset = _resolve(_point, _wide_point, CoreKind.FIELD_BYTE_OFFSET, "0:1")
    assert _values(offset) == (4, 8)
    assert (offset.local_size, offset.target_size) == (4, 8)
    assert _values(_resolve(_point, _wide_point, CoreKind.FIELD_BYTE_SIZE, "0:1")) == (4, 8)
    assert _values(_resolve(_point, _wide_point, CoreKind.FIELD_BYTE_OFFSET, "0:0")) == (0, 16)


def test_the_first_index_steps_over_whole_targets() -> None:
    assert _values(_resolve(_point, _wide_point, CoreKind.FIELD_BYTE_OFFSET, "2:1")) == (20, 56)
    assert _values(_resolve(_point, _wide_point, CoreKind.FIELD_BYTE_OFFSET, "2")) == (16, 48)


def _nested(b: BtfBuilder) -> int:
    number = b.int()
    inner = b.struct("", 8, [("z", number, 0), ("a", b.array(number, 7), 32)])
    return b.struct("sample", 40, [("x", number, 0), ("", inner, 32)])


def _flat(b: BtfBuilder) -> int:
    long = b.int("long", 8)
    return b.struct("sample", 80, [("a", b.array(long, 9), 0), ("x", long, 576)])


def test_members_without_a_name_do_not_count() -> None:
    assert _values(_resolve(_nested, _flat, CoreKind.FIELD_BYTE_OFFSET, "0:1:1:3")) == (4 + 4 + 12, 24)
    assert _values(_resolve(_flat, _nested, CoreKind.FIELD_BYTE_OFFSET, "0:0:3")) == (24, 4 + 4 + 12)


def test_the_path_as_text() -> None:
    fixup = _resolve(_nested, _flat, CoreKind.FIELD_BYTE_OFFSET, "0:1:1:3")
    assert str(fixup.spec) == "<byte_off> [4] struct sample.a[3] (0:1:1:3 @ offset 20)"
    assert str(fixup.target) == "<byte_off> [3] struct sample.a[3] (0:0:3 @ offset 24)"


@pytest.mark.parametrize(("length", "found"), [(0, True), (3, False), (4, True)])
def test_elements_past_the_end_exist_only_in_flexible_arrays(length: int, found: bool) -> None:
    def local(b: BtfBuilder) -> int:
        return b.struct("s", 64, [("a", b.array(b.int(), 16), 0)])

    def target(b: BtfBuilder) -> int:
        return b.struct("s", 0, [("a", b.array(b.int(), length), 0)])

    assert _resolve(local, target, CoreKind.FIELD_EXISTS, "0:0:3").target_value == found


def test_a_length_of_0_is_flexible_only_at_the_end() -> None:
    def target(b: BtfBuilder) -> int:
        number = b.int()
        return b.struct("s", 4, [("a", b.array(number, 0), 0), ("b", number, 0)])

    def local(b: BtfBuilder) -> int:
        return b.struct("s", 64, [("a", b.array(b.int(), 16), 0)])

    assert _resolve(local, target, CoreKind.FIELD_EXISTS, "0:0:1").target_value == 0


def test_a_field_of_another_kind_is_not_there() -> None:
    def target(b: BtfBuilder) -> int:
        return b.struct("point", 8, [("y", b.ptr(0), 0)])

    assert _resolve(_point, target, CoreKind.FIELD_EXISTS, "0:1").target_value == 0
    assert _resolve(_point, target, CoreKind.FIELD_BYTE_OFFSET, "0:1").poison


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_type_that_the_kernel_has_not(kind: CoreKind) -> None:
    local = _colours if kind.is_enumerator else _point
    access = "0:1" if kind.is_field else "0"
    fixup = _resolve(local, _nothing, kind, access)
    answers_no = {
        CoreKind.FIELD_EXISTS,
        CoreKind.TYPE_EXISTS,
        CoreKind.TYPE_MATCHES,
        CoreKind.TYPE_SIZE,
        CoreKind.TYPE_ID_TARGET,
        CoreKind.ENUMVAL_EXISTS,
    }
    if kind is CoreKind.TYPE_ID_LOCAL:
        assert (fixup.poison, fixup.target_value) == (False, fixup.spec.root_id)
    else:
        assert fixup.poison == (kind not in answers_no)
        assert (fixup.target, fixup.target_value) == (None, 0)


def test_signs() -> None:
    def local(b: BtfBuilder) -> int:
        members = [("i", b.int(), 0), ("u", b.int("u", 4, signed=False), 0)]
        members += [("e", b.enum("e", {"A": 1}), 0), ("p", b.ptr(0), 0)]
        return b.struct("s", 8, members)

    def target(b: BtfBuilder) -> int:
        members = [("u", b.int(), 0), ("i", b.int("u", 4, signed=False), 0)]
        members += [("e", b.enum("e", {"A": -1}, signed=True), 0), ("p", b.ptr(0), 0)]
        return b.struct("s", 8, members)

    signs = [_values(_resolve(local, target, CoreKind.FIELD_SIGNED, f"0:{n}")) for n in range(4)]
    assert signs == [(1, 0), (0, 1), (0, 1), (0, 0)]


# --- bitfields -----------------------------------------------------------------------------------


def _bits(*fields: tuple[str, int, int], declared: int = 4) -> Make:
    def make(b: BtfBuilder) -> int:
        number = b.int("declared", declared, signed=False)
        return b.bitfields("s", 16, [(name, number, at, bits) for name, at, bits in fields])

    return make


@pytest.mark.parametrize(
    ("byte_order", "offset", "size", "left", "right"),
    [("little", 4, 4, 64 - 8 - 5, 64 - 5), ("big", 4, 4, 32 + 8, 64 - 5)],
)
def test_a_bitfield_is_loaded_and_shifted(
    byte_order: str, offset: int, size: int, left: int, right: int
) -> None:
    local, target = _bits(("f", 0, 3)), _bits(("f", 40, 5))
    fixups = [
        _resolve(local, target, kind, "0:0", byte_order=byte_order)
        for kind in (
            CoreKind.FIELD_BYTE_OFFSET,
            CoreKind.FIELD_BYTE_SIZE,
            CoreKind.FIELD_LSHIFT_U64,
            CoreKind.FIELD_RSHIFT_U64,
        )
    ]
    assert [fixup.target_value for fixup in fixups] == [offset, size, left, right]
    # Compilers load bitfields as they like; only the last shift says how many bits there are.
    assert [fixup.check for fixup in fixups] == [False, False, False, True]


def test_a_bitfield_across_its_declared_type_takes_a_larger_load() -> None:
    target = _bits(("f", 30, 8))
    assert _resolve(_bits(("f", 0, 3)), target, CoreKind.FIELD_BYTE_SIZE, "0:0").target_value == 8
    assert _resolve(_bits(("f", 0, 3)), target, CoreKind.FIELD_BYTE_OFFSET, "0:0").target_value == 0


def test_a_bitfield_that_no_load_covers() -> None:
    with pytest.raises(CoreRelocationError, match="no load of up to 64 bits covers") as caught:
        _resolve(_bits(("f", 0, 3)), _bits(("f", 60, 8)), CoreKind.FIELD_BYTE_OFFSET, "0:0")
    assert caught.value.path == "test.o"
    assert "<byte_off> [2] struct s.f" in str(caught.value)


def test_a_plain_field_that_became_a_bitfield() -> None:
    def local(b: BtfBuilder) -> int:
        return b.struct("s", 4, [("f", b.int("u", 4, signed=False), 0)])

    left = _resolve(local, _bits(("f", 40, 5)), CoreKind.FIELD_LSHIFT_U64, "0:0")
    assert _values(left) == (32, 51)
    assert left.check


# --- loads that change their size ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "target", "resizable"),
    [
        (lambda b: b.int("u", 4, signed=False), lambda b: b.int("u", 8, signed=False), True),
        (lambda b: b.int("i", 4), lambda b: b.int("u", 8, signed=False), False),
        (lambda b: b.int("u", 4, signed=False), lambda b: b.int("i", 8), False),
        (lambda b: b.int("i", 4), lambda b: b.int("i", 4), True),
        (lambda b: b.struct("a", 4), lambda b: b.struct("a", 8), False),
        (lambda b: b.array(b.int(), 4), lambda b: b.array(b.int(), 8), True),
        (
            lambda b: b.array(b.int("u", 4, signed=False), 4),
            lambda b: b.array(b.int("u", 8), 4),
            False,
        ),
    ],
)
def test_which_loads_may_change_their_size(local: Make, target: Make, resizable: bool) -> None:
    def struct(make: Make) -> Make:
        return lambda b: b.struct("s", 64, [("f", make(b), 0)])

    fixup = _resolve(struct(local), struct(target), CoreKind.FIELD_BYTE_OFFSET, "0:0")
    assert fixup.resizable is resizable


# --- types ---------------------------------------------------------------------------------------


def test_whole_types() -> None:
    assert _values(_resolve(_point, _wide_point, CoreKind.TYPE_EXISTS)) == (1, 1)
    assert _values(_resolve(_point, _wide_point, CoreKind.TYPE_SIZE)) == (8, 24)
    assert _values(_resolve(_point, _wide_point, CoreKind.TYPE_MATCHES)) == (1, 0)
    assert _values(_resolve(_point, _point, CoreKind.TYPE_MATCHES)) == (1, 1)
    ids = _resolve(_point, _wide_point, CoreKind.TYPE_ID_TARGET)
    assert (_values(ids), ids.check) == ((2, 3), False)


def test_types_of_another_kind_are_no_candidates() -> None:
    assert _resolve(_point, lambda b: b.union("point", 8), CoreKind.TYPE_EXISTS).target_value == 0
    typedef = _resolve(
        lambda b: b.add(Kind.TYPEDEF, "point_t", _point(b)),
        lambda b: b.add(Kind.TYPEDEF, "point_t", _wide_point(b)),
        CoreKind.FIELD_BYTE_OFFSET,
        "0:1",
    )
    assert _values(typedef) == (4, 8)


# --- enumerators ---------------------------------------------------------------------------------


def _colours(b: BtfBuilder) -> int:
    return b.enum("colour", {"RED": 1, "GREEN": 2})


def test_enumerators_go_by_name() -> None:
    def target(b: BtfBuilder) -> int:
        return b.enum("colour", {"BLUE": 1, "GREEN": 9})

    assert _values(_resolve(_colours, target, CoreKind.ENUMVAL_VALUE, "1")) == (2, 9)
    assert _values(_resolve(_colours, target, CoreKind.ENUMVAL_EXISTS, "1")) == (1, 1)
    assert _values(_resolve(_colours, target, CoreKind.ENUMVAL_EXISTS, "0")) == (1, 0)
    assert _resolve(_colours, target, CoreKind.ENUMVAL_VALUE, "0").poison


def test_enumerators_have_flavours_and_64_bits() -> None:
    def local(b: BtfBuilder) -> int:
        return b.enum("colour___mine", {"RED___mine": 1})

    def target(b: BtfBuilder) -> int:
        return b.enum64("colour", {"RED": 1 << 40})

    fixup = _resolve(local, target, CoreKind.ENUMVAL_VALUE, "0")
    assert fixup.target_value == 1 << 40
    assert str(fixup.spec) == "<enumval_value> [1] enum colour___mine::RED___mine = 1"


@pytest.mark.parametrize("signed", [False, True])
def test_32_bits_of_an_enumerator_are_sign_extended(signed: bool) -> None:
    def target(b: BtfBuilder) -> int:
        return b.enum("colour", {"RED": 0xFFFFFFFE}, signed=signed)

    assert _resolve(_colours, target, CoreKind.ENUMVAL_VALUE, "0").target_value == (1 << 64) - 2


# --- candidates ----------------------------------------------------------------------------------


def _flavoured(*flavours: tuple[str, int]) -> Make:
    """Several types ``point...``, each with ``y`` at an offset in bits."""

    def make(b: BtfBuilder) -> int:
        number = b.int()
        for name, offset in flavours:
            b.struct(name, 64, [("y", number, offset)])
        return 0

    return make


def test_flavours_on_both_sides() -> None:
    def local(b: BtfBuilder) -> int:
        return b.struct("point___mine", 4, [("y", b.int(), 0)])

    fixup = _resolve(local, _flavoured(("point___2", 64)), CoreKind.FIELD_BYTE_OFFSET, "0:0")
    assert _values(fixup) == (0, 8)


def test_candidates_that_agree() -> None:
    target = _flavoured(("point", 64), ("point___2", 64), ("pointer", 128))
    assert _resolve(_point, target, CoreKind.FIELD_BYTE_OFFSET, "0:1").target_value == 8


def test_candidates_at_different_offsets() -> None:
    target = _flavoured(("point", 64), ("point___2", 96))
    with pytest.raises(CoreRelocationError, match=r"ambiguous, at offset 64 or 96 \(bits\)"):
        _resolve(_point, target, CoreKind.FIELD_BYTE_OFFSET, "0:1")


def test_candidates_with_different_values() -> None:
    def target(b: BtfBuilder) -> int:
        b.struct("point", 8, [("y", b.int(), 0)])
        return b.struct("point", 8, [("y", b.int("long", 8), 0)])

    with pytest.raises(CoreRelocationError, match="ambiguous, 4 or 8"):
        _resolve(_point, target, CoreKind.FIELD_BYTE_SIZE, "0:1")


def test_later_relocations_look_only_at_what_fitted_before() -> None:
    """The first question, about ``y``, fits one candidate; the second would find ``x`` in both."""
    lb, tb = BtfBuilder(), BtfBuilder()
    root = _point(lb)
    number = tb.int()
    tb.struct("point", 64, [("x", number, 0)])
    tb.struct("point", 64, [("x", number, 64), ("y", number, 32)])
    relocations = [CoreRelocation(0, root, access, CoreKind.FIELD_BYTE_OFFSET) for access in ("0:1", "0:0")]
    resolver = CoreResolver(lb.btf(), tb.btf(), [root])
    assert [resolver.resolve(r).target_value for r in relocations] == [4, 8]
    fresh = CoreResolver(lb.btf(), tb.btf(), [root])
    with pytest.raises(CoreRelocationError, match="ambiguous"):
        fresh.resolve(relocations[1])


def test_modules_are_asked_when_vmlinux_has_no_candidate() -> None:
    lb, vb = BtfBuilder(), BtfBuilder()
    in_vmlinux, in_module = _point(lb), lb.struct("special", 4, [("f", lb.int(), 0)])
    _wide_point(vb)
    vmlinux = vb.btf("vmlinux")
    calls: list[str] = []

    def modules() -> list[Btf]:
        calls.append("modules")
        b = BtfBuilder(base=vmlinux)
        number = b.int("module_int")
        b.struct("special", 8, [("f", number, 32)])
        b.struct("point", 8, [("y", number, 160)])
        return [Btf.from_bytes(b.blob(), path="module", base=vmlinux)]

    resolver = CoreResolver(lb.btf(), vmlinux, [in_vmlinux, in_module], modules)
    first = resolver.resolve(CoreRelocation(0, in_vmlinux, "0:1", CoreKind.FIELD_BYTE_OFFSET))
    assert (first.target_value, calls) == (8, [])
    second = resolver.resolve(CoreRelocation(0, in_module, "0:0", CoreKind.FIELD_BYTE_OFFSET))
    assert (second.target_value, calls) == (4, ["modules"])
    target_id = resolver.resolve(CoreRelocation(0, in_module, "0", CoreKind.TYPE_ID_TARGET))
    assert target_id.target_value == len(vmlinux) + 1
    assert calls == ["modules"]


# --- malformed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "access", "message"),
    [
        (99, "0", "unknown kind 99"),
        (CoreKind.FIELD_BYTE_OFFSET, "", "not made of numbers"),
        (CoreKind.FIELD_BYTE_OFFSET, "0:", "not made of numbers"),
        (CoreKind.FIELD_BYTE_OFFSET, ":0", "not made of numbers"),
        (CoreKind.FIELD_BYTE_OFFSET, "0:-1", "not made of numbers"),
        (CoreKind.FIELD_BYTE_OFFSET, "0:٣", "not made of numbers"),
        (CoreKind.FIELD_BYTE_OFFSET, "9" * 5000, "not made of numbers"),
        (CoreKind.FIELD_BYTE_OFFSET, ":".join("0" * 65), "65 steps, more than 64"),
        (CoreKind.FIELD_BYTE_OFFSET, "0:2", "no member number 2"),
        (CoreKind.FIELD_BYTE_OFFSET, "0:1:0", r"type 1 \(int\) has no parts"),
        (CoreKind.TYPE_SIZE, "1", "a whole type has no path"),
        (CoreKind.ENUMVAL_VALUE, "0", "no such enumerator"),
    ],
)
def test_malformed(kind: int, access: str, message: str) -> None:
    b = BtfBuilder()
    root = _point(b)
    resolver = CoreResolver(b.btf("test.o"), BtfBuilder().btf(), [root])
    with pytest.raises(CoreRelocationError, match=message) as caught:
        resolver.resolve(CoreRelocation(0, root, access, kind))
    assert (caught.value.path, caught.value.section) == ("test.o", ".BTF.ext")


@pytest.mark.parametrize("access", ["2", "0:0"])
def test_no_such_enumerator(access: str) -> None:
    with pytest.raises(CoreRelocationError, match="no such enumerator"):
        _resolve(_colours, _colours, CoreKind.ENUMVAL_VALUE, access)


def test_element_past_the_end_in_the_object() -> None:
    with pytest.raises(CoreRelocationError, match="element 7 is past the end"):
        _resolve(_nested, _flat, CoreKind.FIELD_BYTE_OFFSET, "0:1:1:7")


@pytest.mark.parametrize("kind", [CoreKind.FIELD_SIGNED, CoreKind.FIELD_LSHIFT_U64])
def test_what_an_element_cannot_be_asked(kind: CoreKind) -> None:
    with pytest.raises(CoreRelocationError, match="an array element has no sign"):
        _resolve(_nested, _flat, kind, "0:1:1:3")


def test_a_type_without_a_name() -> None:
    with pytest.raises(CoreRelocationError, match="a type without a name"):
        _resolve(lambda b: b.struct("", 4), _nothing, CoreKind.TYPE_EXISTS)


def test_a_kernel_type_that_nests_too_deep() -> None:
    def target(b: BtfBuilder) -> int:
        type_id = b.int()
        for level in range(70):
            name = "point" if level == 69 else ""
            type_id = b.struct(name, 4, [("" if level else "y", type_id, 0)])
        return type_id

    with pytest.raises(CoreRelocationError, match="nests deeper than 64"):
        _resolve(_point, target, CoreKind.FIELD_BYTE_OFFSET, "0:1")


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=6),
    st.sampled_from(EVERY_KIND),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_any_path_into_any_type_is_answered_or_refused(
    path: list[int], kind: CoreKind, root: int, other: int
) -> None:
    lb, tb = BtfBuilder(), BtfBuilder()
    for b, wide in ((lb, False), (tb, True)):
        (_wide_point if wide else _point)(b)
        _nested(b)
        _bits(("f", 3 + other, 7), ("g", 20, 12))(b)
        _colours(b)
    btf = lb.btf()
    relocation = CoreRelocation(0, root, ":".join(map(str, path)), kind)
    resolver = CoreResolver(btf, tb.btf(), [root] if root < len(btf) else [])
    try:
        fixup = resolver.resolve(relocation)
    except CoreRelocationError:
        return
    assert fixup.spec.root_id == root
    assert 0 <= fixup.target_value < 1 << 64
