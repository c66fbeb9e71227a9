"""The tree of commands: plain groups and functions, so that running one needs no more than its module.

A command is a function ``f(app, words)``; :func:`words_command` gives it its name and the words it takes.
Groups import the module of a command only when it is used.  click sees the same tree through
``clicked.py``, where help and completion come from: its import alone costs three bare interpreters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from bpfctl.cli.app import App
from bpfctl.cli.grammar.tokens import matches, shown
from bpfctl.errors import UsageError

Callback = Callable[[App, list[str]], None]

_HELP_WORDS = ("help", "-help", "--help", "-h")


def wants_help(words: Sequence[str]) -> bool:
    """Whether ``words`` ask for help, in the way of iproute2 or of click."""
    return bool(words) and words[0] in _HELP_WORDS


class Command:
    """A function under a name.  ``usage``: the words it takes; ``keywords``: those to complete."""

    def __init__(self, name: str, function: Callback, usage: str, keywords: Sequence[str]) -> None:
        self.name = name
        self.usage = usage
        self.keywords = keywords
        self.help = function.__doc__ or ""
        self._function = function

    def run(self, app: App, words: list[str], path: tuple[str, ...] = ()) -> None:
        """Do it, or show how it is done when ``words`` ask for help."""
        if wants_help(words):
            show_help(app, path)
        else:
            self._function(app, words)


def words_command(name: str, usage: str = "", keywords: str = "") -> Callable[[Callback], Command]:
    """Decorator: ``f(app, words)`` becomes the command ``name``; its docstring is the help text."""
    return lambda function: Command(name, function, usage, keywords.split())


class Group:
    """Commands that live in modules of their own.

    ``members``: name to ``module:attribute``.  ``grammar``: for groups of iproute2's, its keywords in
    the order of its tests, each with the member it means; "" for one that is not ours.  ``default``: the
    command that no word at all means.
    """

    def __init__(
        self,
        name: str,
        members: dict[str, str],
        grammar: Sequence[tuple[str, str]] = (),
        default: str = "",
        noun: str = "Command",
        help: str = "",
    ) -> None:
        self.name = name
        self.members = members
        self.help = help
        self._grammar = grammar
        self._found: dict[str, Command | Group] = {}
        self._default = default
        self._noun = noun

    def run(self, app: App, words: list[str], path: tuple[str, ...] = ()) -> None:
        """Run the command that ``words`` begin with; ``path``: the names that led here."""
        if wants_help(words):
            if len(words) == 1:
                show_help(app, path)
                return
            words = [*words[1:], "help"]  # `help filter add` is `filter add help`
        name, rest = (words[0], words[1:]) if words else (self._default, [])
        command = self.find(name)
        if command is None:
            raise self._unknown(name)
        command.run(app, rest, (*path, command.name))

    def find(self, word: str) -> Command | Group | None:
        """The member that ``word`` means, or None."""
        if word not in self._found:
            name = self._member(word)
            if not name:
                return None
            module, _, attribute = self.members[name].partition(":")
            self._found[word] = getattr(import_module(module), attribute)
        return self._found[word]

    def _member(self, word: str) -> str:
        if word in self.members:
            return word
        return next((name for keyword, name in self._grammar if matches(word, keyword)), "")

    def _unknown(self, word: str) -> UsageError:
        known = f"known here: {', '.join(self.members)}"
        if not word:
            return UsageError("Command line is not complete", hint=known)
        return UsageError(f"{self._noun} {shown(word)} is unknown", hint=known)


def show_help(app: App, path: tuple[str, ...]) -> None:
    """Print the help of the group or command that ``path`` leads to."""
    from bpfctl.cli.clicked import help_text

    app.output.text(help_text(path))
