"""Which program of an object is meant: iproute2's defaults, then whatever leaves no doubt."""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.errors import AmbiguousError, NotFoundError, printable
from bpfctl.objfile.programs import SUBPROGRAMS
from bpfctl.objfile.spec import ObjectSpec, ProgramSpec
from bpfctl.uapi import AttachType, ProgramType, type_name

# iproute2 lib/bpf_legacy.c, __bpf_prog_meta
_DEFAULT_SECTIONS: dict[int | None, str] = {
    ProgramType.SCHED_CLS: "classifier",
    ProgramType.SCHED_ACT: "action",
    ProgramType.XDP: "prog",
    ProgramType.LWT_IN: "prog",
    ProgramType.LWT_OUT: "prog",
    ProgramType.LWT_XMIT: "prog",
    ProgramType.LWT_SEG6LOCAL: "prog",
}
# These run on a map's entry, not on a device.
_MAP_HOOKS = frozenset({AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP})
_MAX_LISTED = 20


def select_program(
    obj: ObjectSpec, program_type: int | None, *, section: str | None = None, program: str | None = None
) -> ProgramSpec:
    """The program that ``section`` and ``program`` (a function name) mean together.

    With neither: the one in the default section of ``program_type``, else the only one whose section
    name says that type, else the only one whose section name says nothing.  Raises NotFoundError and
    AmbiguousError, which list what there is.
    """
    return _only(obj, *_suitable(obj, program_type, section, program))


def select_for_hook(
    obj: ObjectSpec, program_type: int | None, *, section: str | None = None, program: str | None = None
) -> tuple[ProgramSpec, str]:
    """As :func:`select_program`, but of several in the section asked for, or in the default one, the first.

    iproute2 takes that one without a word (lib/bpf_libbpf.c); here a remark says so, "" where there is no
    choice.
    """
    found, what = _suitable(obj, program_type, section, program)
    asked = _DEFAULT_SECTIONS.get(program_type) if section is None else section.removeprefix("?")
    if len(found) == 1 or any(each.section != asked for each in found):
        return _only(obj, found, what), ""
    first, *others = sorted(found, key=lambda each: (each.function.section_index, each.function.offset))
    listed = _listed([printable(each.name) for each in others])
    return first, (
        f"{obj.path}: program {printable(first.name)} is the first of {len(found)} in section "
        f'"{printable(first.section)}"; program NAME takes another: {listed}'
    )


def _suitable(
    obj: ObjectSpec, program_type: int | None, section: str | None, program: str | None
) -> tuple[list[ProgramSpec], str]:
    """The programs that may be meant, one at least, and words that say how they were looked for."""
    if program is not None:
        return [_by_name(obj, program, section)], ""
    if section is None:
        return _by_default(obj, program_type)
    found = _in_section(obj, section)
    if not found:
        raise _not_found(obj, f'no program in a section "{printable(section)}"')
    return found, f'section "{printable(section)}" holds'


def loadable_programs(obj: ObjectSpec, program_type: int | None) -> list[str]:
    """Names of all programs that could be loaded as ``program_type``, or as their sections say.

    Functions of an object that holds nothing but ``.text`` are a library's, unless the type is given.
    """
    return [p.name for p in obj.programs.values() if program_type is not None or p.section != SUBPROGRAMS]


def default_programs(obj: ObjectSpec, program_type: int | None) -> list[str]:
    """Names of the programs that a load of the whole object is about; none for a library.

    Not those of ``ID/KEY`` sections, which come along with the program array that they go into, and not
    those that the object leaves out by default: NotFoundError when there are only such.
    """
    names = loadable_programs(obj, program_type)
    found = [name for name in names if obj.programs[name].autoload and not obj.programs[name].tail_call]
    if names and not found:
        raise NotFoundError(
            f"{obj.path}: no program is loaded by default",
            hint=f"`prog load` with program NAME loads one: {_listed([printable(name) for name in names])}",
        )
    return found


def _by_name(obj: ObjectSpec, name: str, section: str | None) -> ProgramSpec:
    found = obj.programs.get(name)
    if found is None:
        raise _not_found(obj, f'no program "{printable(name)}"')
    if section is not None and found not in _in_section(obj, section):
        where = f'program "{printable(name)}" is not in section "{printable(section)}"'
        raise NotFoundError(f"{obj.path}: {where} but in {printable(found.section)}")
    return found


def _by_default(obj: ObjectSpec, program_type: int | None) -> tuple[list[ProgramSpec], str]:
    entries = [p for p in obj.programs.values() if p.autoload and p.tail_call is None]
    if program_type is None:
        choices = [entries]
        what = "the object holds"
    else:
        kind = type_name(ProgramType, program_type)
        usual = _DEFAULT_SECTIONS.get(program_type)
        suitable = [p for p in entries if p.program_type == program_type and p.attach_type not in _MAP_HOOKS]
        untyped = [p for p in entries if p.program_type is None]
        choices = [[p for p in entries if p.section == usual], suitable, untyped]
        what = f"for type {kind} there are"
    for found in choices:
        if found:
            return found, what
    raise _not_found(obj, "no program" if program_type is None else f"no program of type {kind}")


def _in_section(obj: ObjectSpec, section: str) -> list[ProgramSpec]:
    # "?" in front only says that the program is not loaded by default
    return [p for p in obj.programs.values() if section in (p.section, p.section.removeprefix("?"))]


def _only(obj: ObjectSpec, found: Sequence[ProgramSpec], what: str) -> ProgramSpec:
    if len(found) == 1:
        return found[0]
    names = _listed([printable(p.name) for p in found])
    raise AmbiguousError(
        f"{obj.path}: {what} {len(found)} programs: {names}", hint="choose one with program NAME"
    )


def _not_found(obj: ObjectSpec, what: str) -> NotFoundError:
    sections: dict[str, list[str]] = {}
    for program in obj.programs.values():
        sections.setdefault(program.section, []).append(printable(program.name))
    if not sections:
        return NotFoundError(f"{obj.path}: {what}: the object holds no program at all")
    listed = [f"{printable(name)} ({', '.join(programs)})" for name, programs in sections.items()]
    return NotFoundError(f"{obj.path}: {what}", hint=f"sections (programs) there are: {_listed(listed)}")


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
