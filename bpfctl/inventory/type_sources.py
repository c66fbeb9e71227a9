"""Where types come from: a file, the kernel, a module, or what is loaded."""

from __future__ import annotations

from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, KernelError, NotFoundError, NotSupportedError, printable
from bpfctl.inventory.reference import BTF, Reference, open_id, open_map, open_program
from bpfctl.kernel import info, kernel_btf
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Literal

_VMLINUX = "vmlinux"
_DIRECTORY = "/sys/kernel/btf/"
_ELF = b"\x7fELF"
_MACHINE, _EM_BPF = slice(18, 20), 247  # e_machine
_BYTE_ORDERS: dict[int, Literal["little", "big"]] = {1: "little", 2: "big"}

MAP_PARTS = ("key", "value", "kv", "all")


class Types(NamedTuple):
    """``btf``, and of it the types that were asked for; ``roots`` None: all of them.

    ``of_kernel``: a kernel's or module's, which CO-RE relocations are resolved against.
    """

    btf: Btf
    of_kernel: bool
    roots: tuple[int, ...] | None = None


def vmlinux() -> Btf:
    """The running kernel's types; NotSupportedError where it publishes none."""
    try:
        source = kernel_btf.vmlinux()
    except OSError as error:
        raise NotSupportedError(
            f"the kernel's BTF cannot be read: {error.filename}",
            feature="btf",
            errno=error.errno or 0,
            hint="the kernel has to be built with CONFIG_DEBUG_INFO_BTF=y",
        ) from error
    return Btf.from_bytes(source.data, path=source.name, section=None)


def of_kernel() -> Types:
    return Types(vmlinux(), True)


def of_module(name: str) -> Types:
    """The types of module ``name``, with the kernel's as their base."""
    if "/" in name or not name:
        raise NotFoundError(f"{printable(name) or 'nothing'} is no name of a module")
    if name == _VMLINUX:
        return of_kernel()
    path = _DIRECTORY + name.replace("-", "_")
    try:
        source = kernel_btf.from_file(path)
    except FileNotFoundError as error:
        hint = "lsmod lists modules; one built without BTF, or into the kernel, has none of its own"
        raise NotFoundError(f"no module {printable(name)} with BTF is loaded", hint=hint) from error
    except OSError as error:
        raise BpfctlError(f"{path}: {error.strerror}") from error
    return Types(Btf.from_bytes(source.data, path=path, section=None, base=vmlinux()), True)


def of_file(path: str, base: str | None = None) -> Types:
    """The types of an ELF file, as its compiler wrote them (of a kernel image too), or of a file of raw BTF.

    ``base``: the file that split BTF continues; for those below /sys/kernel/btf it is the kernel's.
    """
    below = _read_file(base, None).btf if base is not None else None
    if below is None and path.startswith(_DIRECTORY) and path != _DIRECTORY + _VMLINUX:
        below = vmlinux()
    return _read_file(path, below)


def _read_file(path: str, base: Btf | None) -> Types:
    try:
        source = kernel_btf.from_file(path)
    except OSError as error:
        raise BpfctlError(f"{printable(path, 4096)}: {error.strerror}") from error
    if source.data[: len(_ELF)] != _ELF:
        return Types(Btf.from_bytes(source.data, path=path, section=None, base=base), True)
    from bpfctl.objfile.elf_section import section_contents

    contents = section_contents(source.data, ".BTF", path)
    if contents is None:
        hint = "compile with -g, and strip with llvm-strip -g"
        raise NotFoundError(f"{printable(path, 4096)} has no section .BTF", hint=hint)
    is_bpf = int.from_bytes(source.data[_MACHINE], _BYTE_ORDERS.get(source.data[5], "little")) == _EM_BPF
    return Types(Btf.from_bytes(contents, path=path, base=base), not is_bpf)


def of_id(number: int) -> Types:
    """The BTF object with this id; raises NotFoundError, KernelError as :func:`open_program`."""
    with open_id(BTF, number) as fd:
        try:
            facts = info.btf_info(fd.number)
            data = info.btf_bytes(fd.number, facts.size)
        except OSError as error:
            raise KernelError(f"cannot read BTF id {number}", errno=error.errno or 0) from error
    base = vmlinux() if facts.kernel_btf and facts.name != _VMLINUX else None
    name = facts.name or f"BTF id {number}"
    return Types(Btf.from_bytes(data, path=name, section=None, base=base), facts.kernel_btf)


def of_program(reference: Reference) -> Types:
    """The BTF that a program was loaded with."""
    with open_program(reference) as fd:
        number = _facts(fd.number, "program").btf_id
    if not number:
        raise NotFoundError(f"program {reference} was loaded without BTF")
    return of_id(number)


def of_map(reference: Reference, part: str = "kv") -> Types:
    """The types of a map; ``part``: of its ``key``, ``value``, both (``kv``), or ``all`` of its BTF."""
    with open_map(reference) as fd:
        facts = info.map_info(fd.number)
    if not facts.btf_id:
        raise NotFoundError(f"map {reference} was created without BTF")
    key, value = facts.btf_key_type_id, facts.btf_value_type_id
    ids = {"key": [key], "value": [value], "kv": [key, value]}
    types = of_id(facts.btf_id)
    if part == "all":
        return types
    return types._replace(roots=tuple(number for number in ids[part] if number))


def _facts(fd: int, what: str) -> info.ProgInfo:
    try:
        return info.prog_info(fd)
    except OSError as error:
        raise KernelError(f"cannot read a {what}'s info", errno=error.errno or 0) from error


def named(btf: Btf, name: str) -> list[int]:
    """The types called ``name``, of any kind; NotFoundError if there are none."""
    offsets = set(btf.string_offsets(name)) if name else set()
    found = []
    part: Btf | None = btf
    while part is not None:
        numbers = enumerate(part.name_offsets(), part.first_id)
        found += [type_id for type_id, offset in numbers if offset in offsets]
        part = part.base
    if not found:
        raise NotFoundError(f"no type is called {printable(name)}")
    return sorted(found)
