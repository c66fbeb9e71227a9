"""Every command explains itself, and the ways to ask for it are iproute2's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from runner import Cli

from bpfctl.cli.command import Command, Group
from bpfctl.cli.root import ROOT


def _walk(group: Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command | Group]]:
    for name in group.members:
        command = group.find(name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, Group):
            yield from _walk(command, (*path, name))


COMMANDS = dict(_walk(ROOT))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help(cli: Cli, path: tuple[str, ...]) -> None:
    shown = cli(*path, "--help")
    assert shown.status == 0
    assert shown.err == ""
    assert shown.out.startswith(f"Usage: bpfctl {' '.join(path)}")
    summary = COMMANDS[path].help.partition("\n")[0]
    assert summary.endswith(".")
    assert summary.split()[0] in shown.out


@pytest.mark.parametrize(
    "words",
    [
        ("filter", "add", "help"),
        ("filter", "add", "-h"),
        ("filter", "add", "-help"),
        ("filter", "help", "add"),
        ("help", "filter", "add"),
        ("f", "a", "help"),
    ],
)
def test_ways_to_ask(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli(*words) == cli("filter", "add", "--help")


@pytest.mark.parametrize("word", ["help", "-h", "-help", "--help", "-he"])
def test_help_of_the_whole(cli: Cli, word: str) -> None:
    shown = cli(word)
    assert shown.status == 0
    assert [name for name in ROOT.members if f"\n  {name} " not in shown.out] == []


def test_no_word_at_all_is_a_mistake(cli: Cli) -> None:
    shown = cli()
    assert (shown.status, shown.out) == (1, "")
    assert shown.err == cli("help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli: Cli, shell: str) -> None:
    shown = cli("completion", shell)
    assert (shown.status, shown.err) == (0, "")
    assert f"_BPFCTL_COMPLETE={shell}_complete" in shown.out
