"""``prog dump``: the verifier's view and machine code of real programs; bpftool judges the text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from fixture_types import Cli, Requires

from bpfctl.inventory import jited, xlated
from bpfctl.inventory.reference import Reference
from bpfctl.kernel.prog_code import ProgCode

pytestmark = pytest.mark.kernel


def _load(run: Cli, bpffs: Path, path: Path, *words: str) -> Path:
    run("prog", "load", path, "m:dumped", *words, status=0)
    return bpffs / "tc" / "dumped"


def bpftool(*words: object) -> str:
    done = subprocess.run(["bpftool", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout


OBJECTS = [
    ("subprogs", ("program", "sum_up")),  # subprograms, a callback, several maps
    ("lpm_blocklist", ()),  # a helper
    ("xdp_pass_nobtf", ()),
]


@pytest.mark.parametrize(
    ("name", "words"), OBJECTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_xlated_is_bpftools(
    run: Cli, requires: Requires, bpffs: Path, testdata: Path, name: str, words: tuple[str, ...]
) -> None:
    requires("bpftool")
    pin = _load(run, bpffs, testdata / f"{name}.bpf.o", *words)
    for options in ((), ("opcodes",), ("linum",)):
        ours = run("prog", "dump", "xlated", "pinned", pin, *options, status=0).stdout
        theirs = bpftool("prog", "dump", "xlated", "pinned", pin, *options)
        # names of maps are ours, and we set pointers as C programmers do
        assert re.sub(r"  <.*>$", "", ours, flags=re.M) == re.sub(r"(\w) \* (\w+[,)])", r"\1 *\2", theirs)


def test_xlated_in_json(run: Cli, bpffs: Path, testdata: Path) -> None:
    pin = _load(run, bpffs, testdata / "lpm_blocklist.bpf.o")
    insns = json.loads(run("-j", "prog", "dump", "xlated", "pinned", pin, status=0).stdout)
    assert insns[0]["proto"] == "int drop_blocked_sources(struct xdp_md *ctx)"
    assert insns[0]["file"].endswith("lpm_blocklist.bpf.c")
    (load,) = [i for i in insns if "map_name" in i]
    assert (load["map_name"], len(load["opcodes"])) == ("blocked_ipv4_pr", 32)
    assert re.fullmatch(r"\(18\) r1 = map\[id:\d+\]", load["disasm"])
    calls = [i["disasm"] for i in insns if i["disasm"].startswith("(85)")]
    assert all(re.fullmatch(r"\(85\) call \w+#-?\d+", call) for call in calls)
    assert any("lookup" in call for call in calls)


def test_machine_code_of_each_function(run: Cli, bpffs: Path, testdata: Path) -> None:
    pin = _load(run, bpffs, testdata / "subprogs.bpf.o", "program", "sum_up")
    functions = json.loads(run("-j", "prog", "dump", "jited", "pinned", pin, status=0).stdout)
    program = json.loads(run("-j", "prog", "show", "pinned", pin, status=0).stdout)
    assert sum(f["size"] for f in functions) == program["bytes_jited"]
    assert [f["proto"].partition("(")[0] for f in functions] == [
        "int sum_up",
        "long add_round",
        "__u64 add_step",
        "int bounded",
        "__u64 sum_custom",
    ]
    for function in functions:
        body = "".join(i["bytes"] for i in function["insns"])
        assert len(body) == 2 * function["size"]
        assert any(i.get("src") for i in function["insns"])
    text = run("prog", "dump", "jited", "pinned", pin, status=0).stdout
    assert "\n; return TC_ACT_OK;\n" in text


def test_machine_code_without_a_disassembler(
    monkeypatch: pytest.MonkeyPatch, run: Cli, bpffs: Path, testdata: Path
) -> None:
    pin = _load(run, bpffs, testdata / "subprogs.bpf.o", "program", "sum_up")
    dump = xlated.read(Reference("pinned", str(pin)))
    with_it = list(jited.functions(dump))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for function, disassembled in zip(jited.functions(dump), with_it, strict=True):
        assert all(i.operation is None for i in function.insns)
        assert "".join(i.bytes for i in function.insns) == "".join(i.bytes for i in disassembled.insns)
        marked = [i.line_num for i in function.insns if i.src]
        assert marked == [i.line_num for i in disassembled.insns if i.src]


def test_a_program_that_is_hidden_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel answers with kernel.kptr_restrict=2: nothing at all."""
    hidden = xlated.Dump("hidden", ProgCode(b"", b"", (), (), (), (), ()), None)
    with pytest.raises(Exception, match="does not show this program's instructions"):
        list(xlated.instructions(hidden))
    with pytest.raises(Exception, match="shows no machine code"):
        list(jited.functions(hidden))
