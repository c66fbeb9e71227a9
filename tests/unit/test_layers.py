"""The architecture as a test: an import only goes down, and start-up stays small.

```
                 cli
                 api                      load, then attach: what `import bpfctl` offers
   loader      attach      inventory        verbs
      |           \\            /
   objfile             kernel               left: bytes in, values out     right: the running system
     btf                 |
      \\-- insn  uapi  errors --/            leaves
```
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "bpfctl"

LEAVES = {"errors", "record", "uapi"}
LEFT = LEAVES | {"asm", "btf", "helpers", "insn", "objfile", "since"}
VERBS = {"advise", "attach", "bench", "inventory", "loader"}

# room -> the rooms that it may import; a room is a module or package directly under bpfctl
MAY_IMPORT: dict[str, set[str]] = {
    "record": set(),
    "version": {"record"},
    "uapi": {"record"},
    "errors": {"record", "uapi"},
    "helpers": {"record", "uapi"},
    "since": {"record"},
    "insn": LEAVES | {"helpers"},
    "asm": LEAVES | {"insn"},
    "btf": LEAVES | {"insn"},
    "objfile": LEAVES | {"btf", "insn"},
    "kernel": LEAVES | {"insn"},
    "inventory": LEFT | {"kernel"},
    "loader": LEFT | {"kernel", "inventory"},
    "attach": LEFT | {"kernel", "inventory", "loader"},
    "bench": LEFT | {"kernel"},
    "advise": LEFT | {"kernel", "inventory", "bench", "version"},
    "api": LEFT | VERBS,
    "cli": LEFT | VERBS | {"api", "version"},
    "__init__": LEFT | VERBS | {"api", "version"},
    "__main__": {"cli"},
}

# Each costs a short command more than the work that it came for.
BANNED_AT_START_UP = {
    "asyncio", "click", "dataclasses", "elftools", "hashlib", "inspect", "json", "logging", "pathlib",
    "pyroute2", "random", "rich", "shutil", "socket", "ssl", "subprocess", "tempfile", "typing",
    "urllib",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of the file, those inside functions included."""
    package = ("bpfctl", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            module = base + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    for line, name in imported(path):
        top, _, rest = name.partition(".")
        if top == "bpfctl":
            room = rest.partition(".")[0]
            yield line, room if room in MAY_IMPORT else "__init__"


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in modules()} <= set(MAY_IMPORT)


def test_the_diagram_has_no_circle() -> None:
    settled: set[str] = set()
    while ready := {room for room, below in MAY_IMPORT.items() if below <= settled} - settled:
        settled |= ready
    assert settled == set(MAY_IMPORT)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path: Path) -> None:
    room = room_of(path)
    allowed = MAY_IMPORT[room] | {room}
    upward = [f"line {line}: {target}" for line, target in rooms_imported(path) if target not in allowed]
    assert upward == []


def test_ctypes_stays_in_kernel_and_test_tools_stay_out() -> None:
    strays = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules()
        for line, name in imported(path)
        if name.partition(".")[0] in {"elftools", "pyroute2"}
        or (name.partition(".")[0] == "ctypes" and room_of(path) != "kernel")
    ]
    assert strays == []


def imported_by(*arguments: str) -> set[str]:
    """Top-level names of all modules that a Python process with ``arguments`` imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in times}


@pytest.mark.parametrize(
    "command",
    [
        "-V",
        "obj show testdata/endpoints.bpf.o",
        "filter add dev no-such-dev ingress bpf da obj testdata/endpoints.bpf.o sec from-container",
        "link set dev no-such-dev xdp obj testdata/xdp_root.bpf.o sec xdp",
    ],
)
def test_a_command_imports_nothing_heavy(command: str) -> None:
    """Of what the interpreter needs, which differs from version to version, we are not accused."""
    ours = imported_by("-m", "bpfctl", *command.split())
    assert "bpfctl" in ours
    assert ours & BANNED_AT_START_UP <= imported_by("-c", "pass")
