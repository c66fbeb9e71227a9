"""What a program is for by its section's name alone: functions to probe and tracepoints.

A load does not ask whether they exist, an attachment does.  The running kernel is asked in /proc/kallsyms and
tracefs.  Types tell what another one has, and only of raw tracepoints what it lacks: functions that were
optimised, those of modules and events of system calls are not among them.
"""

from __future__ import annotations

from functools import cached_property

from bpfctl.btf.kinds import Kind
from bpfctl.errors import NotSupportedError, printable
from bpfctl.kernel import kprobes, ksyms, perf_event, tracefs
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.objfile.spec import ObjectSpec, ProgramSpec
from bpfctl.record import NamedTuple

_KPROBES = frozenset({"kprobe", "kretprobe"})
_MULTI = frozenset({"kprobe.multi", "kretprobe.multi", "kprobe.session"})
_SYSCALLS = frozenset({"ksyscall", "kretsyscall"})
_TRACEPOINTS = frozenset({"tracepoint", "tp", "tracepoint.s", "tp.s"})
_RAW = frozenset({"raw_tracepoint", "raw_tp", "raw_tracepoint.s", "raw_tp.s", "raw_tracepoint.w", "raw_tp.w"})
_TYPEDEF = "btf_trace_"  # + the name of a tracepoint, since Linux 5.5


class Absence(NamedTuple):
    """Why a target cannot be had; ``known`` False: it cannot be found out whether it can."""

    known: bool
    reason: str


class Hooks:
    """The targets of the programs of ``obj`` that no type of the kernel is needed for."""

    def __init__(self, obj: ObjectSpec, kernel: KernelTypes) -> None:
        self._kernel = kernel
        self._programs = [spec for spec in obj.programs.values() if spec.target]

    def absence(self, spec: ProgramSpec) -> Absence | None:
        """None: the target of ``spec`` is there, or it has none of these kinds, or names a pattern."""
        family = _family(spec)
        names = _functions(spec)
        if names:
            return self._function(names, family)
        if family in _TRACEPOINTS and spec.target:
            return self._tracepoint(spec.target)
        if family in _RAW and spec.target:
            return self._raw_tracepoint(spec.target)
        return None

    # --- functions ---------------------------------------------------------------------------------

    def _function(self, names: list[str], family: str) -> Absence | None:
        """``names``: what it may be called."""
        if self._kernel.path is not None:
            if any(self._kernel.find(name, Kind.FUNC) for name in names):
                return None
            return Absence(
                False, f"{_function_called(names[0])} is not in a kernel's types, which leave out some"
            )
        if family not in _MULTI and not perf_event.has_unit("kprobe"):
            return Absence(True, "the kernel has no kprobes (CONFIG_KPROBE_EVENTS)")
        if self._symbols is None:
            return Absence(False, f"{_function_called(names[0])}: /proc/kallsyms cannot be read")
        if not any(name in self._symbols for name in names):
            return Absence(True, f"the kernel has no {_function_called(names[0])}")
        if family not in _MULTI and names[0] in self._blacklist:
            return Absence(
                True, f"the kernel lets nobody probe {_function_called(names[0])} (kprobes/blacklist)"
            )
        return None

    @cached_property
    def _symbols(self) -> set[str] | None:
        """Those of the functions asked for that the running kernel has."""
        try:
            return set(ksyms.addresses({name for spec in self._programs for name in _functions(spec)}))
        except OSError:
            return None

    @cached_property
    def _blacklist(self) -> set[str]:
        return kprobes.blacklist()

    # --- tracepoints -------------------------------------------------------------------------------

    def _tracepoint(self, target: str) -> Absence | None:
        category, _, name = target.partition("/")
        if self._kernel.path is None:
            answer = tracefs.has_tracepoint(category, name)
            if answer is not None:
                return None if answer else Absence(True, f"the kernel has no tracepoint {printable(target)}")
        if self._has_typedef(name):
            return None
        return Absence(
            False, f"tracepoint {printable(target)} is not in a kernel's types, which leave out some"
        )

    def _raw_tracepoint(self, name: str) -> Absence | None:
        answer = self._has_typedef(name)
        if answer is None:
            return Absence(False, "the kernel's types name no tracepoints")
        return None if answer else Absence(True, f"the kernel has no tracepoint called {printable(name)}")

    def _has_typedef(self, name: str) -> bool | None:
        """None for a kernel without types, or with such that are older than the names of tracepoints."""
        try:
            if self._kernel.find(_TYPEDEF + name, Kind.TYPEDEF):
                return True
            return False if self._names_tracepoints else None
        except NotSupportedError:
            return None

    @cached_property
    def _names_tracepoints(self) -> bool:
        return _TYPEDEF.encode() in self._kernel.vmlinux().data


def _family(spec: ProgramSpec) -> str:
    return spec.section.partition("/")[0]


def _functions(spec: ProgramSpec) -> list[str]:
    """What the function that ``spec`` probes may be called, on this machine first; none for a pattern."""
    family = _family(spec)
    if family in _KPROBES:
        names = [spec.target.partition("+")[0]]
    elif family in _MULTI and not any(c in "*?" for c in spec.target):
        names = [spec.target]
    elif family in _SYSCALLS and spec.target:
        names = kprobes.syscall_functions(spec.target)
    else:
        names = []
    return [name for name in names if name]


def _function_called(name: str) -> str:
    return f"function {printable(name)}"
