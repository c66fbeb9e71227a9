"""``feature probe`` on the kernel that runs, judged by its release and by bpftool."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from fixture_types import Cli, Requires
from test_probe import release, version

from bpfctl.helpers import HELPER_COUNT, helper_name
from bpfctl.inventory.features import probe_features
from bpfctl.kernel import probe_types
from bpfctl.since import helper_since
from bpfctl.uapi import ProgramType

# What a configuration leaves out of some kernels, or a guard forbids.
_OPTIONAL = {
    "lirc_mode2", "tracing", "ext", "lsm", "netfilter", "sched_act", "lwt_seg6local", "xskmap", "struct_ops",
}  # fmt: skip


@pytest.mark.kernels
@pytest.mark.parametrize("group", ["prog_types", "map_types", "attach_types"])
def test_types_agree_with_the_release(group: str) -> None:
    wrong = []
    for each in getattr(probe_features((group,)), group):
        is_older = release() < version(each.since)
        if each.available if is_older else each.available is not True and each.name not in _OPTIONAL:
            wrong.append(each)
    assert wrong == []


@pytest.mark.kernels
def test_helpers_agree_with_the_release() -> None:
    """Each helper that is there is no newer than the kernel; and some type has each that is not."""
    numbers = tuple(range(1, HELPER_COUNT))
    found: set[int] = set()
    for kind in (ProgramType.SCHED_CLS, ProgramType.KPROBE, ProgramType.SOCK_OPS, ProgramType.SK_MSG):
        answers = probe_types.helpers(kind, numbers)
        found |= {number for number, answer in zip(numbers, answers, strict=True) if answer}
    newest = max(found)
    assert version(helper_since(newest) or "") <= release()
    after = helper_since(newest + 1)
    assert after is None or version(after) > release()


def test_a_type_has_its_own_helpers(run: Cli) -> None:
    record = json.loads(run("-j", "feature", "probe", "helpers", status=0).stdout)
    by_type = {each["prog_type"]: set(each["helpers"]) for each in record["helpers"]}
    assert len(by_type) == len(ProgramType) - 1
    assert "bpf_redirect_map" in by_type["xdp"]
    assert "bpf_redirect_map" not in by_type["sched_cls"]
    assert "bpf_skb_store_bytes" in by_type["sched_cls"]
    assert "bpf_skb_store_bytes" not in by_type["xdp"] | by_type["socket_filter"]
    assert all(helpers >= {helper_name(1), helper_name(2)} for helpers in by_type.values() if helpers)
    assert "bpf_trace_printk" not in by_type["xdp"]


@pytest.fixture(scope="module")
def bpftool() -> Any:
    done = subprocess.run(["bpftool", "-j", "feature", "probe"], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("group", "theirs"), [("prog_types", "program_types"), ("map_types", "map_types")])
def test_types_are_those_of_bpftool(requires: Requires, request: Any, group: str, theirs: str) -> None:
    """Where both know the type; what we say is not known is a no for bpftool."""
    requires("bpftool")
    found = request.getfixturevalue("bpftool")[theirs]
    ours = {
        f"have_{each.name}_{group.removesuffix('s')}": bool(each.available)
        for each in getattr(probe_features((group,)), group)
    }
    both = ours.keys() & found.keys()
    assert len(both) >= 30
    assert {name: ours[name] for name in both} == {name: found[name] for name in both}


def test_features_are_those_of_bpftool(requires: Requires, request: Any) -> None:
    requires("bpftool")
    theirs = request.getfixturevalue("bpftool")["misc"]
    ours = {each.name: each.available for each in probe_features(("misc",)).misc or ()}
    pairs = {
        "have_large_insn_limit": "large_insn_limit",
        "have_bounded_loops": "bounded_loops",
        "have_v2_isa_extension": "v2_isa",
        "have_v3_isa_extension": "v3_isa",
    }
    assert {name: ours[ours_name] for name, ours_name in pairs.items()} == {
        name: theirs[name] for name in pairs
    }


@pytest.mark.kernels
def test_text(run: Cli) -> None:
    lines = run("feature", "probe", "map_types", "misc", status=0).stdout.splitlines()
    assert lines[0].startswith("Linux ")
    assert [line for line in lines if not line.startswith(" ")][1:] == ["map types", "features"]
    rows = {line.split()[0]: line.split()[1] for line in lines if line.startswith(" ")}
    assert rows["hash"] == rows["array"] == rows["btf"] == "yes"
