"""struct_ops maps: fitted to the kernel's types before anything is made, filled once programs are loaded."""

from __future__ import annotations

import struct
from collections.abc import Collection

from bpfctl.btf.kinds import Kind
from bpfctl.errors import NotSupportedError, ObjectFileError, printable
from bpfctl.kernel.fd import Fd
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.live import LoadedObject
from bpfctl.objfile.spec import MapSpec, ObjectSpec, ProgramSpec
from bpfctl.objfile.struct_ops_value import VALUE_PREFIX, KernelValue, kernel_struct_name, kernel_value
from bpfctl.record import NamedTuple


class FittedMap(NamedTuple):
    """A struct_ops map as this kernel takes it; ``btf`` is open where a module defines its type."""

    value: KernelValue
    btf: Fd | None


class ProgramTarget(NamedTuple):
    """What BPF_PROG_LOAD is told of a struct_ops program: struct, number of the member, BTF of a module."""

    attach_btf_id: int
    member_index: int
    btf_fd: int


def fit(loaded: LoadedObject, specs: Collection[MapSpec], kernel: KernelTypes) -> None:
    """Fill ``loaded.struct_ops``, by name, with what the kernel's types make of ``specs``.

    Raises NotSupportedError when the kernel has no such struct, ObjectFileError when the object's differs.
    """
    obj = loaded.spec
    for spec in specs:
        name = kernel_struct_name(obj, spec)
        found = kernel.find(VALUE_PREFIX + name, Kind.STRUCT)
        if found is None:
            raise NotSupportedError(
                f"{obj.path}: struct_ops map {printable(spec.name)}: this kernel has no struct_ops called "
                f"{printable(name)}",
                feature="struct_ops",
                hint=f"no type {printable(VALUE_PREFIX + name)} in its BTF, nor in that of a module",
            )
        btf, type_id = found
        loaded.struct_ops[spec.name] = FittedMap(kernel_value(obj, spec, btf, type_id), kernel.open_btf(btf))


def program_target(loaded: LoadedObject, program: ProgramSpec) -> ProgramTarget:
    """Where ``program`` belongs; the maps that it is in have to agree.

    Raises ObjectFileError when they do not, or when no map has it.
    """
    target: ProgramTarget | None = None
    for name, (value, btf) in loaded.struct_ops.items():
        for function in value.functions:
            if function.program != program.name:
                continue
            place = ProgramTarget(value.type_id, function.member_index, btf.number if btf else 0)
            if target is not None and target[:2] != place[:2]:
                raise _error(loaded.spec, program, f"map {printable(name)} has it as another function")
            target = target or place
    if target is None:
        raise _error(loaded.spec, program, "no struct_ops map that is made has it")
    return target


def _error(obj: ObjectSpec, program: ProgramSpec, reason: str) -> ObjectFileError:
    return ObjectFileError(
        f"struct_ops program {printable(program.name)}: {reason}",
        path=obj.path,
        section=program.section,
        offset=program.function.offset,
    )


def fill_values(loaded: LoadedObject) -> None:
    """Give each live map its ``value``, the loaded programs in its function pointers.

    Nothing reaches the kernel yet: it takes the value once, when the map is registered.
    """
    for name, (value, _) in loaded.struct_ops.items():
        data = bytearray(value.data)
        for function in value.functions:
            fd = loaded.program(function.program).fd.number
            struct.pack_into("=Q", data, function.offset, fd)
        loaded.maps[name].value = bytes(data)
