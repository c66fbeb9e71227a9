"""The words of ``prog load`` and ``prog loadall``: bpftool's, in any order, and those of iproute2's SPEC.

FILE [ PATH ] [ type TYPE ] [ attach TYPE ] [ autoattach ] [ target PROGRAM [ function NAME ] ]
    [ map WHICH MAP ]... [ pinmaps DIR ] [ btf FILE ] [ verdict ] OPTS
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.api.loading import LoadOptions, MapChoice, Target
from bpfctl.api.sources import ObjectSource
from bpfctl.cli.grammar.reference import FORMS, maybe_reference, parse_reference
from bpfctl.cli.grammar.spec import parse_options
from bpfctl.cli.grammar.tokens import Tokens, parse_number, unknown
from bpfctl.errors import UsageError
from bpfctl.objfile.sections import section_kind
from bpfctl.record import NamedTuple
from bpfctl.uapi import AttachType, ProgramType

KEYWORDS = (
    "type attach autoattach target map pinmaps btf verdict sec program maps-abi set verbose "
    "migrate lossy dry-run"
)
_MAX_MAPS = 0xFFFFFFFF
_DASHED = ("verdict", "btf")  # may be written as options are, which is how others spell them


class LoadCommand(NamedTuple):
    """``path``: where to pin; "" with ``verdict``, which pins nothing."""

    source: ObjectSource
    path: str
    options: LoadOptions
    verdict: bool


def parse_load(words: Sequence[str], what: str) -> LoadCommand:
    """The words after the command; ``what`` PATH is called."""
    tokens = Tokens([_undashed(word) for word in words])
    source = ObjectSource(_file(tokens))
    path = tokens.next() if tokens and tokens.peek() not in KEYWORDS.split() else ""
    options, verdict = LoadOptions(), False
    while tokens:
        before = tokens.position
        if tokens.take("type"):
            options = _with_type(options, tokens.value("TYPE"))
        elif tokens.take("attach"):
            options = options._replace(attach_type=_attach_type(tokens.value("TYPE")))
        elif tokens.take("autoattach"):
            options = options._replace(autoattach=True)
        elif tokens.take("target"):
            options = options._replace(target=_target(tokens))
        elif tokens.take("map"):
            options = options._replace(maps=(*options.maps, _map_choice(tokens)))
        elif tokens.take("pinmaps"):
            options = options._replace(pin_maps=tokens.value("DIRECTORY"))
        elif tokens.take("btf", "kernel_btf"):
            options = options._replace(btf_path=tokens.value("FILE"))
        elif tokens.take("verdict"):
            verdict = True
        else:
            source = parse_options(tokens, source)
        if tokens.position == before:
            raise unknown(tokens.peek(), ", ".join(KEYWORDS.split()))
    if not path and not verdict:
        raise UsageError(f"Command line is not complete: {what} is missing", hint='try "help"')
    return LoadCommand(source, path, options, verdict)


def _undashed(word: str) -> str:
    bare = word.lstrip("-")
    return bare if bare in _DASHED and word.startswith("-") else word


def _file(tokens: Tokens) -> str:
    path = tokens.value("FILE")
    if not path:
        raise UsageError('Illegal object file ""')
    return path


def _with_type(options: LoadOptions, word: str) -> LoadOptions:
    """A section's name also says the attach type, as for bpftool; the kernel's name of a type does not."""
    kind = section_kind(word)
    if kind.program_type is not None:
        attach = kind.attach_type if options.attach_type is None else options.attach_type
        return options._replace(program_type=kind.program_type, attach_type=attach)
    known = {kind.name.lower(): int(kind) for kind in ProgramType if kind}
    if word not in known:
        raise unknown(word, ", ".join(known))
    return options._replace(program_type=known[word])


def _attach_type(word: str) -> int:
    known = {kind.name.lower(): int(kind) for kind in AttachType}
    if word not in known:
        raise unknown(word, ", ".join(known))
    return known[word]


def _target(tokens: Tokens) -> Target:
    """``{ id N | pinned PATH | name NAME | tag TAG } [ function NAME ]``, or the function alone."""
    source = maybe_reference(tokens)
    function = tokens.value("NAME") if tokens.take("function") else ""
    if source is None and not function:
        raise unknown(tokens.peek(), f"{FORMS}, function NAME") if tokens else _missing_target()
    return Target(source, function)


def _missing_target() -> UsageError:
    return UsageError("Command line is not complete: a program or function is missing", hint='try "help"')


def _map_choice(tokens: Tokens) -> MapChoice:
    """``{ [ name ] NAME | [ idx ] N } { id N | pinned PATH | name NAME }``: bpftool wants the first word."""
    number: int | None = None
    name: str | None = None
    if tokens.take("idx"):
        number = tokens.number("map number", _MAX_MAPS)
    elif tokens.take("name"):
        name = tokens.value("NAME")
    else:
        name = tokens.value("map NAME or number")
        number = parse_number(name)
        name = name if number is None else None
    source = parse_reference(tokens)
    if source.by == "tag":
        raise UsageError("a map has no tag: name it by id, pinned or name")
    return MapChoice(source, name, number)
