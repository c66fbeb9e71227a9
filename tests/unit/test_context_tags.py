"""``arg:ctx`` for kernels that do not know it: which functions are described anew, and how."""

from __future__ import annotations

import struct

import pytest
from btf_builder import BtfBuilder

from bpfctl.btf.kinds import Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.objfile import LinkedProgram
from bpfctl.objfile.context_tags import with_contexts
from bpfctl.uapi import ProgramType


def program(*functions: int, size: int = 8) -> LinkedProgram:
    """One whose func_info names ``functions``, 4 instructions each."""
    records = (struct.pack("=2I", 4 * n, function).ljust(size, b"\7") for n, function in enumerate(functions))
    return LinkedProgram("main", b"", {}, (), func_info=b"".join(records), func_info_size=size)


def named(btf: Btf, linked: LinkedProgram) -> list[int]:
    size = linked.func_info_size
    return [
        struct.unpack_from("=I", linked.func_info, at + 4)[0] for at in range(0, len(linked.func_info), size)
    ]


def target(b: BtfBuilder, name: str) -> int:
    """A type that an argument may point to."""
    if name == "void":
        return 0
    if name == "const void":
        return b.add(Kind.CONST)
    if name == "bpf_user_pt_regs_t":
        return b.add(Kind.TYPEDEF, name, b.struct("user_pt_regs", 8))
    if name == "u64":
        return b.int("u64", 8, signed=False)
    return b.struct(name, 8)


@pytest.mark.parametrize(
    ("program_type", "argument", "context"),
    [
        (ProgramType.SCHED_CLS, "void", "__sk_buff"),
        (ProgramType.XDP, "const void", "xdp_md"),
        (ProgramType.SCHED_CLS, "__sk_buff", None),
        (ProgramType.SCHED_CLS, "xdp_md", None),
        (ProgramType.SCHED_CLS, "u64", None),
        (ProgramType.KPROBE, "pt_regs", "bpf_user_pt_regs_t"),
        (ProgramType.KPROBE, "bpf_user_pt_regs_t", None),
        (ProgramType.KPROBE, "user_pt_regs", None),
        (ProgramType.PERF_EVENT, "user_pt_regs", "bpf_perf_event_data"),
        (ProgramType.PERF_EVENT, "bpf_user_pt_regs_t", None),
        (ProgramType.RAW_TRACEPOINT, "u64", "bpf_raw_tracepoint_args"),
        (ProgramType.TRACING, "void", None),
    ],
)
def test_which_arguments(program_type: ProgramType, argument: str, context: str | None) -> None:
    b = BtfBuilder()
    number = b.int()
    main = b.func("main", b.func_proto(number))
    tagged = b.func("tagged", b.func_proto(number, [("n", number), ("ctx", b.ptr(target(b, argument)))]))
    b.add(Kind.DECL_TAG, "arg:ctx", tagged, words=[1])
    old = b.btf()
    data, fitted = with_contexts(old, {"main": (program(main, tagged), program_type)})
    btf = Btf.from_bytes(data)
    first, second = named(btf, fitted["main"])
    assert first == main
    if context is None:
        assert (second, data) == (tagged, b.blob())
        return
    assert second >= len(old)
    assert (btf.name(second), btf.linkage(second)) == ("tagged", Linkage.GLOBAL)
    number_, ctx = btf.params(btf.type(second).size_or_type)
    assert (number_.name, number_.type_id, ctx.name) == ("n", number, "ctx")
    pointer = btf.type(ctx.type_id)
    assert (pointer.kind, btf.type(pointer.size_or_type).kind) == (Kind.PTR, Kind.STRUCT)
    assert btf.name(pointer.size_or_type) == context
    *_, tag = btf.ids(Kind.DECL_TAG)
    assert (btf.name(tag), btf.type(tag).size_or_type, btf.component(tag)) == ("arg:ctx", second, 1)


def test_each_program_gets_its_own_copy_of_what_it_calls() -> None:
    b = BtfBuilder()
    proto = b.func_proto(0, [("ctx", b.ptr(0))])
    main, tagged, other = (b.func(name, proto) for name in ("main", "tagged", "other"))
    static = b.func("static", proto, Linkage.STATIC)
    for function in (tagged, static):
        b.add(Kind.DECL_TAG, "arg:ctx", function, words=[0])
    for bad in (-1, 1):
        b.add(Kind.DECL_TAG, "arg:ctx", other, words=[bad])
    b.add(Kind.DECL_TAG, "arg:nonnull", other, words=[0])
    b.add(Kind.DECL_TAG, "arg:ctx", proto, words=[0])
    programs = {
        "tc": (program(main, tagged, static, size=12), ProgramType.SCHED_CLS),
        "xdp": (program(main, other, tagged), ProgramType.XDP),
        "none": (program(main, other), ProgramType.XDP),
    }
    data, fitted = with_contexts(b.btf(), programs)
    btf = Btf.from_bytes(data)
    tc, xdp = named(btf, fitted["tc"])[1], named(btf, fitted["xdp"])[2]
    assert named(btf, fitted["tc"]) == [main, tc, static]
    assert named(btf, fitted["xdp"]) == [main, other, xdp]
    assert fitted["none"] is programs["none"][0]
    assert [btf.name(f) for f in (tc, xdp)] == ["tagged", "tagged"]
    assert tc != xdp
    assert fitted["tc"].func_info[8:12] == b"\7" * 4, "what we do not know of a record stays"


def test_programs_without_records_stay() -> None:
    b = BtfBuilder()
    bare = LinkedProgram("main", b"", {}, ())
    assert with_contexts(b.btf(), {"main": (bare, ProgramType.XDP)}) == (b.blob(), {"main": bare})
