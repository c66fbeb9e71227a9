"""The top of the command tree: global options, objects; one command line or a batch of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from bpfctl.cli.app import App, Options
from bpfctl.cli.command import LazyGroup
from bpfctl.cli.errors import report
from bpfctl.cli.grammar.tokens import matches, shown
from bpfctl.errors import EXIT_USAGE, BpfctlError, UsageError

_COMPLETION = "_BPFCTL_COMPLETE"
_FLAG = {"is_flag": True}

_OPTIONS = (
    click.Option(["--stats", "-s"], help="Show run counts and times.", **_FLAG),
    click.Option(["--details", "-d"], help="Show more of each thing, and who holds it.", **_FLAG),
    click.Option(["--force"], help="Replace another's XDP program; in a batch, go on after errors.", **_FLAG),
    click.Option(["--batch", "-b"], metavar="FILE", help="Run the commands in FILE; - is stdin."),
    click.Option(["--json", "-j"], help="Print JSON.", **_FLAG),
    click.Option(["--pretty", "-p"], help="Indent JSON.", **_FLAG),
    click.Option(["--netns", "-n"], metavar="NETNS", help="Work in network namespace NETNS."),
    click.Option(["--version", "-V"], help="Print the version.", **_FLAG),
)
# iproute2's words, in the order in which it tries them, and the option that each stands for.
_WORDS = (
    ("stats", "--stats"),
    ("statistics", "--stats"),
    ("details", "--details"),
    ("pretty", "--pretty"),
    ("Version", "--version"),
    ("version", "--version"),
    ("help", "--help"),
    ("force", "--force"),
    ("batch", "--batch"),
    ("netns", "--netns"),
    ("json", "--json"),
)
_WITH_VALUE = ("--batch", "--netns")

_MEMBERS = {
    "link": "bpfctl.cli.link:link",
    "qdisc": "bpfctl.cli.qdisc:qdisc",
    "filter": "bpfctl.cli.filter:filter_",
    "prog": "bpfctl.cli.prog:prog",
    "map": "bpfctl.cli.map:map_",
    "obj": "bpfctl.cli.obj:obj",
    "completion": "bpfctl.cli.completion:completion",
    "version": "bpfctl.cli.version:version",
}
# Objects of iproute2's, which may be cut; ours are whole words.
_CUT = (("link", "link"), ("qdisc", "qdisc"), ("filter", "filter"))


def canonical(arguments: Sequence[str]) -> list[str]:
    """Global options as click spells them: ``-net X``, ``--net X`` and ``-n X`` become ``--netns X``.

    One or two dashes, any prefix; what follows the first word that is no option stays as it is.
    """
    done: list[str] = []
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        word = arguments[at]
        name, equals, value = word[1:].removeprefix("-").partition("=")
        option = next((option for keyword, option in _WORDS if matches(name, keyword)), None)
        if option is None:
            raise UsageError(f'Option {shown(word)} is unknown, try "bpfctl -help"')
        done.append(option + equals + value)
        at += 1
        if option in _WITH_VALUE and not equals:
            done += arguments[at : at + 1]
            at += 1
    return done + list(arguments[at:])


class Root(LazyGroup):
    """``bpfctl``: reads the options, then runs the command, or all of a batch."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            args = canonical(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        show_version = ctx.params.pop("version")
        app = App(Options(**ctx.params))
        ctx.obj = app
        ctx.call_on_close(app.close)
        if show_version:
            from bpfctl.cli.version import show

            show(app)
            return
        if app.options.netns is not None:
            from bpfctl.attach import namespace

            namespace.enter(app.options.netns)
        if app.options.batch is not None:
            from bpfctl.cli.batch import run_batch

            ctx.exit(run_batch(app, app.options.batch, lambda words: self.run(ctx, words)))
        if not ctx.args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(EXIT_USAGE)
        self.run(ctx, ctx.args)


root = Root(
    "bpfctl",
    _MEMBERS,
    grammar=_CUT,
    noun="Object",
    params=list(_OPTIONS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Load, attach and inspect eBPF programs: object files of both generations, XDP and tc.",
    epilog="Options take one or two dashes and may be cut; link, qdisc and filter take iproute2's words.",
)


def invoke(arguments: list[str]) -> int:
    """Run one command line; the exit status.  Errors are reported, bugs raise."""
    if _COMPLETION in os.environ:
        root.main(arguments, prog_name="bpfctl", complete_var=_COMPLETION)
    try:
        with root.make_context("bpfctl", arguments) as ctx:
            root.invoke(ctx)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (BpfctlError, click.ClickException) as error:
        return report(error, "")
    return 0
