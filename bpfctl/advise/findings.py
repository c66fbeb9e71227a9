"""Advice as records; the fields are the keys of ``-j``."""

from __future__ import annotations

from bpfctl.record import NamedTuple

WARN, INFO, HINT = "warn", "info", "hint"
# How it is known, surest first.
PROVED_BY_KERNEL, PROVED_IN_OBJECT = "kernel-proved", "proved in object"
PROVED_IN_PROGRAM, LIVE_SAMPLE, LIKELY = "proved in program", "live sample", "hint"


class Saving(NamedTuple):
    """What a report of ``bench maps`` says: ns an operation as it is and as it could be.

    ``entries``: size of the measured maps, the nearest to the map's own.  ``kernel``: that it ran on.
    ``after`` is 0 for an operation that can be left out.
    """

    operation: str
    map: str
    instead: str | None
    entries: int
    before: float
    after: float
    contended_before: float | None
    contended_after: float | None
    kernel: str


class Finding(NamedTuple):
    """One piece of advice.  ``instruction`` to ``source`` only where it is about one.

    ``sites``: how many instructions of the program it is about; the first is shown.  ``change``: what would
    mean something else afterwards.  ``saving`` None: not measured here.
    """

    rule: str
    level: str
    confidence: str
    program: str | None
    map: str | None
    message: str
    change: str
    sites: int = 1
    instruction: int | None = None
    file: str | None = None
    line: int | None = None
    source: str | None = None
    saving: Saving | None = None


class Advice(NamedTuple):
    """All about one subject.  ``unfinished``: programs that were not analysed, and why."""

    subject: str
    programs: int
    maps: int
    findings: tuple[Finding, ...]
    unfinished: tuple[str, ...]
    bench: str | None
