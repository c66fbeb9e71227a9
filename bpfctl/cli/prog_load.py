"""``prog load``, ``prog loadall`` and ``prog pin``."""

from __future__ import annotations

from bpfctl.api import loading, pinning
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.load import KEYWORDS, LoadCommand, parse_load
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.migration import dry_run
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.loader.verdict import Verdict

_OPTIONS = (
    "[ type TYPE ] [ attach TYPE ] [ autoattach ] [ btf FILE ]\n"
    "    [ map { NAME | N } { id N | pinned PATH | name NAME } ]... [ pinmaps DIRECTORY ]\n"
    "    [ target [ id N | pinned PATH | name NAME ] [ function NAME ] ]\n"
    "    [ sec NAME ] [ program NAME ] [ maps-abi ABI ] [ set NAME=VALUE ]...\n"
    "    [ migrate [ lossy ] ] [ dry-run ] [ verbose ]"
)


@words_command("load", f"FILE {{ PATH | --verdict }} {_OPTIONS}", KEYWORDS)
def load(app: App, words: list[str]) -> None:
    """Load a program of FILE and pin it at PATH, a name on a bpffs.

    Its type is what the section's name says, unless TYPE (xdp, sched_cls, ...) is given.  The maps are
    made, reused and pinned as FILE says.  With autoattach it is attached where the section's name says,
    and the link is pinned.  With --verdict, only say whether the kernel takes it.
    """
    command = parse_load(words, "PATH")
    if command.verdict:
        _show_verdicts(app, command, one=True)
        return
    source, path, options, _ = command
    if dry_run(app, [source], options):
        return
    record = loading.load_program(source, path, options=options, session=app.session, warn=app.warn)
    if app.output.json:
        app.output.record(record, str)


@words_command("loadall", f"FILE {{ DIRECTORY | --verdict }} {_OPTIONS}", KEYWORDS)
def loadall(app: App, words: list[str]) -> None:
    """Load all programs of FILE and pin each as DIRECTORY/NAME, or none of them.

    Those in sections whose name begins with "?" are left out.  With --verdict, load each program alone,
    those too, say what the kernel made of it, and keep nothing.
    """
    command = parse_load(words, "DIRECTORY")
    if command.verdict:
        _show_verdicts(app, command, one=False)
        return
    source, path, options, _ = command
    if dry_run(app, [source], options):
        return
    records = loading.load_programs(
        source, path, options=options, session=app.session, warn=app.warn, describe=app.output.json
    )
    if app.output.json:
        app.output.records(records, str)


def _show_verdicts(app: App, command: LoadCommand, *, one: bool) -> None:
    from bpfctl.loader.verdict import failure

    results = loading.try_programs(command.source, one=one, options=command.options, session=app.session)
    app.output.records(results, _verdict_text)
    failed = failure(command.source.path, results)
    if failed:
        raise failed


def _verdict_text(result: Verdict) -> str:
    from bpfctl.errors import errno_text

    head = f"{result.program}: {result.verdict}  section {result.section}"
    head += f"  type {result.type}" if result.type else ""
    head += "" if result.autoload else "  not loaded by default"
    if result.verdict == "ok":
        return f"{head}  tag {result.tag}  insns {result.insns}  verified {result.verified_insns}"
    why = f"{result.stage}: {result.reason}"
    if result.errno and result.stage == "verifier":
        why += f" [{errno_text(result.errno)}]"
    lines = [head, why]
    lines += [f"at {result.source}"] if result.source else []
    return "\n\t".join(lines)


@words_command("pin", "{ id N | pinned PATH | name NAME | tag TAG } PATH", "id pinned name tag")
def pin(app: App, words: list[str]) -> None:
    """Pin a loaded program at PATH, a name on a bpffs; "m:NAME" is NAME in iproute2's folder."""
    tokens = Tokens(words)
    reference = parse_reference(tokens)
    path = tokens.value("PATH")
    tokens.end()
    pinning.pin_program(reference, path)
