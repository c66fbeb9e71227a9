"""Programs for a type or function, loaded: the kernel's own, and those of another program."""

from __future__ import annotations

import pytest
from fixture_types import Requires
from netlab import TESTDATA

from bpfctl.btf.types import Btf
from bpfctl.errors import KernelError, NotFoundError
from bpfctl.kernel import bpf, info, kernel_btf
from bpfctl.loader import AttachTarget, LoadedObject, LoadRequest, Transaction, load
from bpfctl.objfile import read_object

pytestmark = pytest.mark.kernel


def load_one(program: str, name: str = "targets", target: AttachTarget | None = None) -> LoadedObject:
    obj = read_object(str(TESTDATA / f"{name}.bpf.o"))
    with Transaction() as transaction:
        return load(obj, LoadRequest((program,), target=target), transaction)


def attached_to(loaded: LoadedObject, program: str) -> str:
    """The name of the type of vmlinux that the kernel says it is for."""
    found = info.prog_info(loaded.program(program).fd.number)
    return Btf.from_bytes(kernel_btf.vmlinux().data).name(found.attach_btf_id)


def test_a_tracepoint() -> None:
    with load_one("at_tracepoint") as loaded:
        assert attached_to(loaded, "at_tracepoint") == "btf_trace_sched_switch"


def test_an_iterator() -> None:
    with load_one("over_tasks") as loaded:
        assert attached_to(loaded, "over_tasks") == "bpf_iter_task"


@pytest.mark.parametrize(("program", "name"), [("on_entry", "schedule"), ("on_exit", "schedule")])
def test_a_function(requires: Requires, program: str, name: str) -> None:
    requires("fentry")
    with load_one(program) as loaded:
        assert attached_to(loaded, program) == name


def test_a_hook(requires: Requires) -> None:
    requires("lsm")
    with load_one("at_hook") as loaded:
        assert attached_to(loaded, "at_hook") == "bpf_lsm_file_open"


def test_a_function_of_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for; whether the kernel lets us replace it, test_a_replaced_function says."""
    asked: list[bpf.ProgAttributes] = []

    def refuse(attributes: bpf.ProgAttributes, log: object = None) -> int:
        asked.append(attributes)
        raise PermissionError(1, "refused")

    with load_one("sum_up", "subprogs") as other:
        live = other.program("sum_up")
        monkeypatch.setattr(bpf, "prog_load", refuse)
        with pytest.raises(KernelError):
            load_one("replaces", target=AttachTarget("sum_up", live.fd.number))
        own = info.prog_info(live.fd.number)
        assert asked[0].attach_fd == live.fd.number
        assert Btf.from_bytes(info.btf_data(own.btf_id)).name(asked[0].attach_btf_id) == "sum_up"
        with pytest.raises(NotFoundError, match=r"has no function replaced, which program replaces is for"):
            load_one("replaces", target=AttachTarget("", live.fd.number))


def test_another_program_without_types() -> None:
    with load_one("tc_pass", "tc_pass_nobtf") as other:
        target = AttachTarget("", other.program("tc_pass").fd.number)
        with pytest.raises(NotFoundError, match="was loaded without types"):
            load_one("replaces", target=target)


def test_a_replaced_function(requires: Requires) -> None:
    requires("freplace")
    with load_one("sum_up", "subprogs") as other:
        fd = other.program("sum_up").fd.number
        with load_one("sum_nothing", "replacement", AttachTarget("", fd)) as loaded:
            assert info.prog_info(loaded.program("sum_nothing").fd.number).attach_btf_id
