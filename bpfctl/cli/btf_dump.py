"""``btf dump``: types as they stand, or as a C header."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.cli.grammar.types import parse_types
from bpfctl.errors import UsageError
from bpfctl.inventory import type_sources
from bpfctl.inventory.type_sources import MAP_PARTS, Types

_MAX_ID = 0xFFFFFFFF


@words_command(
    "dump",
    "{ file FILE [ base FILE ] | id N | map MAP [ key | value | kv | all ] | prog PROG | kernel |"
    " module NAME } [ format raw | format c ] [ root NAME | root_id N ]...",
    "file base id map prog kernel module format raw c root root_id key value kv all pinned name tag",
)
def dump(app: App, words: list[str]) -> None:
    """Print types: "raw", each by its number as bpftool does, or "c", a header for C programs.

    FILE is an object file or raw BTF; MAP is { id N | pinned PATH | name NAME }, PROG also { tag TAG }.
    Without "root" everything, of a map its key and value.
    """
    tokens = Tokens(words)
    source = parse_types(tokens, parts=MAP_PARTS)
    format_ = "raw"
    names: list[str] = []
    ids: list[int] = []
    while tokens:
        if tokens.take("format"):
            format_ = _parse_format(tokens)
        elif tokens.take("root"):
            names.append(tokens.value("NAME"))
        elif tokens.take("root_id"):
            ids.append(tokens.number("root_id", _MAX_ID))
        else:
            raise unknown(tokens.peek(), "format, root, root_id")
    types = source()
    if names or ids:
        found = [type_id for name in names for type_id in type_sources.named(types.btf, name)]
        types = types._replace(roots=tuple(dict.fromkeys(found + ids)))
    if format_ == "raw":
        _dump_raw(app, types)
    elif app.output.json:
        raise UsageError("a C header is no JSON: leave out -j, or `format c`")
    else:
        for text in _header(types):
            app.output.text(text)


def _parse_format(tokens: Tokens) -> str:
    word = tokens.value("format")
    if word not in ("raw", "c"):
        raise unknown(word, "raw, c")
    return word


def _dump_raw(app: App, types: Types) -> None:
    from bpfctl.btf.raw_dump import raw_texts, raw_types

    if app.output.json:
        app.output.document("types", raw_types(types.btf, types.roots))
        return
    for text in raw_texts(types.btf, types.roots):
        app.output.text(text)


# --- C -------------------------------------------------------------------------------------------


def _header(types: Types) -> Iterator[str]:
    """A header for inclusion: what the kernel has is marked for CO-RE, and includes its kfuncs."""
    from bpfctl.btf.c_dump import CDump

    dump = CDump(types.btf)
    if not types.of_kernel or types.roots is not None:
        yield from _spaced(dump.types(types.roots))
        return
    yield _KERNEL_HEAD
    yield from _spaced(dump.types(types.roots))
    yield _KFUNC_HEAD
    yield from dump.functions(_kfuncs(types.btf), " __weak __ksym")
    yield _KERNEL_TAIL


def _spaced(texts: Iterator[str]) -> Iterator[str]:
    return (text + "\n" for text in texts)


def _kfuncs(btf: Btf) -> list[int]:
    """Functions that the kernel offers to programs, which it marks by a declaration tag."""
    functions = (btf.size_or_type(tag) for tag in btf.ids(Kind.DECL_TAG) if btf.name(tag) == "bpf_kfunc")
    return [type_id for type_id in dict.fromkeys(functions) if btf.kind(type_id) is Kind.FUNC]


_KERNEL_HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif
"""

_KFUNC_HEAD = """\
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
"""

_KERNEL_TAIL = """\
#endif

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */"""
