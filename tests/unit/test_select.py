"""Which program of an object a command means."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpfctl.errors import AmbiguousError, BpfctlError, NotFoundError
from bpfctl.objfile.select import default_programs, loadable_programs, select_for_hook, select_program
from bpfctl.objfile.spec import FunctionSpec, ObjectSpec, ProgramSpec, TailCall
from bpfctl.uapi import AttachType, ProgramType

XDP, CLS = ProgramType.XDP, ProgramType.SCHED_CLS


def program(name: str, section: str, program_type: int | None, **more: object) -> ProgramSpec:
    return ProgramSpec(name, section, FunctionSpec(name, 3, 0, 16, True), program_type, **more)  # type: ignore[arg-type]


def spec(*programs: ProgramSpec) -> ObjectSpec:
    return ObjectSpec(
        path="x.o",
        byte_order="little",
        license="GPL",
        version=None,
        sections=(),
        maps={},
        programs={p.name: p for p in programs},
        functions=(),
        externs=(),
        btf=None,
        btf_ext=None,
        _elf=None,  # type: ignore[arg-type]
    )


MIXED = spec(
    program("drop", "xdp", XDP),
    program("on_map", "xdp/devmap", XDP, attach_type=AttachType.XDP_DEVMAP),
    program("maybe", "?xdp", XDP, autoload=False),
    program("in_", "tc", CLS),
    program("out", "tc", CLS),
    program("old", "prog", None),
    program("slot", "42/0", None, tail_call=TailCall(42, 0)),
)


@pytest.mark.parametrize(
    ("obj", "kind", "section", "name", "expected"),
    [
        # the default section wins over one whose name says the type
        (MIXED, XDP, None, None, "old"),
        (spec(program("a", "classifier", CLS), program("b", "tc", CLS)), CLS, None, None, "a"),
        # else the only program of the type, those for map entries and optional ones left out
        (spec(*[p for p in MIXED.programs.values() if p.name != "old"]), XDP, None, None, "drop"),
        # else the only one whose section says nothing, tail-call slots left out
        (
            spec(program("a", "ingress", None), program("b", "1/0", None, tail_call=TailCall(1, 0))),
            CLS,
            None,
            None,
            "a",
        ),
        # no type asked for: the only program there is
        (spec(program("a", "kprobe/x", ProgramType.KPROBE)), None, None, None, "a"),
        # a section, a name, both
        (MIXED, XDP, "xdp", None, "drop"),
        (MIXED, XDP, "?xdp", None, "maybe"),
        (MIXED, CLS, "42/0", None, "slot"),
        (MIXED, CLS, None, "out", "out"),
        (MIXED, CLS, "tc", "out", "out"),
        (MIXED, XDP, None, "on_map", "on_map"),
    ],
)
def test_select(
    obj: ObjectSpec, kind: int | None, section: str | None, name: str | None, expected: str
) -> None:
    if section == "xdp":  # the optional program answers to the bare name too
        obj = spec(*[p for p in obj.programs.values() if p.name != "maybe"])
    assert select_program(obj, kind, section=section, program=name).name == expected


THERE = "sections (programs) there are: "


@pytest.mark.parametrize(
    ("obj", "kind", "section", "name", "error"),
    [
        (
            MIXED,
            CLS,
            None,
            None,
            AmbiguousError(
                "x.o: for type sched_cls there are 2 programs: in_, out", hint="choose one with program NAME"
            ),
        ),
        (
            MIXED,
            CLS,
            "tc",
            None,
            AmbiguousError(
                'x.o: section "tc" holds 2 programs: in_, out', hint="choose one with program NAME"
            ),
        ),
        (
            spec(program("a", "xdp", XDP), program("b", "tc", CLS)),
            None,
            None,
            None,
            AmbiguousError("x.o: the object holds 2 programs: a, b", hint="choose one with program NAME"),
        ),
        (
            spec(program("a", "xdp", XDP)),
            CLS,
            None,
            None,
            NotFoundError("x.o: no program of type sched_cls", hint=f"{THERE}xdp (a)"),
        ),
        (
            spec(program("a", "tc", CLS), program("b", "tc", CLS), program("c", "xdp\n", XDP)),
            XDP,
            "gone",
            None,
            NotFoundError('x.o: no program in a section "gone"', hint=rf"{THERE}tc (a, b), xdp\n (c)"),
        ),
        (
            spec(program("a", "tc", CLS)),
            CLS,
            None,
            "gone",
            NotFoundError('x.o: no program "gone"', hint=f"{THERE}tc (a)"),
        ),
        (
            MIXED,
            CLS,
            "tc",
            "drop",
            NotFoundError('x.o: program "drop" is not in section "tc" but in xdp'),
        ),
        (
            spec(),
            XDP,
            None,
            None,
            NotFoundError("x.o: no program of type xdp: the object holds no program at all"),
        ),
    ],
)
def test_errors_list_what_there_is(
    obj: ObjectSpec, kind: int | None, section: str | None, name: str | None, error: BpfctlError
) -> None:
    with pytest.raises(type(error)) as caught:
        select_program(obj, kind, section=section, program=name)
    assert (caught.value.message, caught.value.hint) == (error.message, error.hint)


def placed(name: str, section: str, offset: int) -> ProgramSpec:
    return ProgramSpec(name, section, FunctionSpec(name, 3, offset, 16, True), CLS)


@pytest.mark.parametrize(
    ("section", "name", "expected", "remark"),
    [
        ("tc", None, "one", 'one is the first of 3 in section "tc"; program NAME takes another: two, six'),
        ("tc", "two", "two", ""),
        ("alone", None, "only", ""),
        (None, None, "a", 'a is the first of 2 in section "classifier"; program NAME takes another: b'),
    ],
)
def test_a_hook_gets_the_first_of_a_section(
    section: str | None, name: str | None, expected: str, remark: str
) -> None:
    places = [("six", "tc", 48), ("one", "tc", 0), ("two", "tc", 16), ("only", "alone", 0)]
    obj = spec(*[placed(*place) for place in (*places, ("b", "classifier", 8), ("a", "classifier", 0))])
    chosen, said = select_for_hook(obj, CLS, section=section, program=name)
    assert (chosen.name, said) == (expected, remark and f"x.o: program {remark}")


def test_a_hook_gets_no_program_by_chance() -> None:
    with pytest.raises(AmbiguousError, match="for type sched_cls there are 2 programs"):
        select_for_hook(MIXED, CLS)  # in a section that nobody named


def test_long_lists_are_cut() -> None:
    obj = spec(*[program(f"p{n}", "tc", CLS) for n in range(25)])
    with pytest.raises(AmbiguousError, match=r"p19 and 5 more$"):
        select_program(obj, CLS)


def test_default_section_of_an_object_on_disk() -> None:
    from bpfctl.objfile import read_object

    path = Path(__file__).parents[2] / "testdata" / "tc_pass.bpf.o"
    assert select_program(read_object(str(path)), CLS).section == "classifier"


LIBRARY = spec(program("helper", ".text", None))


def test_programs_of_a_whole_object() -> None:
    assert default_programs(MIXED, None) == ["drop", "on_map", "in_", "out", "old"]
    assert loadable_programs(MIXED, None) == list(MIXED.programs)
    assert default_programs(LIBRARY, None) == []
    assert default_programs(LIBRARY, XDP) == ["helper"]


def test_a_whole_object_of_programs_off_by_default() -> None:
    with pytest.raises(NotFoundError, match="no program is loaded by default"):
        default_programs(spec(program("maybe", "xdp", XDP, autoload=False)), None)
