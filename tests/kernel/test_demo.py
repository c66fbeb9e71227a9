"""`make demo` keeps its promises: nothing lost, nothing left behind, also when it is stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import netlab
import pytest

pytestmark = pytest.mark.kernel

DEMO = Path(netlab.__file__).with_name("demo.py")


def start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, DEMO], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0
    )


def traces_of(pid: int) -> list[Path]:
    """What the demo of process ``pid`` makes by its own name."""
    return [
        *netlab.NETNS_DIRECTORY.glob(f"demo-{pid}*"),
        *Path("/tmp").glob(f"bpfctl-{pid}-*"),
    ]


def test_runs_to_the_end() -> None:
    with start() as demo:
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, output
    assert "received: 0 lost" in output
    assert "\x1b" not in output  # no terminal, no colours
    assert traces_of(demo.pid) == []


@pytest.mark.parametrize(
    ("step", "number"), [(2, signal.SIGINT), (3, signal.SIGTERM), (5, signal.SIGHUP), (6, signal.SIGINT)]
)
def test_cleans_up_when_stopped(step: int, number: signal.Signals) -> None:
    with start() as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith(f"{step}. "):
                assert traces_of(demo.pid) != []
                demo.send_signal(number)
                break
        output = demo.stdout.read()
    assert demo.returncode == 130, output
    assert "Traceback" not in output
    assert traces_of(demo.pid) == []


def test_cleans_up_when_nobody_reads() -> None:
    with start() as demo:
        assert demo.stdout is not None
        demo.stdout.readline()
        demo.stdout.close()
        assert demo.wait(timeout=60) == 1
    assert traces_of(demo.pid) == []
