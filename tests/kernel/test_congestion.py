"""struct_ops on the running kernel: congestion controls of our own, registered, used by TCP, taken back."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import netlab
import pytest
from faults import trial
from fixture_types import Cli
from netlab import TESTDATA

from bpfctl.attach import struct_ops
from bpfctl.errors import AlreadyAttachedError, BpfctlError, KernelError, NotSupportedError, ObjectFileError
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.loader import LoadedObject, LoadRequest, Transaction, load
from bpfctl.objfile import ObjectSpec, read_object
from bpfctl.objfile.struct_ops import with_autocreate, with_member
from bpfctl.uapi import Command, MapFlag, MapType

pytestmark = pytest.mark.kernel

AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")


def available() -> set[str]:
    return {name for name in AVAILABLE.read_text().split() if name.startswith("bpfctl_")}


def renamed(obj: ObjectSpec, **names: str) -> ObjectSpec:
    for name, text in names.items():
        obj = with_member(obj, name, "name", text)
    return obj


def load_all(obj: ObjectSpec, transaction: Transaction) -> LoadedObject:
    names = tuple(name for name, program in obj.programs.items() if program.autoload)
    return load(obj, LoadRequest(names), transaction)


@pytest.fixture
def spec() -> ObjectSpec:
    return read_object(str(TESTDATA / "steady_window.bpf.o"))


@pytest.fixture
def loaded(spec: ObjectSpec) -> Iterator[LoadedObject]:
    """``direct`` and ``linked`` of the object, loaded."""
    with Transaction() as transaction, load_all(spec, transaction) as made:
        yield made


def counters(loaded: LoadedObject) -> tuple[int, int]:
    """Connections started, acknowledgements seen."""
    started, acknowledged = struct.unpack("=2Q", bpf.map_lookup(loaded.maps[".bss"].fd.number, bytes(4), 16))
    return started, acknowledged


def transfer(lab: netlab.Lab, congestion: str) -> None:
    """64 KiB over TCP from side A to side B."""
    with netlab.inside(lab.b.namespace):
        server = socket.create_server((lab.b.address, 0))
    with server, netlab.inside(lab.a.namespace), socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        client.settimeout(10)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            client.sendall(bytes(1 << 16))
            client.shutdown(socket.SHUT_WR)
            while accepted.recv(1 << 16):
                pass


def test_maps_are_those_of_the_kernels_struct(loaded: LoadedObject) -> None:
    assert set(loaded.maps) == {".bss", "direct", "linked"}
    for name, flags in (("direct", 0), ("linked", int(MapFlag.LINK))):
        found = info.map_info(loaded.maps[name].fd.number)
        assert (found.type, found.key_size, found.max_entries) == (MapType.STRUCT_OPS, 4, 1)
        assert (found.map_flags, found.name) == (flags, name)
        assert found.value_size == len(loaded.maps[name].value or b"") > loaded.maps[name].spec.value_size
    assert set(loaded.programs) == {"start", "ten_segments", "ten_again", "keep"}


def test_tcp_uses_what_is_registered(loaded: LoadedObject, netns: netlab.Lab) -> None:
    with Transaction() as transaction:
        assert struct_ops.register(loaded.maps["direct"], transaction) is None
    try:
        assert "bpfctl_direct" in available()
        transfer(netns, "bpfctl_direct")
        started, acknowledged = counters(loaded)
        assert started >= 1
        assert acknowledged >= 5
    finally:
        struct_ops.unregister(loaded.maps["direct"].fd.number, "direct")
    assert "bpfctl_direct" not in available()
    assert why_not_unregistered(loaded, "direct") == "it is not registered any more"


def why_not_unregistered(loaded: LoadedObject, name: str) -> str | None:
    with pytest.raises(KernelError, match=f"cannot unregister struct_ops map {name}") as caught:
        struct_ops.unregister(loaded.maps[name].fd.number, name)
    return caught.value.hint


def test_a_link_holds_its_table(loaded: LoadedObject) -> None:
    with Transaction() as transaction:
        link = struct_ops.register(loaded.maps["linked"], transaction)
    assert link is not None
    with link:
        assert "bpfctl_linked" in available()
        assert why_not_unregistered(loaded, "linked") == "it is registered by a link: detach that"
        assert why_not_unregistered(loaded, "direct") == "it was never registered"
    assert "bpfctl_linked" not in available()
    with Transaction() as transaction:  # its value is there already
        again = struct_ops.register(loaded.maps["linked"], transaction)
    assert again is not None
    again.close()


def test_another_table_takes_the_links_place(spec: ObjectSpec, loaded: LoadedObject) -> None:
    with Transaction() as transaction:
        link = struct_ops.register(loaded.maps["linked"], transaction)
    assert link is not None
    with link, Transaction() as transaction, load_all(with_autocreate(spec, "spare"), transaction) as other:
        struct_ops.replace(link, other.maps["spare"])
        assert "bpfctl_linked" in available()
        # a link holds one kind of table, and TCP asks for one name
        stranger = renamed(spec, linked="bpfctl_other")
        with load_all(stranger, transaction) as third, pytest.raises(KernelError, match="cannot register"):
            struct_ops.replace(link, third.maps["linked"])


def test_a_failure_later_takes_the_registration_back(loaded: LoadedObject) -> None:
    with pytest.raises(BpfctlError, match="later"), Transaction() as transaction:
        struct_ops.register(loaded.maps["direct"], transaction)
        assert "bpfctl_direct" in available()
        raise BpfctlError("later")
    assert "bpfctl_direct" not in available()


def test_a_name_that_is_taken(spec: ObjectSpec, loaded: LoadedObject) -> None:
    with Transaction() as transaction:
        link = struct_ops.register(loaded.maps["linked"], transaction)
    assert link is not None
    taken = renamed(spec, direct="bpfctl_linked")
    with link, Transaction() as transaction, load_all(taken, transaction) as other:
        with pytest.raises(AlreadyAttachedError) as caught:
            struct_ops.register(other.maps["direct"], transaction)
        assert caught.value.hint == "the kernel has one of that name"


def test_a_table_without_a_function_that_the_kernel_requires() -> None:
    obj = read_object(str(TESTDATA / "struct_ops_user.bpf.o"))
    refused = pytest.raises(KernelError, match="cannot register struct_ops map steady")
    with Transaction() as transaction, load_all(obj, transaction) as loaded, refused as caught:
        struct_ops.register(loaded.maps["steady"], transaction)
    assert "a function that the kernel requires is missing" in (caught.value.hint or "")


def test_members_can_be_set_before_the_load(spec: ObjectSpec) -> None:
    with Transaction() as transaction, load_all(renamed(spec, direct="bpfctl_set"), transaction) as loaded:
        struct_ops.register(loaded.maps["direct"], transaction)
        try:
            assert "bpfctl_set" in available()
        finally:
            struct_ops.unregister(loaded.maps["direct"].fd.number, "direct")


def test_an_optional_table_is_made_for_its_program(spec: ObjectSpec) -> None:
    with (
        Transaction() as transaction,
        load(spec, LoadRequest(("keep_quietly",)), transaction) as loaded,
    ):
        assert {"direct", "linked", "spare"} <= set(loaded.maps)
        link = struct_ops.register(loaded.maps["spare"], transaction)
        assert link is not None
        link.close()


def test_a_program_that_no_table_has(spec: ObjectSpec) -> None:
    bare = with_member(spec, "direct", "init", None)
    refused = pytest.raises(ObjectFileError, match="program start: no struct_ops map that is made has it")
    with refused, Transaction() as transaction:
        load(bare, LoadRequest(("start",)), transaction)


def test_a_kind_that_this_kernel_does_not_have(tmp_path: Path) -> None:
    data = (TESTDATA / "struct_ops_user.bpf.o").read_bytes()
    path = tmp_path / "other.bpf.o"
    path.write_bytes(data.replace(b"tcp_congestion_ops", b"tcp_congestion_opt"))
    refused = pytest.raises(NotSupportedError, match="no struct_ops called tcp_congestion_opt")
    with refused, Transaction() as transaction:
        load_all(read_object(str(path)), transaction)


def test_only_a_map_of_this_load_is_registered(loaded: LoadedObject) -> None:
    with pytest.raises(BpfctlError, match=r"map \.bss is no struct_ops map"), Transaction() as transaction:
        struct_ops.register(loaded.maps[".bss"], transaction)


# --- the command -----------------------------------------------------------------------------------


def test_autoattach_registers_what_it_loads(bpffs: Path, run: Cli) -> None:
    path = TESTDATA / "steady_window.bpf.o"
    done = run("-j", "prog", "loadall", path, bpffs / "cc", "autoattach", status=0)
    try:
        assert available() == {"bpfctl_direct", "bpfctl_linked"}
        pins = {pin.name for pin in (bpffs / "cc").iterdir()}
        assert pins == {"start", "ten_segments", "ten_again", "keep", "linked"}
        linked = {record["name"]: record.get("link_id") for record in json.loads(done.stdout)}
        assert linked["start"] is None, "in `direct` alone, which has no link"
        assert linked["keep"] == linked["ten_again"] is not None
        again = run("prog", "loadall", path, bpffs / "more", "autoattach", status=2)
        assert "cannot register struct_ops map linked" in again.stderr
        assert not (bpffs / "more").exists()
        (bpffs / "cc/linked").unlink()
        assert_soon(lambda: available() == {"bpfctl_direct"})
    finally:
        unregister_direct()
    assert available() == set()


def test_killed_at_each_late_call_the_next_run_converges(
    bpffs: Path, netns: netlab.Lab, tmp_path: Path
) -> None:
    words = ("prog", "loadall", TESTDATA / "steady_window.bpf.o", bpffs / "cc", "autoattach")

    def clean() -> None:
        for directory in bpffs.glob("cc*"):
            for pin in directory.iterdir():
                pin.unlink()
            directory.rmdir()
        unregister_direct()
        assert_soon(lambda: available() == set())

    here = netns.a.namespace
    whole = trial(words, tmp_path, here)
    pins = {pin.name for pin in (bpffs / "cc").iterdir()}
    first = next(n for n, call in enumerate(whole.calls, 1) if "LINK_CREATE" in call)
    # The last call registers `direct`: killed before it, the directory is there, and says so to a next run.
    for at in range(first, len(whole.calls)):
        clean()
        assert trial(words, tmp_path, here, at).status == -9
        again = trial(words, tmp_path, here)
        assert again.status == 0, f"killed before call {at} ({whole.calls[at - 1]}): {again.stderr}"
        assert available() == {"bpfctl_direct", "bpfctl_linked"}
        assert {pin.name for pin in (bpffs / "cc").iterdir()} == pins
    clean()


def assert_soon(condition: Callable[[], bool]) -> None:
    """The kernel lets go of a link whose pin is gone when it comes to it."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def unregister_direct() -> None:
    """Find the map of that name and delete its entry, as `map delete` does."""
    for number in bpf.iter_ids(Command.MAP_GET_NEXT_ID):
        with Fd(bpf.get_fd_by_id(Command.MAP_GET_FD_BY_ID, number)) as fd:
            if info.map_info(fd.number).name == "direct":
                with suppress(OSError):
                    bpf.map_delete(fd.number, bytes(4))


def test_one_program_of_a_table_is_not_attached(bpffs: Path, run: Cli) -> None:
    path = TESTDATA / "steady_window.bpf.o"
    done = run("prog", "load", path, bpffs / "p", "program", "keep", "autoattach", status=1)
    assert "`bpfctl prog loadall FILE DIRECTORY autoattach` registers the struct_ops map" in done.stderr


def test_nothing_stays_registered() -> None:
    assert available() == set()
