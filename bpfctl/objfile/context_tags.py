"""Arguments tagged as a program's context (``arg:ctx``), for kernels before 6.8, which do not know the tag.

What they know is a pointer to the struct that a program type's context is called after.  So a tagged
function is described once more for each program that calls it, with such a pointer, and the program's
func_info says that it calls the copy; the code is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct

from bpfctl.btf.extend import Extension
from bpfctl.btf.kinds import Kind, Linkage
from bpfctl.btf.types import Btf
from bpfctl.objfile.spec import LinkedProgram
from bpfctl.record import replace
from bpfctl.uapi import ProgramType as P

TAG = "arg:ctx"

_SK_BUFF = (
    *(P.CGROUP_SKB, P.FLOW_DISSECTOR, P.LWT_IN, P.LWT_OUT, P.LWT_SEG6LOCAL, P.LWT_XMIT),
    *(P.SCHED_ACT, P.SCHED_CLS, P.SK_SKB, P.SOCKET_FILTER),
)
_CONTEXTS: dict[int, str] = {
    **dict.fromkeys(_SK_BUFF, "__sk_buff"),
    P.CGROUP_DEVICE: "bpf_cgroup_dev_ctx",
    P.CGROUP_SOCK: "bpf_sock",
    P.CGROUP_SOCK_ADDR: "bpf_sock_addr",
    P.CGROUP_SOCKOPT: "bpf_sockopt",
    P.CGROUP_SYSCTL: "bpf_sysctl",
    P.KPROBE: "bpf_user_pt_regs_t",
    P.NETFILTER: "bpf_nf_ctx",
    P.PERF_EVENT: "bpf_perf_event_data",
    P.RAW_TRACEPOINT: "bpf_raw_tracepoint_args",
    P.RAW_TRACEPOINT_WRITABLE: "bpf_raw_tracepoint_args",
    P.SK_LOOKUP: "bpf_sk_lookup",
    P.SK_MSG: "sk_msg_md",
    P.SK_REUSEPORT: "sk_reuseport_md",
    P.SOCK_OPS: "bpf_sock_ops",
    P.XDP: "xdp_md",
}
_REGISTERS = {
    P.KPROBE: frozenset({"pt_regs"}),
    P.PERF_EVENT: frozenset({"pt_regs", "user_pt_regs", "user_regs_struct"}),  # by machine
}
_QUALIFIERS = (Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG)
_RECORD = Struct("=2I")  # struct bpf_func_info, as far as all kernels know it: instruction, FUNC


def with_contexts(
    btf: Btf, programs: Mapping[str, tuple[LinkedProgram, int]]
) -> tuple[bytes, dict[str, LinkedProgram]]:
    """BTF and programs for a kernel that does not know the tag.

    ``programs``: linked, with the type that each is loaded as.  Raises BtfError for types that lead nowhere.
    """
    more = Extension(btf)
    tags = list(_tagged_arguments(btf))
    fitted = {}
    for name, (linked, program_type) in programs.items():
        context = _CONTEXTS.get(program_type)
        wanted = _wanted(btf, tags, program_type, context) if context and linked.func_info else {}
        fitted[name] = _refer_to_copies(btf, more, linked, wanted, context or "")
    return more.blob(), fitted


def _tagged_arguments(btf: Btf) -> Iterator[tuple[int, int]]:
    """(FUNC, number of the argument) of each tag on a global function."""
    for tag_id in btf.ids(Kind.DECL_TAG):
        tag = btf.type(tag_id)
        if tag.name != TAG or btf.kind(tag.size_or_type) is not Kind.FUNC:
            continue
        prototype = btf.type(tag.size_or_type).size_or_type
        number = btf.component(tag_id)
        if btf.linkage(tag.size_or_type) is Linkage.GLOBAL and 0 <= number < len(btf.params(prototype)):
            yield tag.size_or_type, number


def _wanted(btf: Btf, tags: list[tuple[int, int]], program_type: int, context: str) -> dict[int, list[int]]:
    """The arguments of each function that have to be described otherwise."""
    wanted: dict[int, list[int]] = {}
    for function_id, number in tags:
        parameter = btf.params(btf.type(function_id).size_or_type)[number]
        if _is_other(btf, parameter.type_id, program_type, context):
            wanted.setdefault(function_id, []).append(number)
    return wanted


def _is_other(btf: Btf, type_id: int, program_type: int, context: str) -> bool:
    """Whether it is a pointer that stands for the context but is not called so."""
    pointer = btf.type(btf.skip_modifiers(type_id))
    if pointer.kind is not Kind.PTR:
        return False
    target = btf.type(pointer.size_or_type)
    for _ in _QUALIFIERS:
        if target.kind in _QUALIFIERS:
            target = btf.type(target.size_or_type)
    if target.kind is Kind.TYPEDEF and program_type in _REGISTERS and target.name == "bpf_user_pt_regs_t":
        return False
    target = btf.type(btf.skip_modifiers(target.id))
    if target.kind is Kind.STRUCT:
        return target.name != context and target.name in _REGISTERS.get(P(program_type), ())
    if program_type in (P.RAW_TRACEPOINT, P.RAW_TRACEPOINT_WRITABLE) and target.kind is Kind.INT:
        return target.size_or_type == 8
    return target.kind is Kind.VOID


def _refer_to_copies(
    btf: Btf, more: Extension, linked: LinkedProgram, wanted: Mapping[int, list[int]], context: str
) -> LinkedProgram:
    records = bytearray(linked.func_info)
    pointer = 0
    for at in range(0, len(records), linked.func_info_size or 1):
        start, function_id = _RECORD.unpack_from(records, at)
        if function_id in wanted:
            if not pointer:
                struct_id = more.add(more.string(context), Kind.STRUCT, 0)
                pointer = more.add(0, Kind.PTR, struct_id)
            copy = _copy(btf, more, function_id, wanted[function_id], pointer)
            _RECORD.pack_into(records, at, start, copy)
    return replace(linked, func_info=bytes(records)) if pointer else linked


def _copy(btf: Btf, more: Extension, function_id: int, numbers: list[int], pointer: int) -> int:
    """FUNC, prototype and tags once more, arguments ``numbers`` with type ``pointer``."""
    function = btf.type(function_id)
    words = _words(btf, function.size_or_type, 2)
    for number in numbers:
        words[4 + 2 * number] = pointer
    prototype = more.add(0, Kind.FUNC_PROTO, words[2], *words[3:], vlen=(len(words) - 3) // 2)
    name = _words(btf, function_id, 0)[0]
    copy = more.add(name, Kind.FUNC, prototype, vlen=Linkage.GLOBAL)
    tag = more.string(TAG)
    for number in numbers:
        more.add(tag, Kind.DECL_TAG, copy, number)
    return copy


def _words(btf: Btf, type_id: int, width: int) -> list[int]:
    """The record of an own type as it stands there, elements of ``width`` words each included."""
    count = 3 + width * btf.type(type_id).vlen
    prefix = "<" if btf.byte_order == "little" else ">"
    return list(Struct(f"{prefix}{count}I").unpack_from(btf.data, btf.offset_of(type_id)))
