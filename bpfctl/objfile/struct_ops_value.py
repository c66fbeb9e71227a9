"""A struct_ops variable as the running kernel wants it: member by member, by name, into the kernel's struct.

The kernel's map value is a ``struct bpf_struct_ops_NAME`` that holds its ``struct NAME``; the object's struct
of that name (or of a flavour, ``NAME___v2``) may have fewer members, others, or another order.
"""

from __future__ import annotations

from bpfctl.btf.core_types import essential_name
from bpfctl.btf.kinds import Kind, Member
from bpfctl.btf.types import Btf
from bpfctl.errors import ObjectFileError, printable
from bpfctl.objfile.spec import MapSpec, ObjectSpec
from bpfctl.record import NamedTuple

VALUE_PREFIX = "bpf_struct_ops_"


class KernelFunction(NamedTuple):
    """A function pointer of a kernel value.

    ``offset``: bytes from the start of the value; ``member_index`` is what BPF_PROG_LOAD takes as the
    expected attach type of a program for it.
    """

    offset: int
    member_index: int
    program: str


class KernelValue(NamedTuple):
    """What one struct_ops map is made and filled with; type ids count in the kernel's BTF.

    ``data``: the whole value, its function pointers still zero.
    """

    type_id: int  # of struct NAME: the attach_btf_id of its programs
    value_type_id: int  # of struct bpf_struct_ops_NAME
    data: bytes
    functions: tuple[KernelFunction, ...]


def kernel_struct_name(obj: ObjectSpec, spec: MapSpec) -> str:
    """Name of the kernel's struct that ``spec`` is an instance of."""
    assert obj.btf is not None
    return essential_name(obj.btf.name(spec.value_type_id))


def kernel_value(obj: ObjectSpec, spec: MapSpec, kernel: Btf, value_type_id: int) -> KernelValue:
    """The value of ``spec`` for the kernel's struct ``value_type_id`` of its BTF ``kernel``.

    Raises ObjectFileError for a member that is set though the kernel has none of that name, or whose type is
    another there.
    """
    return _Conversion(obj, spec, kernel, value_type_id).run()


class _Conversion:
    def __init__(self, obj: ObjectSpec, spec: MapSpec, kernel: Btf, value_type_id: int) -> None:
        assert obj.btf is not None
        assert spec.data is not None
        self._obj = obj
        self._spec = spec
        self._local = obj.btf
        self._source = spec.data
        self._kernel = kernel
        self._value_type_id = value_type_id
        self._data = bytearray(kernel.type(value_type_id).size_or_type)
        self._programs = {function.member: function.program for function in spec.functions}
        self._functions: list[KernelFunction] = []

    def run(self) -> KernelValue:
        name = kernel_struct_name(self._obj, self._spec)
        type_id = self._kernel.find(name, Kind.STRUCT)
        holder = next(
            (m for m in self._kernel.members(self._value_type_id) if type_id and m.type_id == type_id), None
        )
        if type_id is None or holder is None:
            raise self._error(f"the kernel's struct {VALUE_PREFIX}{name} holds no struct {name}")
        # Of members without a name the first counts, as in libbpf.
        kernel_members: dict[str, tuple[int, Member]] = {}
        for index, member in enumerate(self._kernel.members(type_id)):
            kernel_members.setdefault(member.name, (index, member))
        for member in self._local.members(self._spec.value_type_id):
            found = kernel_members.get(member.name)
            if found is None:
                self._check_unset(member)
            else:
                self._convert(member, *found, holder.offset // 8)
        return KernelValue(type_id, self._value_type_id, bytes(self._data), tuple(self._functions))

    def _check_unset(self, member: Member) -> None:
        if member.name in self._programs or any(self._bytes_of(member)):
            raise self._error(f"member {member.name} is set, and the kernel's struct has none of that name")

    def _convert(self, member: Member, index: int, target: Member, base: int) -> None:
        """Copy ``member`` to ``target``, number ``index`` of the struct that starts at ``base``."""
        if member.bitfield_size or target.bitfield_size or member.offset % 8:
            raise self._error(f"member {member.name} is a bit-field")
        offset = base + target.offset // 8
        kind, kernel_kind = self._kind(self._local, member), self._kind(self._kernel, target)
        if kind is not kernel_kind:
            raise self._error(f"member {member.name} is {kind.label} here, {kernel_kind.label} in the kernel")
        if kind is Kind.PTR:
            self._convert_pointer(member, index, target, offset)
            return
        data = self._bytes_of(member)
        size = self._kernel.resolve_size(target.type_id)
        if len(data) != size:
            raise self._error(f"member {member.name} has {len(data)} bytes here, {size} in the kernel")
        self._data[offset : offset + size] = data

    def _convert_pointer(self, member: Member, index: int, target: Member, offset: int) -> None:
        program = self._programs.get(member.name)
        if program is None:
            if any(self._bytes_of(member)):
                raise self._error(f"member {member.name} is a pointer, and what it is set to is no program")
            return
        pointer = self._kernel.skip_modifiers(target.type_id)
        pointee = self._kernel.skip_modifiers(self._kernel.type(pointer).size_or_type)
        if self._kernel.kind(pointee) is not Kind.FUNC_PROTO:
            raise self._error(f"member {member.name} is no function pointer in the kernel")
        self._functions.append(KernelFunction(offset, index, program))

    def _kind(self, btf: Btf, member: Member) -> Kind:
        return btf.kind(btf.skip_modifiers(member.type_id))

    def _bytes_of(self, member: Member) -> bytes:
        start = member.offset // 8
        size = self._local.resolve_size(member.type_id)
        if start + size > len(self._source):
            raise self._error(f"member {member.name} lies outside of its struct's {len(self._source)} bytes")
        return self._source[start : start + size]

    def _error(self, message: str) -> ObjectFileError:
        return ObjectFileError(
            printable(f"struct_ops map {self._spec.name}: {message}", 256),
            path=self._obj.path,
            section=self._spec.section,
            offset=self._spec.offset,
        )
