"""``prog dump``: the instructions of a loaded program, with its source."""

from __future__ import annotations

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.inventory import xlated
from bpfctl.inventory.jited import MachineFunction, MachineInstruction
from bpfctl.inventory.xlated import Instruction


@words_command(
    "dump",
    "{ xlated | jited } { id N | pinned PATH | name NAME | tag TAG } [ opcodes ] [ linum ]",
    "xlated jited id pinned name tag opcodes linum",
)
def dump(app: App, words: list[str]) -> None:
    """Print a loaded program's code: "xlated", BPF as the verifier left it, or "jited", machine code.

    With the source lines and function names that its BTF has.  "opcodes" adds the bytes of each
    instruction, "linum" file, line and column.  objdump(1), where it is installed, disassembles machine code.
    """
    tokens = Tokens(words)
    form = tokens.value("xlated or jited")
    if form not in ("xlated", "jited"):
        raise unknown(form, "xlated, jited")
    reference = resolved(parse_reference(tokens))
    opcodes = linum = False
    while tokens:
        if tokens.take("opcodes"):
            opcodes = True
        elif tokens.take("linum"):
            linum = True
        else:
            raise unknown(tokens.peek(), "opcodes, linum")
    found = xlated.read(reference)
    if form == "xlated":
        app.output.records(
            xlated.instructions(found), lambda record: _xlated_text(record, opcodes=opcodes, linum=linum)
        )
        return
    from bpfctl.inventory import jited

    app.output.records(
        jited.functions(found), lambda record: _jited_text(record, opcodes=opcodes, linum=linum)
    )


def _xlated_text(record: Instruction, *, opcodes: bool, linum: bool) -> str:
    lines = [f"{record.proto}:"] if record.proto else []
    lines += _source(record, linum)
    named = f"  <{record.map_name}>" if record.map_name else ""
    lines.append(f"{record.pc:4}: {record.disasm}{named}")
    if opcodes:
        lines.append("       " + bytes.fromhex(record.opcodes).hex(" "))
    return "\n".join(lines)


def _source(record: Instruction | MachineInstruction, linum: bool) -> list[str]:
    if not record.src:
        return []
    where = f" [file:{record.file} line_num:{record.line_num} line_col:{record.line_col}]" if linum else ""
    return [f"; {record.src}{where}"]


def _jited_text(record: MachineFunction, *, opcodes: bool, linum: bool) -> str:
    lines = [f"{record.proto}:"] if record.proto else []
    lines.append(f"{record.name}:")
    for instruction in record.insns:
        lines += _source(instruction, linum)
        digits = bytes.fromhex(instruction.bytes).hex(" ")
        if instruction.operation is None:
            lines.append(f"{instruction.pc:4x}:\t{digits}")
        else:
            lines.append(f"{instruction.pc:4x}:\t{instruction.operation}")
            lines += [f"\t{digits}"] if opcodes else []
    return "\n".join(lines)
