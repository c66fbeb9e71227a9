"""A short run of what `make fuzz` does for long: broken objects end in our errors, and quickly."""

from __future__ import annotations

import time
from functools import cache
from random import Random

import pytest
from fuzz.judge import TESTDATA, agreeable_kernel, check
from fuzz.mutate import Sample
from hypothesis import given, settings
from hypothesis import strategies as st

_NAMES = (
    "proto_counters",
    "subprogs",
    "core_user",
    "map_in_map_btf",
    "legacy_globals",
    "xdp_root_btf",
)
_SLOW = 2.0  # seconds


@cache
def _sample(name: str) -> Sample:
    return Sample(name, (TESTDATA / f"{name}.bpf.o").read_bytes())


@pytest.fixture(autouse=True, scope="module")
def _no_kernel() -> object:
    with pytest.MonkeyPatch.context() as patch, agreeable_kernel():
        patch.setenv("TC_BPF_MNT", "/bpf-of-the-test")
        yield


@pytest.mark.parametrize("name", _NAMES)
def test_what_is_broken_are_only_copies(name: str) -> None:
    assert check(_sample(name).data)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(_NAMES), st.integers(0, 1 << 32))
def test_broken_objects_end_in_our_errors(name: str, seed: int) -> None:
    start = time.monotonic()
    check(_sample(name).mutated(Random(seed)))
    assert time.monotonic() - start < _SLOW


def test_mutations_are_repeatable_and_seldom_nothing() -> None:
    sample = _sample("subprogs")
    broken = [sample.mutated(Random(seed)) for seed in range(100)]
    assert broken == [sample.mutated(Random(seed)) for seed in range(100)]
    assert sum(data != sample.data for data in broken) > 90
