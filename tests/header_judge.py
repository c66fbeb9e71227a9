"""A judge of C headers made from BTF: clang compiles one, and what it says of each struct is compared."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from bpfctl.btf.c_names import Names
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.objfile import read_object

CLANG = "clang-19"
_COMPOSITES = (Kind.STRUCT, Kind.UNION)
_NAMELESS = ("", "__pad")

Place = tuple[str, int, int, int]  # member path, bit offset, bits of a bit-field, size in bytes


def compile_header(header: Path, code: str = "", *flags: str) -> Path:
    """The object of ``code`` behind an #include of ``header``; fails the test with clang's words."""
    source, made = header.with_suffix(".c"), header.with_suffix(".o")
    source.write_text(f'#include "{header.name}"\n{code}')
    command = [
        CLANG,
        "-g",
        "-target",
        "bpf",
        "-Wall",
        "-Werror",
        "-Wno-visibility",
        *flags,
        "-c",
        source.name,
    ]
    done = subprocess.run(
        [*command, "-o", made.name], cwd=header.parent, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:4000]
    return made


def layouts(btf: Btf, ids: Iterable[int]) -> dict[str, tuple[int, list[Place]]]:
    """Size and places of all members of named structs and unions, those of nameless members with them."""
    names = Names(btf)
    return {
        f"{btf.kind(i).label} {names[i]}": (btf.size_or_type(i), list(_places(btf, i, 0, ""))) for i in ids
    }


def named_composites(btf: Btf) -> list[int]:
    return [i for kind in _COMPOSITES for i in btf.ids(kind) if btf.name(i)]


def _places(btf: Btf, type_id: int, offset: int, path: str) -> Iterator[Place]:
    for member in btf.members(type_id):
        if member.name.startswith("__pad"):
            continue
        inner, name = btf.skip_modifiers(member.type_id), f"{path}.{member.name}"
        at = offset + member.offset
        if not member.name and member.bitfield_size:
            continue
        if member.name:
            yield name, at, member.bitfield_size, btf.resolve_size(member.type_id)
        if btf.kind(inner) in _COMPOSITES and not btf.name(inner):
            yield from _places(btf, inner, at, name)


def assert_same_layouts(header: Path, wanted: Btf) -> int:
    """Compile ``header`` with a variable of each of the structs of ``wanted``; the number compared."""
    expected = layouts(wanted, named_composites(wanted))
    variables = "".join(f"{name} variable{n};\n" for n, name in enumerate(expected))
    compiled = read_object(str(compile_header(header, variables))).btf
    assert compiled is not None
    found = layouts(compiled, named_composites(compiled))
    differing = [name for name in expected if found.get(name) != expected[name]]
    shown = differing[:3]
    assert not differing, [(name, expected[name], found.get(name)) for name in shown]
    return len(expected)


def static_asserts(btf: Btf, only: set[str] | None = None) -> str:
    """A line for each struct of ``btf`` that asserts its size and the offsets of members that have one.

    ``only``: names of the structs.  Bit-fields and members of nameless ones are left to assert_same_layouts.
    """
    lines = []
    for type_name, (size, places) in layouts(btf, named_composites(btf)).items():
        if only is not None and type_name.partition(" ")[2] not in only:
            continue
        claims = [f"sizeof({type_name}) == {size}"]
        claims += [
            f"__builtin_offsetof({type_name}, {path[1:]}) == {at // 8}"
            for path, at, bits, _ in places
            if not bits and path.count(".") == 1
        ]
        lines.append(f'_Static_assert({" && ".join(claims)}, "{type_name}");\n')
    return "".join(lines)
