"""A loaded program instruction by instruction, as the verifier left it: ``xlated``, with source and names.

The kernel rewrites calls and map references when it loads a program: the target of a helper or kernel
function is an offset from an address of the kernel, a call of a subprogram carries its number, a map its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from bpfctl import insn
from bpfctl.btf.types import Btf
from bpfctl.errors import BtfError, KernelError
from bpfctl.inventory.reference import Reference, open_program
from bpfctl.kernel import bpf, info, prog_code
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.kallsyms import Symbols
from bpfctl.kernel.privilege import permission_hint
from bpfctl.kernel.prog_code import ProgCode
from bpfctl.record import NamedTuple
from bpfctl.uapi import (
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC,
    BPF_PSEUDO_MAP_FD,
    BPF_PSEUDO_MAP_VALUE,
    Command,
)

_HIDDEN_HINT = "the kernel may hide it: see kernel.kptr_restrict and net.core.bpf_jit_harden"


class Instruction(NamedTuple):
    """One instruction.  ``proto`` only where a function begins, ``src`` to ``line_col`` where a line does."""

    pc: int
    proto: str | None
    src: str | None
    file: str | None
    line_num: int | None
    line_col: int | None
    disasm: str
    map_name: str | None
    opcodes: str  # hex digits, 32 for a 64-bit immediate load


class Source(NamedTuple):
    """A source line: its text, the file, and where in it."""

    text: str | None
    file: str | None
    line: int | None
    column: int | None


class Dump(NamedTuple):
    """What the kernel tells of a program's code; ``btf`` None: it was loaded without."""

    name: str
    code: ProgCode
    btf: Btf | None

    def proto(self, number: int) -> str | None:
        """The prototype of function ``number``, if BTF knows it."""
        from bpfctl.btf.c_dump import CDump

        return self._about(number, lambda btf, type_id: CDump(btf).prototype(type_id))

    def function_name(self, number: int) -> str | None:
        """The name of function ``number``."""
        return self._about(number, Btf.name)

    def _about(self, number: int, answer: Callable[[Btf, int], str]) -> str | None:
        if self.btf is None or not 0 <= number < len(self.code.functions):
            return None
        try:
            return answer(self.btf, self.code.functions[number].type_id)
        except BtfError:
            return None

    def source(self, number: int | None) -> Source:
        """Where line record ``number`` comes from; all None without one."""
        if number is None:
            return Source(None, None, None, None)
        record = self.code.lines[number]
        text = file = ""
        if self.btf is not None:
            with suppress(BtfError):
                text, file = self.btf.string(record.line_off).strip(), self.btf.string(record.file_name_off)
        return Source(text, file, record.line, record.column)


def read(reference: Reference) -> Dump:
    """Raises as :func:`open_program`, and KernelError when the code cannot be had."""
    with open_program(reference) as fd:
        try:
            facts = info.prog_info(fd.number)
            code = prog_code.prog_code(fd.number)
        except OSError as error:
            raise KernelError(
                f"cannot read the code of program {reference}", errno=error.errno or 0
            ) from error
    return Dump(facts.name, code, _types(facts.btf_id))


def _types(btf_id: int) -> Btf | None:
    """Source lines and names are a courtesy: what goes wrong with them is not an error."""
    if not btf_id:
        return None
    try:
        return Btf.from_bytes(info.btf_data(btf_id))
    except (OSError, BtfError):
        return None


def instructions(dump: Dump) -> Iterator[Instruction]:
    """All instructions of a program; raises KernelError when the kernel shows none."""
    code = dump.code
    if not code.xlated:
        raise KernelError(
            "the kernel does not show this program's instructions",
            hint=permission_hint("CAP_BPF") or _HIDDEN_HINT,
        )
    texts, maps = _Texts(dump).all()
    starts = {record.insn_off: number for number, record in enumerate(code.functions)}
    lines = {record.insn_off: number for number, record in enumerate(code.lines)}
    for pc, text in enumerate(texts):
        if not text:
            continue
        end = pc + 2 if pc + 1 < len(texts) and not texts[pc + 1] else pc + 1
        src, file, line, column = dump.source(lines.get(pc))
        yield Instruction(
            pc,
            dump.proto(starts[pc]) if pc in starts else None,
            src,
            file,
            line,
            column,
            f"({code.xlated[pc * insn.SLOT]:02x}) {text}",
            maps.get(pc),
            code.xlated[pc * insn.SLOT : end * insn.SLOT].hex(),
        )


class _Texts:
    """The text of each slot, with the references that the kernel rewrote put into words."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._slots = insn.decode(dump.code.xlated)
        self._texts = insn.disassemble(dump.code.xlated)

    def all(self) -> tuple[list[str], dict[int, str]]:
        """The texts, and the name of the map that an instruction refers to."""
        maps: dict[int, str] = {}
        calls = []
        for pc, slot in enumerate(self._slots):
            if not self._texts[pc]:
                continue
            if slot.code == insn.LD_IMM64 and pc + 1 < len(self._slots):
                name = self._load(pc, slot, self._slots[pc + 1].imm)
                if name is not None:
                    maps[pc] = name
            elif slot.code == insn.CALL:
                calls.append(pc)
        if calls:
            self._name_calls(calls)
        return self._texts, maps

    def _load(self, pc: int, slot: insn.Instruction, high: int) -> str | None:
        if slot.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
            offset = f"[0]+{high & 0xFFFFFFFF}" if slot.src == BPF_PSEUDO_MAP_VALUE else ""
            self._texts[pc] = f"r{slot.dst} = map[id:{slot.imm}]{offset}"
            return _map_name(slot.imm)
        if slot.src == BPF_PSEUDO_FUNC:
            self._texts[pc] = f"r{slot.dst} = subprog[{slot.imm:+d}]"
        return None

    def _name_calls(self, calls: list[int]) -> None:
        symbols = Symbols()
        base = symbols.call_base()
        targets = {pc: self._target(self._slots[pc], base) for pc in calls}
        names = symbols.names(targets.values())
        for pc in calls:
            slot, name = self._slots[pc], names.get(targets[pc])
            if slot.src == BPF_PSEUDO_CALL:
                callee = name or self._dump.function_name(slot.imm) if targets[pc] else None
                self._texts[pc] = f"call pc{slot.off if callee else slot.imm:+d}" + (
                    f"#{callee}" if callee else ""
                )
            elif name:
                self._texts[pc] = f"call {name}#{slot.imm}"

    def _target(self, slot: insn.Instruction, base: int) -> int:
        """The address that is called; 0 when it is unknown."""
        if slot.src == BPF_PSEUDO_CALL:
            ksyms = self._dump.code.ksyms
            return ksyms[slot.imm] if 0 <= slot.imm < len(ksyms) else 0
        return base + slot.imm if base and slot.imm else 0


def _map_name(number: int) -> str | None:
    try:
        with Fd(bpf.get_fd_by_id(Command.MAP_GET_FD_BY_ID, number)) as fd:
            return info.map_info(fd.number).name
    except OSError:
        return None
