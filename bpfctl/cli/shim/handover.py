"""Passing a command line on to the real ``ip`` or ``tc``, which then takes the place of this process.

Most lines of a script are none of ours, and each of them comes through here: only modules that the
interpreter has loaded anyway are imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

TOOLS = ("ip", "tc")

_NOT_FOUND = 127  # exit statuses of sh(1) for a command that is not there, and one that does not start
_NOT_STARTED = 126
_SCRIPT_HEAD = 4096  # bytes of a script that are searched for our name

# Options in the order in which the tools try them; any prefix of one fits, but of those that are exact.
_OPTIONS = {
    "ip": "loops family human human-readable iec stats statistics details resolve oneline timestamp tshort "
    "Version force batch brief json pretty rcvbuf color help netns Numeric all",
    "tc": "stats statistics details raw pretty graph Version iec help force batch netns Numeric names nm cf "
    "conf color timestamp tshort json oneline brief echo",
}
_EXACT = {"ip": ("4", "6", "0", "M", "B", "echo"), "tc": ()}
_WITH_VALUE = ("loops", "family", "batch", "rcvbuf", "netns", "cf", "conf")
# Without one of these words a line loads nothing and attaches nothing.
_MARKS = {
    "ip": frozenset(("xdp", "xdpgeneric", "xdpdrv", "xdpoffload", "bpf", "End.BPF")),
    "tc": frozenset(("bpf",)),
}


def split_options(tool: str, arguments: Sequence[str]) -> tuple[dict[str, str], int] | None:
    """The global options, and where the object stands; None for what the tool itself would refuse.

    A value is "" for an option that takes none.
    """
    names, exact = _OPTIONS[tool].split(), _EXACT[tool]
    given: dict[str, str] = {}
    at = 0
    while at < len(arguments) and arguments[at][:1] == "-":
        word = arguments[at]
        at += 1
        if tool == "ip":
            if word == "--":
                break
            word = word.removeprefix("-") if word.startswith("--") else word
        name, equals, value = word[1:].partition("=")
        option = name if name in exact else next((n for n in names if name and n.startswith(name)), "")
        if not option or (equals and option not in ("color", "netns", "batch")):
            return None
        if option in _WITH_VALUE and not equals:
            if at == len(arguments):
                return None
            value = arguments[at]
            at += 1
        given[option] = value
    return given, at


def spell_options(given: dict[str, str], but: Sequence[str] = ()) -> list[str]:
    """The words of the options ``given``, without those called ``but``."""
    words = []
    for name, value in given.items():
        if name not in but:
            words += (
                [f"-{name}", value] if name in _WITH_VALUE else [f"-{name}={value}" if value else f"-{name}"]
            )
    return words


def is_marked(tool: str, words: Sequence[str]) -> bool:
    """Whether ``words`` may be a command of ours; without a mark they are not."""
    return not _MARKS[tool].isdisjoint(words)


def pass_on(tool: str, arguments: Sequence[str]) -> None:
    """Become the real tool if the command line is none of ours; return if it may be, or there is none."""
    split = split_options(tool, arguments)
    if split is not None:
        given, at = split
        if "batch" in given or is_marked(tool, arguments[at:]):
            return
    real = find(tool)
    if real:
        become(real, tool, arguments)


def find(tool: str) -> str:
    """The real tool: the next in PATH that is not bpfctl under another name; "" if there is none."""
    own = os.path.realpath(sys.argv[0])
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    here = os.path.dirname(sys.argv[0])
    if here in folders and os.path.basename(sys.argv[0]) == tool:
        folders = folders[folders.index(here) + 1 :]
    for folder in folders:
        path = os.path.join(folder or ".", tool)
        if os.access(path, os.X_OK) and os.path.isfile(path) and not _is_bpfctl(path, own):
            return path
    return ""


def _is_bpfctl(path: str, own: str) -> bool:
    """Whether ``path`` leads back to us: a link, or a script that calls us."""
    real = os.path.realpath(path)
    if real == own or os.path.basename(real).startswith("bpfctl"):
        return True
    try:
        with open(real, "rb", buffering=0) as file:
            return file.read(2) == b"#!" and b"bpfctl" in file.read(_SCRIPT_HEAD)
    except OSError:
        return False  # whether it can be run is for execve(2) to say


def become(path: str, tool: str, arguments: Sequence[str]) -> NoReturn:
    """Run ``path`` in the place of this process, with nothing changed that the caller had set up."""
    # The C module: signal itself imports enum.  Python ignores these two, and execve(2) would keep that.
    from _signal import SIG_DFL, SIGPIPE, SIGXFSZ, signal  # type: ignore[import-not-found]

    sys.stdout.flush()
    for number in (SIGPIPE, SIGXFSZ):
        signal(number, SIG_DFL)
    try:
        os.execve(path, [tool, *arguments], environment())
    except OSError as error:
        print(f"Error: cannot run {path}: {error.strerror}", file=sys.stderr)
        os._exit(_NOT_STARTED)


def environment() -> dict[str, str]:
    """What the caller set: in the C locale the interpreter adds LC_CTYPE for itself (PEP 538)."""
    variables = dict(os.environ)
    if variables.get("LC_CTYPE") == "C.UTF-8":
        with open("/proc/self/environ", "rb") as file:
            if b"\0LC_CTYPE=" not in b"\0" + file.read():
                del variables["LC_CTYPE"]
    return variables


def no_tool(tool: str) -> int:
    """The exit status when the line is the real tool's and there is none; says so."""
    print(f"Error: {tool}: no other {tool} in PATH, and this is no command of bpfctl's", file=sys.stderr)
    return _NOT_FOUND
