"""Fixtures of the tests that talk to the running kernel.

Without root they skip.  With BPFCTL_REQUIRE_KERNEL=1 a skip is a failure, so that no CI run passes
by testing nothing, except for what ``requires`` names and ALLOWED_TO_LACK lists.
"""

from __future__ import annotations

import errno
import gzip
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import netlab
import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA

from bpfctl.insn import Instruction, encode
from bpfctl.kernel import bpf, probe
from bpfctl.uapi import AttachType, ProgramType

REQUIRED = os.environ.get("BPFCTL_REQUIRE_KERNEL") == "1"

# What `requires` knows: an option of the kernel, a program type that it (or what guards it) lets us
# load, or a program that judges our work.
OPTIONS = {
    "act_bpf": "CONFIG_NET_ACT_BPF",
    "kprobes": "CONFIG_KPROBES",
    "netkit": "CONFIG_NETKIT",
    "xdp-sockets": "CONFIG_XDP_SOCKETS",
}
PROGRAM_TYPES = {
    "fentry": (ProgramType.TRACING, AttachType.TRACE_FENTRY),
    "freplace": (ProgramType.EXT, AttachType(0)),
    "lsm": (ProgramType.LSM, AttachType.LSM_MAC),
}
PROBED = {
    feature.name: feature
    for feature in (
        probe.ARG_CTX,
        probe.KPROBE_MULTI,
        probe.PERF_LINK,
        probe.TRACING_MULTI,
        probe.UPROBE_MULTI,
    )
}
TOOLS = {"bpftool", "clang-19", "ip", "strace", "tc"}
ALLOWED_TO_LACK = {"act_bpf", "kprobes", "netkit"} | set(PROGRAM_TYPES) | set(PROBED) | TOOLS
SKIP_PREFIX = "this machine lacks "


# --- what the machine can ------------------------------------------------------------------------


@cache
def _kernel_config() -> str:
    """The running kernel's configuration, or "" where it is not published."""
    published = Path("/proc/config.gz")
    if published.exists():
        return gzip.decompress(published.read_bytes()).decode()
    installed = Path(f"/boot/config-{platform.release()}")
    return installed.read_text() if installed.exists() else ""


def _may_not_load(program_type: ProgramType, attach_type: AttachType) -> bool:
    """True when the type itself is refused; with no target named, EINVAL is the answer to hope for."""
    return_zero = encode(Instruction(0xB7, 0, 0, 0, 0)) + encode(Instruction(0x95, 0, 0, 0, 0))
    wanted = bpf.ProgAttributes(program_type, return_zero, "GPL", expected_attach_type=attach_type)
    try:
        os.close(bpf.prog_load(wanted))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def _never_calls_lsm() -> bool:
    """True when BPF is not among the security modules of the boot: programs attach, and never run."""
    script = "mount -t securityfs none /sys/kernel/security; cat /sys/kernel/security/lsm"
    listed = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    names = listed.stdout.decode().strip().split(",")
    return names != [""] and "bpf" not in names


@cache
def _lacks(feature: str) -> bool:
    if feature in TOOLS:
        return shutil.which(feature) is None
    if feature in PROBED:
        return PROBED[feature].missing()
    if feature in PROGRAM_TYPES:
        return _may_not_load(*PROGRAM_TYPES[feature]) or (feature == "lsm" and _never_calls_lsm())
    config = _kernel_config()
    option = OPTIONS[feature]
    # only on evidence: with no configuration to read, the test runs and shows what happens
    return bool(config) and f"\n{option}=y" not in config and f"\n{option}=m" not in config


@pytest.fixture(scope="session")
def requires() -> Requires:
    """Skips the test when the machine lacks one of the named features or tools."""

    def check(*features: str) -> None:
        for feature in features:
            if _lacks(feature):
                pytest.skip(SKIP_PREFIX + feature)

    return check


@pytest.fixture(scope="session", autouse=True)
def _privileged() -> None:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    capabilities = int(effective.split()[1], 16)
    for name, bit in (("CAP_SYS_ADMIN", 21), ("CAP_NET_ADMIN", 12)):
        if not capabilities >> bit & 1:
            pytest.skip(f"needs {name}: run as root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under BPFCTL_REQUIRE_KERNEL=1, a skip that nothing allows becomes a failure."""
    report = yield
    if REQUIRED and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _, found, feature = reason.partition(SKIP_PREFIX)
        if not found or feature not in ALLOWED_TO_LACK:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} may not skip under BPFCTL_REQUIRE_KERNEL=1: {reason}"
    return report


# --- the laboratory ------------------------------------------------------------------------------


@pytest.fixture
def netns() -> Iterator[netlab.Lab]:
    """Two namespaces and a veth pair: ``netns.a`` (device v0, under test) and ``netns.b`` (v1)."""
    with netlab.lab() as made:
        yield made


@pytest.fixture
def bpffs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A private bpffs, which TC_BPF_MNT names for as long as the test runs."""
    with netlab.private_bpffs() as directory:
        monkeypatch.setenv("TC_BPF_MNT", str(directory))
        yield directory


@pytest.fixture
def testdata() -> Path:
    """The folder of the test objects."""
    return TESTDATA


@pytest.fixture(scope="session")
def run() -> Cli:
    """``run("prog", "show", ...)``: bpfctl as a process of its own.

    ``status``: the exit status that the test expects, or None to look at ``returncode`` itself.
    ``env``: variables to set besides this process's.
    """

    def call(
        *words: object, status: int | None = None, env: dict[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "bpfctl", *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=60,
            env={**os.environ, **(env or {})},
        )
        assert "Traceback" not in done.stderr, done.stderr
        if status is not None:
            assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    return call
