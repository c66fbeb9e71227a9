"""Probes against the kernel that runs: they agree with the release that a feature came with."""

from __future__ import annotations

import os
import platform

import pytest

from bpfctl.kernel import probe

# A configuration, a machine or a guard may leave these out of any release.
_OPTIONAL = {"kprobe_multi", "syscall_wrapper", "uprobe_syscall"}

pytestmark = pytest.mark.kernels


def release() -> tuple[int, int]:
    major, minor = platform.release().split("-")[0].split(".")[:2]
    return int(major), int(minor)


def version(since: str) -> tuple[int, int]:
    major, _, minor = since.partition(".")
    return int(major), int(minor)


@pytest.mark.parametrize("feature", probe.FEATURES.values(), ids=lambda feature: feature.name)
def test_a_probe_agrees_with_the_release(feature: probe.Feature) -> None:
    answer = feature.available()
    if release() < version(feature.since):
        assert answer is False
    elif feature.name not in _OPTIONAL:
        assert answer is True
    assert feature.missing() is (answer is False)


def test_a_probe_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object) -> int:
        raise AssertionError("asked again")

    known = probe.BTF.available()
    monkeypatch.setattr(probe.syscall.System, "bpf", again)
    assert probe.BTF.available() is known


def test_a_probe_leaves_the_descriptors_as_they_are() -> None:
    before = os.listdir("/proc/self/fd")
    for feature in probe.FEATURES.values():
        feature._asked = None
        feature.available()
    assert os.listdir("/proc/self/fd") == before
