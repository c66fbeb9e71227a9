"""Attaching what is attached already: the same program is success, anything less is refused."""

from __future__ import annotations

import json
from pathlib import Path

import netlab
import pytest
from fixture_types import Cli
from netlab import TESTDATA

pytestmark = pytest.mark.kernel


def attach(run: Cli, netns: netlab.Lab, name: str, *choice: str, status: int) -> str:
    source = ("obj", TESTDATA / f"{name}.bpf.o", *choice)
    return run("-n", netns.a.namespace, "link", "set", "dev", "v0", "xdp", *source, status=status).stderr


def attached_id(run: Cli, netns: netlab.Lab) -> int:
    shown = run("-n", netns.a.namespace, "-j", "link", "show", "dev", "v0", status=0)
    return int(json.loads(shown.stdout)[0]["xdp"]["prog"]["id"])


@pytest.mark.parametrize(
    ("name", "program"),
    [("xdp_pass", "xdp_pass"), ("proto_counters", "count_protocols"), ("subprogs", "sum_xdp")],
)
def test_same_program_again_changes_nothing(
    run: Cli, netns: netlab.Lab, bpffs: Path, name: str, program: str
) -> None:
    attach(run, netns, name, "program", program, status=0)
    first = attached_id(run, netns)
    attach(run, netns, name, "program", program, status=0)
    assert attached_id(run, netns) == first


def test_other_program_is_refused(run: Cli, netns: netlab.Lab, bpffs: Path) -> None:
    attach(run, netns, "proto_counters", "sec", "xdp", status=0)
    first = attached_id(run, netns)
    assert "count_protocols" in attach(run, netns, "proto_counters_v2", "sec", "xdp", status=2)
    assert attached_id(run, netns) == first


def test_same_program_on_another_map_is_another_one(run: Cli, netns: netlab.Lab, bpffs: Path) -> None:
    attach(run, netns, "proto_counters", "sec", "xdp", status=0)
    first = attached_id(run, netns)
    pin = bpffs / "tc/globals/proto_counters"
    pin.unlink()
    attach(run, netns, "proto_counters", "sec", "xdp", status=2)
    assert attached_id(run, netns) == first
    assert not pin.exists()
