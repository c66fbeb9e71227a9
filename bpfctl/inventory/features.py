"""What the running kernel can do, asked of it: program types, map types, attach types, helpers, the rest.

The fields are the keys of ``feature probe -j``.
"""

from __future__ import annotations

from collections.abc import Callable

from bpfctl import since
from bpfctl.helpers import HELPER_COUNT, helper_name
from bpfctl.kernel import kernel_btf, probe, probe_types, syscall
from bpfctl.kernel.probe_types import Target
from bpfctl.record import IntEnum, NamedTuple
from bpfctl.uapi import AttachType, MapType, ProgramType

GROUPS = ("prog_types", "map_types", "attach_types", "helpers", "misc")

# Looking at these makes the kernel warn in its log or set up buffers: only when asked for all.
_WITH_TRACES = frozenset({"bpf_probe_write_user", "bpf_trace_printk", "bpf_trace_vprintk"})


class TypeFeature(NamedTuple):
    """A program, map or attach type.  ``available`` None: the kernel does not let this process find out."""

    name: str  # "sched_cls"
    available: bool | None
    since: str | None  # the Linux that came with it: "4.1"


class HelperFeature(NamedTuple):
    """The helpers that programs of one type may call.  ``available`` None: as in TypeFeature."""

    prog_type: str
    available: bool | None  # whether there are any
    helpers: tuple[str, ...]  # "bpf_map_lookup_elem", by number


class MiscFeature(NamedTuple):
    """One of the features that fallbacks and programs depend on."""

    name: str
    available: bool | None
    since: str | None
    meaning: str


class Features(NamedTuple):
    """Everything that was asked for; a group that was not is None."""

    kernel: str  # release: "6.18.5"
    prog_types: tuple[TypeFeature, ...] | None = None
    map_types: tuple[TypeFeature, ...] | None = None
    attach_types: tuple[TypeFeature, ...] | None = None
    helpers: tuple[HelperFeature, ...] | None = None
    misc: tuple[MiscFeature, ...] | None = None


Progress = Callable[[str], None]


def probe_features(
    groups: tuple[str, ...] = (), *, full: bool = False, progress: Progress = lambda _: None
) -> Features:
    """Ask the running kernel about ``groups`` of GROUPS, or all of them.

    ``full``: also about the helpers that leave traces in the kernel's log.  ``progress``: is told in a few
    words what comes next.  Raises nothing: what may not be asked is not known.
    """
    wanted = groups or GROUPS
    return Features(
        syscall.release(),
        _types(ProgramType, probe_types.program_type, since.program_type_since, "prog_types" in wanted),
        _types(MapType, probe_types.map_type, since.map_type_since, "map_types" in wanted),
        _types(AttachType, probe_types.attach_type, since.attach_type_since, "attach_types" in wanted),
        _helpers(full, progress) if "helpers" in wanted else None,
        _misc() if "misc" in wanted else None,
    )


def _types(
    kind: type[IntEnum],
    ask: Callable[[int], bool | None],
    released: Callable[[int], str | None],
    wanted: bool,
) -> tuple[TypeFeature, ...] | None:
    if not wanted:
        return None
    return tuple(
        TypeFeature(each.name.lower(), ask(each), released(each)) for each in kind if each.name != "UNSPEC"
    )


def _misc() -> tuple[MiscFeature, ...]:
    return tuple(
        MiscFeature(each.name, each.available(), each.since, each.meaning) for each in probe.FEATURES.values()
    )


def _helpers(full: bool, progress: Progress) -> tuple[HelperFeature, ...]:
    names = {number: helper_name(number) or "" for number in range(1, HELPER_COUNT)}
    numbers = tuple(number for number, name in names.items() if full or name not in _WITH_TRACES)
    targets = _targets()
    found = []
    for kind in ProgramType:
        if kind is not ProgramType.UNSPEC:
            progress(f"helpers of {kind.name.lower()}")
            found.append(_helpers_of(kind, numbers, names, targets.get(kind)))
    return tuple(found)


def _helpers_of(
    kind: ProgramType, numbers: tuple[int, ...], names: dict[int, str], target: Target | None
) -> HelperFeature:
    exists = probe_types.program_type(kind)
    if not exists:
        return HelperFeature(kind.name.lower(), exists, ())
    answers = tuple(probe_types.helpers(kind, numbers, target))
    if all(answer is None for answer in answers):
        return HelperFeature(kind.name.lower(), None, ())
    callable_ = tuple(names[n] for n, answer in zip(numbers, answers, strict=True) if answer)
    return HelperFeature(kind.name.lower(), bool(callable_), callable_)


def _targets() -> dict[ProgramType, Target]:
    """Something in the running kernel that programs of each type can be for; none without its BTF."""
    from bpfctl.btf.kinds import Kind
    from bpfctl.btf.types import Btf
    from bpfctl.errors import BtfError

    try:
        source = kernel_btf.vmlinux()
        types = Btf.from_bytes(source.data, path=source.name, section=None)
        targets = {
            ProgramType.TRACING: (types.find("bpf_fentry_test1", Kind.FUNC), AttachType.TRACE_FENTRY),
            ProgramType.LSM: (types.find("bpf_lsm_file_open", Kind.FUNC), AttachType.LSM_MAC),
        }
        operations = types.find("tcp_congestion_ops", Kind.STRUCT)
        members = [member.name for member in types.members(operations)] if operations else []
    except (OSError, BtfError):
        return {}
    found = {kind: Target(number, attach) for kind, (number, attach) in targets.items() if number}
    if operations and "ssthresh" in members:
        found[ProgramType.STRUCT_OPS] = Target(operations, members.index("ssthresh"))
    return found
