"""What a probe makes of the kernel's answers, against a kernel that gives one answer to everything."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from bpfctl.kernel import privilege, probe, syscall


class OneAnswer(syscall.System):
    """Refuses every command with ``number``; 0: gives a descriptor."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0

    def bpf(self, command: int, attr: bytearray) -> int:
        self.asked += 1
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        return os.open("/dev/null", os.O_RDONLY)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> type[OneAnswer]:
    monkeypatch.setattr(privilege, "raise_memlock", lambda: False)
    return OneAnswer


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (0, True),
        (errno.EINVAL, False),
        (errno.E2BIG, False),
        (errno.EACCES, False),  # the verifier's word, not a matter of privilege
        (errno.EPERM, None),
        (errno.EMFILE, None),
        (errno.ENOMEM, None),
    ],
)
def test_an_answer(
    number: int, answer: bool | None, answers: type[OneAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = answers(number)
    monkeypatch.setattr(syscall, "system", kernel)
    assert probe.BTF_FLOAT.available() is answer
    assert probe.BTF_FLOAT.missing() is (answer is False)
    assert kernel.asked == 1


def test_what_a_probe_needs_first_counts_too(
    answers: type[OneAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscall, "system", answers(errno.EINVAL))
    assert probe.ARG_CTX.available() is False


def test_memory_that_may_not_be_locked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 5.11: EPERM until RLIMIT_MEMLOCK is lifted."""

    class Old(OneAnswer):
        def bpf(self, command: int, attr: bytearray) -> int:
            self.number = 0 if lifted else errno.EPERM
            return super().bpf(command, attr)

    lifted: list[object] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65536, 65536))
    monkeypatch.setattr(resource, "setrlimit", lambda *limit: lifted.append(limit))
    monkeypatch.setattr(syscall, "system", Old(0))
    assert probe.ARRAY_MMAP.available() is True
    assert lifted
