"""What advice is asked about: programs and maps, of an object file or of the running kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bpfctl.advise.code import Code, MapDefinition
from bpfctl.advise.interpret import MOST_SECONDS, interpret
from bpfctl.advise.sites import Uses
from bpfctl.advise.values import MapToken

MOST_SECONDS_IN_ALL = 5.0  # for all programs together


@dataclass(slots=True)
class Subject:
    """``where``: the object file, or ``live``.  ``skipped``: programs that were not looked at, and why."""

    where: str
    live: bool
    codes: list[Code]
    maps: dict[MapToken, MapDefinition]
    skipped: list[str] = field(default_factory=list)
    uses: list[Uses] = field(default_factory=list)  # of each of ``codes``

    def interpret(self, seconds: float = MOST_SECONDS_IN_ALL) -> None:
        """Fill ``uses``; what does not fit into ``seconds`` stays unfinished."""
        end = time.monotonic() + seconds
        for code in self.codes:
            left = end - time.monotonic()
            self.uses.append(interpret(code, max(min(left, MOST_SECONDS), 0)))

    @property
    def complete(self) -> bool:
        """Whether every program was interpreted to its end, so that "never" can be said."""
        return not self.skipped and all(uses.unfinished is None for uses in self.uses)
