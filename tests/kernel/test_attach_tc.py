"""cls_bpf filters and their qdiscs on a real veth pair; tc(8) semantics, and where they differ."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import netlab
import pytest
from programs import TC_ACT_OK, TC_ACT_SHOT, load, program_id
from pyroute2 import IPRoute

from bpfctl.attach import namespace, qdisc, tc
from bpfctl.attach.tc import EGRESS, INGRESS, FilterRequest
from bpfctl.errors import AlreadyAttachedError, AmbiguousError, BpfctlError, KernelError, NotFoundError
from bpfctl.kernel import rtnl_link, rtnl_tc
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkSocket,
    attribute_text,
    attribute_u32,
)
from bpfctl.loader import Transaction
from bpfctl.uapi import ProgramType

pytestmark = pytest.mark.kernel

DEVICE = "v0"
ON_INGRESS = FilterRequest(DEVICE, INGRESS, direct_action=True)
ETH_P_IP, ETH_P_ALL = 0x0800, 3


@pytest.fixture
def bare(netns: netlab.Lab) -> Iterator[netlab.Lab]:
    """This thread in the namespace of ``v0``."""
    with netlab.inside(netns.a.namespace):
        yield netns


@pytest.fixture
def lab(bare: netlab.Lab) -> netlab.Lab:
    """And ``v0`` has a clsact qdisc."""
    qdisc.add(DEVICE)
    return bare


@pytest.fixture
def passing() -> Iterator[Fd]:
    with load(ProgramType.SCHED_CLS, TC_ACT_OK, "passing") as program:
        yield program


@pytest.fixture
def dropping() -> Iterator[Fd]:
    with load(ProgramType.SCHED_CLS, TC_ACT_SHOT, "dropping") as program:
        yield program


def filters(request: FilterRequest = ON_INGRESS) -> list[tuple[int, int, int]]:
    """(pref, handle, program id) of each filter."""
    return [(state.pref, state.handle, state.program_id) for state in tc.show(request) if state.handle]


def refusal(call: Callable[[], object], kind: type[BpfctlError]) -> BpfctlError:
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def add_u32(pref: int) -> None:
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=DEVICE)[0]
        ip.tc(
            "add-filter",
            "u32",
            index,
            parent=INGRESS,
            prio=pref,
            protocol=ETH_P_ALL,
            target=0x10001,
            keys=["0x0/0x0+0"],
        )


# --- qdiscs ---


@pytest.mark.parametrize("kind", [qdisc.CLSACT, qdisc.INGRESS])
def test_qdisc_comes_and_goes(kind: str, bare: netlab.Lab) -> None:
    qdisc.add(DEVICE, kind)
    assert [(entry.device, entry.kind, entry.parent) for entry in qdisc.show()] == [
        (DEVICE, kind, 0xFFFFFFF1)
    ]
    assert "noqueue" in [entry.kind for entry in qdisc.show(DEVICE, every_kind=True)]
    qdisc.delete(DEVICE, kind)
    assert qdisc.show(DEVICE) == []


def test_second_qdisc_is_refused(lab: netlab.Lab) -> None:
    error = refusal(lambda: qdisc.add(DEVICE), AlreadyAttachedError)
    assert str(error) == "v0: a qdisc of kind clsact is there: Exclusivity flag on, cannot modify"
    error = refusal(lambda: qdisc.add(DEVICE, qdisc.INGRESS), AlreadyAttachedError)
    assert error.hint == "`bpfctl qdisc del dev v0 clsact` removes it and its filters"


def test_deleting_a_qdisc_that_is_not_there(bare: netlab.Lab) -> None:
    assert "v0: no clsact qdisc" in str(refusal(lambda: qdisc.delete(DEVICE), NotFoundError))
    qdisc.add(DEVICE, qdisc.INGRESS)
    error = refusal(lambda: qdisc.delete(DEVICE), NotFoundError)
    assert error.hint == "there is one of kind ingress"


def test_qdisc_is_taken_back(bare: netlab.Lab) -> None:
    def run() -> None:
        with Transaction() as transaction:
            qdisc.add(DEVICE, transaction=transaction)
            raise KernelError("later")

    refusal(run, KernelError)
    assert qdisc.show(DEVICE) == []


# --- adding ---


def test_filter_sees_packets(lab: netlab.Lab, dropping: Fd) -> None:
    assert netlab.send_udp(lab.b, lab.a, 10) == 10
    tc.add(ON_INGRESS, dropping.number)
    assert netlab.send_udp(lab.b, lab.a, 10) == 0
    tc.delete(ON_INGRESS)
    tc.add(ON_INGRESS._replace(parent=EGRESS), dropping.number)
    assert netlab.send_udp(lab.b, lab.a, 10) == 10
    assert netlab.send_udp(lab.a, lab.b, 10) == 0


def test_defaults_are_tcs(lab: netlab.Lab, passing: Fd) -> None:
    assert tc.add(ON_INGRESS, passing.number) == (49152, ETH_P_ALL, 0, 1, 0)
    assert tc.add(ON_INGRESS, passing.number) == (49151, ETH_P_ALL, 0, 1, 0)


def test_everything_said_is_there_again(lab: netlab.Lab, passing: Fd) -> None:
    request = FilterRequest(
        DEVICE, EGRESS, 0, 7, ETH_P_IP, 5, 0x15, 0x10002, True, skip_hw=True, name="x.o:[classifier]"
    )
    assert tc.add(request, passing.number) == (7, ETH_P_IP, 5, 0x15, 0)
    head, state = tc.show(FilterRequest(DEVICE, EGRESS))
    assert (head.kind, head.pref, head.handle) == ("bpf", 7, 0)
    assert (state.pref, state.protocol, state.chain, state.handle) == (7, ETH_P_IP, 5, 0x15)
    assert (state.classid, state.direct_action, state.name) == (0x10002, True, "x.o:[classifier]")
    assert state.flags_gen == 1 | 8  # skip_hw as asked for; not_in_hw, adds the kernel
    assert state.program_id == program_id(passing)
    assert len(state.tag) == 16


def test_pyroute2_sees_the_same(lab: netlab.Lab, passing: Fd) -> None:
    tc.add(ON_INGRESS._replace(pref=7, name="note", classid=0x10002), passing.number)
    with IPRoute() as ip:
        _, found = ip.get_filters(index=ip.link_lookup(ifname=DEVICE)[0], parent=INGRESS)
    options = found.get_attr("TCA_OPTIONS")
    assert (found["info"] >> 16, found["handle"], found.get_attr("TCA_KIND")) == (7, 1, "bpf")
    assert (options.get_attr("TCA_BPF_NAME"), options.get_attr("TCA_BPF_CLASSID")) == ("note", 0x10002)
    assert options.get_attr("TCA_BPF_FLAGS") == 1


def test_filter_of_pyroute2_is_seen(lab: netlab.Lab, passing: Fd) -> None:
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=DEVICE)[0]
        ip.tc(
            "add-filter",
            "bpf",
            index,
            fd=passing.number,
            name="theirs",
            parent=INGRESS,
            prio=9,
            protocol=ETH_P_ALL,
        )
    _, state = tc.show(ON_INGRESS)
    assert (state.pref, state.name, state.program_id) == (9, "theirs", program_id(passing))


def share_ingress(block: int) -> None:
    """A clsact qdisc whose ingress is a shared block: pyroute2 has no word for that."""
    with NetlinkSocket() as socket:
        ifindex = rtnl_link.find_index(socket, DEVICE)
        header = struct.pack("=BxxxiIII", 0, ifindex, 0xFFFF0000, rtnl_tc.CLSACT, 0)
        attributes = attribute_text(1, "clsact") + attribute_u32(13, block)
        socket.request(36, NLM_F_CREATE | NLM_F_EXCL, header + attributes)


def test_shared_block(bare: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    share_ingress(22)
    assert qdisc.show(DEVICE)[0].ingress_block == 22
    block = FilterRequest(block=22, direct_action=True)
    tc.add(block, passing.number)
    assert tc.replace(block, dropping.number).replaced_id == program_id(passing)
    assert netlab.send_udp(bare.b, bare.a, 10) == 0
    assert [state.block for state in tc.delete(block)] == [22]
    error = refusal(lambda: tc.add(ON_INGRESS, passing.number), KernelError)
    assert "This filter block is shared" in str(error)
    assert "`filter add block N` reaches it" in str(error.hint)


# --- replacing ---


def test_replace_replaces_the_one_filter(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    """tc(8) would add a second filter here."""
    tc.add(ON_INGRESS._replace(protocol=ETH_P_IP), passing.number)
    change = tc.replace(ON_INGRESS, dropping.number)
    assert change == (49152, ETH_P_IP, 0, 1, program_id(passing))
    assert filters() == [(49152, 1, program_id(dropping))]


def test_replace_adds_the_first(lab: netlab.Lab, passing: Fd) -> None:
    assert tc.replace(ON_INGRESS, passing.number).replaced_id == 0
    assert tc.replace(ON_INGRESS._replace(parent=EGRESS), passing.number).replaced_id == 0
    assert tc.replace(ON_INGRESS._replace(chain=4), passing.number).replaced_id == 0
    assert len(filters()) == 2


def test_replace_among_several_needs_to_know_which(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    tc.add(ON_INGRESS._replace(pref=5, handle=7, name="a.o:[x]"), passing.number)
    tc.add(ON_INGRESS._replace(pref=6, protocol=ETH_P_IP), passing.number)
    error = refusal(lambda: tc.replace(ON_INGRESS, dropping.number), AmbiguousError)
    assert str(error) == "v0 ingress: 2 bpf filters fit"
    assert error.details == (
        "filter pref 5 handle 0x7 protocol 0x3 a.o:[x]",
        "filter pref 6 handle 0x1 protocol 0x800",
    )
    for narrowed in ({"pref": 5}, {"handle": 7}, {"protocol": ETH_P_ALL}, {"pref": 5, "handle": 7}):
        assert tc.replace(ON_INGRESS._replace(**narrowed), dropping.number)[:4] == (5, ETH_P_ALL, 0, 7)
    assert filters() == [(5, 7, program_id(dropping)), (6, 1, program_id(passing))]


def test_filters_of_other_kinds_do_not_count(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    add_u32(20)
    tc.replace(ON_INGRESS, passing.number)
    assert tc.replace(ON_INGRESS, dropping.number).replaced_id == program_id(passing)


def test_change_wants_a_filter(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    error = refusal(lambda: tc.change(ON_INGRESS, passing.number), NotFoundError)
    assert (str(error), error.hint) == ("v0 ingress: no bpf filter", "there are no filters")
    tc.add(ON_INGRESS, passing.number)
    assert tc.change(ON_INGRESS, dropping.number).replaced_id == program_id(passing)


def test_replacing_leaves_no_gap(lab: netlab.Lab, dropping: Fd) -> None:
    """Both programs drop: a packet that comes through saw the hook without a filter."""
    received: list[int] = []
    with load(ProgramType.SCHED_CLS, TC_ACT_SHOT, "also") as also:
        tc.add(ON_INGRESS, dropping.number)
        sender = threading.Thread(target=lambda: received.append(netlab.send_udp(lab.b, lab.a, 20000)))
        sender.start()
        replaced = 0
        while sender.is_alive():
            tc.replace(ON_INGRESS, (also, dropping)[replaced % 2].number)
            replaced += 1
        sender.join()
    assert received == [0]
    assert replaced > 100


# --- deleting ---


def test_delete_needs_no_protocol(lab: netlab.Lab, passing: Fd) -> None:
    tc.add(ON_INGRESS._replace(pref=5, protocol=ETH_P_IP), passing.number)
    (deleted,) = tc.delete(ON_INGRESS._replace(pref=5))
    assert (deleted.pref, deleted.protocol, deleted.program_id) == (5, ETH_P_IP, program_id(passing))
    assert filters() == []


def test_delete_of_a_pref_takes_all_its_filters(lab: netlab.Lab, passing: Fd) -> None:
    for handle in (1, 2, 3):
        tc.add(ON_INGRESS._replace(pref=5, handle=handle), passing.number)
    tc.add(ON_INGRESS._replace(pref=6), passing.number)
    assert len(tc.delete(ON_INGRESS._replace(pref=5, handle=2))) == 1
    assert len(tc.delete(ON_INGRESS._replace(pref=5))) == 2
    assert [pref for pref, _, _ in filters()] == [6]


def test_delete_among_several_needs_to_know_which(lab: netlab.Lab, passing: Fd) -> None:
    tc.add(ON_INGRESS, passing.number)
    tc.add(ON_INGRESS, passing.number)
    refusal(lambda: tc.delete(ON_INGRESS), AmbiguousError)
    assert len(filters()) == 2


def test_delete_spares_other_kinds(lab: netlab.Lab) -> None:
    add_u32(20)
    error = refusal(lambda: tc.delete(ON_INGRESS._replace(pref=20)), NotFoundError)
    assert str(error) == "v0 ingress: no bpf filter pref 20"
    assert error.hint == "there are pref 20 u32 (protocol 0x3)"
    assert {state.kind for state in tc.show(ON_INGRESS)} == {"u32"}


def test_flush_takes_the_whole_chain(lab: netlab.Lab, passing: Fd) -> None:
    add_u32(20)
    tc.add(ON_INGRESS, passing.number)
    tc.add(ON_INGRESS._replace(chain=4), passing.number)
    tc.flush(ON_INGRESS)
    assert [state.chain for state in tc.show(ON_INGRESS) if state.handle] == [4]


def test_show_of_every_hook(lab: netlab.Lab, passing: Fd) -> None:
    for parent in (INGRESS, EGRESS):
        tc.add(ON_INGRESS._replace(parent=parent), passing.number)
    found = tc.show(FilterRequest(DEVICE), every_hook=True)
    assert [state.parent for state in found if state.handle] == [INGRESS, EGRESS]


# --- refusals ---


def test_hook_without_a_qdisc(bare: netlab.Lab, passing: Fd) -> None:
    error = refusal(lambda: tc.add(ON_INGRESS, passing.number), KernelError)
    assert str(error) == "v0 ingress: cannot attach the filter: Parent Qdisc doesn't exists"
    assert error.hint == "`bpfctl qdisc add dev v0 clsact` makes the hook"


def test_egress_of_an_ingress_qdisc(bare: netlab.Lab, passing: Fd) -> None:
    """The kernel would hang the filter on ingress and say nothing."""
    qdisc.add(DEVICE, qdisc.INGRESS)
    on_egress = ON_INGRESS._replace(parent=EGRESS)
    for verb in (tc.add, tc.replace):
        error = refusal(lambda verb=verb: verb(on_egress, passing.number), NotFoundError)
        assert str(error) == "v0: its qdisc is of kind ingress, which has no egress hook"
    tc.add(ON_INGRESS, passing.number)
    assert [state.parent for state in tc.show(FilterRequest(DEVICE), every_hook=True) if state.handle] == [
        INGRESS
    ]


def test_taken_key_says_who_is_there(lab: netlab.Lab, passing: Fd, dropping: Fd) -> None:
    request = ON_INGRESS._replace(pref=5, handle=7, name="a.o:[x]")
    tc.add(request, passing.number)
    error = refusal(lambda: tc.add(request, dropping.number), AlreadyAttachedError)
    assert str(error) == (
        "v0 ingress: filter pref 5 handle 0x7 protocol 0x3 a.o:[x], "
        f'program {program_id(passing)} "passing", is there: Filter already exists'
    )
    assert error.hint == "`filter replace` takes its place"


@pytest.mark.parametrize("verb", [tc.add, tc.replace])
def test_pref_of_another_protocol(verb: Callable[..., object], lab: netlab.Lab, passing: Fd) -> None:
    tc.add(ON_INGRESS._replace(pref=5, protocol=ETH_P_IP), passing.number)
    error = refusal(
        lambda: verb(ON_INGRESS._replace(pref=5, protocol=ETH_P_ALL), passing.number), KernelError
    )
    assert "Protocol mismatch for filter with specified priority" in str(error)
    assert error.hint == "pref 5 is of kind bpf and protocol 0x800"


@pytest.mark.parametrize("verb", [tc.add, tc.replace])
def test_pref_of_another_kind(verb: Callable[..., object], lab: netlab.Lab, passing: Fd) -> None:
    add_u32(20)
    error = refusal(lambda: verb(ON_INGRESS._replace(pref=20), passing.number), KernelError)
    assert "Specified filter kind does not match existing one" in str(error)
    assert error.hint == "pref 20 is of kind u32 and protocol 0x3"


def test_skip_flags_cannot_be_replaced(lab: netlab.Lab, passing: Fd) -> None:
    """The kernel refuses that without a word."""
    tc.add(ON_INGRESS._replace(skip_hw=True), passing.number)
    error = refusal(lambda: tc.replace(ON_INGRESS, passing.number), KernelError)
    assert str(error) == "v0 ingress: cannot attach the filter: Invalid argument (EINVAL)"
    assert error.hint == "the filter that is there has skip_hw, which a replacement cannot change"


def test_wrong_program_type(lab: netlab.Lab) -> None:
    with load(ProgramType.XDP, 2) as program:
        error = refusal(lambda: tc.add(ON_INGRESS, program.number), KernelError)
        assert f"program {program_id(program)} is of type xdp, not sched_cls" in str(error)


@pytest.mark.parametrize(
    ("request_", "words", "hint"),
    [
        (ON_INGRESS._replace(skip_sw=True), "Operation not supported", "skip_sw needs a device"),
        (ON_INGRESS._replace(chain=1 << 30), "Specified chain index exceeds upper limit", "None"),
        (FilterRequest(DEVICE), "v0: cannot attach the filter: Qdisc not classful", "ingress and egress"),
        (FilterRequest(DEVICE, 0x10000), "v0 parent 1:0: cannot attach", "ingress and egress"),
        (
            FilterRequest(block=99),
            "block 99: cannot attach the filter: Block of given index was not found",
            "None",
        ),
    ],
    ids=["skip_sw", "chain", "no class", "no parent", "no block"],
)
def test_refusal_in_the_kernels_words(
    request_: FilterRequest, words: str, hint: str, lab: netlab.Lab, passing: Fd
) -> None:
    error = refusal(lambda: tc.add(request_, passing.number), KernelError)
    assert words in str(error)
    assert hint in str(error.hint)


@pytest.mark.parametrize("verb", [tc.delete, tc.show, tc.flush])
def test_no_such_interface(verb: Callable[[FilterRequest], object], lab: netlab.Lab) -> None:
    error = refusal(lambda: verb(FilterRequest("v9", INGRESS)), NotFoundError)
    assert str(error) == 'no interface "v9"'


# --- taking it back ---


def fail_after(*steps: Callable[[Transaction], Any]) -> None:
    def run() -> None:
        with Transaction() as transaction:
            for step in steps:
                step(transaction)
            raise KernelError("later")

    error = refusal(run, KernelError)
    assert (str(error), error.details) == ("later", ())


def test_add_is_taken_back(lab: netlab.Lab, passing: Fd) -> None:
    tc.add(ON_INGRESS, passing.number)
    fail_after(lambda tx: tc.add(ON_INGRESS, passing.number, transaction=tx))
    assert [pref for pref, _, _ in filters()] == [49152]


@pytest.mark.parametrize("verb", [tc.replace, tc.change])
def test_replaced_program_is_put_back(verb: Callable[..., object], lab: netlab.Lab, dropping: Fd) -> None:
    """Nothing but the filter held the old program: the transaction has to keep it alive."""
    before = ON_INGRESS._replace(pref=5, handle=7, classid=0x10001, name="old", skip_hw=True)
    with load(ProgramType.SCHED_CLS, TC_ACT_OK) as old:
        tc.add(before, old.number)
    states = tc.show(ON_INGRESS)
    fail_after(
        lambda tx: verb(ON_INGRESS._replace(name="new", skip_hw=True), dropping.number, transaction=tx),
        lambda tx: tc.delete(ON_INGRESS, transaction=tx),
    )
    assert tc.show(ON_INGRESS) == states


def test_deleted_pref_is_put_back(lab: netlab.Lab) -> None:
    with load(ProgramType.SCHED_CLS, TC_ACT_OK) as old:
        for handle in (1, 2):
            tc.add(ON_INGRESS._replace(pref=5, handle=handle, protocol=ETH_P_IP), old.number)
    before = sorted(filters())
    fail_after(lambda tx: tc.delete(ON_INGRESS._replace(pref=5), transaction=tx))
    assert sorted(filters()) == before


# --- namespaces ---


def test_entering_a_namespace(netns: netlab.Lab) -> None:
    with netlab.inside(netns.a.namespace):  # only for the way back
        namespace.enter(netns.b.namespace)
        assert [entry.device for entry in qdisc.show("v1", every_kind=True)] == ["v1"]
        namespace.enter(f"/run/netns/{netns.a.namespace}")
        assert [entry.device for entry in qdisc.show("v0", every_kind=True)] == ["v0"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../netns", "a/b", "no-such", "/etc/hostname", "/nowhere", "x\0y"]
)
def test_what_is_no_namespace(name: str) -> None:
    assert "network namespace" in str(refusal(lambda: namespace.enter(name), NotFoundError))
