"""Attaching against a scripted kernel: what is sent, in which order, and what a lost answer leads to."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable

import pytest
from scripted import (
    Answer,
    Datagram,
    Request,
    ScriptedSystem,
    accepted,
    ack,
    done,
    lost,
    message,
    refused,
    shows,
)

from bpfctl.attach import qdisc, session, tc, xdp, xdp_refusals
from bpfctl.attach.tc import INGRESS, FilterRequest
from bpfctl.attach.xdp import XdpMode
from bpfctl.errors import AlreadyAttachedError, BpfctlError, KernelError, NotFoundError
from bpfctl.kernel import syscall
from bpfctl.kernel.netlink import attribute, attribute_text, attribute_u32, parse_attributes
from bpfctl.uapi import Command

OURS = 70  # id of the program that the tests attach, whatever its descriptor
PROGRAM_FD = 1000
RTM_NEWLINK, RTM_GETLINK, RTM_NEWTFILTER, RTM_GETTFILTER = 16, 18, 44, 46
MISMATCH = refused(errno.EEXIST, xdp_refusals.MISMATCH)


class Kernel(ScriptedSystem):
    """Programs have the ids of ``programs``; opening one by id gives its id plus 2000 as descriptor."""

    def __init__(self, *script: Answer, programs: tuple[int, ...] = (), may_open: bool = True) -> None:
        super().__init__(*script)
        self.programs = programs
        self.may_open = may_open
        self.closed: list[int] = []

    def bpf(self, command: int, attr: bytearray) -> int:
        if command == Command.OBJ_GET_INFO_BY_FD:
            fd, _, address = struct.unpack_from("=2IQ", attr)
            assert fd == PROGRAM_FD
            ctypes.memmove(address + 4, struct.pack("=I", OURS), 4)
            return 0
        if command != Command.PROG_GET_FD_BY_ID:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        if not self.may_open:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        (number,) = struct.unpack_from("=I", attr)
        if number not in self.programs:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return 2000 + number

    def close(self, fd: int) -> None:
        if fd < 2000:
            os.close(fd)
        else:
            self.closed.append(fd)

    def changes(self) -> list[dict[str, int]]:
        """The attributes of each IFLA_XDP that was sent."""
        names = {1: "fd", 3: "flags", 8: "expected"}
        found = []
        for request in self.sent:
            if request.type == RTM_NEWLINK:
                (nested,) = parse_attributes(request.body, 16).values()
                values = parse_attributes(nested).items()
                found.append({names[k]: struct.unpack("=i", v)[0] for k, v in values})
        return found


Install = Callable[..., Kernel]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(*script: Answer, programs: tuple[int, ...] = (), may_open: bool = True) -> Kernel:
        made = Kernel(*script, programs=programs, may_open=may_open)
        monkeypatch.setattr(syscall, "system", made)
        return made

    return install


# --- XDP: what is sent ---


@pytest.mark.parametrize(
    ("mode", "flags"),
    [(XdpMode.ANY, 1), (XdpMode.GENERIC, 3), (XdpMode.NATIVE, 5), (XdpMode.OFFLOAD, 9)],
)
def test_attach_asks_for_an_empty_slot(mode: XdpMode, flags: int, kernel: Install) -> None:
    system = kernel(accepted)
    assert xdp.attach("v0", PROGRAM_FD, mode=mode) == ("v0", 3, mode, OURS, 0)
    assert system.changes() == [{"fd": PROGRAM_FD, "flags": flags}]


def test_force_names_the_program_that_is_there(kernel: Install) -> None:
    system = kernel(shows(native=12), accepted, programs=(12,))
    assert xdp.attach("v0", PROGRAM_FD, force=True).replaced_id == 12
    assert system.changes() == [{"fd": PROGRAM_FD, "flags": 16, "expected": 2012}]
    assert system.closed == [2012]


def test_force_on_an_empty_slot_expects_it_empty(kernel: Install) -> None:
    system = kernel(shows(), accepted)
    assert xdp.attach("v0", PROGRAM_FD, force=True).replaced_id == 0
    assert system.changes() == [{"fd": PROGRAM_FD, "flags": 16, "expected": -1}]


def test_force_follows_a_change(kernel: Install) -> None:
    """Between the look and the request somebody else puts 13 in the place of 12, and then 13 is freed."""
    system = kernel(
        shows(native=12), MISMATCH, shows(native=13), shows(native=14), accepted, programs=(12, 14)
    )
    assert xdp.attach("v0", PROGRAM_FD, force=True, mode=XdpMode.NATIVE).replaced_id == 14
    assert [change["expected"] for change in system.changes()] == [2012, 2014]
    assert system.closed == [2012, 2014]


def test_force_gives_up_after_five_changes(kernel: Install) -> None:
    script = [step for number in range(12, 17) for step in (shows(native=number), MISMATCH)]
    system = kernel(*script, shows(native=17), programs=tuple(range(12, 17)))
    with pytest.raises(KernelError, match="changed each of the 5 times"):
        xdp.attach("v0", PROGRAM_FD, force=True)
    assert len(system.changes()) == 5
    assert len(system.closed) == 5


def test_force_without_the_right_to_open_overwrites(kernel: Install) -> None:
    system = kernel(shows(native=12), accepted, may_open=False)
    assert xdp.attach("v0", PROGRAM_FD, force=True).replaced_id == 12
    assert system.changes() == [{"fd": PROGRAM_FD}]


def test_detach_names_the_program(kernel: Install) -> None:
    system = kernel(shows(native=12), shows(native=12), accepted, programs=(12,))
    change = xdp.detach("v0")
    assert change is not None
    assert (change.program_id, change.replaced_id) == (0, 12)
    assert system.changes() == [{"fd": -1, "flags": 16, "expected": 2012}]


def test_detach_of_nothing_sends_nothing(kernel: Install) -> None:
    system = kernel(shows())
    assert xdp.detach("v0", mode=XdpMode.GENERIC) is None
    assert system.changes() == []


def test_unprivileged_detach_looks_whether_it_worked(kernel: Install) -> None:
    """Without CAP_SYS_ADMIN the kernel cannot be told which program is meant, and says yes either way."""
    kernel(*[shows(generic=12)] * 2, accepted, *[shows(generic=12)] * 2, may_open=False)
    with pytest.raises(
        NotFoundError, match="nothing to take off as xdp: program 12 is attached as xdpgeneric"
    ):
        xdp.detach("v0")


# --- XDP: the answer is lost ---


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EINTR])
def test_lost_answer_to_an_attach_that_worked(code: int, kernel: Install) -> None:
    kernel(lost(code), shows(native=OURS))
    assert xdp.attach("v0", PROGRAM_FD).program_id == OURS


@pytest.mark.parametrize("there", [0, 12])
def test_lost_answer_to_an_attach_that_did_not(there: int, kernel: Install) -> None:
    kernel(lost(errno.ENOBUFS), shows(native=there))
    with pytest.raises(KernelError, match="v0: the kernel's answer was lost and nothing has changed"):
        xdp.attach("v0", PROGRAM_FD)


def test_lost_answer_and_nothing_to_be_read(kernel: Install) -> None:
    kernel(lost(errno.ENOBUFS), lost(errno.ENOBUFS))
    with pytest.raises(KernelError, match="the outcome is unknown"):
        xdp.attach("v0", PROGRAM_FD)


def test_lost_answer_is_not_the_slot_of_another_mode(kernel: Install) -> None:
    kernel(lost(errno.ENOBUFS), shows(native=OURS))
    with pytest.raises(KernelError, match="nothing has changed"):
        xdp.attach("v0", PROGRAM_FD, mode=XdpMode.GENERIC)


def test_lost_answer_to_a_detach(kernel: Install) -> None:
    kernel(*[shows(native=12)] * 2, lost(errno.ENOBUFS), shows(), programs=(12,))
    change = xdp.detach("v0")
    assert change is not None
    assert change.replaced_id == 12
    kernel(*[shows(native=12)] * 2, lost(errno.ENOBUFS), shows(native=12), programs=(12,))
    with pytest.raises(KernelError, match="nothing has changed"):
        xdp.detach("v0")


# --- filters ---


def entry(pref: int, handle: int, program_id: int, request: Request) -> bytes:
    info = pref << 16 | int.from_bytes(struct.pack("=H", 3), "big")
    body = struct.pack("=BxxxiIII", 0, 3, handle, INGRESS, info) + attribute_text(1, "bpf")
    if handle:
        body += attribute(2, attribute_u32(11, program_id))
    return message(RTM_NEWTFILTER, request.sequence, body)


def lists(*filters: tuple[int, int, int]) -> Answer:
    """An answer to a filter dump: (pref, handle, program id) each, after the entry of its pref."""

    def answer(request: Request) -> list[Datagram]:
        parts = [
            entry(pref, number, program, request)
            for pref, handle, program in filters
            for number in (0, handle)
        ]
        return [b"".join(parts) + done(request)]

    return answer


def echoes(pref: int, handle: int) -> Answer:
    """The kernel took the filter: its notification, then the ACK."""
    return lambda request: [entry(pref, handle, OURS, request), ack(request)]


ON_INGRESS = FilterRequest("v0", INGRESS)


def keys(system: Kernel, kind: int = RTM_NEWTFILTER) -> list[tuple[int, int, int]]:
    """(flags without REQUEST, ACK and ECHO, pref, handle) of each message of ``kind`` that was sent."""
    found = []
    for request in system.sent:
        if request.type == kind:
            _, _, handle, _, info = struct.unpack_from("=BxxxiIII", request.body)
            found.append((request.flags & ~0xD, info >> 16, handle))
    return found


def test_add_reports_what_the_kernel_chose(kernel: Install) -> None:
    system = kernel(echoes(49152, 1))
    assert tc.add(ON_INGRESS, PROGRAM_FD) == (49152, 3, 0, 1, 0)
    assert keys(system) == [(0x600, 0, 0)]


def test_add_takes_one_message_when_all_goes_well(kernel: Install) -> None:
    """A batch of ten thousand filters has no time for looking around."""
    system = kernel(echoes(5, 1))
    tc.add(ON_INGRESS._replace(pref=5), PROGRAM_FD)
    assert len(system.sent) == 1


def test_replace_without_a_handle_hits_the_one_filter(kernel: Install) -> None:
    system = kernel(lists((7, 2, 12)), echoes(7, 2))
    assert tc.replace(ON_INGRESS, PROGRAM_FD) == (7, 3, 0, 2, 12)
    assert keys(system) == [(0x400, 7, 2)]


def test_replace_adds_where_nothing_is(kernel: Install) -> None:
    system = kernel(lists(), echoes(49152, 1))
    assert tc.replace(ON_INGRESS, PROGRAM_FD).replaced_id == 0
    assert keys(system) == [(0x400, 0, 0)]


def test_lost_answer_to_an_add_is_looked_up(kernel: Install) -> None:
    """The older filter at pref 7 runs the same program; the kernel does not choose such a pref."""
    kernel(lost(errno.ENOBUFS), lists((7, 1, OURS), (49150, 1, 13), (49151, 1, OURS)))
    assert tc.add(ON_INGRESS, PROGRAM_FD)[:4] == (49151, 3, 0, 1)


def test_lost_answer_to_an_add_that_did_not_happen(kernel: Install) -> None:
    kernel(lost(errno.ENOBUFS), lists((7, 1, OURS), (49151, 1, 13)))
    with pytest.raises(KernelError, match="v0 ingress: the kernel's answer was lost and nothing has changed"):
        tc.add(ON_INGRESS, PROGRAM_FD)


def test_lost_answer_to_a_replace(kernel: Install) -> None:
    kernel(lists((7, 2, 12)), lost(errno.ENOBUFS), lists((7, 2, OURS)))
    assert tc.replace(ON_INGRESS, PROGRAM_FD).replaced_id == 12
    kernel(lists((7, 2, 12)), lost(errno.ENOBUFS), lists((7, 2, 12)))
    with pytest.raises(KernelError, match="nothing has changed"):
        tc.replace(ON_INGRESS, PROGRAM_FD)


def test_lost_answer_to_a_delete(kernel: Install) -> None:
    kernel(lists((7, 2, 12)), lost(errno.ENOBUFS), lists())
    assert [state.program_id for state in tc.delete(ON_INGRESS)] == [12]
    kernel(lists((7, 2, 12)), lost(errno.ENOBUFS), lists((7, 2, 12)))
    with pytest.raises(KernelError, match="nothing has changed"):
        tc.delete(ON_INGRESS)
    kernel(lists((7, 2, 12)), lost(errno.ENOBUFS), lost(errno.ENOBUFS))
    with pytest.raises(KernelError, match="the outcome is unknown"):
        tc.delete(ON_INGRESS)


# --- qdiscs, and what all verbs share ---


def has_qdisc(kind: str) -> Answer:
    def answer(request: Request) -> list[Datagram]:
        body = struct.pack("=BxxxiIII", 0, 3, 0xFFFF0000, 0xFFFFFFF1, 0) + attribute_text(1, kind)
        return [message(36, request.sequence, body), ack(request)]

    return answer if kind else refused(errno.ENOENT, "no")


@pytest.mark.parametrize(("verb", "kind"), [(qdisc.add, "clsact"), (qdisc.delete, "")])
def test_lost_answer_about_a_qdisc(verb: Callable[[str], None], kind: str, kernel: Install) -> None:
    kernel(lost(errno.ENOBUFS), has_qdisc(kind))
    verb("v0")
    kernel(lost(errno.ENOBUFS), has_qdisc("" if kind else "clsact"))
    with pytest.raises(KernelError, match="nothing has changed"):
        verb("v0")


def test_other_owner_is_named_even_when_nothing_else_is_known(kernel: Install) -> None:
    kernel(refused(errno.EBUSY, "XDP program already attached"), shows(native=12))
    with pytest.raises(AlreadyAttachedError, match="v0: program 12 is attached as xdpdrv"):
        xdp.attach("v0", PROGRAM_FD)


VERBS: list[Callable[[], object]] = [
    lambda: xdp.attach("v0", PROGRAM_FD),
    lambda: xdp.attach("v0", PROGRAM_FD, force=True),
    lambda: xdp.detach("v0"),
    lambda: xdp.list_interfaces(),
    lambda: tc.add(ON_INGRESS, PROGRAM_FD),
    lambda: tc.replace(ON_INGRESS, PROGRAM_FD),
    lambda: tc.change(ON_INGRESS, PROGRAM_FD),
    lambda: tc.delete(ON_INGRESS),
    lambda: tc.show(ON_INGRESS),
    lambda: qdisc.add("v0"),
    lambda: qdisc.delete("v0"),
    lambda: qdisc.show(),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOMEM, errno.ENODEV])
def test_every_refusal_ends_in_our_error(verb: Callable[[], object], code: int, kernel: Install) -> None:
    kernel(*[refused(code)] * 4)
    with pytest.raises(BpfctlError):
        verb()


@pytest.mark.parametrize("verb", VERBS)
def test_every_unreadable_answer_ends_in_our_error(verb: Callable[[], object], kernel: Install) -> None:
    kernel(*[lambda request: [b"nonsense"]] * 4)
    with pytest.raises(BpfctlError):
        verb()


@pytest.mark.parametrize("verb", VERBS)
def test_no_socket_ends_in_our_error(
    verb: Callable[[], object], kernel: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(kernel(), "netlink_open", fail)
    with pytest.raises(KernelError, match="cannot open a netlink socket: Too many open files"):
        verb()


def test_verbs_of_a_batch_share_a_socket(kernel: Install) -> None:
    system = kernel(*[echoes(5, 1)] * 4)
    with session.shared_socket():
        for _ in range(3):
            tc.add(ON_INGRESS, PROGRAM_FD)
        assert system.opened == 1
    tc.add(ON_INGRESS, PROGRAM_FD)
    assert system.opened == 2
