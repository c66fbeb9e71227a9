"""Types of the fixtures that are functions, for the annotations of the tests that use them."""

from __future__ import annotations

import subprocess
from typing import Protocol


class Cli(Protocol):
    """The type of the ``run`` fixture."""

    def __call__(
        self, *words: object, status: int | None = None, env: dict[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]: ...


class Requires(Protocol):
    """The type of the ``requires`` fixture."""

    def __call__(self, *features: str) -> None: ...
