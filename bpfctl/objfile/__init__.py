"""Object files: bytes in, blueprints out.  Nothing in here touches the kernel."""

from bpfctl.objfile.data_maps import data_map_kernel_name, object_name
from bpfctl.objfile.linker import Linker, link_program
from bpfctl.objfile.reader import kernel_btf, read_object, read_object_bytes, section_bytes
from bpfctl.objfile.relocate import relocations
from bpfctl.objfile.spec import (
    ConfigValue,
    ExternReference,
    ExternSpec,
    FunctionSpec,
    LinkedProgram,
    MapOrigin,
    MapReference,
    MapSlot,
    MapSpec,
    ObjectSpec,
    Pinning,
    PlacedFunction,
    ProgramSpec,
    Relocation,
    SectionSpec,
    TailCall,
)

__all__ = [
    "ConfigValue",
    "ExternReference",
    "ExternSpec",
    "FunctionSpec",
    "LinkedProgram",
    "Linker",
    "MapOrigin",
    "MapReference",
    "MapSlot",
    "MapSpec",
    "ObjectSpec",
    "Pinning",
    "PlacedFunction",
    "ProgramSpec",
    "Relocation",
    "SectionSpec",
    "TailCall",
    "data_map_kernel_name",
    "kernel_btf",
    "link_program",
    "object_name",
    "read_object",
    "read_object_bytes",
    "relocations",
    "section_bytes",
]
