"""The types of the ``cli`` fixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Result(NamedTuple):
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str


Cli = Callable[..., Result]
