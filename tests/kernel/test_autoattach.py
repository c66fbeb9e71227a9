"""``autoattach``: the program runs when its event happens, for as long as the pinned link is there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import netlab
import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA

from bpfctl.api import loading, sources
from bpfctl.errors import NotSupportedError
from bpfctl.kernel import perf_event, tracefs

pytestmark = [pytest.mark.kernel, pytest.mark.kernels]


@pytest.fixture(scope="module", autouse=True)
def _tracefs() -> Iterator[None]:
    """tracefs somewhere; it is one file system wherever it is mounted."""
    if tracefs.find_mount():
        yield
        return
    directory = Path("/tmp") / netlab.unique_name("tracefs")
    directory.mkdir(mode=0o700)
    try:
        netlab.mount("tracefs", directory, "tracefs")
        try:
            yield
        finally:
            netlab.unmount(directory)
    finally:
        directory.rmdir()


def execute(_: Path) -> None:
    subprocess.run(["true"], check=True)


def getppid(_: Path) -> None:
    os.getppid()


def getpriority(_: Path) -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


def read(pin: Path) -> None:
    if pin.exists():
        pin.read_bytes()


class Hook(NamedTuple):
    """``slot``: where the program counts its runs; ``needs``: what this machine must have."""

    obj: str
    program: str
    slot: int
    event: Callable[[Path], None]  # makes it happen; given the pin
    needs: tuple[str, ...] = ()


HOOKS = [
    Hook("hooks_events", "on_exec", 0, execute, ("perf_link",)),
    Hook("hooks_events", "on_exec_raw", 1, execute),
    Hook("hooks_events", "on_getppid", 2, getppid, ("perf_link",)),
    Hook("hooks_events", "after_getppid", 3, getppid, ("perf_link",)),
    Hook("hooks_multi", "on_getppid_multi", 4, getppid, ("uprobe_multi",)),
    Hook("hooks_kprobe", "on_getppid_kernel", 5, getppid, ("kprobes", "perf_link")),
    Hook("hooks_kprobe", "after_getppid_kernel", 6, getppid, ("kprobes", "perf_link")),
    Hook("hooks_multi", "on_getpriority_multi", 7, getpriority, ("kprobes", "kprobe_multi")),
    Hook("hooks_kprobe", "on_getppid_syscall", 8, getppid, ("kprobes", "perf_link")),
    Hook("hooks_tracing", "on_exec_btf", 9, execute),
    Hook("hooks_tracing", "on_getpriority_entry", 10, getpriority, ("fentry",)),
    Hook("hooks_tracing", "on_getpriority_exit", 11, getpriority, ("fentry",)),
    Hook("hooks_tracing_multi", "on_getpriority_entries", 10, getpriority, ("tracing_multi",)),
    Hook("hooks_tracing_multi", "on_getpriority_exits", 11, getpriority, ("tracing_multi",)),
    Hook("hooks_tracing", "on_creds", 12, execute, ("lsm",)),
    Hook("hooks_tracing", "on_task", 13, read),
]


def obj(name: str) -> Path:
    return TESTDATA / f"{name}.bpf.o"


def runs(run: Cli, bpffs: Path, slot: int) -> int:
    words = ("map", "lookup", "pinned", bpffs / "hook_runs", "key", slot)
    value = json.loads(run("-j", *words, status=0).stdout)["value"]
    return int.from_bytes(bytes(int(byte, 16) for byte in value), "little")


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.program)
def test_runs_while_the_link_is_pinned(bpffs: Path, run: Cli, requires: Requires, hook: Hook) -> None:
    requires(*hook.needs)
    pin = bpffs / "link"
    done = run("-j", "prog", "load", obj(hook.obj), pin, "program", hook.program, "autoattach", status=0)
    record = json.loads(done.stdout)
    assert (record["name"], record["pinned"]) == (hook.program, [str(pin)])
    assert record["link_id"] > 0
    before = runs(run, bpffs, hook.slot)
    hook.event(pin)
    after = runs(run, bpffs, hook.slot)
    assert after > before
    pin.unlink()
    gone = runs(run, bpffs, hook.slot)
    hook.event(pin)
    assert runs(run, bpffs, hook.slot) == gone


def test_all_programs_of_an_object(bpffs: Path, run: Cli, requires: Requires) -> None:
    requires("perf_link")
    run("prog", "loadall", obj("hooks_events"), bpffs / "d", "autoattach", status=0)
    assert sorted(p.name for p in (bpffs / "d").iterdir()) == [
        "after_getppid",
        "on_exec",
        "on_exec_raw",
        "on_getppid",
    ]
    execute(bpffs)
    os.getppid()
    assert all(runs(run, bpffs, slot) > 0 for slot in range(4))


def test_a_function_of_another_program(bpffs: Path, run: Cli, requires: Requires) -> None:
    requires("freplace", "perf_link")  # Linux 5.13 has the callbacks of subprogs.bpf.o
    run("prog", "load", obj("subprogs"), bpffs / "sum", "program", "sum_up", status=0)
    words = ("target", "pinned", bpffs / "sum", "autoattach")
    record = json.loads(run("-j", "prog", "load", obj("replacement"), bpffs / "p", *words, status=0).stdout)
    assert (record["type"], record["pinned"]) == ("ext", [str(bpffs / "p")])


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words", "section", "hint"),
    [
        (
            "xdp_pass",
            ("load",),
            "program xdp_pass (section xdp)",
            "pin it without autoattach; then `bpfctl link set dev DEV xdp pinned PATH` attaches it",
        ),
        (
            "two_in_section",
            ("loadall",),
            "program xdp_first (section xdp)",
            "pin it without autoattach; then `bpfctl link set dev DEV xdp pinned PATH` attaches it",
        ),
    ],
)
def test_what_a_section_cannot_say(
    bpffs: Path, run: Cli, name: str, words: tuple[str, ...], section: str, hint: str
) -> None:
    done = run("prog", *words, obj(name), bpffs / "p", "autoattach", status=1)
    assert done.stderr == (
        f"Error: {obj(name)}: {section} cannot be attached by the name of its section\nHint: {hint}\n"
    )
    assert not (bpffs / "p").exists()


def test_a_replacement_of_nothing(bpffs: Path, run: Cli) -> None:
    done = run("prog", "load", obj("replacement"), bpffs / "p", "autoattach", status=1)
    assert "replaces a function of another program, and nothing says of which" in done.stderr
    assert done.stderr.endswith("Hint: say which: target id N, or target pinned PATH\n")


@pytest.mark.parametrize("program", ["on_getppid_kernel", "on_getppid_syscall"])
def test_a_kernel_without_kprobes(
    bpffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(perf_event, "_UNITS", str(tmp_path))
    source = sources.ObjectSource(str(obj("hooks_kprobe")), program=program)
    with pytest.raises(NotSupportedError) as refused:
        loading.load_program(source, str(bpffs / "p"), options=loading.LoadOptions(autoattach=True))
    assert refused.value.feature == "kprobes"
    assert "the kernel lacks kprobes" in refused.value.message
    assert [p.name for p in bpffs.iterdir() if p.suffix != ".debug"] == []
