"""Maps on kernels that know less: what is left away, what is not made, and who hears of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfctl.errors import KernelError, NotSupportedError, ObjectFileError
from bpfctl.kernel import bpf, privilege, probe
from bpfctl.kernel.bpf import MapAttributes, ProgAttributes
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.objfile import ObjectSpec, read_object
from bpfctl.uapi import MapFlag, MapType

TESTDATA = Path(__file__).parents[2] / "testdata"

Rule = Callable[[MapAttributes], bool]


class Kernel:
    """Makes maps but those that ``refuses`` names, takes any program, and keeps what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses: Rule = lambda wanted: False
        self.maps: list[MapAttributes] = []
        self.programs: list[ProgAttributes] = []
        self.values: list[bytes] = []
        self._patch = monkeypatch
        monkeypatch.setattr(bpf, "map_create", self._map_create)
        monkeypatch.setattr(bpf, "prog_load", self._prog_load)
        monkeypatch.setattr(bpf, "btf_load", lambda data: self._fd())
        monkeypatch.setattr(bpf, "map_update", lambda fd, key, value, flags=0: self.values.append(value))
        for name in ("map_freeze", "prog_bind_map"):
            monkeypatch.setattr(bpf, name, lambda *fds: None)

    def has(self, feature: str, answer: bool) -> None:
        monkeypatch = self._patch
        monkeypatch.setattr(getattr(probe, feature), "available", lambda: answer)

    def _map_create(self, wanted: MapAttributes) -> int:
        if self.refuses(wanted):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self.maps.append(wanted)
        return self._fd()

    def _prog_load(self, attributes: ProgAttributes, log: object = None) -> int:
        self.programs.append(attributes)
        return self._fd()

    @staticmethod
    def _fd() -> int:
        return os.open("/dev/null", os.O_RDONLY)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def load_it(obj: ObjectSpec, *programs: str, relaxed: bool = False) -> list[str]:
    """Load ``programs``; returns the warnings."""
    with Transaction() as transaction:
        loaded = load(obj, LoadRequest(programs, relaxed_maps=relaxed), transaction)
        with loaded:
            return loaded.warnings


def is_mmapable(wanted: MapAttributes) -> bool:
    return bool(wanted.map_flags & MapFlag.MMAPABLE)


@pytest.fixture
def steady() -> ObjectSpec:
    """One data map, .bss, that user space may map."""
    obj = read_object(str(TESTDATA / "percpu_variables.bpf.o"))
    obj.maps[".percpu"].map_type = MapType.ARRAY
    obj.maps[".percpu"].flags = MapFlag.MMAPABLE
    return obj


def test_a_refusal_for_another_reason_is_passed_on(kernel: Kernel, steady: ObjectSpec) -> None:
    kernel.refuses = is_mmapable
    for feature in ("ARRAY_MMAP", "GLOBAL_DATA"):
        kernel.has(feature, True)
    with pytest.raises(KernelError, match=r"cannot create map \.percpu \(array, .*, flags 0x400\)"):
        load_it(steady, "count_here")


def test_without_global_data_programs_that_have_none_load(kernel: Kernel, steady: ObjectSpec) -> None:
    kernel.refuses = lambda wanted: True
    for feature in ("ARRAY_MMAP", "GLOBAL_DATA"):
        kernel.has(feature, False)
    load_it(steady, "count_nothing")
    assert [program.name for program in kernel.programs] == ["count_nothing"]
    with pytest.raises(NotSupportedError, match=r"program count_here uses variables of section \.percpu"):
        load_it(steady, "count_here")


# --- variables of each CPU -------------------------------------------------------------------------


def test_every_cpu_starts_with_the_same_values(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.has("PERCPU_DATA", True)
    monkeypatch.setattr(privilege, "possible_cpus", lambda: 3)
    obj = read_object(str(TESTDATA / "percpu_variables.bpf.o"))
    load_it(obj, "count_here")
    (made,) = kernel.maps
    assert (made.map_type, made.key_size, made.value_size, made.max_entries) == (
        MapType.PERCPU_ARRAY, 4, 16, 1,
    )  # fmt: skip
    assert (made.map_flags, made.name) == (0, "percpu_v.percpu")
    assert made.btf_value_type_id == obj.maps[".percpu"].value_type_id
    assert kernel.values == [(b"\x64" + bytes(7) + b"\x07" + bytes(7)) * 3]


def test_a_kernel_without_such_variables(kernel: Kernel) -> None:
    kernel.has("PERCPU_DATA", False)
    obj = read_object(str(TESTDATA / "percpu_variables.bpf.o"))
    load_it(obj, "count_nothing")
    assert kernel.maps == []
    with pytest.raises(NotSupportedError, match=r"uses variables of section \.percpu") as caught:
        load_it(obj, "count_here")
    assert caught.value.feature == "percpu_data"


# --- members that nobody knows ---------------------------------------------------------------------


@pytest.mark.parametrize("inner", [False, True])
def test_unknown_members(kernel: Kernel, inner: bool) -> None:
    obj = read_object(str(TESTDATA / "map_in_map_btf.bpf.o"))
    outer = next(spec for spec in obj.maps.values() if spec.inner)
    (outer.inner or outer if inner else outer).unknown_members = ("colour",)
    program = next(iter(obj.programs))
    with pytest.raises(ObjectFileError, match=rf"section \.maps.*: map {outer.name}: unknown member colour"):
        load_it(obj, program)
    assert kernel.maps == []
    warnings = load_it(obj, program, relaxed=True)
    assert any(w.endswith(f"map {outer.name}: unknown member colour is passed over") for w in warnings)
