"""kprobes: a function of the kernel, at its entry, inside, or where it returns; system calls too."""

from __future__ import annotations

import errno

from bpfctl.attach import perf_link
from bpfctl.attach.auto import family
from bpfctl.attach.link_refusals import lacks, refused
from bpfctl.errors import BpfctlError, printable
from bpfctl.kernel import kprobes, perf_event, probe
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import Program

_NO_FUNCTION = "no such function, or one that cannot be probed: /proc/kallsyms and kprobes/blacklist tell"
_HINTS = {
    errno.ENOENT: _NO_FUNCTION,
    errno.EINVAL: _NO_FUNCTION,
    errno.EADDRNOTAVAIL: "several functions have this name, or it is not probed for another reason",
    errno.EILSEQ: "no instruction begins at this offset",
}


def attach(program: Program) -> Fd:
    """The link of ``program`` to the function that its section names: SYMBOL or SYMBOL+OFFSET."""
    at_return = family(program.spec) == "kretprobe"
    symbol, offset = parse_place(program)
    if at_return and offset:
        raise BpfctlError(
            f"program {printable(program.name)}: a return has no offset in {printable(program.spec.section)}"
        )
    return _attach(program, symbol, offset, at_return)


def attach_syscall(program: Program) -> Fd:
    """The link of ``program`` to the system call that its section names."""
    at_return = family(program.spec) == "kretsyscall"
    names = kprobes.syscall_functions(program.spec.target)
    return _attach(program, names[-1 if probe.SYSCALL_WRAPPER.missing() else 0], 0, at_return)


def parse_place(program: Program) -> tuple[str, int]:
    """SYMBOL and OFFSET of the section's target; BpfctlError for an offset that is no number."""
    symbol, plus, text = program.spec.target.partition("+")
    try:
        offset = int(text, 8 if text.isdigit() and text.startswith("0") else 0) if plus else 0
    except ValueError:
        offset = -1
    if offset < 0 or not symbol or not all(c.isalnum() or c in "_." for c in symbol):
        raise BpfctlError(
            f"program {printable(program.name)}: section {printable(program.spec.section)} names no function",
            hint="it is SYMBOL or SYMBOL+OFFSET, the offset in bytes",
        )
    return symbol, offset


def _attach(program: Program, symbol: str, offset: int, at_return: bool) -> Fd:
    where = f"{'the return of ' if at_return else ''}function {symbol}{f'+{offset:#x}' if offset else ''}"
    try:
        event = Fd(perf_event.kprobe(symbol, offset, at_return=at_return))
    except OSError as error:
        if not perf_event.has_unit("kprobe"):
            raise lacks(program, "kprobes (CONFIG_KPROBE_EVENTS)", "kprobes", "4.17") from error
        raise refused(program, where, error, "perf_event_open", _HINTS) from error
    with event:
        return perf_link.attach(program, event, where)
