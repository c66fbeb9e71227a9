"""`set NAME=VALUE`: the program runs with the variables that the command line gave it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from netlab import TESTDATA

pytestmark = pytest.mark.kernel

OBJECT = TESTDATA / "elastic_ip.bpf.o"
XDP_DROP, XDP_PASS = 1, 2


def verdict(pin: Path, frame: Path) -> int:
    """What the program returns for a frame that is no IPv4."""
    frame.write_bytes(bytes(64))
    command = ["bpftool", "-j", "prog", "run", "pinned", str(pin), "data_in", str(frame)]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["retval"])


@pytest.mark.parametrize(
    ("words", "wanted"), [((), XDP_DROP), (("set", "settings.fallback=POLICY_ALLOW"), XDP_PASS)]
)
def test_the_program_sees_it(
    run: Any, requires: Any, bpffs: Path, tmp_path: Path, words: tuple[str, ...], wanted: int
) -> None:
    requires("bpftool")
    run("prog", "load", OBJECT, bpffs / "p", *words, "--set", "sample_rate=16", status=0)
    assert verdict(bpffs / "p", tmp_path / "frame") == wanted


def test_a_wrong_value_loads_nothing(run: Any, bpffs: Path) -> None:
    done = run("prog", "load", OBJECT, bpffs / "p", "set", "sample_rate=-1", status=1)
    assert done.stderr == "Error: sample_rate: '-1' does not fit; __u32 from 0 to 4294967295 is wanted\n"
    assert not (bpffs / "p").exists()
