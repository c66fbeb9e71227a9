"""How commands are built: click documents, helps and completes; the words are parsed by our grammar.

A command is a function ``f(app, words)``; the :func:`words_command` decorator makes it a click command of
its group.  Groups import the module of a command only when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from bpfctl.cli.app import App
from bpfctl.cli.grammar.tokens import matches, shown
from bpfctl.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Callback = Callable[[App, list[str]], None]

_HELP_WORDS = ("help", "-help", "--help", "-h")
_AFTER = {"obj": "file", "object-file": "file", "pinned": "file", "fd": "file"}


def wants_help(words: Sequence[str]) -> bool:
    """Whether ``words`` ask for help, in the way of iproute2 or of click."""
    return bool(words) and words[0] in _HELP_WORDS


def words_command(name: str, usage: str = "", keywords: str = "") -> Callable[[Callback], WordsCommand]:
    """Decorator: ``f(app, words)`` becomes the command ``name``.

    Its docstring is the help text, ``usage`` the words it takes, ``keywords`` those that completion offers.
    """
    return lambda callback: WordsCommand(name, callback, usage, keywords.split())


class WordsCommand(click.Command):
    """Takes all words as they are, options of click included; ``help`` first asks for help."""

    def __init__(self, name: str, callback: Callback, usage: str, keywords: Sequence[str]) -> None:
        words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, shell_complete=_complete)
        super().__init__(name, params=[words], help=callback.__doc__)
        self.keywords = keywords
        self._function = callback
        self._usage = usage

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if wants_help(args) and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        ctx.params = {"words": args}
        return []

    def invoke(self, ctx: click.Context) -> None:
        self.run(ctx.obj, ctx.params["words"])

    def run(self, app: App, words: list[str]) -> None:
        """Do it, without a context of click's."""
        self._function(app, words)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # As it stands: click would fill the lines and break them inside of brackets.
        formatter.write(f"Usage: {ctx.command_path} {self._usage}".rstrip() + "\n")


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may come next: an interface or a file where the word before asks for one, else keywords.

    Where no keyword fits it may be a file.
    """
    from click.shell_completion import CompletionItem

    words: list[str] = ctx.params.get("words") or []
    before = words[-1] if words else ""
    if before in _AFTER:
        return [CompletionItem(incomplete, type=_AFTER[before])]
    if before == "dev":
        candidates: Sequence[str] = sorted(os.listdir("/sys/class/net"))
    else:
        assert isinstance(ctx.command, WordsCommand)
        candidates = ctx.command.keywords
    fitting = [CompletionItem(word) for word in candidates if word.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type="file")]


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own.

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
        **attributes: Any,
    ) -> None:
        super().__init__(name, no_args_is_help=False, **attributes)
        self._members = members
        self._grammar = grammar
        self._found: dict[str, WordsCommand | LazyGroup] = {}
        self._default = default
        self._noun = noun

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if len(args) == 1 and wants_help(args):
            args = ["--help"]
        # Not Group's: it would set the first word apart, where only click itself finds it.
        return click.Command.parse_args(self, ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        self.run(ctx, ctx.args)

    def run(self, ctx: click.Context, words: list[str], path: str = "") -> None:
        """Run the command that ``words`` begin with; ``path``: the groups between ``ctx`` and this one.

        Only help needs contexts of click's; in a batch they would take a third of the time.
        """
        if wants_help(words):
            if len(words) == 1:
                click.echo(ctx.get_help())
                return
            words = [*words[1:], "help"]  # `help filter add` is `filter add help`
        name, rest = (words[0], words[1:]) if words else (self._default, [])
        command = self.get_command(ctx, name)
        if command is None:
            raise self._unknown(name)
        if wants_help(rest):
            with command.make_context(f"{path}{command.name}", rest, parent=ctx) as inner:
                command.invoke(inner)
        elif isinstance(command, LazyGroup):
            command.run(ctx, rest, f"{path}{command.name} ")
        else:
            command.run(ctx.obj, rest)

    def _unknown(self, word: str) -> UsageError:
        known = f"known here: {', '.join(self._members)}"
        if not word:
            return UsageError("Command line is not complete", hint=known)
        return UsageError(f"{self._noun} {shown(word)} is unknown", hint=known)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> WordsCommand | LazyGroup | None:
        if cmd_name not in self._found:
            name = self._member(cmd_name)
            if not name:
                return None
            module, _, attribute = self._members[name].partition(":")
            self._found[cmd_name] = getattr(import_module(module), attribute)
        return self._found[cmd_name]

    def _member(self, word: str) -> str:
        if word in self._members:
            return word
        return next((name for keyword, name in self._grammar if matches(word, keyword)), "")
