"""XDP on a real veth pair: every mode, who is in the way, races, lost answers, and taking it back."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netlab
import pytest
from programs import XDP_DROP, XDP_PASS, load, program_id
from pyroute2 import IPRoute

from bpfctl.attach import xdp
from bpfctl.attach.xdp import XdpMode
from bpfctl.errors import AlreadyAttachedError, BpfctlError, KernelError, NotFoundError
from bpfctl.kernel import bpf, syscall
from bpfctl.kernel.fd import Fd
from bpfctl.loader import Transaction
from bpfctl.uapi import AttachType, Command, ProgramType

pytestmark = pytest.mark.kernel

DEVICE = "v0"
SLOT_OF = {XdpMode.ANY: XdpMode.NATIVE, XdpMode.NATIVE: XdpMode.NATIVE, XdpMode.GENERIC: XdpMode.GENERIC}
RTM_NEWLINK = 16


@pytest.fixture
def lab(netns: netlab.Lab) -> Iterator[netlab.Lab]:
    """This thread in the namespace of ``v0``."""
    with netlab.inside(netns.a.namespace):
        yield netns


@pytest.fixture
def passing() -> Iterator[Fd]:
    with load(ProgramType.XDP, XDP_PASS, "passing") as program:
        yield program


@pytest.fixture
def dropping() -> Iterator[Fd]:
    with load(ProgramType.XDP, XDP_DROP, "dropping") as program:
        yield program


def attached() -> dict[XdpMode, int]:
    (interface,) = xdp.list_interfaces(DEVICE)
    return dict(interface.programs)


def seen_by_pyroute2() -> tuple[str | None, int | None]:
    with IPRoute() as ip:
        (link,) = ip.get_links(ifname=DEVICE)
        return link.get_nested("IFLA_XDP", "IFLA_XDP_ATTACHED"), link.get_nested(
            "IFLA_XDP", "IFLA_XDP_PROG_ID"
        )


def create_link(program: Fd, ifindex: int) -> Fd:
    attr = bytearray(struct.pack("=4I48x", program.number, ifindex, AttachType.XDP, 0))
    return Fd(syscall.system.bpf(Command.LINK_CREATE, attr))


# --- modes ---


@pytest.mark.parametrize("mode", SLOT_OF)
def test_attached_program_gets_the_packets(mode: XdpMode, lab: netlab.Lab, dropping: Fd, passing: Fd) -> None:
    xdp.attach(DEVICE, dropping.number, mode=mode)
    assert attached() == {SLOT_OF[mode]: program_id(dropping)}
    assert netlab.send_udp(lab.b, lab.a, 10) == 0
    change = xdp.attach(DEVICE, passing.number, mode=mode, force=True)
    assert (change.program_id, change.replaced_id) == (program_id(passing), program_id(dropping))
    assert netlab.send_udp(lab.b, lab.a, 10) == 10
    change_back = xdp.detach(DEVICE, mode=mode)
    assert change_back is not None
    assert change_back.replaced_id == program_id(passing)
    assert attached() == {}


def test_pyroute2_sees_the_same(lab: netlab.Lab, passing: Fd) -> None:
    xdp.attach(DEVICE, passing.number, mode=XdpMode.GENERIC)
    assert seen_by_pyroute2() == ("xdpgeneric", program_id(passing))
    xdp.detach(DEVICE, mode=XdpMode.GENERIC)
    assert seen_by_pyroute2() == (None, None)


def test_any_is_generic_where_the_driver_has_no_native_mode(lab: netlab.Lab, passing: Fd) -> None:
    xdp.attach("lo", passing.number)
    assert xdp.list_interfaces("lo")[0].programs == ((XdpMode.GENERIC, program_id(passing)),)
    assert xdp.detach("lo") is not None
    assert xdp.list_interfaces("lo")[0].programs == ()


def test_detach_of_nothing(lab: netlab.Lab) -> None:
    assert [xdp.detach(DEVICE, mode=mode) for mode in XdpMode] == [None] * 4


# --- refusals ---


def refusal(call: Callable[[], object], kind: type[BpfctlError]) -> BpfctlError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def test_taken_slot_says_who_is_there(lab: netlab.Lab, bpffs: Path, passing: Fd, dropping: Fd) -> None:
    pin = bpffs / "guard"
    bpf.obj_pin(passing.number, str(pin))
    xdp.attach(DEVICE, passing.number)
    holder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[passing.number])
    try:
        error = refusal(lambda: xdp.attach(DEVICE, dropping.number), AlreadyAttachedError)
    finally:
        holder.communicate()
    assert str(error) == (
        f'v0: program {program_id(passing)} "passing", pinned at {pin}, held open by {holder.pid} (cat) '
        "is attached as xdpdrv: XDP program already attached"
    )
    assert error.hint == "`bpfctl -force` replaces it"
    assert attached() == {XdpMode.NATIVE: program_id(passing)}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("there", "wanted"),
    [(XdpMode.NATIVE, XdpMode.GENERIC), (XdpMode.GENERIC, XdpMode.NATIVE), (XdpMode.GENERIC, XdpMode.ANY)],
)
def test_other_mode_is_in_the_way(
    there: XdpMode, wanted: XdpMode, force: bool, lab: netlab.Lab, passing: Fd, dropping: Fd
) -> None:
    xdp.attach(DEVICE, passing.number, mode=there)
    error = refusal(
        lambda: xdp.attach(DEVICE, dropping.number, mode=wanted, force=force), AlreadyAttachedError
    )
    assert str(error) == (
        f'v0: program {program_id(passing)} "passing" is attached as {there}: '
        "Native and generic XDP can't be active at the same time"
    )
    assert error.hint == f"`bpfctl link set dev v0 {there} off` removes it"


@pytest.mark.parametrize(
    ("there", "named"),
    [(XdpMode.NATIVE, XdpMode.GENERIC), (XdpMode.GENERIC, XdpMode.NATIVE), (XdpMode.GENERIC, XdpMode.ANY)],
)
def test_off_in_another_mode_says_so(there: XdpMode, named: XdpMode, lab: netlab.Lab, passing: Fd) -> None:
    xdp.attach(DEVICE, passing.number, mode=there)
    error = refusal(lambda: xdp.detach(DEVICE, mode=named), NotFoundError)
    assert str(error) == (
        f'v0: nothing to take off as {named}: program {program_id(passing)} "passing" is attached as {there}'
    )
    assert attached() == {there: program_id(passing)}


@pytest.mark.parametrize("force", [False, True])
def test_bpf_link_is_named(force: bool, lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    ifindex = xdp.list_interfaces(DEVICE)[0].ifindex
    with create_link(passing, ifindex) as link:
        number = int(Path(f"/proc/self/fdinfo/{link.number}").read_text().partition("link_id:")[2].split()[0])
        for call in (
            lambda: xdp.attach(DEVICE, dropping.number, force=force),
            lambda: xdp.detach(DEVICE),
        ):
            error = refusal(call, AlreadyAttachedError)
            assert (
                f'"passing" is attached as xdpdrv by bpf_link {number}: Can\'t replace active BPF XDP link'
                in str(error)
            )
            assert f"`bpftool link detach id {number}`" in str(error.hint)
        assert attached() == {XdpMode.NATIVE: program_id(passing)}


def test_driver_without_native_mode(lab: netlab.Lab, passing: Fd) -> None:
    error = refusal(lambda: xdp.attach("lo", passing.number, mode=XdpMode.NATIVE), KernelError)
    assert str(error) == "lo: cannot attach as xdpdrv: Underlying driver does not support XDP in native mode"
    assert error.hint == "xdpgeneric works on every interface"


def test_device_without_offload(lab: netlab.Lab, passing: Fd) -> None:
    error = refusal(lambda: xdp.attach(DEVICE, passing.number, mode=XdpMode.OFFLOAD), KernelError)
    assert str(error) == "v0: cannot attach as xdpoffload: Invalid argument (EINVAL)"
    assert "the device has to support XDP offload" in str(error.hint)


def test_wrong_program_type(lab: netlab.Lab) -> None:
    with load(ProgramType.SCHED_CLS, 0) as filter_program:
        error = refusal(lambda: xdp.attach(DEVICE, filter_program.number), KernelError)
        assert f"program {program_id(filter_program)} is of type sched_cls, not xdp" in str(error)


def test_descriptor_that_is_no_program(lab: netlab.Lab) -> None:
    with Fd(os.open("/dev/null", os.O_RDONLY)) as other:
        error = refusal(lambda: xdp.attach(DEVICE, other.number), KernelError)
        assert f"descriptor {other.number} is no program" in str(error)


def test_mtu_of_the_peer(lab: netlab.Lab, passing: Fd) -> None:
    for side in (lab.a, lab.b):
        with netlab.inside(side.namespace), IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname=side.device)[0], mtu=9000)
    error = refusal(lambda: xdp.attach(DEVICE, passing.number), KernelError)
    assert "MTU is too large" in str(error)
    assert "xdp.frags" in str(error.hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("eth0", "interfaces here: lo, v0"),
        ("v00", "similar names: v0"),
        ("v0\0x", "similar names: v0"),
        ("v0:1", "similar names: v0"),
        ("x" * 200, "interfaces here: lo, v0"),
    ],
)
def test_no_such_interface(name: str, hint: str, lab: netlab.Lab, passing: Fd) -> None:
    error = refusal(lambda: xdp.attach(name, passing.number), NotFoundError)
    assert str(error).startswith('no interface "')
    assert str(error).isprintable()
    assert error.hint == hint


def test_alternative_name(lab: netlab.Lab, passing: Fd) -> None:
    name = "an-alternative-name-of-an-interface"
    with IPRoute() as ip:
        ip.link("property_add", index=ip.link_lookup(ifname=DEVICE)[0], altname=name)
    xdp.attach(name, passing.number)
    assert attached() == {XdpMode.NATIVE: program_id(passing)}


# --- races and lost answers, on the real kernel ---


class Meddling(syscall.System):
    """Does something just before the first request that sets XDP reaches the kernel."""

    def __init__(self, meddle: Callable[[], object], times: int = 1) -> None:
        self.meddle = meddle
        self.left = times

    def netlink_send(self, fd: int, message: bytes) -> None:
        if message[4] == RTM_NEWLINK and self.left:
            self.left -= 1
            real, syscall.system = syscall.system, syscall.System()
            try:
                self.meddle()
            finally:
                syscall.system = real
        super().netlink_send(fd, message)


def test_force_replaces_a_newcomer_too(
    lab: netlab.Lab, passing: Fd, dropping: Fd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(ProgramType.XDP, XDP_PASS, "newcomer") as newcomer:
        xdp.attach(DEVICE, passing.number)
        meddling = Meddling(lambda: xdp.attach(DEVICE, newcomer.number, expected_fd=passing.number))
        monkeypatch.setattr(syscall, "system", meddling)
        assert xdp.attach(DEVICE, dropping.number, force=True).replaced_id == program_id(newcomer)
        assert meddling.left == 0
    assert attached() == {XdpMode.NATIVE: program_id(dropping)}


def test_expected_program_only(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    xdp.attach(DEVICE, passing.number)
    error = refusal(
        lambda: xdp.attach(DEVICE, dropping.number, expected_fd=dropping.number), AlreadyAttachedError
    )
    assert "Active program does not match expected" in str(error)
    assert xdp.attach(DEVICE, dropping.number, expected_fd=passing.number).replaced_id == program_id(passing)


def test_interface_that_vanishes(lab: netlab.Lab, passing: Fd, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove() -> None:
        with IPRoute() as ip:
            ip.link("del", index=ip.link_lookup(ifname=DEVICE)[0])

    monkeypatch.setattr(syscall, "system", Meddling(remove))
    error = refusal(lambda: xdp.attach(DEVICE, passing.number), NotFoundError)
    assert str(error) == "v0: cannot attach as xdp: the interface is gone"


class Overflowing(syscall.System):
    """The first socket is so small, and so full, that the answer to a request does not fit."""

    def __init__(self) -> None:
        self.small: int | None = None

    def netlink_open(self) -> int:
        import socket

        fd = super().netlink_open()
        if self.small is None:
            self.small = fd
            with socket.socket(fileno=os.dup(fd)) as opened:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        return fd

    def netlink_send(self, fd: int, message: bytes) -> None:
        if fd == self.small:
            for _ in range(8):  # requests whose answers nobody reads
                question = struct.pack("=IHHIIBxHiII", 32, 18, 1, 0, 0, 0, 0, 1, 0, 0)
                super().netlink_send(fd, question)
        super().netlink_send(fd, message)


def test_answer_lost_in_a_full_socket(lab: netlab.Lab, passing: Fd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall, "system", Overflowing())
    assert xdp.attach(DEVICE, passing.number).program_id == program_id(passing)
    monkeypatch.setattr(syscall, "system", syscall.System())
    assert attached() == {XdpMode.NATIVE: program_id(passing)}


def test_refusal_lost_in_a_full_socket(
    lab: netlab.Lab, passing: Fd, dropping: Fd, monkeypatch: pytest.MonkeyPatch
) -> None:
    xdp.attach(DEVICE, passing.number)
    monkeypatch.setattr(syscall, "system", Overflowing())
    error = refusal(lambda: xdp.attach(DEVICE, dropping.number), KernelError)
    assert "the kernel's answer was lost and nothing has changed: No buffer space available" in str(error)


# --- traffic while replacing, and taking it back ---


def test_replacing_leaves_no_gap(lab: netlab.Lab, dropping: Fd) -> None:
    """Both programs drop: a packet that comes through saw the interface without a program."""
    received: list[int] = []
    with load(ProgramType.XDP, XDP_DROP, "also") as also:
        xdp.attach(DEVICE, dropping.number, mode=XdpMode.GENERIC)
        sender = threading.Thread(target=lambda: received.append(netlab.send_udp(lab.b, lab.a, 20000)))
        sender.start()
        replaced = 0
        while sender.is_alive():
            xdp.attach(DEVICE, (also, dropping)[replaced % 2].number, mode=XdpMode.GENERIC, force=True)
            replaced += 1
        sender.join()
    assert received == [0]
    assert replaced > 5


def fail_after(*steps: Callable[[Transaction], Any]) -> None:
    def run() -> None:
        with Transaction() as transaction:
            for step in steps:
                step(transaction)
            raise KernelError("later")

    assert str(refusal(run, KernelError)) == "later"


def test_attach_is_taken_back(lab: netlab.Lab, passing: Fd) -> None:
    fail_after(lambda tx: xdp.attach(DEVICE, passing.number, transaction=tx))
    assert attached() == {}


def test_replaced_program_is_put_back(lab: netlab.Lab, dropping: Fd) -> None:
    """Nothing but the interface held the old program: the transaction has to keep it alive."""
    with load(ProgramType.XDP, XDP_PASS) as old:
        xdp.attach(DEVICE, old.number, mode=XdpMode.GENERIC)
        number = program_id(old)
    fail_after(
        lambda tx: xdp.attach(DEVICE, dropping.number, mode=XdpMode.GENERIC, force=True, transaction=tx),
        lambda tx: xdp.detach(DEVICE, mode=XdpMode.GENERIC, transaction=tx),
    )
    assert attached() == {XdpMode.GENERIC: number}


def test_nothing_is_taken_back_from_a_newcomer(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    fail_after(
        lambda tx: xdp.attach(DEVICE, passing.number, transaction=tx),
        lambda tx: xdp.attach(DEVICE, dropping.number, force=True),
    )
    assert attached() == {XdpMode.NATIVE: program_id(dropping)}


def test_refused_attach_takes_nothing_back(lab: netlab.Lab, passing: Fd) -> None:
    """The very program that was to be attached is there already: rolling back must not remove it."""
    xdp.attach(DEVICE, passing.number)
    with pytest.raises(AlreadyAttachedError), Transaction() as transaction:
        xdp.attach(DEVICE, passing.number, transaction=transaction)
    assert attached() == {XdpMode.NATIVE: program_id(passing)}


# --- with fewer capabilities ---

CAP_NET_ADMIN = 1 << 12


def with_capabilities(mask: int, call: Callable[[], object]) -> str:
    """What ``call`` raises, hint included, in a child process with the capabilities of ``mask``; or ''."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sets = struct.pack("=6I", mask, mask, 0, 0, 0, 0)
            assert ctypes.CDLL(None).capset(struct.pack("=Ii", 0x20080522, 0), sets) == 0
            call()
        except BpfctlError as error:
            os.write(writer, f"{error} ({error.hint})".encode())
        except BaseException as error:
            os.write(writer, f"no error of ours: {error!r}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as pipe:
        return pipe.read()


@pytest.mark.parametrize("force", [False, True])
def test_missing_capability_is_named(force: bool, lab: netlab.Lab, passing: Fd) -> None:
    words = with_capabilities(0, lambda: xdp.attach(DEVICE, passing.number, force=force))
    assert words == (
        "v0: cannot attach as xdp: Operation not permitted (EPERM) "
        "(this process lacks CAP_NET_ADMIN; run it as root or grant them)"
    )
    assert attached() == {}


def test_force_without_the_right_to_open_by_id(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    xdp.attach(DEVICE, passing.number)
    assert with_capabilities(CAP_NET_ADMIN, lambda: xdp.attach(DEVICE, dropping.number, force=True)) == ""
    assert attached() == {XdpMode.NATIVE: program_id(dropping)}
    assert with_capabilities(CAP_NET_ADMIN, lambda: xdp.detach(DEVICE)) == ""
    assert attached() == {}


def test_off_in_another_mode_without_the_right_to_open_by_id(lab: netlab.Lab, passing: Fd) -> None:
    """The kernel says yes and does nothing; the state is looked at afterwards."""
    xdp.attach(DEVICE, passing.number, mode=XdpMode.GENERIC)
    words = with_capabilities(CAP_NET_ADMIN, lambda: xdp.detach(DEVICE))
    assert "nothing to take off as xdp: program" in words
    assert attached() == {XdpMode.GENERIC: program_id(passing)}
