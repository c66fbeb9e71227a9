"""Does this object fit this kernel?  What it asks for and the kernel lacks, one finding each.

The running kernel is asked, another one is seen by its BTF.  Resolution is the loader's own, so that what is
found here is what a load would meet; only the verifier is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl import since
from bpfctl.btf.kinds import Kind
from bpfctl.btf.sanitise import features
from bpfctl.errors import (
    BpfctlError,
    CoreRelocationError,
    KernelError,
    NotSupportedError,
    ObjectFileError,
    printable,
)
from bpfctl.helpers import helper_name
from bpfctl.insn import CALL, decode
from bpfctl.kernel import syscall
from bpfctl.loader import verifier
from bpfctl.loader.explain import program_capabilities
from bpfctl.loader.externs import Externs, KernelSymbol, resolve
from bpfctl.loader.hooks import Hooks
from bpfctl.loader.judge import BtfJudge, RunningJudge
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.object_btf import btf_feature
from bpfctl.loader.programs import ProgramRequest
from bpfctl.loader.targets import with_targets
from bpfctl.objfile import Linker
from bpfctl.objfile.reach import Reach
from bpfctl.objfile.spec import ExternSpec, LinkedProgram, MapOrigin, ObjectSpec, ProgramSpec
from bpfctl.objfile.struct_ops_value import VALUE_PREFIX, kernel_struct_name
from bpfctl.record import NamedTuple, replace
from bpfctl.uapi import AttachType, MapFlag, MapType, ProgramType, type_name

MISSING, UNKNOWN = "missing", "unknown"


class Finding(NamedTuple):
    """Something that the object asks for.  The places are None where it is not about one."""

    kind: str  # prog_type, attach_type, target, map_type, struct_ops, helper, core, kfunc, ksym, ...
    name: str
    status: str  # "missing", or "unknown": cannot be found out
    required: bool  # False: the object gets along without, or asks first
    reason: str  # one sentence
    since: str | None = None  # the Linux that came with it, where that is known
    program: str | None = None
    instruction: int | None = None  # its number in the program as it is loaded
    source: str | None = None  # FILE:LINE: text


class Fit(NamedTuple):
    """The findings of one object.  ``fits``: nothing that is required is missing."""

    path: str
    kernel: str  # release of the running kernel, or the BTF file that stands for another
    fits: bool
    findings: tuple[Finding, ...]


def check(obj: ObjectSpec, btf_path: str | None = None) -> Fit:
    """Compare ``obj`` with the running kernel, or with the one whose BTF (raw) is in the file ``btf_path``.

    Raises BpfctlError for a file that cannot be read, BtfError for one that is no BTF, ObjectFileError for an
    object that cannot be linked on any kernel, NotSupportedError when the running kernel has no BTF and the
    object needs it.
    """
    kernel = KernelTypes(btf_path)
    try:
        checker = _Checker(obj, kernel)
        findings = tuple(checker.findings())
    finally:
        kernel.close()
    fit = Fit(obj.path, btf_path or syscall.release(), True, findings)
    return fit._replace(fits=failure(fit) is None)


def failure(fit: Fit) -> KernelError | None:
    """The error that a command ends with when the object does not fit: a load would be refused."""
    missing = sum(each.required and each.status == MISSING for each in fit.findings)
    return KernelError(f"{fit.path}: does not fit the kernel: {missing} missing") if missing else None


class _Checker:
    def __init__(self, obj: ObjectSpec, kernel: KernelTypes) -> None:
        self._obj = obj
        self._kernel = kernel
        if kernel.path is None:
            self._judge: BtfJudge = RunningJudge(kernel)
        else:
            self._judge = BtfJudge(kernel)
        self._linker = Linker(obj, kernel.relocator(obj))
        self._externs = Externs(obj)
        self._hooks = Hooks(obj, kernel)
        self._reported: set[str] = set()  # externs that no program can do without
        self._frozen = {spec.name for spec in obj.maps.values() if spec.frozen}

    def findings(self) -> Iterator[Finding]:
        yield from self._capabilities()
        yield from self._btf()
        yield from self._maps()
        yield from self._extern_findings()
        for spec in self._obj.programs.values():
            yield from self._program(spec)

    # --- what is about no program ------------------------------------------------------------------

    def _capabilities(self) -> Iterator[Finding]:
        types = {spec.program_type for spec in self._obj.programs.values() if spec.program_type}
        needed = dict.fromkeys(name for kind in sorted(types) for name in program_capabilities(kind))
        for name in self._judge.missing_capabilities(*needed):
            yield Finding("capability", name, MISSING, True, f"this process lacks {name}")

    def _btf(self) -> Iterator[Finding]:
        """A load writes the types in kinds that the kernel knows, so none of them is required."""
        for name in sorted(features(self._obj.btf)) if self._obj.btf else ():
            if self._judge.btf_feature(name) is False:
                probe = btf_feature(name)
                text = f"{_lacks(probe.meaning)}: types are loaded without"
                yield Finding("btf", name, MISSING, False, text, probe.since)

    def _maps(self) -> Iterator[Finding]:
        for spec in self._obj.maps.values():
            label = type_name(MapType, spec.map_type)
            if self._judge.map_type(spec.map_type) is False:
                text = f"{_lacks(f'map type {label}')}, which map {printable(spec.name)} has"
                yield Finding(
                    "map_type", label, MISSING, spec.autocreate, text, since.map_type_since(spec.map_type)
                )
            if spec.origin is MapOrigin.STRUCT_OPS:
                name = kernel_struct_name(self._obj, spec)
                if spec.flags & MapFlag.LINK and self._judge.attach_type(AttachType.STRUCT_OPS) is False:
                    text = _lacks("links to struct_ops") + f", which section {printable(spec.section)} is for"
                    released = since.attach_type_since(AttachType.STRUCT_OPS)
                    yield Finding("attach_type", "struct_ops", MISSING, spec.autocreate, text, released)
                if self._kernel.find(VALUE_PREFIX + name, Kind.STRUCT) is None:
                    text = _lacks(f"struct_ops called {printable(name)}")
                    yield Finding("struct_ops", name, MISSING, spec.autocreate, text)

    def _extern_findings(self) -> Iterator[Finding]:
        for extern in self._obj.externs:
            self._externs.symbols[extern.name] = KernelSymbol(address=1)
            if self._kernel.path is not None and (extern.kind == "kconfig" or not extern.type_id):
                if extern.name != "LINUX_KERNEL_VERSION":
                    text = f"{printable(extern.name)} is not in a kernel's types"
                    yield Finding(extern.kind, extern.name, UNKNOWN, not extern.weak, text)
                continue
            yield from self._extern(extern)

    def _extern(self, extern: ExternSpec) -> Iterator[Finding]:
        try:
            answer = resolve(replace(self._obj, externs=(extern,)), self._kernel)
        except (NotSupportedError, ObjectFileError) as error:
            self._externs.symbols[extern.name] = KernelSymbol()
            self._reported.add(extern.name)
            yield Finding(extern.kind, extern.name, MISSING, True, _sentence(error, self._obj))
            return
        self._externs.symbols |= answer.symbols
        if answer.symbols.get(extern.name) == KernelSymbol() and extern.kind == "ksym":
            text = _lacks(f"symbol {printable(extern.name)}")
            yield Finding(extern.kind, extern.name, MISSING, False, text)

    # --- programs ----------------------------------------------------------------------------------

    def _program(self, spec: ProgramSpec) -> Iterator[Finding]:
        kind = spec.program_type
        if kind is not None:
            yield from self._types(spec, kind)
            yield from self._target(spec, kind)
            yield from self._hook(spec)
        try:
            linked = self._linker.link(spec.name)
        except CoreRelocationError as error:
            yield Finding(
                "core", spec.name, MISSING, spec.autoload, _sentence(error, self._obj), None, spec.name
            )
            return
        linked = self._externs.apply(linked)
        reach = Reach(linked, self._frozen, self._obj.byte_order)
        yield from self._poisoned(spec, linked, reach)
        if kind is not None:
            yield from self._helpers(spec, kind, linked, reach)

    def _types(self, spec: ProgramSpec, kind: int) -> Iterator[Finding]:
        name = type_name(ProgramType, kind)
        if self._judge.program_type(kind) is False:
            text = _lacks(f"program type {name}")
            released = since.program_type_since(kind)
            yield Finding("prog_type", name, MISSING, spec.autoload, text, released, spec.name)
        elif spec.attach_type and self._judge.attach_type(spec.attach_type) is False:
            name = type_name(AttachType, spec.attach_type)
            required = spec.autoload and not spec.attach_type_optional
            text, released = _lacks(f"attach type {name}"), since.attach_type_since(spec.attach_type)
            yield Finding("attach_type", name, MISSING, required, text, released, spec.name)

    def _target(self, spec: ProgramSpec, kind: int) -> Iterator[Finding]:
        request = ProgramRequest(kind, spec.attach_type, spec.attach_type_optional, 0, False)
        try:
            with_targets(self._obj, {spec.name: request}, None, self._kernel)
        except NotSupportedError as error:
            text = _sentence(error, self._obj)
            yield Finding("target", spec.target, MISSING, spec.autoload, text, None, spec.name)
        except ObjectFileError as error:
            text = _sentence(error, self._obj)
            yield Finding(
                "target", spec.target or spec.section, UNKNOWN, spec.autoload, text, None, spec.name
            )

    def _hook(self, spec: ProgramSpec) -> Iterator[Finding]:
        absence = self._hooks.absence(spec)
        if absence:
            status = MISSING if absence.known else UNKNOWN
            yield Finding("target", spec.target, status, spec.autoload, absence.reason, None, spec.name)

    def _poisoned(self, spec: ProgramSpec, linked: LinkedProgram, reach: Reach) -> Iterator[Finding]:
        """What CO-RE and kernel functions left for the verifier to refuse, should it get there."""
        calls = {reference.index: reference.extern for reference in linked.externs}
        for index, reason in sorted(linked.poisoned.items()):
            name = calls.get(index, "")
            if name in self._reported:
                continue
            yield Finding(
                "kfunc" if name else "core",
                name or reason.removeprefix("CO-RE relocation ").partition(" has no match")[0],
                MISSING,
                spec.autoload and index in reach.certain,
                _guarded(reason, index, reach),
                None,
                spec.name,
                index,
                self._source(linked, index),
            )

    def _helpers(
        self, spec: ProgramSpec, kind: int, linked: LinkedProgram, reach: Reach
    ) -> Iterator[Finding]:
        calls: dict[int, list[int]] = {}
        for index, insn in enumerate(decode(linked.code, self._obj.byte_order)):
            if insn.code == CALL and not insn.src and index not in linked.poisoned:
                calls.setdefault(insn.imm, []).append(index)
        for number, places in calls.items():
            if self._judge.helper(kind, number) is not False:
                continue
            # The call that has to be there tells most.
            index = next((each for each in places if each in reach.certain), places[0])
            name = helper_name(number) or f"helper {number}"
            where = "" if self._kernel.path else f" for {type_name(ProgramType, kind)} programs"
            reason = _lacks(name) + where
            yield Finding(
                "helper",
                name,
                MISSING,
                spec.autoload and index in reach.certain,
                _guarded(reason, index, reach),
                since.helper_since(number),
                spec.name,
                index,
                self._source(linked, index),
            )

    def _source(self, linked: LinkedProgram, index: int) -> str | None:
        line = verifier.source_line(self._obj, linked, index)
        return str(line) if line else None


def _lacks(what: str) -> str:
    return f"the kernel has no {what}"


def _guarded(reason: str, index: int, reach: Reach) -> str:
    if index in reach.certain:
        return reason
    return f"{reason}; the program {'asks first' if index in reach.runs else 'does not get there'}"


def _sentence(error: BpfctlError, obj: ObjectSpec) -> str:
    """The message without the object's path, which stands above all of them."""
    return error.message.removeprefix(f"{obj.path}: ").removeprefix(f"{obj.path}, ")
