"""Variables of an object, set before it is loaded: ``rate=1000``, ``peer.ports[1]=8080``, ``ops.name=x``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bpfctl.errors import AmbiguousError, NotFoundError, printable
from bpfctl.objfile.arena import ARENA_SECTION
from bpfctl.objfile.spec import MapOrigin, MapSpec, ObjectSpec, Setting
from bpfctl.record import TYPE_CHECKING, replace
from bpfctl.uapi import MapType

if TYPE_CHECKING:
    from bpfctl.btf.scalars import Codec

_LISTED = 16  # variables that an error lists


def with_settings(obj: ObjectSpec, settings: Sequence[Setting]) -> ObjectSpec:
    """``obj`` with its variables set; the object that it came from stays as it is.

    Raises NotFoundError for a variable that is not there, AmbiguousError for one that several sections have,
    and TypedValueError for a value that its type cannot hold.
    """
    for setting in settings:
        obj = _with_setting(obj, setting)
    return obj


def _with_setting(obj: ObjectSpec, setting: Setting) -> ObjectSpec:
    from bpfctl.btf.paths import assign

    spec, codec, part = _holder(obj, setting.path)
    if spec.origin is MapOrigin.STRUCT_OPS and _is_function(obj, spec, part):
        from bpfctl.objfile.struct_ops import with_member

        return with_member(obj, spec.name, part, None if setting.text in ("", "0") else setting.text)
    image = bytearray(spec.data or spec.value_size)
    name = spec.name if spec.origin is MapOrigin.STRUCT_OPS else ""
    assign(codec, image, part, setting.text, name)
    return replace(obj, maps={**obj.maps, spec.name: replace(spec, data=bytes(image))})


def _is_function(obj: ObjectSpec, spec: MapSpec, member: str) -> bool:
    """Whether ``member`` of a struct_ops variable takes the name of a program."""
    from bpfctl.objfile.struct_ops import is_function_pointer

    assert obj.btf is not None
    members = obj.btf.members(spec.value_type_id)
    return any(m.name == member and is_function_pointer(obj.btf, m.type_id) for m in members)


def _variables(obj: ObjectSpec) -> Iterator[tuple[MapSpec, Codec]]:
    """Data sections whose variables have types, an arena's, and struct_ops variables, each with its codec."""
    from bpfctl.btf.values import value_codec

    for spec in obj.maps.values():
        type_id, size = _image_type(obj, spec)
        if obj.btf is not None and type_id:
            codec = value_codec(obj.btf, type_id)
            if codec.size == size:
                yield spec, codec


def _image_type(obj: ObjectSpec, spec: MapSpec) -> tuple[int, int]:
    """Type id and bytes of the initial data of ``spec``; no type (0) for a map without variables."""
    if spec.origin in (MapOrigin.DATA, MapOrigin.STRUCT_OPS):
        return spec.value_type_id, spec.value_size
    if spec.map_type != MapType.ARENA or not spec.data or obj.btf is None:
        return 0, 0
    from bpfctl.btf.kinds import Kind

    return obj.btf.find(ARENA_SECTION, Kind.DATASEC) or 0, len(spec.data)


def _holder(obj: ObjectSpec, path: str) -> tuple[MapSpec, Codec, str]:
    """The map that holds the variable which ``path`` begins with, its codec, and the path in its value."""
    from bpfctl.btf.aggregates import Record

    holders, known = [], []
    for spec, codec in _variables(obj):
        if spec.origin is MapOrigin.STRUCT_OPS:
            known.append(spec.name)
            if path.startswith(spec.name + "."):
                holders.append((spec, codec, path.removeprefix(spec.name + ".")))
        elif isinstance(codec, Record):
            known += codec.fields
            if codec.field_of(path):
                holders.append((spec, codec, path))
    if len(holders) == 1:
        return holders[0]
    if holders:
        names = ", ".join(spec.name for spec, _, _ in holders)
        raise AmbiguousError(f"{obj.path}: variable {printable(path)} is in several sections: {names}")
    hint = "there are " + ", ".join(known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
    if not known:
        hint = "the object has no global variables with types (BTF): compile with -g"
    raise NotFoundError(
        f"{obj.path}: the object has no variable {printable(path)}", hint=printable(hint, 1024)
    )
