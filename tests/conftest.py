"""Guards over a whole run of the tests: what was there before is there after, nothing more.

A loader's characteristic bug is to leave something behind.  So the state of this process and of the
machine is noted before the first test and after the last; whatever is new fails the run and is
listed, each item with the test after which it was first seen.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

BPFFS = Path("/sys/fs/bpf")
NETNS_DIRECTORY = Path("/run/netns")

Source = Callable[[], Iterator[str]]

# netlab.unique_name() puts the process into every name: what other runs own is not our leak
_OF_A_RUN = re.compile(r"bpfctl-(\d+)-")


def _is_foreign(item: str) -> bool:
    owner = _OF_A_RUN.search(item)
    return owner is not None and int(owner[1]) != os.getpid()


def _descriptors() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            yield f"descriptor {entry.name}: {entry.readlink()}"


def _children() -> Iterator[str]:
    for task in Path("/proc/self/task").iterdir():
        children = ""
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that is about to end
            children = (task / "children").read_text()
        for pid in children.split():
            with suppress(FileNotFoundError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield f"child process {pid}: {command}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4]
        if point != str(NETNS_DIRECTORY):  # ip(8) mounts it at a machine's first namespace, for good
            yield f"mount {point} ({rest.split()[0]})"


def _pins() -> Iterator[str]:
    return (f"pin {path}" for path in BPFFS.rglob("*"))


def _namespaces() -> Iterator[str]:
    if NETNS_DIRECTORY.is_dir():
        yield from (f"network namespace {path.name}" for path in NETNS_DIRECTORY.iterdir())


def _attachments() -> Iterator[str]:
    """Devices, XDP programs and clsact qdiscs of the machine's own namespace."""
    try:
        from pyroute2 import IPRoute
    except ImportError:
        return
    with IPRoute() as ip:
        names = {}
        for link in ip.get_links():
            name = names[link["index"]] = link.get("ifname")
            yield f"device {name}"
            xdp = link.get("xdp")
            if xdp and xdp.get("attached"):
                yield f"XDP program {xdp.get('prog_id')} on {name}"
        for qdisc in ip.get_qdiscs():
            if qdisc.get("kind") in ("clsact", "ingress"):
                yield f"{qdisc.get('kind')} on {names.get(qdisc['index'])}"


_PROCESS = (_descriptors, _children)  # cheap enough to look at after each test
_MACHINE = (_mounts, _pins, _namespaces, _attachments)


class LeakGuard:
    """A pytest plugin: compares before with after, fails the run on a difference."""

    def __init__(self) -> None:
        self.before: set[str] = set()
        self.first_seen: dict[str, str] = {}
        self.leaks: list[str] = []

    def pytest_sessionstart(self) -> None:
        self.before = self._state(_PROCESS + _MACHINE)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        for item in self._state(_PROCESS) - self.before:
            self.first_seen.setdefault(item, nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        gc.collect()
        for item in sorted(self._state(_PROCESS + _MACHINE) - self.before):
            seen = self.first_seen.get(item)
            self.leaks.append(f"{item} (since {seen})" if seen else item)
        if self.leaks and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.leaks:
            terminalreporter.section("left behind by this run", red=True)
            for leak in self.leaks:
                terminalreporter.line(leak)

    @staticmethod
    def _state(sources: tuple[Source, ...]) -> set[str]:
        return {item for source in sources for item in source() if not _is_foreign(item)}


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeakGuard(), "leak-guard")
