"""The top of the command tree: global options, objects; one command line or a batch of them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bpfctl.cli.app import App, Options
from bpfctl.cli.command import Group, show_help
from bpfctl.cli.errors import report
from bpfctl.cli.grammar.tokens import matches, shown
from bpfctl.errors import EXIT_USAGE, BpfctlError, UsageError
from bpfctl.record import NamedTuple

# iproute2's words for its options, in the order in which it tries them, and the option that each means.
_WORDS = (
    ("stats", "stats"),
    ("statistics", "stats"),
    ("details", "details"),
    ("pretty", "pretty"),
    ("Version", "version"),
    ("version", "version"),
    ("help", "help"),
    ("force", "force"),
    ("batch", "batch"),
    ("netns", "netns"),
    ("json", "json"),
    ("4", "ipv4"),
    ("6", "ipv6"),
)
_WITH_VALUE = ("batch", "netns")

ROOT = Group(
    "bpfctl",
    {
        "link": "bpfctl.cli.link:link",
        "qdisc": "bpfctl.cli.qdisc:qdisc",
        "filter": "bpfctl.cli.filter:filter_",
        "action": "bpfctl.cli.action:action",
        "route": "bpfctl.cli.route:route",
        "nexthop": "bpfctl.cli.nexthop:nexthop",
        "exec": "bpfctl.cli.exec:exec_",
        "prog": "bpfctl.cli.prog:prog",
        "map": "bpfctl.cli.map:map_",
        "obj": "bpfctl.cli.obj:obj",
        "bench": "bpfctl.cli.bench:bench",
        "advise": "bpfctl.cli.advise:advise",
        "feature": "bpfctl.cli.feature:feature",
        "btf": "bpfctl.cli.btf:btf",
        "completion": "bpfctl.cli.completion:completion",
        "version": "bpfctl.cli.version:version",
    },
    # Objects of iproute2's, which may be cut; ours are whole words.
    grammar=(
        ("link", "link"),
        ("qdisc", "qdisc"),
        ("filter", "filter"),
        ("actions", "action"),
        ("route", "route"),
        ("nexthop", "nexthop"),
        ("exec", "exec"),
    ),
    noun="Object",
    help="Load, attach and inspect eBPF programs: object files of both generations, XDP and tc.",
)


class Arguments(NamedTuple):
    """A command line taken apart: ``words`` are what follows the options."""

    options: Options
    words: list[str]
    version: bool = False
    help: bool = False


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Global options before the first other word: one or two dashes, any prefix, ``-n X`` or ``-n=X``."""
    given: dict[str, str | bool] = {}
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        word = arguments[at]
        name, equals, value = word[1:].removeprefix("-").partition("=")
        option = next((option for keyword, option in _WORDS if matches(name, keyword)), None)
        if option is None or (equals and option not in _WITH_VALUE):
            raise UsageError(f'Option {shown(word)} is unknown, try "bpfctl -help"')
        at += 1
        if option in _WITH_VALUE and not equals:
            if at == len(arguments):
                raise UsageError(f"Option {shown(word)} requires an argument")
            value = arguments[at]
            at += 1
        given[option] = value if option in _WITH_VALUE else True
    version, help_ = bool(given.pop("version", False)), bool(given.pop("help", False))
    return Arguments(Options(**given), list(arguments[at:]), version, help_)  # type: ignore[arg-type]


def invoke(arguments: list[str]) -> int:
    """Run one command line; the exit status.  Errors are reported, bugs raise."""
    if "_BPFCTL_COMPLETE" in os.environ:
        from bpfctl.cli.clicked import complete

        complete(arguments)
    try:
        parsed = parse_arguments(arguments)
        app = App(parsed.options)
        try:
            return run(app, parsed)
        finally:
            app.close()
    except BpfctlError as error:
        return report(error, "")


def run(app: App, parsed: Arguments) -> int:
    """Do what ``parsed`` says; the exit status.  Errors raise BpfctlError."""
    if parsed.help:
        show_help(app, ())
        return 0
    if parsed.version:
        from bpfctl.cli.version import show

        show(app)
        return 0
    if app.options.netns is not None:
        from bpfctl.attach import namespace

        namespace.enter(app.options.netns)
    if app.options.batch is not None:
        from bpfctl.cli.batch import run_batch

        return run_batch(app, app.options.batch, lambda words: ROOT.run(app, words))
    if not parsed.words:
        import sys

        from bpfctl.cli.clicked import help_text

        print(help_text(()), file=sys.stderr)
        return EXIT_USAGE
    ROOT.run(app, parsed.words)
    return 0
