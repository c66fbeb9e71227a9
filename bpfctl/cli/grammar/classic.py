"""Classic BPF as text: ``N,code jt jf k,code jt jf k,...``, N instructions in decimal numbers.

In a file the instructions may stand on lines of their own.
"""

from __future__ import annotations

import struct

from bpfctl.api.sources import ClassicSource
from bpfctl.cli.grammar.tokens import shown
from bpfctl.errors import BpfctlError, errno_text, printable

_MOST = 4096  # BPF_MAXINSNS
_LONGEST_FILE = 1 << 20  # bytes; 4096 instructions of the longest numbers are a fifth of it
_LIMITS = (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF)
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jt, jf, k


def parse_text(text: str, what: str = "bytecode") -> ClassicSource:
    """The instructions of ``text``, which errors call ``what``; BpfctlError names the first that is wrong."""
    count, _, rest = text.strip().partition(",")
    number = _parse_number(count.strip(), _MOST)
    if not number:
        raise BpfctlError(f"{what}: the count {shown(count)} is no number from 1 to {_MOST}")
    parts = rest.removesuffix(",").split(",")
    instructions = [_parse_instruction(part, at, what) for at, part in enumerate(parts, 1) if rest]
    if len(instructions) != number:
        raise BpfctlError(f"{what}: {len(instructions)} instructions where the count says {number}")
    return ClassicSource(b"".join(instructions))


def parse_file(path: str) -> ClassicSource:
    """The instructions in a file; BpfctlError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        reason = errno_text(error.errno or 0)
        raise BpfctlError(f"cannot read bytecode file {printable(path, 4096)}: {reason}") from error
    what = f"bytecode file {printable(path, 4096)}"
    if len(data) > _LONGEST_FILE:
        raise BpfctlError(f"{what}: more than {_LONGEST_FILE} bytes")
    lines = (line.strip().removesuffix(",") for line in data.decode("ascii", "replace").splitlines())
    return parse_text(",".join(line for line in lines if line), what)


def _parse_instruction(part: str, at: int, what: str) -> bytes:
    words = part.split()
    numbers = [_parse_number(word, limit) for word, limit in zip(words, _LIMITS, strict=False)]
    if len(words) != len(_LIMITS) or None in numbers:
        limits = "code up to 65535, jt and jf up to 255, k up to 4294967295"
        raise BpfctlError(
            f"{what}, instruction {at}: {shown(part.strip())} is not `code jt jf k`", hint=limits
        )
    return _INSTRUCTION.pack(*numbers)


def _parse_number(word: str, limit: int) -> int | None:
    if not (word.isascii() and word.isdigit()) or len(word) > 10:
        return None
    number = int(word)
    return number if number <= limit else None
