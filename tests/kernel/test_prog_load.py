"""``prog load`` and ``prog loadall``: what is pinned where, what is left after a failure, and verdicts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA

pytestmark = pytest.mark.kernel


def obj(name: str) -> Path:
    return TESTDATA / f"{name}.bpf.o"


def pins(directory: Path) -> list[str]:
    """Everything below ``directory`` that a command can have made."""
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.suffix != ".debug")


# --- loadall -------------------------------------------------------------------------------------


def test_loadall_pins_as_bpftool(bpffs: Path, run: Cli, requires: Requires) -> None:
    requires("bpftool")
    for name in ("two_in_section", "subprogs", "map_in_map_btf"):
        theirs, ours = bpffs / f"theirs_{name}", bpffs / f"ours_{name}"
        subprocess.run(["bpftool", "prog", "loadall", obj(name), theirs], check=True)
        assert run("prog", "loadall", obj(name), ours, status=0).stdout == ""
        assert pins(ours) == pins(theirs) != []


def test_loadall_prints_records(bpffs: Path, run: Cli) -> None:
    records = json.loads(run("-j", "prog", "loadall", obj("two_in_section"), "m:two", status=0).stdout)
    shown = {record["name"]: (record["type"], record["pinned"]) for record in records}
    directory = bpffs / "tc" / "two"
    assert shown == {
        "xdp_first": ("xdp", [f"{directory}/xdp_first"]),
        "xdp_second": ("xdp", [f"{directory}/xdp_second"]),
        "tc_first": ("sched_cls", [f"{directory}/tc_first"]),
        "tc_second": ("sched_cls", [f"{directory}/tc_second"]),
    }


def test_programs_of_an_array_are_pinned_too(bpffs: Path, run: Cli) -> None:
    run("prog", "loadall", obj("xdp_root"), bpffs / "d", status=0)
    assert pins(bpffs / "d") == ["slot_decimal", "slot_hex", "slot_mixed", "slot_octal", "xdp_root"]


def test_maps_pinned_by_name_are_where_bpftool_has_them(bpffs: Path, run: Cli) -> None:
    run("prog", "loadall", obj("proto_report"), bpffs / "d", status=0)
    run("prog", "load", obj("proto_report"), bpffs / "one", status=0)  # finds the map by its pin
    assert pins(bpffs) == ["d", "d/report_protocols", "one", "proto_counters"]


def test_programs_off_by_default_are_left_out(bpffs: Path, run: Cli) -> None:
    done = run("prog", "loadall", obj("optional_prog"), bpffs / "d", status=0)
    assert done.stderr == f"Warning: {obj('optional_prog')}: not loaded by default, and left out: on_demand\n"
    assert pins(bpffs / "d") == ["always"]


@pytest.mark.parametrize(
    ("name", "words", "status", "message"),
    [
        ("verifier_reject", (), 2, "the verifier refused program reads_too_far "),
        ("xdp_drop", (), 1, "the section name says nothing of the type of program "),
        ("two_in_section", ("type", "sched_cls", "attach", "tcx_ingress", "btf", "/no/such"), 0, ""),
    ],
)
def test_all_or_nothing(
    bpffs: Path, run: Cli, name: str, words: tuple[str, ...], status: int, message: str
) -> None:
    done = run("prog", "loadall", obj(name), bpffs / "d", *words, status=status)
    assert message in done.stderr
    assert (pins(bpffs) == []) == bool(status)


def test_a_taken_name_is_an_error_and_takes_the_others_back(bpffs: Path, run: Cli) -> None:
    run("prog", "load", obj("xdp_pass"), bpffs / "tc_first", status=0)
    done = run("prog", "loadall", obj("two_in_section"), bpffs, status=2)
    assert done.stderr == (
        f"Error: cannot pin to {bpffs}/tc_first: File exists (EEXIST)\nHint: another name, or rm it first\n"
    )
    assert pins(bpffs) == ["tc_first"]


def test_a_directory_elsewhere(bpffs: Path, tmp_path: Path, run: Cli) -> None:
    done = run("prog", "loadall", obj("two_in_section"), tmp_path / "d", status=1)
    assert done.stderr.startswith(f"Error: {tmp_path} is not on a bpffs\nHint: mount -t bpf bpf ")
    assert not (tmp_path / "d").exists()


# --- maps ---------------------------------------------------------------------------------------


def maps_of(run: Cli, pin: Path) -> dict[str, int]:
    """Names and ids of the maps of the program pinned at ``pin``."""
    ids = json.loads(run("-j", "prog", "show", "pinned", pin, status=0).stdout)["map_ids"]
    shown = [json.loads(run("-j", "map", "show", "id", number, status=0).stdout) for number in ids]
    return {record["name"]: record["id"] for record in shown}


@pytest.mark.parametrize("which", ["proto_counters", "0", "name proto_counters", "idx 0"])
def test_a_map_given_for_the_objects(bpffs: Path, run: Cli, which: str) -> None:
    run("prog", "load", obj("proto_report"), bpffs / "first", status=0)
    counters = bpffs / "other"
    (bpffs / "proto_counters").rename(counters)
    words = ("map", *which.split(), "pinned", counters)
    run("prog", "load", obj("proto_report"), bpffs / "second", *words, status=0)
    assert maps_of(run, bpffs / "second") == maps_of(run, bpffs / "first")
    assert pins(bpffs) == ["first", "other", "second"]


def test_a_given_map_that_does_not_fit(bpffs: Path, run: Cli) -> None:
    run("prog", "load", obj("endpoints"), bpffs / "p", "type", "sched_cls", "sec", "to-container", status=0)
    given = bpffs / "tc" / "globals" / "endpoints"
    before = pins(bpffs)
    words = ("map", "proto_counters", "pinned", given)
    done = run("prog", "load", obj("proto_report"), bpffs / "q", *words, status=1)
    number = json.loads(run("-j", "map", "show", "pinned", given, status=0).stdout)["id"]
    assert done.stderr.splitlines() == [
        f"Error: {obj('proto_report')}: map proto_counters cannot be map id {number}, which differs",
        "  field  object        given",
        "  type   percpu_array  hash",
        "Hint: programs are compiled for these sizes: give a map that has them",
    ]
    unknown = run("prog", "load", obj("proto_report"), bpffs / "q", "map", "x", "pinned", given, status=1)
    assert unknown.stderr == (
        f"Error: {obj('proto_report')}: no map x in the object\nHint: its maps: 0 proto_counters\n"
    )
    assert pins(bpffs) == before


def test_pinmaps_as_bpftool(bpffs: Path, run: Cli, requires: Requires) -> None:
    requires("bpftool")
    for name in ("subprogs", "map_in_map_btf", "map_types"):
        theirs, ours = bpffs / f"theirs_{name}", bpffs / f"ours_{name}"
        command = ["bpftool", "prog", "loadall", obj(name), theirs, "pinmaps", theirs / "maps"]
        subprocess.run(command, check=True)
        run("prog", "loadall", obj(name), ours, "pinmaps", bpffs / f"maps_{name}", status=0)
        ours_maps = [pin.name for pin in (bpffs / f"maps_{name}").iterdir()]
        assert sorted(ours_maps) == sorted(pin.name for pin in (theirs / "maps").iterdir())


def test_who_pins_maps_in_one_directory_shares_them(bpffs: Path, run: Cli) -> None:
    words = ("pinmaps", "m:shared")
    for name in ("one", "two"):
        run("prog", "load", obj("subprogs"), bpffs / name, "program", "sum_up", *words, status=0)
    assert maps_of(run, bpffs / "one") == maps_of(run, bpffs / "two") != {}


def test_other_constants_are_not_shared(bpffs: Path, run: Cli) -> None:
    words = ("prog", "load", obj("elastic_ip"))
    run(*words, bpffs / "one", "pinmaps", "m:shared", status=0)
    setting = ("set", "settings.site=home")
    done = run(*words, bpffs / "two", "pinmaps", "m:shared", *setting, status=1)
    shown = "Error: the constants of map .rodata differ from byte "
    assert done.stderr.startswith(shown), done.stderr
    assert "Hint: `migrate` at the end of the command puts a map with" in done.stderr
    assert not (bpffs / "two").exists()
    run(*words, bpffs / "two", "pinmaps", "m:shared", *setting, "migrate", status=0)
    constants = run("map", "globals", "prog", "pinned", bpffs / "two", status=0).stdout
    assert '"site":"home"' in constants.replace(" ", "")


# --- verdicts ------------------------------------------------------------------------------------


def test_verdict_of_each_program(bpffs: Path, run: Cli) -> None:
    done = run("-j", "prog", "loadall", obj("core_missing"), "--verdict", status=2)
    assert done.stderr == f"Error: {obj('core_missing')}: 1 of 2 programs do not load\n"
    refused, accepted = json.loads(done.stdout)
    assert (refused["program"], refused["verdict"], refused["stage"]) == ("reads_it", "fail", "verifier")
    assert refused["errno"] == 22
    assert refused["reason"].startswith("CO-RE relocation <byte_off> ")
    assert refused["source"].startswith("testdata/core_missing.bpf.c:")
    assert (accepted["program"], accepted["verdict"]) == ("asks_first", "ok")
    assert 0 < accepted["verified_insns"] <= accepted["insns"]  # the rest is dead code
    assert 0 < accepted["bytes_xlated"] <= accepted["insns"] * 8
    assert pins(bpffs) == []


def test_verdict_keeps_nothing_and_needs_no_pins(bpffs: Path, run: Cli) -> None:
    """Neither the pinned map of another shape nor the program array in use matters to it."""
    run("prog", "loadall", obj("xdp_root"), bpffs / "d", status=0)
    before = pins(bpffs)
    text = run("prog", "loadall", obj("xdp_root"), "verdict", status=0).stdout
    assert [line.split(":")[0] for line in text.splitlines()] == [
        "xdp_root",
        "slot_decimal",
        "slot_hex",
        "slot_octal",
        "slot_mixed",
    ]
    assert pins(bpffs) == before


@pytest.mark.parametrize(
    ("words", "status", "programs"),
    [
        (("loadall", obj("optional_prog"), "--verdict"), 0, ["always", "on_demand"]),
        (("load", obj("optional_prog"), "--verdict"), 0, ["always"]),
        (("load", obj("two_in_section"), "verdict", "program", "tc_first"), 0, ["tc_first"]),
        # an object that cannot be made into programs: nobody asked the kernel
        (("loadall", obj("undefined_symbol"), "--verdict"), 1, ["calls_nothing"]),
        (("loadall", obj("no_license"), "--verdict"), 2, ["needs_gpl"]),
    ],
)
def test_verdict_status(
    bpffs: Path, run: Cli, words: tuple[object, ...], status: int, programs: list[str]
) -> None:
    results = json.loads(run("-j", "prog", *words, status=status).stdout)
    assert [result["program"] for result in results] == programs


def test_verdict_as_text(bpffs: Path, run: Cli) -> None:
    text = run("prog", "loadall", obj("verifier_reject"), "--verdict", status=2).stdout
    assert text.splitlines()[:3] == [
        "reads_too_far: fail  section xdp  type xdp",
        "\tverifier: R1 offset is outside of the packet [Permission denied (EACCES)]",
        "\tat testdata/verifier_reject.bpf.c:9: "
        "if (ethernet->h_proto == to_be16(ETH_P_ARP)) /* refused here */",
    ]
