"""``exec bpf``: grafting under traffic, maps from hand to hand, the trace pipe; tc(8) at the other end."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import netlab
import pytest
from fixture_types import Cli, Requires
from netlab import TESTDATA, Lab
from programs import TC_ACT_OK, load

from bpfctl.cli import main
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.objfile.export import ExportedMap, ExportMessage, pack_export
from bpfctl.uapi import MapType, ProgramType

pytestmark = pytest.mark.kernel

BTF = TESTDATA / "graft_root.bpf.o"
LEGACY = TESTDATA / "graft_root_legacy.bpf.o"
GENERATIONS = pytest.mark.parametrize("obj", [LEGACY, BTF], ids=["legacy", "btf"])
JUMPS = "m:globals/graft_jumps"
SHOW_MAPS = ("sh", "-c", "env | grep ^BPF_ | sort; for fd in $(env | sed -n s/^BPF_MAP.*=//p); do "
             "grep map_type /proc/self/fdinfo/$fd; done; echo last >&2")  # fmt: skip


def counters(bpffs: Path) -> list[int]:
    with Fd(bpf.obj_get(str(bpffs / "tc" / "globals" / "graft_counters"))) as fd:
        packed = [bpf.map_lookup(fd.number, struct.pack("=I", slot), 8) for slot in range(3)]
    return [int(struct.unpack("=Q", value)[0]) for value in packed]


def here(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    """bpfctl in this process: its stdout, or stderr if it is to fail."""
    capsys.readouterr()
    found = main.run([str(word) for word in words])
    out, err = capsys.readouterr()
    assert found == status, out + err
    return err if status else out


@pytest.fixture
def hooked(netns: Lab, bpffs: Path) -> Iterator[Lab]:
    """This thread where v0 has a clsact."""
    with netlab.inside(netns.a.namespace):
        assert main.run(["qdisc", "add", "dev", "v0", "clsact"]) == 0
        yield netns


def attach(obj: Path, *more: object) -> list[str]:
    return [str(word) for word in ("filter", "add", "dev", "v0", "egress", "bpf", "da", "obj", obj, *more)]


# --- graft ---------------------------------------------------------------------------------------


@GENERATIONS
def test_graft_under_traffic(hooked: Lab, bpffs: Path, obj: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Empty slot, first program, second program: each packet is counted once and arrives."""
    assert main.run(attach(obj)) == 0
    second = ("sec", "42/0") if obj is LEGACY else ("sec", "bbb")
    key = () if obj is LEGACY else ("key", "0x0")  # the legacy section says it
    sent = 0
    with netlab.open_udp_receiver(hooked.b) as receiver:
        with closing(netlab.open_socket(hooked.a, socket.SOCK_DGRAM)) as sender:
            for step in ((), ("key", "0", "obj", obj, "sec", "aaa"), (*key, "obj", obj, *second)):
                if step:
                    here(capsys, "exec", "bpf", "graft", JUMPS, *step)
                for _ in range(10):
                    sender.sendto(b"x", (hooked.b.address, netlab.UDP_PORT))
                sent += 10
        assert netlab.drain(receiver, sent) == sent
    assert counters(bpffs) == [10, 10, 10]


def test_graft_of_what_is_loaded(hooked: Lab, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(attach(BTF)) == 0
    here(capsys, "prog", "load", BTF, bpffs / "first", "type", "sched_cls", "sec", "aaa")
    here(capsys, "exec", "bpf", "gra", JUMPS, "k", "1", "pinned", bpffs / "first")
    jumps = bpf.obj_get(str(bpffs / "tc/globals/graft_jumps"))
    with Fd(jumps), Fd(bpf.obj_get(str(bpffs / "first"))) as program:
        (number,) = struct.unpack("=I", bpf.map_lookup(jumps, struct.pack("=I", 1), 4))
        assert number == info.prog_info(program.number).id


MISTAKES = [
    (f"{JUMPS} key 2 obj BTF sec aaa", 1, "graft_jumps has no slot 2", "its slots are 0 to 1"),
    (f"{JUMPS} obj BTF sec aaa", 1, "which slot? Section 'aaa' does not say it", "ID/KEY"),
    (f"{JUMPS} pinned PIN", 1, "which slot? Section '' does not say it", "key N"),
    ("m:globals/graft_counters key 0 obj BTF sec aaa", 1, "is a map of type array, not a program array", ""),
    ("m:globals/none key 0 obj BTF sec aaa", 1, "nothing is pinned at ", "/tc/globals/none"),
    (f"{JUMPS} key 0 obj XDP type xdp", 2, "holds programs of type sched_cls, this one is of type xdp", ""),
    (f"{JUMPS} key 0 obj BTF sec ccc", 1, 'no program in a section "ccc"', "aaa (graft_first)"),
    (f"{JUMPS} key 0 obj BTF type nope", 1, 'What is "nope"?', "known here: cls, act, xdp"),
    (f"{JUMPS} key 0 obj BTF sec aaa key 1", 1, 'What is "key"?', "key before the program"),
]


def test_graft_mistakes(hooked: Lab, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each names its cause and leaves slots and pins as they were."""
    assert main.run(attach(BTF)) == 0
    with load(ProgramType.SCHED_CLS, TC_ACT_OK) as program:
        bpf.obj_pin(program.number, str(bpffs / "pin"))
    before = sorted(bpffs.rglob("*"))
    for words, status, message, more in MISTAKES:
        line = words.replace("BTF", str(BTF)).replace("XDP", str(TESTDATA / "xdp_pass.bpf.o"))
        refused = here(
            capsys, "exec", "bpf", "graft", *line.replace("PIN", f"{bpffs}/pin").split(), status=status
        )
        assert message in refused, words
        assert more in refused, words
    assert sorted(bpffs.rglob("*")) == before
    with Fd(bpf.obj_get(str(bpffs / "tc/globals/graft_jumps"))) as jumps, pytest.raises(FileNotFoundError):
        bpf.map_lookup(jumps.number, bytes(4), 4)


def test_failing_graft_leaves_no_pins(hooked: Lab, bpffs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The object's own maps are pinned on the way, and gone again."""
    with Fd(bpf.map_create(bpf.MapAttributes(MapType.PROG_ARRAY, 4, 4, 1))) as array:
        bpf.obj_pin(array.number, str(bpffs / "array"))
    refused = here(capsys, "exec", "bpf", "graft", bpffs / "array", "key", "1", "obj", BTF, status=1)
    assert "its slots are 0 to 0" in refused
    assert not (bpffs / "tc").exists()


def test_tc_grafts_into_our_array(hooked: Lab, bpffs: Path, requires: Requires) -> None:
    """And its program, which shares our maps by their pins, is the one that packets meet."""
    requires("tc")
    assert main.run(attach(BTF)) == 0
    done = tc("exec", "bpf", "graft", JUMPS, "key", "0", "obj", str(BTF), "sec", "bbb")
    assert done.returncode == 0, done.stderr
    assert netlab.send_udp(hooked.a, hooked.b, 5) == 5
    assert counters(bpffs) == [0, 0, 5]


def test_we_graft_into_an_array_of_tc(
    hooked: Lab, bpffs: Path, capsys: pytest.CaptureFixture[str], requires: Requires
) -> None:
    requires("tc")
    done = tc(*attach(BTF))
    assert done.returncode == 0, done.stderr
    here(capsys, "exec", "bpf", "graft", JUMPS, "key", "0", "obj", BTF, "sec", "aaa")
    assert netlab.send_udp(hooked.a, hooked.b, 5) == 5
    assert counters(bpffs) == [0, 5, 0]


def tc(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["tc", *words], check=False, capture_output=True, text=True, timeout=20)


# --- export and import ---------------------------------------------------------------------------


class Importer:
    """A process that waits for maps at ``path``: bpfctl or tc."""

    def __init__(self, path: Path, *command: str, before: tuple[str, ...] = ()) -> None:
        words = [*command, "exec", "bpf", "import", str(path), *before, "run", *SHOW_MAPS]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        wait_for(path.exists)

    def result(self) -> tuple[str, str]:
        out, err = self._process.communicate(timeout=20)
        return out, err


OURS = (sys.executable, "-m", "bpfctl")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("command", [OURS, ("tc",)], ids=["bpfctl", "tc"])
@pytest.mark.parametrize("by", ["word", "environment"])
def test_export(
    hooked: Lab, tmp_path: Path, requires: Requires, monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...], by: str,
) -> None:  # fmt: skip
    """The command finds the maps by their ids, as descriptors that are open; the socket is gone."""
    requires("tc")
    obj = LEGACY if by == "word" else BTF
    path = tmp_path / "uds"
    importer = Importer(path, *command)
    if by == "word":
        assert main.run(attach(obj, "export", path)) == 0
    else:
        monkeypatch.setenv("TC_BPF_UDS", str(path))
        assert main.run(attach(obj)) == 0
    out, err = importer.result()
    assert err == "last\n"
    numbered = dict(line.split("=") for line in out.splitlines() if "=" in line)
    ids = ("0", "7") if obj is LEGACY else ("1", "2")
    assert sorted(numbered) == sorted(["BPF_NUM_MAPS", *(f"BPF_MAP{number}" for number in ids)])
    assert numbered["BPF_NUM_MAPS"] == "2"
    types = [line.split()[1] for line in out.splitlines() if line.startswith("map_type")]
    assert sorted(types) == ["2", "3"]
    assert not path.exists()


def test_export_is_the_datagram_of_the_reference(hooked: Lab, tmp_path: Path) -> None:
    """Byte for byte, the descriptors beside it in the same order."""
    path = tmp_path / "uds"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        assert main.run(attach(LEGACY, "export", path)) == 0
        data, fds, flags, _ = socket.recv_fds(receiver, 4096, 8)
    status = LEGACY.stat()
    name = os.fsencode(LEGACY)[:63].ljust(64, b"\0")
    head = struct.pack("@HH64s", 1, 2, name) + bytes(4) + struct.pack("@LL", status.st_dev, status.st_ino)
    assert data == head + struct.pack("@18I", 3, 4, 4, 2, 0, 0, 2, 0, 0, 2, 4, 8, 3, 0, 7, 2, 0, 0)
    assert flags == 0
    for fd, kind in zip(fds, (MapType.PROG_ARRAY, MapType.ARRAY), strict=True):
        with Fd(fd):
            assert info.map_info(fd).type == kind


@pytest.mark.kernels
def test_export_of_actions(hooked: Lab, tmp_path: Path, requires: Requires) -> None:
    """Behind a filter that exports, too: each program's maps go where its own words say."""
    requires("act_bpf")
    paths = [tmp_path / "first", tmp_path / "second"]
    with ExitStack() as stack:
        receivers = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in paths]
        for receiver, path in zip(receivers, paths, strict=True):
            receiver.bind(str(path))
            receiver.settimeout(10)
        one_map = TESTDATA / "legacy_globals.bpf.o"
        action = ["action", "bpf", "obj", one_map, "sec", "classifier", "export", paths[1]]
        for line in ([*attach(LEGACY, "export", paths[0]), *action], ["action", "add", *action]):
            assert main.run([str(word) for word in line]) == 0
            for receiver in receivers if line[0] == "filter" else receivers[1:]:
                _, fds, _, _ = socket.recv_fds(receiver, 4096, 8)
                kinds = []
                for fd in fds:
                    with Fd(fd):
                        kinds.append(info.map_info(fd).type)
                first = [MapType.PROG_ARRAY] if receiver is receivers[0] else []
                assert kinds == [*first, MapType.ARRAY]


def test_export_mistakes(
    hooked: Lab, bpffs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No filter, no pins, and the cause."""
    path, other, stale = tmp_path / "uds", tmp_path / "file", tmp_path / "stale"
    other.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(stale))
    nothing = TESTDATA / "tc_pass.bpf.o"
    refused = here(capsys, *attach(BTF, "export", path), status=1)
    assert refused == (
        f"Error: export: no socket {path}\nHint: `bpfctl exec bpf import {path}` waits for maps there\n"
    )
    assert f"nobody waits at {stale}" in here(capsys, *attach(BTF, "export", stale), status=1)
    assert f"nobody waits at {other}" in here(capsys, *attach(BTF, "export", other), status=1)
    assert 'Illegal socket "' in here(capsys, *attach(BTF, "export", "x" * 108), status=1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(path))
        stream.listen()
        assert "is a socket of another kind" in here(capsys, *attach(BTF, "export", path), status=1)
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        refused = here(capsys, *attach(nothing, "export", path), status=1)
        assert refused == f"Error: {nothing}: nothing to export to {path}: the object defines no map\n"
    assert json.loads(here(capsys, "-j", "filter", "show", "dev", "v0", "egress")) == []
    assert not (bpffs / "tc").exists()


def test_nothing_to_export_by_the_environment_is_a_warning(
    hooked: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "uds"
    monkeypatch.setenv("TC_BPF_UDS", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        assert main.run(attach(TESTDATA / "tc_pass.bpf.o")) == 0
    assert "nothing to export" in capsys.readouterr().err


def test_reader_that_does_not_read(
    hooked: Lab, bpffs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its queue is full: after some seconds that is an error, and the filter is gone again."""
    from bpfctl.loader import export

    monkeypatch.setattr(export, "_PATIENCE", 1)
    path = tmp_path / "uds"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(str(path))
        sender.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sender.sendto(b"x", str(path))
        refused = here(capsys, *attach(BTF, "export", path), status=2)
    assert f"cannot send the maps to {path}: nobody reads there" in refused
    assert json.loads(here(capsys, "-j", "filter", "show", "dev", "v0", "egress")) == []
    assert not (bpffs / "tc").exists()


# --- what an importer is sent --------------------------------------------------------------------

ARRAY = ExportedMap(2, 4, 8, 1, 0, 5, 0, 0, 0)


def datagram(count: int = 1, total: int = 1, path: str = "x.o") -> bytes:
    return pack_export(ExportMessage(total, path, 1, 2, (ARRAY,) * count))


# name, (datagram, number of maps beside it) ..., what is wrong
HOSTILE = [
    ("empty", [(b"", 0)], "0 bytes, where a header and a map are 124"),
    ("cut", [(datagram()[:-1], 1)], "123 bytes, where"),
    ("huge", [(datagram() + bytes(60_000), 1)], "bytes, which is no whole number of maps up to 64"),
    ("version", [(b"\2" + datagram()[1:], 1)], "version 2, where 1 is known"),
    ("no descriptors", [(datagram(), 0)], "1 maps with 0 descriptors"),
    ("too few", [(datagram(3, 3), 2)], "3 maps with 2 descriptors"),
    ("too many", [(datagram(1, 9), 2)], "1 maps with 2 descriptors"),
    ("far too many", [(datagram(1, 9), 200)], "1 maps with 64 or more descriptors"),
    ("more than announced", [(datagram(2, 3), 2), (datagram(2, 3), 2)], "4 maps, where 3 are announced"),
    ("two objects", [(datagram(1, 3), 1), (datagram(1, 3, "y.o"), 1)], "two objects at once"),
    ("no map", [(datagram(), -1)], "descriptor 0 is no map"),
    ("stops", [(datagram(1, 2), 1)], "1 of 2 maps, and no more for 0.2 s"),
]


@pytest.mark.parametrize(
    ("messages", "wrong"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_hostile_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    messages: list[tuple[bytes, int]], wrong: str,
) -> None:  # fmt: skip
    """Said in words; no descriptor stays open, no socket stays behind."""
    from bpfctl.inventory import imports

    monkeypatch.setattr(imports, "_PATIENCE", 0.2)
    path = tmp_path / "uds"

    def exporter() -> None:
        wait_for(path.exists)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
            Fd(bpf.map_create(bpf.MapAttributes(2, 4, 8, 1))) as array,
            open(os.devnull) as other,
        ):
            sender.connect(str(path))
            for data, count in messages:
                fds = [array.number] * count if count >= 0 else [other.fileno()]
                with suppress(OSError):  # it is gone already
                    socket.send_fds(sender, [data], fds)

    open_before = os.listdir("/proc/self/fd")
    sender = threading.Thread(target=exporter)
    sender.start()
    refused = here(capsys, "exec", "bpf", "import", path, "timeout", "20", "run", "false", status=1)
    sender.join()
    assert f"Error: import at {path}: what came is no export: " in refused
    assert wrong in refused
    assert os.listdir("/proc/self/fd") == open_before
    assert not path.exists()


def test_import_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, taken, stale = tmp_path / "uds", tmp_path / "file", tmp_path / "stale"
    taken.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(stale))
    words = ("exec", "bpf", "import")
    assert here(capsys, *words, taken, status=2) == (
        f"Error: cannot make the socket {taken}: File exists (EEXIST)\nHint: that is no socket\n"
    )
    assert f"`rm {stale}`" in here(capsys, *words, stale, status=2)
    assert taken.exists()
    assert stale.exists()
    assert "nothing came in 0 s" in here(capsys, *words, path, "timeout", "0", status=1)
    assert "No such file or directory" in here(capsys, *words, tmp_path / "none" / "uds", status=2)
    assert 'Illegal socket "' in here(capsys, *words, "x" * 108, status=1)
    assert "COMMAND is missing" in here(capsys, *words, path, "run", status=1)
    assert 'What is "walk"?' in here(capsys, *words, path, "walk", status=1)
    assert not path.exists()


def test_import_in_parts_and_of_equal_ids(tmp_path: Path) -> None:
    """Seventy maps come in two datagrams; that they share an id is said."""
    path = tmp_path / "uds"
    importer = Importer(path, *OURS, before=("timeout", "20"))
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        Fd(bpf.map_create(bpf.MapAttributes(2, 4, 8, 1))) as array,
    ):
        sender.connect(str(path))
        for count in (64, 6):
            socket.send_fds(sender, [datagram(count, 70)], [array.number] * count)
    out, err = importer.result()
    assert out.splitlines()[1] == "BPF_NUM_MAPS=70"
    assert err == ("Warning: 70 maps have id 5: BPF_MAP5 is the last of them\nlast\n")


def test_command_that_is_not_there(tmp_path: Path, run: Cli) -> None:
    path = tmp_path / "uds"

    def exporter() -> None:
        wait_for(path.exists)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
            Fd(bpf.map_create(bpf.MapAttributes(2, 4, 8, 1))) as array,
        ):
            sender.connect(str(path))
            socket.send_fds(sender, [datagram()], [array.number])

    sender = threading.Thread(target=exporter)
    sender.start()
    refused = run("exec", "bpf", "import", path, "timeout", "20", "run", "/no/such/command", status=1)
    sender.join()
    assert refused.stderr == 'Error: no command "/no/such/command"\n'


def test_interrupted_import_takes_its_socket_along(tmp_path: Path) -> None:
    path = tmp_path / "uds"
    with subprocess.Popen([*OURS, "exec", "bpf", "import", str(path)], stderr=subprocess.PIPE) as process:
        wait_for(path.exists)
        process.terminate()
    assert process.returncode == 143
    assert not path.exists()


# --- the trace pipe ------------------------------------------------------------------------------


@pytest.fixture
def tracing() -> Iterator[Path]:
    """Where tracefs is, for as long as the test runs."""
    from bpfctl.kernel import tracefs

    found = tracefs.find_mount()
    if found:
        yield Path(found)
        return
    directory = Path("/tmp") / netlab.unique_name("tracefs")
    directory.mkdir()
    try:
        netlab.mount("tracefs", directory, "tracefs")
        try:
            yield directory
        finally:
            netlab.unmount(directory)
    finally:
        directory.rmdir()


@pytest.mark.parametrize("word", ["debug", "dbg"])
def test_debug_shows_what_programs_print(tracing: Path, word: str) -> None:
    """It is one pipe for the machine: the test waits for its own line."""
    marker = f"bpfctl-{os.getpid()}-{word}"
    with subprocess.Popen([*OURS, "exec", "bpf", word], stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert process.stderr.readline() == b"Running! Hang up with ^C!\n"
        (tracing / "trace_marker").write_text(marker)
        for line in process.stderr:
            if marker.encode() in line:
                break
        process.send_signal(2)
    assert process.returncode == 130


def test_debug_without_a_tracefs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from bpfctl.kernel import tracefs

    monkeypatch.setattr(tracefs, "find_mount", lambda: None)
    assert here(capsys, "exec", "bpf", "dbg", status=1) == (
        "Error: no tracefs is mounted\nHint: mount -t tracefs tracefs /sys/kernel/tracing\n"
    )
