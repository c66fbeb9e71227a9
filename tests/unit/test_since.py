"""The tables of releases against the enums that they are about."""

from __future__ import annotations

import pytest

from bpfctl import since
from bpfctl.helpers import HELPER_COUNT
from bpfctl.uapi import AttachType, MapType, ProgramType


def version(text: str | None) -> tuple[int, int]:
    assert text is not None
    major, _, minor = text.partition(".")
    return int(major), int(minor)


@pytest.mark.parametrize(
    ("released", "first", "last"),
    [
        (since.program_type_since, 1, max(ProgramType)),
        (since.map_type_since, 1, max(MapType)),
        (since.attach_type_since, 0, max(AttachType)),
        (since.helper_since, 1, HELPER_COUNT - 1),
    ],
)
def test_every_number_has_a_release_and_they_only_grow(released: object, first: int, last: int) -> None:
    assert callable(released)
    versions = [version(released(number)) for number in range(first, last + 1)]
    assert versions == sorted(versions)
    assert released(last + 1) is None
