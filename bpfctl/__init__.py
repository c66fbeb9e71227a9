"""Load, attach and inspect eBPF programs from Python; the command ``bpfctl`` does the same by these verbs.

    import bpfctl

    source = bpfctl.ObjectSource("xdp_pass.bpf.o", section="xdp")
    bpfctl.attach_xdp("eth0", source)
    for interface in bpfctl.list_interfaces("eth0"):
        print(interface.programs)
    bpfctl.detach_xdp("eth0")

Every mistake that can be foreseen is a ``BpfctlError`` with a message for people, and a hint.

How it is built (an import may only go down):

                    cli                    words -> verbs -> records; text, JSON, exit status
                     |
                    api                    load, then attach: all or nothing
            /        |        \\
       loader      attach     inventory    verbs: may use both columns below
          |           \\         /
       objfile          kernel             left: bytes in, values out   right: the running system
          |               |
         btf              |
          \\-- insn  uapi  errors --/       leaves, and record.py, which all stand on

Where a change goes:
  a section name or map definition        objfile/sections.py, legacy_maps.py, btf_maps.py
  relocation and linking                  objfile/relocate.py, linker.py
  BTF as text, as C, written              btf/raw_dump.py, c_*.py, writer.py
  CO-RE                                   btf/core*.py, objfile/core.py, loader/kernel_types.py
  typed values                            btf/values.py, scalars.py, aggregates.py; parts by path: paths.py
  attach targets as BTF ids               loader/targets.py
  externs                                 objfile/externs.py, loader/externs.py, kconfig.py, kernel/ksyms.py
  struct_ops                              objfile/struct_ops*.py, loader/struct_ops.py, attach/struct_ops.py
  which program a command means           objfile/select.py
  creating, reusing and pinning maps      loader/maps.py, reuse.py, pins.py
  a pinned map in a new form              loader/migrate.py, merging.py; btf/reshape.py, kernel/map_merge.py
  arenas, jump tables                     objfile/ and loader/: arena.py, jump_tables.py
  a hook                                  attach/, its messages in kernel/rtnl_*.py
  what show and dump know                 inventory/
  elements of maps                        inventory/ batch.py, typed.py, textforms.py; loader/restore.py
  what happens in maps                    inventory/ watching.py, events.py, record_types.py; kernel/
  a benchmark                             bench/, generated programs that the kernel times
  a program that bpfctl writes itself     asm.py
  a rule of advise                        advise/*_rules.py; what it may rely on: interpret.py, sites.py
  a command                               cli/, its words in cli/grammar/, help by click in cli/clicked.py
  a system call                           kernel/, all of them through kernel/syscall.py
  a fallback for older kernels            kernel/probe.py has the evidence for it

The left column runs anywhere, on hostile files too; the right one knows nothing of ELF and raises plain
``OSError``, which the verbs translate.
"""

from __future__ import annotations

from bpfctl.version import VERSION as __version__

TYPE_CHECKING = False  # importing typing costs more than all else that a command passed on by ip or tc needs
if TYPE_CHECKING:
    from bpfctl.api.hooks import attach_filter, attach_xdp, detach_xdp, graft
    from bpfctl.api.loading import LoadOptions, MapChoice, Target, load_program, load_programs, try_programs
    from bpfctl.api.pinning import pin_map, pin_program
    from bpfctl.api.routes import Tunnel, attach_route, delete_route
    from bpfctl.api.sources import ObjectSource
    from bpfctl.attach.address import Prefix
    from bpfctl.attach.qdisc import add as add_qdisc
    from bpfctl.attach.qdisc import delete as delete_qdisc
    from bpfctl.attach.qdisc import show as list_qdiscs
    from bpfctl.attach.route import Leg, RouteRequest
    from bpfctl.attach.route import show as list_routes
    from bpfctl.attach.tc import EGRESS, INGRESS, FilterRequest
    from bpfctl.attach.tc import delete as delete_filter
    from bpfctl.attach.tc import show as list_filters
    from bpfctl.attach.xdp import list_interfaces
    from bpfctl.errors import BpfctlError
    from bpfctl.inventory.elements import open_elements
    from bpfctl.inventory.features import Features, probe_features
    from bpfctl.inventory.listing import find_map, find_program, list_maps, list_programs
    from bpfctl.inventory.records import MapInfo, ProgramInfo
    from bpfctl.inventory.reference import Reference
    from bpfctl.loader import LoadedObject, LoadRequest, Transaction
    from bpfctl.loader import load as load_object
    from bpfctl.loader.check import check as check_object
    from bpfctl.objfile import ObjectSpec, read_object

# Name to "module:attribute": `import bpfctl` itself costs next to nothing.
_EXPORTS = {
    "EGRESS": "attach.tc:EGRESS",
    "INGRESS": "attach.tc:INGRESS",
    "BpfctlError": "errors:BpfctlError",
    "Features": "inventory.features:Features",
    "FilterRequest": "attach.tc:FilterRequest",
    "LoadOptions": "api.loading:LoadOptions",
    "Leg": "attach.route:Leg",
    "LoadRequest": "loader:LoadRequest",
    "LoadedObject": "loader:LoadedObject",
    "MapChoice": "api.loading:MapChoice",
    "MapInfo": "inventory.records:MapInfo",
    "ObjectSource": "api.sources:ObjectSource",
    "ObjectSpec": "objfile:ObjectSpec",
    "Prefix": "attach.address:Prefix",
    "ProgramInfo": "inventory.records:ProgramInfo",
    "Reference": "inventory.reference:Reference",
    "Target": "api.loading:Target",
    "RouteRequest": "attach.route:RouteRequest",
    "Transaction": "loader:Transaction",
    "Tunnel": "api.routes:Tunnel",
    "add_qdisc": "attach.qdisc:add",
    "attach_filter": "api.hooks:attach_filter",
    "attach_route": "api.routes:attach_route",
    "attach_xdp": "api.hooks:attach_xdp",
    "check_object": "loader.check:check",
    "delete_filter": "attach.tc:delete",
    "delete_qdisc": "attach.qdisc:delete",
    "delete_route": "api.routes:delete_route",
    "detach_xdp": "api.hooks:detach_xdp",
    "find_map": "inventory.listing:find_map",
    "find_program": "inventory.listing:find_program",
    "graft": "api.hooks:graft",
    "list_filters": "attach.tc:show",
    "list_interfaces": "attach.xdp:list_interfaces",
    "list_maps": "inventory.listing:list_maps",
    "list_programs": "inventory.listing:list_programs",
    "list_qdiscs": "attach.qdisc:show",
    "list_routes": "attach.route:show",
    "load_object": "loader:load",
    "load_program": "api.loading:load_program",
    "load_programs": "api.loading:load_programs",
    "open_elements": "inventory.elements:open_elements",
    "pin_map": "api.pinning:pin_map",
    "pin_program": "api.pinning:pin_program",
    "probe_features": "inventory.features:probe_features",
    "read_object": "objfile:read_object",
    "try_programs": "api.loading:try_programs",
}

__all__ = [
    "EGRESS",
    "INGRESS",
    "BpfctlError",
    "Features",
    "FilterRequest",
    "Leg",
    "LoadOptions",
    "LoadRequest",
    "LoadedObject",
    "MapChoice",
    "MapInfo",
    "ObjectSource",
    "ObjectSpec",
    "Prefix",
    "ProgramInfo",
    "Reference",
    "RouteRequest",
    "Target",
    "Transaction",
    "Tunnel",
    "__version__",
    "add_qdisc",
    "attach_filter",
    "attach_route",
    "attach_xdp",
    "check_object",
    "delete_filter",
    "delete_qdisc",
    "delete_route",
    "detach_xdp",
    "find_map",
    "find_program",
    "graft",
    "list_filters",
    "list_interfaces",
    "list_maps",
    "list_programs",
    "list_qdiscs",
    "list_routes",
    "load_object",
    "load_program",
    "load_programs",
    "open_elements",
    "pin_map",
    "pin_program",
    "probe_features",
    "read_object",
    "try_programs",
]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'bpfctl' has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _EXPORTS[name].partition(":")
    value = getattr(import_module(f"bpfctl.{module}"), attribute)
    globals()[name] = value
    return value
