"""Under the names of ip and tc: what is passed on, and that the real tool finds everything as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfctl.api.sources import ObjectSource
from bpfctl.cli.grammar.iplink import MixedLine, parse_line
from bpfctl.cli.grammar.link import LinkSet
from bpfctl.cli.grammar.programs import Place, in_actions, in_filter, in_link, in_route
from bpfctl.cli.shim.handover import is_marked, split_options
from bpfctl.cli.shim.mixed import _commands, _words
from bpfctl.errors import UsageError

# A tool that tells how it was started: name, words, environment, stdin, whether SIGPIPE kills it.
FAKE = """\
#!/bin/sh
printf '%s\\n' "$0" "$@"
env | grep -v -e '^_=' -e '^PWD=' -e '^SHLVL=' -e '^OLDPWD=' | sort
cat
grep SigIgn /proc/self/status
exit 42
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with the links that `make shim` makes, and one with fake tools."""
    links, real = tmp_path / "links", tmp_path / "real"
    links.mkdir()
    real.mkdir()
    script = tmp_path / "bpfctl-shim"
    script.write_text(f"#!{sys.executable}\nfrom bpfctl.cli.main import main\nmain()\n")
    script.chmod(0o755)
    for tool in ("ip", "tc"):
        (links / tool).symlink_to(script)
        (real / tool).write_text(FAKE)
        (real / tool).chmod(0o755)
    return links, real


def start(
    program: str, *words: str, path: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, **variables}
    command = [program, *words]
    return subprocess.run(
        command,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=30,
    )


# --- what is passed on, and how -------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["qdisc", "show"],
        ["-s", "-d", "qdisc"],
        ["-n", "ns", "filter", "add", "dev", "v0", "ingress", "u32", ""],
        ["filter", "show", "dev", "bpf"],
        ["actions", "list", "action", "bpf"],
        ["filter", "del", "dev", "v0", "ingress", "bpf"],
        ["filter", "add", "dev", "v0", "ingress", "bpf", "no-word", "obj", "x.o"],
        ["--json", "qdisc"],
        ["-batch"],
        ["caf\udce9 \n", "'"],
        [],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("variables", [{}, {"LANG": "C"}, {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}])
def test_the_real_tool_finds_everything_as_it_was(
    folders: tuple[Path, Path], words: list[str], variables: dict[str, str]
) -> None:
    links, real = folders
    path = f"{links}:{real}:/usr/bin:/bin"
    expected = start(str(real / "tc"), *words, path=path, stdin="a line\n", **variables)
    found = start(str(links / "tc"), *words, path=path, stdin="a line\n", **variables)
    assert expected.returncode == 42
    assert (found.returncode, found.stdout, found.stderr) == (42, expected.stdout, "")


def test_the_process_stays_the_same(folders: tuple[Path, Path]) -> None:
    links, real = folders
    (real / "tc").write_text("#!/bin/sh\nexec sleep 60\n")
    with subprocess.Popen([links / "tc", "qdisc"], env={"PATH": f"{links}:{real}:/usr/bin:/bin"}) as process:
        name = Path(f"/proc/{process.pid}/comm")
        for _ in range(10000):
            if name.read_text() == "sleep\n":
                break
            os.sched_yield()
        process.kill()
        assert name.read_text() in ("sleep\n", "")


@pytest.mark.parametrize("how", ["link", "script", "other-install"])
def test_what_leads_back_to_us_is_no_real_tool(folders: tuple[Path, Path], how: str) -> None:
    links, real = folders
    other = links.parent / "other"
    other.mkdir()
    if how == "link":
        (other / "tc").symlink_to(links / "tc")
    elif how == "script":
        (other / "tc").write_text('#!/bin/sh\nexec bpfctl tc "$@"\n')
        (other / "tc").chmod(0o755)
    else:
        (other / "bpfctl").write_text("#!/bin/sh\nexit 3\n")
        (other / "bpfctl").chmod(0o755)
        (other / "tc").symlink_to(other / "bpfctl")
    done = start(str(links / "tc"), "qdisc", path=f"{links}:{other}:{real}:/usr/bin:/bin")
    assert done.returncode == 42
    assert start(str(links / "tc"), "monitor", path=f"{other}:{links}").returncode == 127


@pytest.mark.parametrize("tool", ["ip", "tc"])
def test_as_a_command_of_bpfctl(folders: tuple[Path, Path], tool: str) -> None:
    _, real = folders
    done = start(sys.executable, "-m", "bpfctl", tool, "-s", "help", path=f"{real}:/usr/bin:/bin", stdin="x")
    assert done.returncode == 42
    assert done.stdout.splitlines()[1:3] == ["-s", "help"]


def test_without_a_real_tool(folders: tuple[Path, Path], tmp_path: Path) -> None:
    links, _ = folders
    none = start(str(links / "tc"), "monitor", path=str(links))
    assert (none.returncode, none.stdout) == (127, "")
    assert none.stderr == "Error: tc: no other tc in PATH, and this is no command of bpfctl's\n"
    wrong = start(str(links / "tc"), "filter", "add", "dev", "v0", "bpf", "obj", "x", "up", path=str(links))
    assert wrong.returncode == 1
    assert wrong.stderr.startswith('Error: What is "up"?\n')
    mixed = start(str(links / "ip"), "link", "set", "v0", "up", "xdp", "off", path=str(links))
    assert mixed.stderr.startswith("Error: v0 up: for these words a real ip is wanted")
    batch = tmp_path / "batch"
    batch.write_text("monitor\nfilter add dev bpf\n")
    done = start(str(links / "tc"), "-force", "-b", str(batch), path=str(links))
    assert done.returncode == 1
    assert done.stderr.count(f"Command failed {batch}:") == 2


# --- options and marks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "line", "given", "at"),
    [
        ("ip", "link", {}, 0),
        ("ip", "", {}, 0),
        ("ip", "-n a link", {"netns": "a"}, 2),
        ("ip", "-netns=a link", {"netns": "a"}, 1),
        ("ip", "--netns a link", {"netns": "a"}, 2),
        ("ip", "-d -s -j -p link", dict.fromkeys(("details", "stats", "json", "pretty"), ""), 4),
        ("ip", "-b f", {"batch": "f"}, 2),
        ("ip", "-br link", {"brief": ""}, 1),
        ("ip", "-force -batch -", {"force": "", "batch": "-"}, 3),
        ("ip", "-f inet6 addr", {"family": "inet6"}, 2),
        ("ip", "-4 -6 -0 -iec -N -t -ts -o link", None, 8),
        ("ip", "-c -color=always -c=never link", {"color": "never"}, 3),
        ("ip", "-l 3 -rc 5 -a -echo -- link", None, 7),
        ("ip", "-x link", None, -1),
        ("ip", "-n", None, -1),
        ("ip", "-d=x link", None, -1),
        ("tc", "-n a -nm -N qdisc", {"netns": "a", "nm": "", "Numeric": ""}, 4),
        ("tc", "-cf f -c -g -r qdisc", None, 5),
        ("tc", "-b f -force", {"batch": "f", "force": ""}, 3),
        ("tc", "-br -e -o -ts qdisc", None, 4),
        ("tc", "--json qdisc", None, -1),
        ("tc", "-4 qdisc", None, -1),
        ("tc", "-- qdisc", None, -1),
    ],
)
def test_options(tool: str, line: str, given: dict[str, str] | None, at: int) -> None:
    """``given`` None: only where the object stands is of interest; ``at`` -1: not understood."""
    found = split_options(tool, line.split())
    assert (found[1] if found else -1) == at
    if given is not None:
        assert found == (given, at)


@pytest.mark.parametrize(
    ("tool", "line", "marked"),
    [
        ("ip", "link set v0 up", False),
        ("ip", "link set v0 xdpgeneric off", True),
        ("ip", "route add 10.0.0.0/8 encap bpf out obj x.o", True),
        ("ip", "-6 route add ::/0 encap seg6local action End.BPF endpoint obj x.o", True),
        ("tc", "qdisc add dev v0 clsact", False),
        ("tc", "filter add dev v0 ingress bpf obj x.o", True),
    ],
)
def test_marks(tool: str, line: str, marked: bool) -> None:
    assert is_marked(tool, line.split()) is marked


# --- words of ip link set ------------------------------------------------------------------------

X = ObjectSource("x.o")


@pytest.mark.parametrize(
    ("line", "ours", "others"),
    [
        ("dev v0 xdp obj x.o", LinkSet("v0", "xdp", X), ""),
        ("v0 xdp obj x.o", LinkSet("v0", "xdp", X), ""),
        ("xdpdrv obj x.o sec a verb v0", LinkSet("v0", "xdpdrv", X._replace(section="a", verbose=True)), ""),
        ("v0 up xdp obj x.o sec a mtu 9", LinkSet("v0", "xdp", X._replace(section="a")), "v0 up mtu 9"),
        ("v0 alias xdp xdp obj x.o", LinkSet("v0", "xdp", X), "v0 alias xdp"),
        ("dev v0 name v9 xdp obj x.o", LinkSet("v9", "xdp", X), "dev v0 name v9"),
        ("v0 up xdp off", LinkSet("v0", "xdp", None), "v0 up"),
        ("v0 xdpgeneric none", LinkSet("v0", "xdpgeneric", None), ""),
        ("v0 xdp obj x.o type vlan xdp", LinkSet("v0", "xdp", X), "v0 type vlan xdp"),
        ("v0 xdp obj x.o vf 1 mac 02::1", LinkSet("v0", "xdp", X), "v0 vf 1 mac 02::1"),
    ],
)
def test_ip_link_set(line: str, ours: LinkSet, others: str) -> None:
    assert parse_line(line.split()) == MixedLine(ours, others.split())


@pytest.mark.parametrize(
    "line",
    [
        "v0 up",
        "xdp obj x.o",
        "v0 xdp off up",
        "v0 xdp obj x.o verb sec a",
        "v0 xdp obj x.o program p sec a",
        "v0 xdp obj x.o verb verb",
        "v0 xdp obj x.o xdp off",
        "xdpoffload obj x.o v0",
        "v0 xdp bytecode 1,6",
        "v0 xdp obj x.o netns other",
        "v0 xdp obj x.o mtu",
        "group 7 xdp obj x.o",
    ],
)
def test_ip_link_set_that_is_left_to_ip(line: str) -> None:
    with pytest.raises(UsageError):
        parse_line(line.split())


# --- lines of a batch ----------------------------------------------------------------------------


def test_lines_as_they_come() -> None:
    read, write = os.pipe()
    os.write(write, b"a\nb \\\nc\n\nd")
    commands = _commands(read)
    assert next(commands) == [[b"a"], [b"b \\", b"c"], [b""]]
    os.write(write, b"e \\\n")
    assert next(commands) == []
    os.close(write)
    assert list(commands) == [[[b"de \\"]]]
    os.close(read)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b"a 'b c' # d"], ["a", "b c"]),
        ([b"a b\\", b" c"], ["a", "b", "c"]),
        ([b'a "" \tb#c'], ["a", "", "b"]),
    ],
)
def test_words_of_a_command(lines: list[bytes], words: list[str]) -> None:
    assert _words(lines) == words


# --- programs in lines that are otherwise not known ------------------------------------------------


@pytest.mark.parametrize(
    ("finder", "line", "found"),
    [
        (in_filter, "dev v0 ingress bpf da obj x.o sec a action skbedit mark 7", [("obj x.o sec a", 3)]),
        (in_filter, "dev v0 bpf run o x.o verb sec a", [("run o x.o verb", 3)]),
        (in_filter, "dev v0 matchall action bpf obj x.o action vlan pop act bpf r obj y.o index 3",
         [("obj x.o", 4), ("obj y.o", 4)]),
        (in_filter, "dev v0 bpf pinned p action bpf bytecode 1,6 action bpf obj", []),
        (in_filter, "dev v0 dev v1 bpf obj x.o", []),
        (in_actions, "action skbedit mark 1 action bpf obj x.o export s", [("obj x.o export s", 4)]),
        (in_route, "10.0.0.0/8 rto_min 5ms encap bpf in obj in out obj x.o sec out headroom 9",
         [("obj in", 10), ("obj x.o sec out", 11)]),
        (in_route, "::/0 encap seg6local action End.BPF endpoint obj x.o rtt 5", [("obj x.o", 19)]),
        (in_route, "::/0 encap mpls 5 in obj x.o", []),
        (in_link, "v0 xdpdrv obj x.o sec a netns n", [("obj x.o sec a", 6)]),
        (in_link, "v0 xdpoffload obj x.o netns n", []),
        (in_link, "v0 alias xdp netns n", []),
    ],
)  # fmt: skip
def test_places_of_programs(
    finder: Callable[[list[str]], list[Place]], line: str, found: list[tuple[str, int]]
) -> None:
    words = line.split()
    places = [(" ".join(words[place.start : place.end]), place.program_type) for place in finder(words)]
    assert places == found
