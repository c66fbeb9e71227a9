"""`map globals`, `diff`, `copy`, and what `map show` knows of one map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kernel

SHAPE = "type hash key 4 value 4 entries 9"


@pytest.fixture
def admit(run: Any, bpffs: Path, testdata: Path) -> Path:
    """The pin of the program of testdata/elastic_ip.bpf.o."""
    run("prog", "load", testdata / "elastic_ip.bpf.o", bpffs / "p", "set", "sample_rate=3", status=0)
    return bpffs / "p"


def variables(run: Any, pin: Path) -> dict[str, Any]:
    records = json.loads(run("-j", "map", "globals", "prog", "pinned", pin, status=0).stdout)
    return {record["name"]: record for record in records}


def test_shown_and_set(run: Any, admit: Path) -> None:
    before = variables(run, admit)
    assert before["sample_rate"]["value"] == 3
    assert before["settings"]["frozen"]
    assert before["settings"]["value"]["site"] == "lab"
    done = run(
        "map", "globals", "prog", "pinned", admit, "set", "sample_rate=16", "--set", "denied=0x10", status=0
    )
    assert done.stdout == ""
    after = variables(run, admit)
    assert (after["sample_rate"]["value"], after["denied"]["value"]) == (16, 16)
    text = run("map", "globals", "id", after["denied"]["map_id"], status=0).stdout
    assert text == "denied = 16  (__u64, map elastic_.bss)\n"


REFUSED = [
    ("set denied=-1", "denied: '-1' does not fit; __u64 from 0 to 18446744073709551615 is wanted"),
    ("set sample_rate=5 set denied=x", "denied: 'x' does not fit; __u64 from 0 to"),
    ("set settings.site=x", "settings.site is a constant of a loaded program"),
    ("set nothing=1", "there is no variable nothing"),
    ("set denied", 'Illegal setting "denied": NAME=VALUE is wanted'),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_nothing_is_set_when_one_value_does_not_fit(run: Any, admit: Path, line: str, message: str) -> None:
    before = variables(run, admit)
    done = run("map", "globals", "prog", "pinned", admit, *line.split(), status=1)
    assert done.stderr.startswith(f"Error: {message}")
    assert variables(run, admit) == before


def test_only_the_bytes_of_the_variable_are_written(admit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program writes between our read and our write must not be lost: seen at the write itself."""
    from contextlib import ExitStack

    from bpfctl.inventory import saving
    from bpfctl.inventory.reference import Reference
    from bpfctl.inventory.variables import Sections
    from bpfctl.kernel import map_memory
    from bpfctl.objfile.spec import Setting

    written = []
    original = map_memory.write

    def noted(fd: int, size: int, offset: int, data: bytes) -> None:
        written.append((size, offset, data))
        original(fd, size, offset, data)

    monkeypatch.setattr(map_memory, "write", noted)
    with ExitStack() as stack:
        sections = Sections(saving.maps_of_program(Reference("pinned", str(admit)), stack))
        sections.set([Setting("denied", "7")])
        assert written == [(8, 0, (7).to_bytes(8, "little"))]
        assert {v.name: v.value for v in sections.variables()}["denied"] == 7


@pytest.fixture
def pair(run: Any, bpffs: Path) -> tuple[Path, Path]:
    """Two maps: 1 and 2 in the first, 2 (otherwise) and 3 in the second."""
    for name, content in (("a", {1: 10, 2: 20}), ("b", {2: 21, 3: 30})):
        run("map", "create", bpffs / name, *SHAPE.split(), status=0)
        for key, value in content.items():
            run("map", "update", "pinned", bpffs / name, "key", key, "value", value, status=0)
    return bpffs / "a", bpffs / "b"


def test_diff_and_copy(run: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    words = ("pinned", pair[0], "pinned", pair[1])
    shown = run("map", "diff", *words, status=0).stdout
    assert sorted(shown.splitlines()) == ["+ 3: 30", "- 1: 10", "~ 2: 20 -> 21"]
    for form in ("ndjson", "csv", "binary"):
        file = tmp_path / form
        if form == "binary":
            run("map", "save", "pinned", pair[1], file, status=0)
        else:
            file.write_text(run("map", "dump", "pinned", pair[1], "format", form, status=0).stdout)
        records = json.loads(run("-j", "map", "diff", "pinned", pair[0], "file", file, status=0).stdout)
        assert sorted(records, key=str) == sorted(
            [{"key": 1, "old": 10}, {"key": 2, "old": 20, "new": 21}, {"key": 3, "new": 30}], key=str
        )
    assert json.loads(run("-j", "map", "copy", *words, status=0).stdout) == {"copied": 2}
    assert run("map", "diff", *words, status=0).stdout == "+ 3: 30\n"
    refused = run("map", "copy", *words, "noexist", status=2)
    assert "EEXIST" in refused.stderr


def test_maps_that_are_not_alike(run: Any, pair: tuple[Path, Path], bpffs: Path) -> None:
    run("map", "create", bpffs / "c", *SHAPE.replace("value 4", "value 8").split(), status=0)
    for command in ("diff", "copy"):
        done = run("map", command, "pinned", pair[0], "pinned", bpffs / "c", status=1)
        assert "are not alike: keys of 4 and 4 bytes, values of 4 and 8" in done.stderr


def test_show_knows_programs_and_entries(run: Any, admit: Path, pair: tuple[Path, Path]) -> None:
    program = json.loads(run("-j", "prog", "show", "pinned", admit, status=0).stdout)
    shown = json.loads(run("-j", "map", "show", "id", program["map_ids"][0], status=0).stdout)
    assert shown["prog_ids"] == [program["id"]]
    assert json.loads(run("-j", "map", "show", "pinned", pair[0], status=0).stdout)["entries"] == 2
    assert "entries 2" in run("map", "show", "pinned", pair[0], status=0).stdout
    words = ["type", "lpm_trie", "key", "8", "value", "1", "entries", "4", "flags", "no_prealloc"]
    run("map", "create", pair[0].parent / "lpm", *words, status=0)
    run("map", "update", "pinned", pair[0].parent / "lpm", "key", "10.0.0.0/8", "value", 1, status=0)
    for more, entries in (((), None), (("count",), 1)):  # which has to be read one by one: on demand only
        shown = run("-j", "map", "show", "pinned", pair[0].parent / "lpm", *more, status=0).stdout
        assert json.loads(shown).get("entries") == entries
