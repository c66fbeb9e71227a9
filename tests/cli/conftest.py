"""The command line in this process: whole output and exit status, without root."""

from __future__ import annotations

import pytest
from runner import Cli, Result

from bpfctl.cli.main import run


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """``cli("obj", "show", path)``.  An exception that is no error of ours fails the test."""
    monkeypatch.delenv("TC_BPF_MNT", raising=False)

    def call(*words: object) -> Result:
        status = run([str(word) for word in words])
        return Result(status, *capsys.readouterr())

    return call
