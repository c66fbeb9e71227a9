"""What the shell is offered next."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from bpfctl.cli.clicked import click_root


def offered(*words: str) -> list[tuple[str, str]]:
    """(type, value) of what may stand in the place of the last of ``words``."""
    shell = BashComplete(click_root(), {}, "bpfctl", "_BPFCTL_COMPLETE")
    return [(item.type, item.value) for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("fi",), ["filter"]),
        (("--net",), ["--netns"]),
        (("-n", "blue", "qd"), ["qdisc"]),
        (("filter", "re"), ["replace"]),
        (("f", "add", "dir"), ["direct-action"]),
        (("link", "set", "xdpg"), ["xdpgeneric"]),
        (("prog", "show", "t"), ["tag"]),
        (("link", "show", "dev", "l"), ["lo"]),
    ],
)
def test_words(words: tuple[str, ...], expected: list[str]) -> None:
    assert offered(*words) == [("plain", word) for word in expected]


@pytest.mark.parametrize("words", [("link", "set", "dev", "lo", "xdp", "obj", "x"), ("obj", "show", "./x")])
def test_files(words: tuple[str, ...]) -> None:
    assert offered(*words) == [("file", words[-1])]


OBJECT = str(Path(__file__).parents[2] / "testdata" / "proto_counters.bpf.o")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("link", "set", "dev", "lo", "xdp", "obj", OBJECT, "sec", ""), ["prog", "xdp"]),
        (("link", "set", "dev", "lo", "xdp", "obj", OBJECT, "section", "x"), ["xdp"]),
        (("prog", "load", OBJECT, "/p", "program", "count_p"), ["count_protocols"]),
    ],
)
def test_parts_of_the_object(words: tuple[str, ...], expected: list[str]) -> None:
    assert sorted(offered(*words)) == [("plain", word) for word in expected]


@pytest.mark.parametrize(
    "words", [("link", "set", "lo", "xdp", "obj", "/none", "sec", "x"), ("filter", "sec", "x")]
)
def test_no_object_to_look_into(words: tuple[str, ...]) -> None:
    assert [kind for kind, _ in offered(*words)] in (["file"], [])
