"""A verifier log made short: which lines say why, and which source line it was.

The log of a refused program ends with the instruction that failed, the state that it was reached in
and one sentence; before that stand thousands of lines of other paths.
"""

from __future__ import annotations

import struct

from bpfctl.errors import VerifierError, printable
from bpfctl.objfile.spec import LinkedProgram, ObjectSpec, PlacedFunction, ProgramSpec
from bpfctl.record import NamedTuple

SUMMARY_LINES = 8
_STATISTICS = (
    "processed ",
    "verification time ",
    "stack depth ",
    "total_states ",
    "peak_states ",
    "mark_read ",
)

# Behind the log of newer kernels (seen on 7.3) stands a report; these of its paragraphs say more than it.
_REPORT = "Verification failed: "
_TELLING = ("Reason:", "Suggestion:")

# What the verifier says, and what the author of the program can do about it.
_ADVICE = (
    (
        "GPL",
        'the helper asks for a GPL-compatible licence: char _license[] SEC("license") = "GPL";'
        " of a longer one the kernel reads 127 bytes",
    ),
    ("invalid access to packet", "compare the pointer with data_end before the access"),
    ("invalid mem access 'map_value_or_null'", "test the result of the lookup against NULL first"),
    ("back-edge", "give the loop a bound that the verifier can see, or use bpf_loop()"),
    ("program is too large", "split the program with tail calls, or shorten its loops"),
    ("invalid func ", "this kernel lacks the helper"),
    ("cannot use helper", "the kernel forbids the helper to this program type"),
    ("unknown func", "this kernel lacks the helper, or forbids it to this program type"),
    (
        "CO-RE relocation ",
        "for kernels without it, ask first: bpf_core_field_exists(), bpf_core_type_exists() and their like",
    ),
    ("kernel function ", "for kernels without it, ask first: bpf_ksym_exists()"),
    ("combined stack size", "512 bytes of stack are all there is: move large variables into a map"),
)


class SourceLine(NamedTuple):
    """Where in the C file: ``text`` is the line itself, as the compiler stored it."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{printable(self.file)}:{self.line}: {printable(self.text.strip())}"


class Summary(NamedTuple):
    """``lines`` that matter, ``omitted`` lines before them, ``instruction`` number or None.

    ``report``: what newer kernels add to them.
    """

    lines: tuple[str, ...]
    omitted: int
    instruction: int | None
    report: tuple[str, ...] = ()


def summarise(log: str, limit: int = SUMMARY_LINES) -> Summary:
    """The last ``limit`` lines of ``log`` that say something, statistics left out."""
    lines = [line.rstrip() for line in log.splitlines()]
    start = next((n for n, line in enumerate(lines) if line.startswith(_REPORT)), len(lines))
    report = _telling_paragraphs(lines[start:])
    lines = lines[:start]
    while lines and (not lines[-1] or lines[-1].startswith(_STATISTICS)):
        lines.pop()
    shown = lines[-limit:]
    return Summary(tuple(shown), len(lines) - len(shown), _last_instruction(lines), report)


def _telling_paragraphs(report: list[str]) -> tuple[str, ...]:
    """The headline of ``report``, and those of its paragraphs that are no second copy of the log."""
    chosen = report[:1]
    telling = False
    for line in report[1:]:
        if not line.startswith(" "):
            telling = line in _TELLING
        if telling and line:
            chosen.append(line)
    return tuple(chosen)


def _last_instruction(lines: list[str]) -> int | None:
    """Number of the last instruction that the log names: ``12: (71) r1 = *(u8 *)(r2 +0)``."""
    for line in reversed(lines):
        number, colon, rest = line.partition(": (")
        if colon and number.isdecimal() and rest[2:3] == ")":
            return int(number)
    return None


def _explained(summary: Summary, linked: LinkedProgram) -> Summary:
    """``summary`` saying why, where the verifier met what stands for something that the kernel lacks.

    All that the verifier can say is ``invalid func unknown#195896080``, after the call of that number.
    """
    reason = linked.poisoned.get(summary.instruction) if summary.instruction is not None else None
    if reason is None:
        return summary
    lines = tuple(line for line in summary.lines if "unknown#" not in line)
    return summary if lines == summary.lines else summary._replace(lines=(*lines, reason))


def refusal(
    obj: ObjectSpec, spec: ProgramSpec, linked: LinkedProgram, log: str, number: int, *, whole: bool
) -> VerifierError:
    """The error for a program that the verifier refused; ``whole``: give all of the log."""
    said = summarise(log)
    summary = _explained(said, linked)
    source = source_line(obj, linked, summary.instruction) if summary.instruction is not None else None
    lines = summary.lines + summary.report
    if whole:
        lines = (*log.splitlines(), *(() if summary is said else summary.lines[-1:]))
    details = tuple(f"  {line}" for line in lines)
    if not whole and summary.omitted:
        details = (f"  [{summary.omitted} earlier lines left out]", *details)
    where = _function_at(linked, summary.instruction)
    if source:
        details = (f"at {source}{where}", *details)
    return VerifierError(
        f"{obj.path}: the verifier refused program {printable(spec.name)} "
        f"(section {printable(spec.section)}, {len(linked.code) // 8} instructions)",
        program=spec.name,
        section=spec.section,
        source=str(source) if source else None,
        log=log,
        reason=summary.lines[-1].strip() if summary.lines else "",
        errno=number,
        details=details,
        hint=_advice(summary.lines, whole),
    )


def visited_instructions(log: str) -> int | None:
    """How many instructions the verifier looked at before it refused: ``processed 12 insns (limit ...``."""
    for line in reversed(log.splitlines()):
        if line.startswith("processed "):
            number = line.split()[1]
            return int(number) if number.isdecimal() else None
    return None


def _advice(lines: tuple[str, ...], whole: bool) -> str | None:
    reason = lines[-3:]
    known = next((advice for said, advice in _ADVICE if any(said in line for line in reason)), None)
    return known or (None if whole else "`verbose` after the program shows the whole log")


def _function_at(linked: LinkedProgram, instruction: int | None) -> str:
    """`` in function F, instruction N`` when the place lies in a subprogram."""
    if instruction is None:
        return ""
    function = next((f for f in linked.functions if _covers(f, instruction)), None)
    if function is None:
        return f" (instruction {instruction})"
    return f" (function {printable(function.name)}, instruction {instruction})"


def _covers(function: PlacedFunction, instruction: int) -> bool:
    return function.start <= instruction < function.start + function.size


def source_line(obj: ObjectSpec, linked: LinkedProgram, instruction: int) -> SourceLine | None:
    """The line_info record that covers ``instruction``, or None without one.

    A record is four u32: instruction, file name, line text, line << 10 | column (elf .BTF.ext).
    """
    if obj.btf is None or not linked.line_info:
        return None
    order = "<" if obj.byte_order == "little" else ">"
    record = struct.Struct(f"{order}4I")
    best = None
    for at in range(0, len(linked.line_info), linked.line_info_size):
        fields = record.unpack_from(linked.line_info, at)
        if fields[0] > instruction:
            break
        best = fields
    if best is None:
        return None
    return SourceLine(obj.btf.string(best[1]), best[3] >> 10, obj.btf.string(best[2]))
