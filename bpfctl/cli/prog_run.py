"""``prog run``: a program run by hand, and what it does compared with what it should do."""

from __future__ import annotations

import sys

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, parse_number, shown, unknown
from bpfctl.errors import BpfctlError, UsageError, errno_text, printable
from bpfctl.inventory import prog_run, verdicts
from bpfctl.inventory.prog_run import Run, RunRequest
from bpfctl.inventory.reference import Reference

_KEYWORDS = ("data_in", "ctx_in", "data_out", "ctx_out", "repeat", "expect", "expect_data")
_MAX_REPEAT = 1_000_000_000
_MAX_INPUT = 1 << 20  # bytes; no packet is as large
_SHOWN = 16  # bytes of each side where data differ


class _Wanted:
    """What the words ask for."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self.ctx: bytes | None = None
        self.data_out = ""
        self.ctx_out = ""
        self.repeat = 1
        self.verdict = ""
        self.expected: bytes | None = None


@words_command(
    "run",
    "{ id N | pinned PATH | name NAME | tag TAG } [ data_in DATA ] [ ctx_in DATA ] [ data_out FILE ]"
    " [ ctx_out FILE ] [ repeat N ] [ expect VERDICT ] [ expect_data DATA ]",
    "id pinned name tag hex " + " ".join(_KEYWORDS),
)
def run(app: App, words: list[str]) -> None:
    """Run a loaded program by hand, on a packet and a context, and show what it returns.

    DATA is a FILE, "-" for stdin, or "hex" and digits.  With "expect" or "expect_data" the exit status says
    whether verdict and packet are the wanted ones.  VERDICT is a name (XDP_DROP, drop) or a number.
    """
    tokens = Tokens(words)
    reference = resolved(parse_reference(tokens))
    wanted = _parse(tokens)
    number = _expected_number(reference, wanted.verdict) if wanted.verdict else None
    request = RunRequest(wanted.data, wanted.ctx, wanted.repeat, bool(wanted.ctx_out))
    result = prog_run.run(reference, request)
    _save(wanted.data_out, result.data_out, "packet")
    _save(wanted.ctx_out, result.ctx_out, "context")
    app.output.record(result, _text)
    if number is not None and number != result.retval:
        expected = _verdict_text(number, _name_of(result, number))
        raise BpfctlError(f"expected {expected}, the program returned {_outcome(result)}")
    if wanted.expected is not None:
        _compare(wanted.expected, result)


def _parse(tokens: Tokens) -> _Wanted:
    wanted = _Wanted()
    while tokens:
        word = tokens.peek()
        if tokens.take("data_in"):
            wanted.data = _parse_data(tokens, word)
        elif tokens.take("ctx_in"):
            wanted.ctx = _parse_data(tokens, word)
        elif tokens.take("data_out"):
            wanted.data_out = tokens.value("FILE")
        elif tokens.take("ctx_out"):
            wanted.ctx_out = tokens.value("FILE")
        elif tokens.take("repeat"):
            wanted.repeat = max(1, tokens.number("repeat", _MAX_REPEAT))
        elif tokens.take("expect"):
            wanted.verdict = tokens.value("VERDICT")
        elif tokens.take("expect_data"):
            wanted.expected = _parse_data(tokens, word)
        else:
            raise unknown(word, ", ".join(_KEYWORDS))
    return wanted


def _parse_data(tokens: Tokens, what: str) -> bytes:
    if not tokens.take("hex"):
        return _read(tokens.value(f"{what} (a FILE, -, or hex)"))
    digits = []
    while tokens and tokens.peek() not in _KEYWORDS:
        digits.append(tokens.next())
    try:
        return bytes.fromhex(" ".join(digits))
    except ValueError:
        raise UsageError(
            f"Illegal {what} {shown(' '.join(digits))}: pairs of hex digits are wanted"
        ) from None


def _read(path: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(_MAX_INPUT + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MAX_INPUT + 1)
    except OSError as error:
        raise BpfctlError(f"cannot read {printable(path, 4096)}: {errno_text(error.errno or 0)}") from error
    if len(data) > _MAX_INPUT:
        raise BpfctlError(f"{printable(path, 4096)} has more than {_MAX_INPUT} bytes, which no packet has")
    return data


def _save(path: str, digits: str | None, what: str) -> None:
    if not path:
        return
    if digits is None:
        raise UsageError(f"programs of this type give no {what} back")
    try:
        with open(path, "wb") as file:
            file.write(bytes.fromhex(digits))
    except OSError as error:
        raise BpfctlError(f"cannot write {printable(path, 4096)}: {errno_text(error.errno or 0)}") from error


# --- verdicts ------------------------------------------------------------------------------------


def _expected_number(reference: Reference, word: str) -> int:
    """The number that VERDICT means for the program; names may lack their prefix, in any case of letters."""
    number = parse_number(word.removeprefix("-"))
    if number is not None:
        return verdicts.signed(-number if word.startswith("-") else number)
    names = verdicts.verdict_names(prog_run.program_type(reference))
    for name, value in names.items():
        if word.upper() in (name, *(name.partition(prefix)[2] for prefix in _PREFIXES if prefix in name)):
            return value
    known = ", ".join(names) or "a number: programs of this type return no named verdicts"
    raise UsageError(f"Illegal verdict {shown(word)}", hint=f"known here: {known}")


_PREFIXES = ("XDP_", "TC_ACT_", "BPF_", "SK_", "NF_")


def _name_of(result: Run, number: int) -> str | None:
    from bpfctl.uapi import ProgramType

    kinds = {kind.name.lower(): int(kind) for kind in ProgramType}
    return verdicts.verdict_name(kinds.get(result.type, 0), number)


def _outcome(result: Run) -> str:
    return _verdict_text(result.retval, result.verdict)


def _verdict_text(number: int, name: str | None) -> str:
    return f"{name} ({number})" if name else str(number)


def _compare(expected: bytes, result: Run) -> None:
    if result.data_out is None:
        raise UsageError("programs of this type give no packet back")
    found = bytes.fromhex(result.data_out)
    if found == expected:
        return
    at = next((n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), None)
    if at is None:
        at = min(len(expected), len(found))
    raise BpfctlError(
        f"the packet is not the expected one: it differs from byte {at} on",
        details=(
            f"expected {len(expected)} bytes, there: {expected[at : at + _SHOWN].hex(' ') or 'the end'}",
            f"found    {len(found)} bytes, there: {found[at : at + _SHOWN].hex(' ') or 'the end'}",
        ),
    )


def _text(result: Run) -> str:
    words = [f"returned {_outcome(result)}"]
    words += [f"duration {result.duration}ns"] if result.duration is not None else []
    words += [f"repeat {result.repeat}"] if result.repeat > 1 else []
    words += [f"data_out {len(result.data_out) // 2}B"] if result.data_out is not None else []
    words += [f"ctx_out {len(result.ctx_out) // 2}B"] if result.ctx_out is not None else []
    return "  ".join(words)
