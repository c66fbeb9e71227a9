"""Netlink messages: what we pack, pyroute2 reads; what it packs, we read; what is broken ends in OSError."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg
from scripted import (
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLMSG_OVERRUN,
    Answer,
    Datagram,
    Request,
    ScriptedSystem,
    accepted,
    ack,
    done,
    link,
    lost,
    message,
    refused,
)

from bpfctl.kernel import netlink, rtnl_link, rtnl_tc, syscall
from bpfctl.kernel.netlink import (
    AnswerLostError,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    parse_attributes,
)
from bpfctl.kernel.rtnl_tc import EGRESS, INGRESS, FilterOptions, Key, Place

RTM_NEWLINK, RTM_GETLINK, RTM_NEWTFILTER = 16, 18, 44


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedSystem]:
    """``scripted(answer, ...)`` puts a ScriptedSystem in the kernel's place."""

    def install(*script: Answer) -> ScriptedSystem:
        system = ScriptedSystem(*script)
        monkeypatch.setattr(syscall, "system", system)
        return system

    return install


# --- attributes ---


@given(st.lists(st.tuples(st.integers(1, 200), st.binary(max_size=40)), unique_by=lambda pair: pair[0]))
def test_attributes_come_back(pairs: list[tuple[int, bytes]]) -> None:
    packed = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(packed) % 4 == 0
    assert parse_attributes(packed) == dict(pairs)


def test_flag_bits_of_a_type_are_ignored() -> None:
    assert parse_attributes(attribute(0x8000 | 7, b"abcd")) == {7: b"abcd"}


@given(st.binary(max_size=64))
def test_any_bytes_parse_or_end_in_oserror(data: bytes) -> None:
    try:
        found = parse_attributes(data)
    except OSError:
        return
    assert sum(map(len, found.values())) <= len(data)


@pytest.mark.parametrize("length", [0, 3, 13, 0xFFFF])
def test_attribute_that_leads_out_is_refused(length: int) -> None:
    with pytest.raises(OSError, match=f"attribute of {length} bytes, 12 left"):
        parse_attributes(struct.pack("=HH8x", length, 1))


# --- requests and their answers ---


def ask() -> list[netlink.Message]:
    with NetlinkSocket() as socket:
        return socket.request(RTM_GETLINK, 0, b"")


def test_request_header(scripted: Callable[..., ScriptedSystem]) -> None:
    system = scripted(accepted, accepted)
    with NetlinkSocket() as socket:
        socket.request(RTM_NEWLINK, 0x600, b"body")
        socket.request(RTM_NEWLINK, 0, b"")
    assert system.sent == [Request(RTM_NEWLINK, 0x605, 1, b"body"), Request(RTM_NEWLINK, 0x005, 2, b"")]


def test_messages_before_the_ack(scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(
        lambda request: [
            message(16, request.sequence, b"one") + message(16, request.sequence, b"two!!"),
            ack(request),
        ]
    )
    assert [entry.body for entry in ask()] == [b"one", b"two!!"]


def test_refusal_has_the_kernels_words(scripted: Callable[..., ScriptedSystem]) -> None:
    tlvs = attribute_u32(2, 36) + attribute_u32(5, 12)
    scripted(lambda request: [ack(request, errno.EINVAL, "Need more tea", tlvs)])
    with pytest.raises(NetlinkError) as caught:
        ask()
    error = caught.value
    assert (error.errno, error.strerror, error.text) == (errno.EINVAL, "Need more tea", "Need more tea")
    assert (error.offset, error.missing) == (36, 12)


def test_refusal_without_words(scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(refused(errno.EBADF))
    with pytest.raises(NetlinkError) as caught:
        ask()
    assert (caught.value.errno, caught.value.strerror) == (errno.EBADF, "Bad file descriptor")
    assert (caught.value.text, caught.value.offset, caught.value.missing) == ("", None, None)


def test_extended_ack_behind_a_repeated_request(scripted: Callable[..., ScriptedSystem]) -> None:
    """A kernel that ignores NETLINK_CAP_ACK repeats the whole request before the attributes."""

    def answer(request: Request) -> list[Datagram]:
        repeated = message(request.type, request.sequence, b"the body", request.flags)
        body = struct.pack("=i", -errno.EPERM) + repeated + attribute_text(1, "No")
        return [message(2, request.sequence, body, 0x200)]

    scripted(answer)
    with pytest.raises(NetlinkError, match="No"):
        ask()


def test_warning_of_an_accepted_request(scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(lambda request: [ack(request, 0, "Deprecated")], accepted)
    with NetlinkSocket() as socket:
        socket.request(RTM_NEWLINK, 0, b"")
        assert socket.warning == "Deprecated"
        socket.request(RTM_NEWLINK, 0, b"")
        assert socket.warning == ""


def test_dump_in_many_parts(scripted: Callable[..., ScriptedSystem]) -> None:
    def answer(request: Request) -> list[Datagram]:
        parts = [message(16, request.sequence, bytes([n]) * 5, NLM_F_MULTI) for n in range(4)]
        return [parts[0] + parts[1], parts[2], parts[3] + done(request)]

    system = scripted(answer)
    with NetlinkSocket() as socket:
        assert [entry.body[0] for entry in socket.dump(RTM_GETLINK, b"")] == [0, 1, 2, 3]
    assert system.sent[0].flags == 0x301


def interrupted(request: Request) -> list[Datagram]:
    return [message(16, request.sequence, b"old", NLM_F_MULTI | NLM_F_DUMP_INTR), done(request)]


def test_dump_that_changed_is_asked_for_again(scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(interrupted, lambda request: [message(16, request.sequence, b"new"), done(request)])
    with NetlinkSocket() as socket:
        assert [entry.body for entry in socket.dump(RTM_GETLINK, b"")] == [b"new"]


def test_dump_is_not_asked_for_for_ever(scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(*[interrupted] * 5)
    with NetlinkSocket() as socket, pytest.raises(OSError, match="changed each of the 5 times"):
        socket.dump(RTM_GETLINK, b"")


def test_dump_that_ends_in_an_error(scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(lambda request: [done(request, errno.ENOMEM)])
    with NetlinkSocket() as socket, pytest.raises(NetlinkError, match="Cannot allocate memory"):
        socket.dump(RTM_GETLINK, b"")


def test_answer_nobody_waited_for_is_dropped(scripted: Callable[..., ScriptedSystem]) -> None:
    """Interrupted between request and answer: the answer still lies in the socket at the next request."""
    late: list[Datagram] = []

    def interrupts(request: Request) -> list[Datagram]:
        late.append(ack(request, errno.EBUSY))
        return [KeyboardInterrupt()]

    scripted(interrupts, lambda request: [*late, message(16, request.sequence, b"mine"), ack(request)])
    with NetlinkSocket() as socket:
        with pytest.raises(KeyboardInterrupt):
            socket.request(RTM_NEWLINK, 0, b"")
        assert [entry.body for entry in socket.request(RTM_GETLINK, 0, b"")] == [b"mine"]


def test_socket_that_lost_an_answer_is_replaced(scripted: Callable[..., ScriptedSystem]) -> None:
    system = scripted(lost(errno.ENOBUFS), accepted)
    with NetlinkSocket() as socket:
        with pytest.raises(AnswerLostError):
            socket.request(RTM_NEWLINK, 0, b"")
        socket.request(RTM_NEWLINK, 0, b"")
    assert system.opened == 2


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.EINTR, errno.EIO])
def test_failing_receive_means_lost(code: int, scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(lost(code))
    with pytest.raises(AnswerLostError) as caught:
        ask()
    assert caught.value.errno == code


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x10\0\0",
        struct.pack("=IHHII", 15, 16, 0, 1, 0),
        struct.pack("=IHHII", 17, 16, 0, 1, 0),
        message(2, 1, b"\0\0"),
        message(NLMSG_OVERRUN, 1, b"\0\0\0\0"),
        message(16, 77, b"") * 2000,
    ],
    ids=["empty", "cut header", "too short", "too long", "no error code", "overrun", "only others' messages"],
)
def test_answer_without_sense_means_lost(datagram: bytes, scripted: Callable[..., ScriptedSystem]) -> None:
    scripted(lambda request: [datagram])
    with pytest.raises(AnswerLostError):
        ask()


def test_every_cut_of_an_answer_ends_in_oserror(scripted: Callable[..., ScriptedSystem]) -> None:
    def cut_at(size: int) -> Answer:
        return lambda request: [(message(16, request.sequence, link(7)) + ack(request))[:size]]

    whole = len(message(16, 1, link(7)))
    for size in range(whole):
        scripted(cut_at(size))
        with NetlinkSocket() as socket, pytest.raises(OSError, match="netlink: "):
            rtnl_link.get_link(socket, 3)


def test_unsent_request_is_no_lost_answer(scripted: Callable[..., ScriptedSystem]) -> None:
    def fail(request: Request) -> list[Datagram]:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    scripted(fail)
    with pytest.raises(OSError, match="Cannot allocate") as caught:
        ask()
    assert not isinstance(caught.value, AnswerLostError)


# --- pyroute2 reads what we pack ---


def decoded(kind: type[Any], request: Request) -> Any:
    found = kind(message(request.type, request.sequence, request.body, request.flags))
    found.decode()
    return found


@pytest.mark.parametrize(
    ("expected_fd", "fields"),
    [
        (None, {"IFLA_XDP_FD": 9, "IFLA_XDP_FLAGS": 5}),
        (-1, {"IFLA_XDP_FD": 9, "IFLA_XDP_FLAGS": 5 | 16, "IFLA_XDP_EXPECTED_FD": -1}),
        (8, {"IFLA_XDP_FD": 9, "IFLA_XDP_FLAGS": 5 | 16, "IFLA_XDP_EXPECTED_FD": 8}),
    ],
)
def test_xdp_message(
    expected_fd: int | None, fields: dict[str, int], scripted: Callable[..., ScriptedSystem]
) -> None:
    system = scripted(accepted)
    with NetlinkSocket() as socket:
        rtnl_link.set_xdp(socket, 3, 9, 5, expected_fd)
    found = decoded(ifinfmsg, system.sent[0])
    assert (system.sent[0].type, found["index"]) == (RTM_NEWLINK, 3)
    assert dict(found.get_attr("IFLA_XDP")["attrs"]) == fields


def test_filter_message(scripted: Callable[..., ScriptedSystem]) -> None:
    system = scripted(accepted)
    options = FilterOptions(9, "x.o:[cls]", 0x10002, direct_action=True, flags_gen=1)
    with NetlinkSocket() as socket:
        rtnl_tc.set_filter(socket, Place(3, EGRESS), Key(7, 0x0800, None, 0x15), options, rtnl_tc.ADD)
    found = decoded(tcmsg, system.sent[0])
    assert (system.sent[0].type, system.sent[0].flags) == (RTM_NEWTFILTER, 0x60D)
    assert (found["index"], found["handle"], found["parent"]) == (3, 0x15, EGRESS)
    assert found["info"] == 7 << 16 | int.from_bytes(struct.pack("=H", 0x0800), "big")
    assert found.get_attr("TCA_KIND") == "bpf"
    named = dict(found.get_attr("TCA_OPTIONS")["attrs"])
    assert named["TCA_BPF_CLASSID"] == 0x10002
    assert (named["TCA_BPF_FD"], named["TCA_BPF_NAME"], named["TCA_BPF_FLAGS"]) == (9, "x.o:[cls]", 1)


def test_filter_attributes_are_in_tcs_order(scripted: Callable[..., ScriptedSystem]) -> None:
    system = scripted(accepted)
    options = FilterOptions(9, "n", 1, direct_action=True, flags_gen=2)
    with NetlinkSocket() as socket:
        rtnl_tc.set_filter(socket, Place(3, INGRESS), Key(1, 3, 4), options, rtnl_tc.ADD)
    outer = parse_attributes(system.sent[0].body, 20)
    assert list(outer) == [11, 1, 2]  # chain, kind, options
    assert list(parse_attributes(outer[2])) == [3, 6, 7, 9, 8]  # classid, fd, name, flags_gen, flags


def test_block_takes_the_place_of_the_parent(scripted: Callable[..., ScriptedSystem]) -> None:
    system = scripted(accepted)
    with NetlinkSocket() as socket:
        rtnl_tc.delete_filter(socket, Place(0, 0, 22), Key(7, 3))
    assert struct.unpack_from("=BxxxIIII", system.sent[0].body) == (0, 0xFFFFFFFF, 0, 22, 7 << 16 | 0x0300)


# --- we read what pyroute2 packs ---


def encoded(kind: type[Any], fields: dict[str, Any], attrs: list[tuple[str, Any]]) -> bytes:
    made = kind()
    for name, value in fields.items():
        made[name] = value
    made["attrs"] = attrs
    made.encode()
    return bytes(made.data[16:])


def answering(kind: int, *bodies: bytes) -> Answer:
    return lambda request: [
        *(message(kind, request.sequence, body, NLM_F_MULTI) for body in bodies),
        done(request),
    ]


@pytest.mark.parametrize(
    ("attached", "ids", "slots"),
    [
        (1, {"PROG_ID": 5, "DRV_PROG_ID": 5}, (1, 5, 0, 0)),
        (2, {"PROG_ID": 5, "SKB_PROG_ID": 5}, (2, 0, 5, 0)),
        (4, {"DRV_PROG_ID": 5, "HW_PROG_ID": 6}, (4, 5, 0, 6)),
        (2, {"PROG_ID": 5}, (2, 0, 5, 0)),
    ],
    ids=["native", "generic", "two", "kernel without slot ids"],
)
def test_link_message(
    attached: int, ids: dict[str, int], slots: tuple[int, ...], scripted: Callable[..., ScriptedSystem]
) -> None:
    xdp = [("IFLA_XDP_ATTACHED", attached), *((f"IFLA_XDP_{name}", number) for name, number in ids.items())]
    attrs = [("IFLA_IFNAME", "eth7"), ("IFLA_MTU", 9000), ("IFLA_XDP", {"attrs": xdp})]
    scripted(answering(RTM_NEWLINK, encoded(ifinfmsg, {"index": 7, "flags": 0x1043}, attrs)))
    with NetlinkSocket() as socket:
        (found,) = rtnl_link.list_links(socket)
    assert (found.ifindex, found.name, found.flags, found.mtu) == (7, "eth7", 0x1043, 9000)
    assert tuple(found.xdp) == slots


def test_filter_entries(scripted: Callable[..., ScriptedSystem]) -> None:
    info = 7 << 16 | int.from_bytes(struct.pack("=H", 0x86DD), "big")
    header = {"index": 3, "parent": INGRESS, "info": info}
    head = encoded(tcmsg, header, [("TCA_KIND", "bpf")])
    attrs = [("TCA_BPF_NAME", "x.o:[cls]"), ("TCA_BPF_FLAGS", 1), ("TCA_BPF_CLASSID", 0x10001)]
    full = encoded(tcmsg, {**header, "handle": 1}, [("TCA_KIND", "bpf"), ("TCA_OPTIONS", {"attrs": attrs})])
    scripted(answering(RTM_NEWTFILTER, head, full))
    with NetlinkSocket() as socket:
        first, second = rtnl_tc.list_filters(socket, Place(3, INGRESS), Key())
    assert (first.kind, first.handle, first.pref, first.protocol, first.parent) == (
        "bpf",
        0,
        7,
        0x86DD,
        INGRESS,
    )
    assert (second.handle, second.name, second.direct_action, second.classid) == (
        1,
        "x.o:[cls]",
        True,
        0x10001,
    )
