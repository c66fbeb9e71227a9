"""Variables of each CPU: on a kernel that has them they count, on another it is said."""

from __future__ import annotations

import os
import struct

import pytest
from netlab import TESTDATA
from programs import run_once

from bpfctl.errors import NotSupportedError
from bpfctl.kernel import bpf, privilege, probe
from bpfctl.loader import LoadRequest, Transaction, load
from bpfctl.objfile import read_object

pytestmark = [pytest.mark.kernel, pytest.mark.kernels]

VALUE_SIZE = 16


def test_each_cpu_counts_for_itself() -> None:
    obj = read_object(str(TESTDATA / "percpu_variables.bpf.o"))
    if not probe.PERCPU_DATA.available():
        with pytest.raises(NotSupportedError, match="program count_here"), Transaction() as transaction:
            load(obj, LoadRequest(tuple(obj.programs)), transaction)
        return
    before = os.sched_getaffinity(0)
    cpu = max(before)
    with Transaction() as transaction, load(obj, LoadRequest(tuple(obj.programs)), transaction) as loaded:
        try:
            os.sched_setaffinity(0, {cpu})
            run_once(loaded.program("count_here").fd)
        finally:
            os.sched_setaffinity(0, before)
        size = VALUE_SIZE * privilege.possible_cpus()
        values = bpf.map_lookup(loaded.maps[".percpu"].fd.number, bytes(4), size)
    counters = [struct.unpack_from("=QB", values, at) for at in range(0, size, VALUE_SIZE)]
    assert counters[cpu] == (107, 7)
    assert counters.count((100, 7)) == len(counters) - 1
