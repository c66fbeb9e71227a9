"""BPF_MAP_CREATE, and what is said and tried when the kernel refuses it."""

from __future__ import annotations

from bpfctl.errors import KernelError, printable
from bpfctl.kernel import bpf
from bpfctl.kernel.bpf import MapAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import create_map
from bpfctl.loader.explain import map_create_hint
from bpfctl.loader.fallbacks import lesser_maps
from bpfctl.uapi import MapType, type_name


def create_or_lesser(wanted: MapAttributes) -> Fd:
    """The map, less what this kernel lacks and the map can do without; OSError."""
    try:
        return create_map(wanted)
    except PermissionError:
        raise
    except OSError as error:
        last = error
    for lesser in lesser_maps(wanted, last):
        try:
            return Fd(bpf.map_create(lesser))
        except OSError as error:
            last = error
    raise last


def map_refusal(
    error: OSError, wanted: MapAttributes, name: str, *, path: str = "", hint: str | None = None
) -> KernelError:
    """The refusal of ``wanted``, called ``name`` or nothing; ``path``: of the object that defines it."""
    what = f"map {printable(name)}" if name else "a map"
    number = error.errno or 0
    size = wanted.key_size + wanted.value_size
    return KernelError(
        f"{path}{': ' if path else ''}cannot create {what} "
        f"({type_name(MapType, wanted.map_type)}, key {wanted.key_size}, value {wanted.value_size}, "
        f"{wanted.max_entries} entries, flags {wanted.map_flags:#x})",
        call="BPF_MAP_CREATE",
        errno=number,
        hint=hint or map_create_hint(number, wanted.map_type, size, wanted.max_entries),
    )
