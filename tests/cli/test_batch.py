"""Batches: how lines are split, where errors are, when they end the batch."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from runner import Cli

from bpfctl.cli.batch import logical_lines, split_line
from bpfctl.errors import UsageError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   \t ", []),
        ("# link show", []),
        ("link show", ["link", "show"]),
        ("  link\tshow  # all of them", ["link", "show"]),
        ("link show#all", ["link", "show"]),
        ('obj show "a b.o"', ["obj", "show", "a b.o"]),
        ("obj show 'a \"b\".o'", ["obj", "show", 'a "b".o']),
        ('obj show "#1.o" x', ["obj", "show", "#1.o", "x"]),
        ('obj show ""', ["obj", "show", ""]),
    ],
)
def test_split_line(line: str, words: list[str]) -> None:
    assert split_line(line) == words


def test_quote_that_nothing_ends() -> None:
    with pytest.raises(UsageError, match="Unterminated quoted string"):
        split_line('obj show "a b.o')


def test_continued_lines_keep_the_number_of_the_first() -> None:
    lines = ["a\n", "b \\\n", "  c\\\n", "d\n", "e\n", "f \\\n"]
    assert [(n, line.split()) for n, line in logical_lines(lines)] == [
        (1, ["a"]),
        (2, ["b", "c", "d"]),
        (5, ["e"]),
        (6, ["f"]),
    ]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    file = tmp_path / "batch"
    file.write_text("version\n# comment\n\nprog show \\\n  id x\nversion\nfoo\nversion\n")
    return file


def test_the_first_error_ends_it(cli: Cli, batch: Path) -> None:
    shown = cli("-batch", batch)
    assert shown.status == 1
    assert shown.out == cli("version").out
    assert shown.err == f'Error: {batch}:4: Illegal id "x": a number from 1 is wanted\n'


def test_force_goes_on_and_keeps_the_status(cli: Cli, batch: Path) -> None:
    shown = cli("-force", "-b", batch)
    assert shown.status == 1
    assert shown.out == 3 * cli("version").out
    errors = [line for line in shown.err.splitlines() if line.startswith("Error")]
    assert errors == [
        f'Error: {batch}:4: Illegal id "x": a number from 1 is wanted',
        f'Error: {batch}:7: Object "foo" is unknown',
    ]


def test_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("version\nhelp\nfoo"))
    shown = cli("-b", "-")
    assert shown.status == 1
    assert shown.out == cli("version").out + cli("help").out
    assert shown.err.startswith('Error: stdin:3: Object "foo" is unknown\n')


def test_each_command_prints_its_own_document(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_text("version\nversion\n")
    assert cli("-j", "-b", file).out == 2 * cli("-j", "version").out
