"""The BPF spec of iproute2's commands: which program is to be attached.

    SPEC := { object-file | obj } FILE OPTS | { object-pinned | pinned | fd } PATH OPTS | id N OPTS
    OPTS := [ section NAME ] [ program NAME ] [ maps-abi ABI ] [ set NAME=VALUE ]...
            [ migrate [ lossy ] ] [ dry-run ] [ export SOCKET ] [ verbose ]

In iproute2 the order of OPTS is fixed; here any order does, unless the tokens are strict.  ``id``,
``program``, ``maps-abi``, ``set``, ``migrate``, ``lossy`` and ``dry-run`` (the last four with dashes, too)
are whole words, ``obj`` too; the others may be cut.
"""

from __future__ import annotations

from bpfctl.api.sources import ClassicSource, ObjectSource, ProgramSource
from bpfctl.cli.grammar.reference import reference
from bpfctl.cli.grammar.tokens import Tokens, matches, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.objfile.spec import Setting

ProgramOrClassic = ProgramSource | ClassicSource

_MAPS_ABIS = ("iproute2", "libbpf", "samples")
_MODES = "obj FILE, pinned PATH, id N"


def parse_source(tokens: Tokens) -> ProgramSource:
    """The spec whose mode word comes next; UsageError if it is none."""
    if not tokens:
        raise UsageError("Command line is not complete: no program is named", hint=f"one of: {_MODES}")
    word = tokens.next()
    refuse_classic(word)
    if matches(word, "object-file") or word == "obj":
        return parse_object(tokens.value("FILE"), tokens)
    if matches(word, "object-pinned") or matches(word, "pinned") or matches(word, "fd"):
        source = reference("pinned", tokens.value("PATH"))
    elif word == "id":
        source = reference("id", tokens.value("N"))
    else:
        raise unknown(word, _MODES)
    # Section, program and verbose say nothing of a loaded program; iproute2 reads and ignores them.
    ignored = parse_options(tokens, ObjectSource(""))
    if ignored.export is not None:
        raise UsageError("export: a loaded program's maps are not handed over", hint="those of obj FILE are")
    if ignored.settings:
        raise UsageError("set: variables are set before a program is loaded", hint="this one is loaded")
    if ignored.migrate or ignored.dry_run:
        raise UsageError("migrate: maps are made when a program is loaded", hint="this one is loaded")
    return source


def refuse_classic(word: str) -> None:
    """UsageError for the words that begin a classic BPF filter."""
    if matches(word, "bytecode") or matches(word, "bytecode-file") or word in ("bc", "bcf"):
        raise UsageError("bytecode: there is no classic BPF here, only in filters and actions")


def parse_object(path: str, tokens: Tokens) -> ObjectSource:
    """``path`` and the OPTS that follow."""
    if not path:
        raise UsageError('Illegal object file ""')
    return parse_options(tokens, ObjectSource(path))


def parse_options(tokens: Tokens, source: ObjectSource) -> ObjectSource:
    """``source`` with the OPTS that come next, up to the first word that is none."""
    while tokens:
        if tokens.strict and _comes_too_late(tokens.peek(), source):
            break
        if tokens.take_prefix("section"):
            source = source._replace(section=tokens.value("NAME"))
        elif tokens.take("program"):
            source = source._replace(program=tokens.value("NAME"))
        elif tokens.take("maps-abi"):
            source = source._replace(maps_abi=parse_abi(tokens))
        elif tokens.take("set", "--set"):
            source = source._replace(settings=(*source.settings, parse_setting(tokens)))
        elif tokens.take("migrate", "--migrate"):
            source = source._replace(migrate=True)
        elif tokens.take("lossy", "--lossy"):
            source = source._replace(lossy=True)
        elif tokens.take("dry-run", "--dry-run"):
            source = source._replace(dry_run=True)
        elif tokens.take_prefix("verbose"):
            source = source._replace(verbose=True)
        elif matches(tokens.peek(), "export"):
            tokens.next()
            source = source._replace(export=tokens.value("the path of a socket"))
        else:
            break
    return source


def _comes_too_late(word: str, source: ObjectSource) -> bool:
    """Whether iproute2 would not take ``word`` for one of OPTS any more."""
    at_the_end = source.export is not None or source.verbose
    if matches(word, "section"):
        return at_the_end or source.section is not None or source.program is not None
    if word == "program":
        return at_the_end or source.program is not None
    if matches(word, "export"):
        return at_the_end
    return matches(word, "verbose") and source.verbose


def parse_setting(tokens: Tokens) -> Setting:
    """``NAME=VALUE``, one word: a global variable, or a part of one, and what it is set to."""
    word = tokens.value("NAME=VALUE")
    path, equals, text = word.partition("=")
    if not path or not equals:
        raise UsageError(f"Illegal setting {shown(word)}: NAME=VALUE is wanted")
    return Setting(path, text)


def parse_abi(tokens: Tokens) -> str:
    """The word after ``maps-abi``."""
    word = tokens.value("maps-abi")
    if word not in _MAPS_ABIS:
        raise unknown(word, ", ".join(_MAPS_ABIS))
    return word
