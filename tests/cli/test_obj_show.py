"""``obj show``: whole output against saved dumps.

After a wanted change: ``BPFCTL_REWRITE=1 pytest tests/cli/test_obj_show.py``, then review the diff.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from runner import Cli

TESTDATA = Path(__file__).parents[2] / "testdata"
DUMPS = Path(__file__).parents[1] / "golden" / "obj_show"

OBJECTS = [
    "core_user",  # shown as it is, not fitted to a kernel
    "externs",
    "kfunc_user",
    "map_in_map_btf",
    "map_in_map_legacy",
    "proto_counters_bigendian",
    "subprogs",
    "subprogs_bigendian",
    "tc_pass_nobtf",
    "undefined_symbol",  # a program that cannot be linked
    "xdp_root",  # tail-call sections
]


@pytest.mark.parametrize("name", OBJECTS)
def test_dump(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(TESTDATA)
    dump = DUMPS / f"{name}.txt"
    shown = cli("obj", "show", f"{name}.bpf.o")
    assert (shown.status, shown.err) == (0, "")
    if os.environ.get("BPFCTL_REWRITE"):
        dump.parent.mkdir(exist_ok=True)
        dump.write_text(shown.out)
    assert shown.out == dump.read_text()


def test_json_holds_the_same_records(cli: Cli) -> None:
    path = TESTDATA / "proto_counters_bigendian.bpf.o"
    record = json.loads(cli("-j", "obj", "show", path).out)
    assert list(record) == [
        *("path", "byte_order", "license", "sections", "programs", "maps", "relocations", "externs", "btf"),
        "warnings",
    ]
    assert record["path"] == str(path)
    assert record["byte_order"] == "big"
    assert {s["name"]: s.get("program_type") for s in record["sections"] if s["name"] in ("prog", "xdp")} == {
        "prog": None,
        "xdp": "xdp",
    }
    assert record["maps"] == [
        {
            "name": "proto_counters",
            "section": "maps",
            "offset": 0,
            "type": "percpu_array",
            "key_size": 4,
            "value_size": 32,
            "max_entries": 256,
            "flags": 0,
            "flag_names": [],
            "abi": "iproute2",
            "pinning": "global_ns",
            "id": 0,
            "inner_id": 0,
            "inner_idx": 0,
            "slots": [],
        }
    ]
    assert record["relocations"][1] == {
        "section": "xdp",
        "offset": 0x88,
        "type": "R_BPF_64_64",
        "symbol": "proto_counters",
        "target": "maps+0x0",
        "function": "count_protocols",
        "before": "r1 = 0x0",
        "after": "r1 = map[fd:proto_counters]",
    }


@pytest.mark.parametrize("path", sorted(TESTDATA.glob("*.bpf.o")), ids=lambda path: path.name)
def test_every_object_is_shown_or_refused_with_a_reason(cli: Cli, path: Path) -> None:
    shown = cli("obj", "show", path)
    if shown.status == 0:
        assert shown.out.startswith(f"{path}: ")
    else:
        assert (shown.status, shown.out) == (1, "")
        assert shown.err.startswith(f"Error: {path}, section ")


def test_a_definition_that_reads_in_two_ways(cli: Cli) -> None:
    path = TESTDATA / "ambiguous_map.bpf.o"
    assert cli("obj", "show", path).status == 1
    flags = {}
    for abi in ("iproute2", "samples"):
        (only,) = json.loads(cli("-j", "obj", "show", path, "maps-abi", abi).out)["maps"]
        flags[abi] = (only["pinning"], only.get("numa_node"))
    assert flags == {"iproute2": ("global_ns", None), "samples": ("none", 2)}


def test_names_from_the_file_cannot_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    data = (TESTDATA / "tc_pass_nobtf.bpf.o").read_bytes()
    hostile = tmp_path / "hostile.o"
    hostile.write_bytes(data.replace(b"classifier\0", b"\x1b[31mfier.\0"))
    shown = cli("obj", "show", hostile)
    assert (shown.status, shown.err) == (0, "")
    assert r"\x1b[31mfier." in shown.out
    assert "\x1b" not in shown.out
