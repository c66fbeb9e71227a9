"""What section names say: the SEC() table, its matching rules, and ``ID/KEY`` names."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.objfile.sections import _TABLE, section_kind, tail_call
from bpfctl.objfile.spec import TailCall
from bpfctl.uapi import AttachType, ProgramFlag, ProgramType


@pytest.mark.parametrize(
    ("name", "program_type", "attach_type", "optional", "flags", "target"),
    [
        ("socket", ProgramType.SOCKET_FILTER, 0, False, 0, ""),
        ("xdp", ProgramType.XDP, AttachType.XDP, True, 0, ""),
        ("xdp.frags", ProgramType.XDP, AttachType.XDP, False, ProgramFlag.XDP_HAS_FRAGS, ""),
        ("xdp.frags/cpumap", ProgramType.XDP, AttachType.XDP_CPUMAP, False, ProgramFlag.XDP_HAS_FRAGS, ""),
        ("tc", ProgramType.SCHED_CLS, 0, False, 0, ""),
        ("classifier", ProgramType.SCHED_CLS, 0, False, 0, ""),
        ("tc/ingress", ProgramType.SCHED_CLS, AttachType.TCX_INGRESS, False, 0, ""),
        ("tcx/egress", ProgramType.SCHED_CLS, AttachType.TCX_EGRESS, False, 0, ""),
        ("netkit/peer", ProgramType.SCHED_CLS, AttachType.NETKIT_PEER, False, 0, ""),
        ("action", ProgramType.SCHED_ACT, 0, False, 0, ""),
        ("lwt_seg6local", ProgramType.LWT_SEG6LOCAL, 0, False, 0, ""),
        ("lirc_mode2", ProgramType.LIRC_MODE2, AttachType.LIRC_MODE2, True, 0, ""),
        ("kprobe", ProgramType.KPROBE, 0, False, 0, ""),
        ("kprobe/do_exit+0x10", ProgramType.KPROBE, 0, False, 0, "do_exit+0x10"),
        ("uprobe.s//bin/x:main", ProgramType.KPROBE, 0, False, ProgramFlag.SLEEPABLE, "/bin/x:main"),
        ("tp/sched/sched_switch", ProgramType.TRACEPOINT, 0, False, 0, "sched/sched_switch"),
        ("fentry.s/f", ProgramType.TRACING, AttachType.TRACE_FENTRY, False, ProgramFlag.SLEEPABLE, "f"),
        ("fsession.multi/x*", ProgramType.TRACING, AttachType.TRACE_FSESSION_MULTI, False, 0, "x*"),
        ("cgroup/skb", ProgramType.CGROUP_SKB, 0, False, 0, ""),
        ("cgroup_skb/egress", ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS, True, 0, ""),
        ("cgroup/connect_unix", ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UNIX_CONNECT, False, 0, ""),
        ("syscall", ProgramType.SYSCALL, 0, False, ProgramFlag.SLEEPABLE, ""),
        ("struct_ops.s/init", ProgramType.STRUCT_OPS, 0, False, ProgramFlag.SLEEPABLE, "init"),
        ("netfilter", ProgramType.NETFILTER, AttachType.NETFILTER, False, 0, ""),
    ],
)
def test_known_names(
    name: str, program_type: int, attach_type: int, optional: bool, flags: int, target: str
) -> None:
    kind = section_kind(name)
    assert kind == (program_type, attach_type, optional, flags, target, True)
    assert section_kind("?" + name) == kind._replace(autoload=False)


@pytest.mark.parametrize(
    "name",
    [
        "prog",
        "xdp/foo",
        "xdpfoo",
        "tc/foo",
        "socket/2",
        "cgroup/skb/x",
        "kprobes/x",
        "42/0",
        "",
        "??xdp",
        "fentryx",
        "kprobe+",
    ],
)
def test_names_that_say_nothing(name: str) -> None:
    kind = section_kind(name)
    assert (kind.program_type, kind.attach_type, kind.flags, kind.target) == (None, 0, 0, "")


def test_first_match_in_table_order_is_the_only_match() -> None:
    """libbpf walks its table; a dictionary is the same as long as no two rows fit one name."""
    names = [row[0] for row in _TABLE]
    assert len(set(names)) == len(names) == 116
    for name in names:
        bare = name.removesuffix("+")
        fitting = [
            n for n in names if n == bare or (n.endswith("+") and (bare + "/").startswith(n[:-1] + "/"))
        ]
        assert fitting == [name]


@pytest.mark.skipif(not shutil.which("bpftool"), reason="bpftool is the judge")
def test_section_names_that_bpftool_takes_as_types_are_known() -> None:
    usage = subprocess.run(["bpftool", "prog", "help"], capture_output=True, text=True, check=True).stderr
    words = usage.partition("TYPE := {")[2].partition("}")[0].split("|")
    assert "lwt_seg6local" in [word.strip() for word in words]
    assert [word for word in words if section_kind(word.strip()).program_type is None] == []


# --- ID/KEY -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("42/0", TailCall(42, 0)),
        ("0x2a/0x1", TailCall(42, 1)),
        ("0X2A/3", TailCall(42, 3)),
        ("052/02", TailCall(42, 2)),
        ("0xabccba/0", TailCall(0xABCCBA, 0)),
        ("0/0", TailCall(0, 0)),
        ("1/08", TailCall(1, 0)),  # an octal number ends before the 8
        ("42/7 and what follows", TailCall(42, 7)),
        (" 42/ 7", TailCall(42, 7)),
        ("+1/-1", TailCall(1, 0xFFFFFFFF)),
        ("4294967297/1", TailCall(1, 1)),
    ],
)
def test_tail_call_names(name: str, expected: TailCall) -> None:
    assert tail_call(name) == expected


@pytest.mark.parametrize(
    "name", ["", "42", "42/", "/1", "x/1", "42/x", "08/1", "42 /1", "--1/2", "0x/1", "4 2/1"]
)
def test_names_that_are_no_tail_call(name: str) -> None:
    assert tail_call(name) is None


@given(
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0{:o}"]),
)
def test_every_base_says_the_same(map_id: int, key: int, form: str) -> None:
    assert tail_call(f"{form.format(map_id)}/{form.format(key)}") == TailCall(map_id, key)


@given(st.text(max_size=30))
def test_any_name_is_answered(name: str) -> None:
    section_kind(name)
    tail_call(name)


def test_endless_digits_are_answered() -> None:
    """Python refuses to convert thousands of digits; a hostile name must not reach that limit."""
    assert tail_call("9" * 6000 + "/1") == TailCall(pow(10, 6000, 1 << 32) - 1 & 0xFFFFFFFF, 1)
