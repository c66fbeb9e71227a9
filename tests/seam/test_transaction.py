"""Rollback: in reverse, to the end, and told when it cannot be done."""

from __future__ import annotations

import os
import signal

import pytest

from bpfctl.errors import BpfctlError
from bpfctl.kernel.fd import Fd
from bpfctl.loader import Transaction


def test_success_undoes_nothing() -> None:
    done: list[str] = []
    with Transaction() as transaction:
        transaction.undo("take back a", lambda: done.append("a"))
    assert done == []


def test_failure_undoes_in_reverse() -> None:
    done: list[str] = []
    with pytest.raises(BpfctlError), Transaction() as transaction:
        transaction.undo("take back a", lambda: done.append("a"))
        transaction.undo("take back b", lambda: done.append("b"))
        raise BpfctlError("step c")
    assert done == ["b", "a"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interruption_undoes_too(interruption: type[BaseException]) -> None:
    done: list[str] = []
    with pytest.raises(interruption), Transaction() as transaction:
        transaction.undo("take back a", lambda: done.append("a"))
        raise interruption
    assert done == ["a"]


def test_step_that_fails_is_named_and_stops_nothing() -> None:
    done: list[str] = []

    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    with pytest.raises(BpfctlError) as caught, Transaction() as transaction:
        transaction.undo("remove a", lambda: done.append("a"))
        transaction.undo("remove b", refuse)
        raise BpfctlError("step c")
    assert done == ["a"]
    assert caught.value.details == ("could not remove b: Operation not permitted",)


def test_held_descriptors_outlive_the_undo_steps() -> None:
    fd = Fd(os.open("/dev/null", os.O_RDONLY))
    seen: list[int] = []
    with pytest.raises(BpfctlError), Transaction() as transaction:
        transaction.hold(fd)
        transaction.undo("look", lambda: seen.append(fd.number))
        raise BpfctlError("step c")
    assert len(seen) == 1
    with pytest.raises(ValueError, match="closed"):
        _ = fd.number


def test_signal_inside_a_step_waits_until_its_undo_is_registered() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), Transaction() as transaction:
        with transaction.step():
            signal.raise_signal(signal.SIGINT)
            transaction.undo("take back a", lambda: done.append("a"))
        pytest.fail("the signal comes at the end of the step")
    assert done == ["a"]
