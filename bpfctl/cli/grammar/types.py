"""``{ file FILE | id N | map MAP | prog PROG | kernel | module NAME }``: where types come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bpfctl.api.sources import resolved
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.inventory import type_sources
from bpfctl.inventory.type_sources import Types

_SOURCES = "file FILE, id N, map MAP, prog PROG, kernel, module NAME"
_MAX_ID = 0xFFFFFFFF


def parse_types(tokens: Tokens, parts: Sequence[str] = ()) -> Callable[[], Types]:
    """What reads the types; called when the rest of the words is understood.

    ``parts``: words that may follow a map, for what of it is meant.
    """
    word = tokens.value("a source of types")
    if word == "file":
        path = tokens.value("FILE")
        base = tokens.value("base") if tokens.take("base") else None
        return lambda: type_sources.of_file(path, base)
    if word == "id":
        number = tokens.number("id", _MAX_ID)
        return lambda: type_sources.of_id(number)
    if word == "map":
        reference = resolved(parse_reference(tokens))
        part = tokens.next() if tokens.peek() in parts else "kv"
        return lambda: type_sources.of_map(reference, part)
    if word == "prog":
        program = resolved(parse_reference(tokens))
        return lambda: type_sources.of_program(program)
    if word in ("kernel", "vmlinux"):
        return type_sources.of_kernel
    if word == "module":
        name = tokens.value("NAME")
        return lambda: type_sources.of_module(name)
    raise unknown(word, _SOURCES)
