"""The tree of commands as click sees it: help texts and completion."""

from __future__ import annotations

from collections.abc import Sequence

import click

from bpfctl.cli.command import Command, Group
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from click.shell_completion import CompletionItem

COMPLETION_VARIABLE = "_BPFCTL_COMPLETE"

_FLAG: dict[str, Any] = {"is_flag": True}
_OPTIONS = (
    click.Option(["--stats", "-s"], help="Show run counts and times.", **_FLAG),
    click.Option(["--details", "-d"], help="Show more of each thing, and who holds it.", **_FLAG),
    click.Option(["--force"], help="Replace another's XDP program; in a batch, go on after errors.", **_FLAG),
    click.Option(["--batch", "-b"], metavar="FILE", help="Run the commands in FILE; - is stdin."),
    click.Option(["--json", "-j"], help="Print JSON.", **_FLAG),
    click.Option(["--pretty", "-p"], help="Indent JSON.", **_FLAG),
    click.Option(["--netns", "-n"], metavar="NETNS", help="Work in network namespace NETNS."),
    click.Option(["-4", "ipv4"], help="Routes of IPv4.", **_FLAG),
    click.Option(["-6", "ipv6"], help="Routes of IPv6.", **_FLAG),
    click.Option(["--version", "-V"], help="Print the version.", **_FLAG),
)
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_EPILOG = (
    "Options take one or two dashes and may be cut; link, qdisc, filter, route and nexthop take iproute2's."
)
_AFTER = {"obj": "file", "object-file": "file"}


class ClickCommand(click.Command):
    """A command: takes all words as they are, options of click included."""

    def __init__(self, plain: Command) -> None:
        words = click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, shell_complete=_complete)
        super().__init__(plain.name, params=[words], help=plain.help)
        self.plain = plain

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params = {"words": args}
        return []

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # As it stands: click would fill the lines and break them inside of brackets.
        formatter.write(f"Usage: {ctx.command_path} {self.plain.usage}".rstrip() + "\n")


class ClickGroup(click.Group):
    """A group; its members are converted when they are asked for."""

    def __init__(self, plain: Group, **attributes: Any) -> None:
        super().__init__(plain.name, no_args_is_help=False, help=plain.help, **attributes)
        self._plain = plain

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._plain.members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> ClickCommand | ClickGroup | None:
        found = self._plain.find(cmd_name)
        if found is None:
            return None
        return ClickGroup(found) if isinstance(found, Group) else ClickCommand(found)


def click_root() -> ClickGroup:
    """The whole tree with the global options."""
    from bpfctl.cli.root import ROOT

    return ClickGroup(ROOT, params=list(_OPTIONS), context_settings=_SETTINGS, epilog=_EPILOG)


def help_text(path: Sequence[str]) -> str:
    """The help of the group or command that the names in ``path`` lead to; they must exist."""
    context = click.Context(click_root(), info_name="bpfctl", **_SETTINGS)  # type: ignore[arg-type]
    for name in path:
        assert isinstance(context.command, ClickGroup)
        command = context.command.get_command(context, name)
        assert command is not None
        context = click.Context(command, parent=context, info_name=name)
    return context.get_help()


def complete(arguments: list[str]) -> None:
    """Answer the shell that asks, by the variable, for a script or for what may come next."""
    click_root().main(arguments, prog_name="bpfctl", complete_var=COMPLETION_VARIABLE)


def completion_script(shell: str) -> str | None:
    """The script for ``shell``, or None where click has none."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    return found(click_root(), {}, "bpfctl", COMPLETION_VARIABLE).source() if found else None


def _complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What may come next: a value or a file where the word before asks for one, else keywords.

    Where no keyword fits it may be a file.
    """
    from click.shell_completion import CompletionItem

    from bpfctl.cli.candidates import values

    words: list[str] = ctx.params.get("words") or []
    words, lead, incomplete = _after_colon(words, incomplete)
    before = words[-1] if words else ""
    if before in _AFTER:
        return [CompletionItem(incomplete, type=_AFTER[before])]
    candidates: Sequence[str] | None = values(words, ctx.parent.info_name or "" if ctx.parent else "")
    if candidates is None:
        assert isinstance(ctx.command, ClickCommand)
        candidates = ctx.command.plain.keywords
    fitting = [
        CompletionItem(word.removeprefix(lead)) for word in candidates if word.startswith(lead + incomplete)
    ]
    return fitting or [CompletionItem(incomplete, type="file")]


def _after_colon(words: list[str], incomplete: str) -> tuple[list[str], str, str]:
    """Words before, and the one to complete in two parts: what the shell keeps of it, and the rest.

    bash takes the colon of ``m:globals/x`` for a word of its own.
    """
    if words[-2:] == ["m", ":"]:
        return words[:-2], "m:", incomplete
    if words[-1:] == ["m"] and incomplete == ":":
        return words[:-1], "m:", ""
    return words, "", incomplete
