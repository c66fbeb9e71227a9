"""Externs filled in by the running kernel: values that programs read, addresses, functions that they call."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

import pytest
from netlab import TESTDATA

from bpfctl.errors import BpfctlError, VerifierError
from bpfctl.insn import decode
from bpfctl.kernel import bpf, info, kconfig, ksyms, probe, syscall
from bpfctl.kernel.syscall import address
from bpfctl.loader import LoadedObject, LoadRequest, Transaction, load
from bpfctl.objfile import read_object
from bpfctl.uapi import Command

pytestmark = pytest.mark.kernel

EXTERNS = TESTDATA / "externs.bpf.o"


def load_one(program: str, path: Path = EXTERNS) -> LoadedObject:
    with Transaction() as transaction:
        return load(read_object(str(path)), LoadRequest((program,)), transaction)


def run(loaded: LoadedObject, program: str) -> int:
    """BPF_PROG_TEST_RUN with an empty packet: the return value."""
    packet = bytearray(64)
    fd = loaded.program(program).fd.number
    attr = bytearray(struct.pack("=4I2Q16x", fd, 0, len(packet), 0, address(packet), 0).ljust(80, b"\0"))
    syscall.system.bpf(Command.PROG_TEST_RUN, attr)
    return int(struct.unpack_from("=I", attr, 4)[0])


def words(loaded: LoadedObject, at: int, count: int) -> tuple[int, ...]:
    """``count`` words of 64 bits at byte ``at`` of the program's .bss."""
    live = loaded.maps[".bss"]
    return struct.unpack_from(
        f"={count}Q", bpf.map_lookup(live.fd.number, bytes(4), live.spec.value_size), at
    )


def place_of(loaded: LoadedObject, name: str) -> int:
    btf, section = loaded.spec.btf, loaded.maps[".bss"].spec.value_type_id
    assert btf is not None
    return next(v.offset for v in btf.datasec(section) if btf.name(v.type_id) == name)


def test_configuration_values_reach_the_program() -> None:
    with load_one("reads_the_configuration") as loaded:
        assert run(loaded, "reads_the_configuration") == 0
        read = words(loaded, place_of(loaded, "config"), 10)
        _, set_ = kconfig.config_values(["CONFIG_HZ", "CONFIG_CC_VERSION_TEXT"])
        assert read[:3] == (
            kconfig.version(),
            bool(probe.BPF_COOKIE.available()),
            kconfig.has_syscall_wrapper(),
        )
        assert read[3:7] == (0, 1, ord("y"), 1)
        assert read[7:9] == (int(set_["CONFIG_HZ"]), 0)
        assert struct.pack("=Q", read[9]) == set_["CONFIG_CC_VERSION_TEXT"][1:8].encode() + b"\0"


def test_the_version_is_this_kernels() -> None:
    major, minor = platform.release().split(".")[:2]
    assert kconfig.version() >> 8 == int(major) << 8 | int(minor)


def test_the_map_of_configuration_values_is_as_libbpf_makes_it() -> None:
    with load_one("reads_the_configuration") as loaded:
        live = loaded.maps[".kconfig"]
        found = info.map_info(live.fd.number)
        assert (found.name, found.key_size, found.value_size, found.max_entries) == (
            "externs.kconfig",
            4,
            31,
            1,
        )
        assert found.map_flags == 0x480
        assert found.btf_value_type_id == live.spec.value_type_id
        assert info.fdinfo(live.fd.number)["frozen"] == "1"


def test_addresses_reach_the_program() -> None:
    with load_one("takes_addresses") as loaded:
        assert run(loaded, "takes_addresses") == 0
        schedule, symbol, variable, lock, function = words(loaded, place_of(loaded, "address"), 5)
        known = ksyms.addresses(["schedule", "bpf_rcu_read_lock"])
        assert [schedule] == known["schedule"]
        assert [lock] == known["bpf_rcu_read_lock"]
        assert (symbol, variable, function) == (0, 0, 0)
        maps = [info.map_info(loaded.maps[name].fd.number).id for name in loaded.maps if name != ".kconfig"]
        used = info.prog_info(loaded.program("takes_addresses").fd.number).map_ids
        assert set(used) <= set(maps), "it holds no configuration that it does not read"


def test_kernel_functions_are_called_and_missing_ones_are_not() -> None:
    with load_one("calls_what_is_there") as loaded:
        assert run(loaded, "calls_what_is_there") == 0
        calls = [i for i in decode(loaded.program("calls_what_is_there").linked.code) if i.code == 0x85]
        assert [i.src for i in calls[:2]] == [2, 2]
        assert not loaded.warnings


def test_a_missing_kernel_function_that_is_called_is_named() -> None:
    with pytest.raises(VerifierError) as caught:
        load_one("calls_what_is_missing")
    assert caught.value.details[-1].strip().startswith("kernel function bpfctl_no_function is not there")
    assert "unknown#" not in "\n".join(caught.value.details)


def test_a_variable_is_named_by_its_type() -> None:
    """The verifier wants its address as well, and finds it only with CONFIG_KALLSYMS_ALL."""
    if not ksyms.addresses(["runqueues"]):
        with pytest.raises(VerifierError) as caught:
            load_one("takes_a_variable")
        assert "for kernel symbol 'runqueues'" in caught.value.log  # which is what the BTF id says
        return
    with load_one("takes_a_variable") as loaded:
        assert run(loaded, "takes_a_variable") == 0
        assert words(loaded, place_of(loaded, "address"), 3)[2]


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("kconfig_user", "asks_the_version"),
        ("ksym_user", "takes_an_address"),
        ("kfunc_user", "calls_the_kernel"),
    ],
)
def test_each_alone(name: str, program: str) -> None:
    with load_one(program, TESTDATA / f"{name}.bpf.o") as loaded:
        assert run(loaded, program) == 0
        assert loaded.btf is not None, "the kernel took the object's types"


def test_an_undefined_symbol_is_no_extern() -> None:
    with pytest.raises(BpfctlError, match="is not defined"):
        load_one("calls_nothing", TESTDATA / "undefined_symbol.bpf.o")
