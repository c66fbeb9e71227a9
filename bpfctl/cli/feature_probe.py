"""``feature probe``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.output import columns
from bpfctl.inventory.features import (
    GROUPS,
    Features,
    HelperFeature,
    MiscFeature,
    TypeFeature,
    probe_features,
)

_PATIENCE = 1.0  # seconds without a word
_WIDTH = 100  # characters of a line of helpers

_HEADINGS = {
    "prog_types": "program types",
    "map_types": "map types",
    "attach_types": "attach types",
    "misc": "features",
}
_ANSWERS = {True: "yes", False: "no", None: "not known"}


@words_command(
    "probe",
    "[ { prog_types | map_types | helpers | attach_types | misc } ] ... [ full ]",
    keywords="prog_types map_types helpers attach_types misc full",
)
def probe(app: App, words: list[str]) -> None:
    """Ask the kernel which program, map and attach types, helpers and other features it has.

    Each is tried, none is guessed from a version; "not known" is what this process may not find out.  With
    full also the helpers that leave warnings in the kernel's log.
    """
    groups: list[str] = []
    full = False
    tokens = Tokens(words)
    while tokens:
        if tokens.take("full"):
            full = True
        elif tokens.peek() in GROUPS:
            groups.append(tokens.next())
        else:
            tokens.end(", ".join((*GROUPS, "full")))
    record = probe_features(tuple(groups), full=full, progress=_patient_progress())
    app.output.record(record, lambda known: "\n".join(_text(known)))


def _patient_progress() -> Callable[[str], None]:
    """On a terminal, a line on stderr for each second that goes by."""
    if not sys.stderr.isatty():
        return lambda what: None
    last = time.monotonic()

    def tell(what: str) -> None:
        nonlocal last
        if time.monotonic() - last > _PATIENCE:
            last = time.monotonic()
            print(f"probing {what} ...", file=sys.stderr)

    return tell


def _text(record: Features) -> Iterator[str]:
    yield f"Linux {record.kernel}"
    for group, heading in _HEADINGS.items():
        known = getattr(record, group)
        if known is not None:
            yield heading
            yield columns([_row(each) for each in known], "  ")
    for each in record.helpers or ():
        yield from _helpers(each)


def _row(record: TypeFeature | MiscFeature) -> tuple[str, ...]:
    row = (record.name, _ANSWERS[record.available], f"since {record.since}")
    return (*row, record.meaning) if isinstance(record, MiscFeature) else row


def _helpers(record: HelperFeature) -> Iterator[str]:
    number = "not known" if record.available is None else str(len(record.helpers))
    yield f"helpers of {record.prog_type}: {number}"
    yield from _filled(record.helpers)


def _filled(words: Sequence[str]) -> Iterator[str]:
    line = " "
    for word in words:
        if len(line) + 1 + len(word) > _WIDTH:
            yield line
            line = " "
        line += f" {word}"
    if words:
        yield line
