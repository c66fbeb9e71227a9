"""Externs, answered by the running kernel: configuration values, addresses, kernel variables and functions.

All of the object's externs are answered before any of its programs, as in libbpf: one that is missing is an
error of the object, whichever program was asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from bpfctl.errors import BtfError, MissingExternError, ObjectFileError, printable
from bpfctl.insn import CALL, SLOT
from bpfctl.objfile.externs import config_size
from bpfctl.objfile.spec import ExternSpec, LinkedProgram, ObjectSpec
from bpfctl.record import TYPE_CHECKING, NamedTuple, replace
from bpfctl.uapi import BPF_PSEUDO_BTF_ID, BPF_PSEUDO_KFUNC_CALL

if TYPE_CHECKING:
    from bpfctl.btf.types import Btf
    from bpfctl.loader.kernel_types import KernelTypes

MISSING_KFUNC = 2002000000  # number of a helper that is none, plus the extern's number: libbpf's, so ours
_MAX_FDS = 32767  # the index of a descriptor stands in an instruction's signed offset


class KernelSymbol(NamedTuple):
    """What the kernel has for an extern; all zero for a weak one that it has not.

    ``address``: of a bare symbol.  ``btf_id``: of a variable or function, in vmlinux (``btf_fd`` 0) or the
    module whose BTF ``btf_fd`` is; ``fd_index``: where that stands in the program's array of descriptors.
    """

    address: int = 0
    btf_id: int = 0
    btf_fd: int = 0
    fd_index: int = 0


_Symbols = dict[str, KernelSymbol]  # by the extern's name


class Externs:
    """The answers for one object.

    ``config``: the content of its map of configuration values, None without one; ``fd_array``: descriptors
    that its programs are loaded with.
    """

    def __init__(self, obj: ObjectSpec) -> None:
        self._numbers = {extern.name: number for number, extern in enumerate(obj.externs)}
        self.config: bytes | None = None
        self.symbols: _Symbols = {}
        self.fd_array: tuple[int, ...] = ()

    def apply(self, linked: LinkedProgram) -> LinkedProgram:
        """``linked`` with the answers in its instructions; calls of what is missing must not be reached."""
        if not linked.externs:
            return linked
        code, missing = bytearray(linked.code), {}
        for index, name, is_call in linked.externs:
            symbol = self.symbols[name]
            if not is_call:
                _write_load(code, index * SLOT, symbol)
            elif symbol.btf_id:
                registers = code[index * SLOT + 1] & 0x0F | BPF_PSEUDO_KFUNC_CALL << 4
                struct.pack_into("=BBhi", code, index * SLOT, CALL, registers, symbol.fd_index, symbol.btf_id)
            else:
                number = MISSING_KFUNC + self._numbers[name]
                struct.pack_into("=BBhi", code, index * SLOT, CALL, 0, 0, number)
                missing[index] = f"kernel function {printable(name)} is not there, or is declared otherwise"
        return replace(linked, code=bytes(code), poisoned=linked.poisoned | missing)


def _write_load(code: bytearray, at: int, symbol: KernelSymbol) -> None:
    first, second = symbol.address & 0xFFFFFFFF, symbol.address >> 32
    if symbol.btf_id:
        code[at + 1] = code[at + 1] & 0x0F | BPF_PSEUDO_BTF_ID << 4
        first, second = symbol.btf_id, symbol.btf_fd
    struct.pack_into("=I", code, at + 4, first)
    struct.pack_into("=I", code, at + SLOT + 4, second)


def resolve(obj: ObjectSpec, kernel: KernelTypes) -> Externs:
    """The answers for all externs of ``obj``; descriptors among them are ``kernel``'s.

    Raises ObjectFileError for an extern that no types describe or whose type the answer does not fit,
    MissingExternError for one that is not weak and that the kernel lacks.
    """
    by_kind: dict[str, list[ExternSpec]] = {}
    for extern in obj.externs:
        by_kind.setdefault("address" if _is_bare(extern) else extern.kind, []).append(extern)
    answers = Externs(obj)
    is_legacy = any(section.name == "maps" for section in obj.sections)
    if (unknown := by_kind.get("undefined")) and not is_legacy:  # there, only a reference is an error
        raise ObjectFileError(
            f"symbol {printable(unknown[0].name)} is not defined, and no types say that the kernel has it",
            path=obj.path,
            hint="link the object that defines it: bpftool gen object OUT IN...",
        )
    if "kconfig" in by_kind:
        from bpfctl.loader.kconfig import config_image

        answers.config = config_image(by_kind["kconfig"], config_size(obj.externs), obj.path)
    if "address" in by_kind:
        answers.symbols |= _addresses(by_kind["address"], obj.path)
    if "ksym" in by_kind:
        answers.symbols |= _variables(by_kind["ksym"], obj, kernel)
    if "kfunc" in by_kind:
        answers.symbols |= _functions(by_kind["kfunc"], obj, kernel)
        answers.symbols, answers.fd_array = _with_fd_array(answers.symbols, by_kind["kfunc"], obj.path)
    return answers


def _is_bare(extern: ExternSpec) -> bool:
    """Declared as void: only the address counts."""
    return extern.kind == "ksym" and not extern.type_id


def _addresses(externs: Sequence[ExternSpec], path: str) -> _Symbols:
    from bpfctl.kernel import ksyms

    try:
        known = ksyms.addresses([extern.name for extern in externs])
    except OSError as error:
        raise MissingExternError(
            f"{path}: addresses of kernel symbols are in /proc/kallsyms, which cannot be read",
            feature="kallsyms",
            errno=error.errno or 0,
        ) from error
    found = {}
    for extern in externs:
        places = known.get(extern.name, [])
        if len(places) > 1:
            raise ObjectFileError(
                f"the kernel has {len(places)} symbols called {printable(extern.name)}, "
                f"at {places[0]:#x}, {places[1]:#x}{' ...' * (len(places) > 2)}",
                path=path,
            )
        if not places and not extern.weak:
            raise _missing(extern, "symbol", path)
        found[extern.name] = KernelSymbol(address=places[0] if places else 0)
    return found


def _missing(extern: ExternSpec, what: str, path: str) -> MissingExternError:
    return MissingExternError(
        f"{path}: the kernel has no {what} called {printable(extern.name)}",
        feature=extern.name,
        hint="declared weak, it may be missing: the program asks whether it is there before the use",
    )


# --- what types describe -------------------------------------------------------------------------


def _variables(
    externs: Sequence[ExternSpec], obj: ObjectSpec, kernel: KernelTypes
) -> dict[str, KernelSymbol]:
    from bpfctl.btf.kinds import Kind

    known = kernel.find_each([extern.name for extern in externs], Kind.VAR)
    found = {}
    for extern in externs:
        if extern.name not in known:
            if not extern.weak:
                raise _missing(extern, "variable", obj.path)
            found[extern.name] = KernelSymbol()
            continue
        btf, type_id = known[extern.name]
        target = btf.skip_modifiers(btf.type(type_id).size_or_type)
        if not _compatible(obj, extern, btf, target):
            raise _otherwise(obj, extern, btf, target)
        found[extern.name] = KernelSymbol(btf_id=type_id, btf_fd=kernel.descriptor(btf))
    return found


def _functions(
    externs: Sequence[ExternSpec], obj: ObjectSpec, kernel: KernelTypes
) -> dict[str, KernelSymbol]:
    """Weak ones that the kernel declares otherwise count as missing: a flavour for each is how one asks."""
    from bpfctl.btf.core_types import essential_name
    from bpfctl.btf.kinds import Kind

    known = kernel.find_each([essential_name(extern.name) for extern in externs], Kind.FUNC)
    found = {}
    for extern in externs:
        found[extern.name] = KernelSymbol()
        if essential_name(extern.name) not in known:
            if not extern.weak:
                raise _missing(extern, "function (kfunc)", obj.path)
            continue
        btf, type_id = known[essential_name(extern.name)]
        target = btf.type(type_id).size_or_type
        if _compatible(obj, extern, btf, target):
            found[extern.name] = KernelSymbol(btf_id=type_id, btf_fd=kernel.descriptor(btf))
        elif not extern.weak:
            raise _otherwise(obj, extern, btf, target)
    return found


def _compatible(obj: ObjectSpec, extern: ExternSpec, btf: Btf, target_id: int) -> bool:
    from bpfctl.btf.core_types import types_compatible

    assert obj.btf is not None  # it described the extern
    try:
        return types_compatible(obj.btf, extern.type_id, btf, target_id)
    except BtfError:
        return False


def _otherwise(obj: ObjectSpec, extern: ExternSpec, btf: Btf, target_id: int) -> ObjectFileError:
    assert obj.btf is not None
    declared, known = _described(obj.btf, extern.type_id), _described(btf, target_id)
    return ObjectFileError(
        f"{printable(extern.name)} is declared as {declared}, the kernel has {known}",
        path=obj.path,
        hint="define its structs, which are only declared" if declared == known else None,
    )


def _described(btf: Btf, type_id: int) -> str:
    record = btf.type(type_id)
    if record.kind.label == "func_proto":
        from bpfctl.btf.text import type_text

        return type_text(btf, type_id)
    return f"{record.kind.label} {printable(record.name)}".rstrip()


def _with_fd_array(
    symbols: _Symbols, functions: Sequence[ExternSpec], path: str
) -> tuple[_Symbols, tuple[int, ...]]:
    """``symbols`` with places for the descriptors of the modules that ``functions`` are in.

    A call has no room for a descriptor, only for its place in an array; place 0 stands for vmlinux.
    """
    places: dict[int, int] = {}
    for extern in functions:
        symbol = symbols[extern.name]
        if symbol.btf_fd:
            index = places.setdefault(symbol.btf_fd, len(places) + 1)
            symbols[extern.name] = symbol._replace(fd_index=index)
    if len(places) > _MAX_FDS:
        raise ObjectFileError(f"its kernel functions are in {len(places)} modules", path=path)
    return symbols, (0, *places) if places else ()
