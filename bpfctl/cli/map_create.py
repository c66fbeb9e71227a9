"""``map create`` and ``map freeze``."""

from __future__ import annotations

from collections.abc import Callable

from bpfctl.api import hooks, pinning, sources
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, parse_number, shown, unknown
from bpfctl.cli.grammar.types import parse_types
from bpfctl.cli.map_words import MAP, open_target
from bpfctl.errors import UsageError
from bpfctl.inventory.type_sources import Types
from bpfctl.loader.new_map import NewMap, with_types
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType

_U32 = 0xFFFFFFFF
_KNOWN = "type, key, value, entries, name, flags, inner_map, numa_node, map_extra, dev, btf"


@words_command(
    "create",
    "PATH type TYPE [ key { SIZE | CTYPE } ] value { SIZE | CTYPE } entries N [ name NAME ]\n"
    f"    [ flags FLAG[,FLAG]... ] [ inner_map {MAP} ] [ numa_node N ] [ map_extra N ]\n"
    "    [ dev DEV ] [ btf { file FILE | id N | map MAP | prog PROG | kernel | module NAME } ]",
    "type key value entries name flags inner_map id pinned numa_node map_extra dev btf file map prog"
    " kernel module tag",
)
def create(app: App, words: list[str]) -> None:
    """Make a map and pin it at PATH; "m:globals/NAME" is NAME where tc and ip share maps.

    FLAG is a number or a name: no_prealloc, no_common_lru, mmapable, ...; sizes are in bytes.  CTYPE is a
    type that "btf" has, and gives the size.
    """
    tokens = Tokens(words)
    path = tokens.value("PATH")
    wanted, btf = _typed(_parse(tokens))
    record = pinning.create_map(wanted, path, btf)
    if app.output.json:
        app.output.record(record, str)


class _Request(NamedTuple):
    """``names``: types of key and value; ``types``: what reads their source."""

    wanted: NewMap
    names: dict[str, str]
    types: Callable[[], Types] | None


def _parse(tokens: Tokens) -> _Request:
    wanted = NewMap()
    names: dict[str, str] = {}
    types = None
    while tokens:
        word = tokens.next()
        if word == "type":
            wanted = wanted._replace(map_type=_parse_type(tokens.value("TYPE")))
        elif word in ("key", "value"):
            wanted = _parse_part(tokens, word, wanted, names)
        elif word == "btf":
            types = parse_types(tokens)
        elif word == "entries":
            wanted = wanted._replace(max_entries=tokens.number(word, _U32))
        elif word == "numa_node":
            node = tokens.number(word, _U32)
            wanted = wanted._replace(numa_node=node, flags=wanted.flags | MapFlag.NUMA_NODE)
        elif word == "map_extra":
            wanted = wanted._replace(map_extra=tokens.number(word, (1 << 64) - 1))
        elif word == "name":
            wanted = wanted._replace(name=tokens.value("NAME"))
        elif word == "flags":
            wanted = wanted._replace(flags=wanted.flags | _parse_flags(tokens.value("FLAG")))
        elif word == "inner_map":
            wanted = wanted._replace(inner=sources.resolved(parse_reference(tokens)))
        elif word in ("dev", "offload_dev"):
            wanted = wanted._replace(ifindex=hooks.interface_index(tokens.value("DEV")))
        else:
            raise unknown(word, _KNOWN)
    if not wanted.map_type:
        raise UsageError("Command line is not complete: type is missing")
    return _Request(wanted, names, types)


def _parse_part(tokens: Tokens, what: str, wanted: NewMap, names: dict[str, str]) -> NewMap:
    """A size, or else the name of a type, which goes into ``names``."""
    if tokens.peek()[:1].isdigit():
        size = tokens.number(what, _U32)
        return wanted._replace(key_size=size) if what == "key" else wanted._replace(value_size=size)
    names[what] = tokens.value(f"{what} SIZE")
    return wanted


def _typed(request: _Request) -> tuple[NewMap, bytes | None]:
    """The map with its types, and their BTF."""
    wanted, names, types = request
    if types is None:
        for what, name in names.items():
            hint = "a type needs `btf file FILE`, or another source of types"
            raise UsageError(f"Illegal {what} {shown(name)}: a number of bytes is wanted", hint=hint)
        return wanted, None
    if not names:
        raise UsageError("btf: neither key nor value is the name of a type")
    if wanted.inner is not None:
        raise UsageError("btf: the kernel takes no types for maps of maps; those of the inner map count")
    return with_types(wanted, types().btf, names.get("key"), names.get("value"))


def _parse_type(word: str) -> int:
    known = {kind.name.lower(): int(kind) for kind in MapType if kind}
    if word not in known:
        raise unknown(word, ", ".join(known))
    return known[word]


def _parse_flags(text: str) -> int:
    known = {str(flag.name).lower(): int(flag) for flag in MapFlag}
    flags = 0
    for word in text.split(","):
        number = parse_number(word)
        if number is None and word not in known:
            raise unknown(word, "a number, " + ", ".join(known))
        flags |= known[word] if number is None else number
    if flags > _U32:
        raise UsageError(f"Illegal flags {text}: they have 32 bits")
    return flags


@words_command("freeze", MAP, "id pinned name")
def freeze(app: App, words: list[str]) -> None:
    """Refuse every further change from user space, until the map is gone."""
    tokens = Tokens(words)
    with open_target(tokens) as target:
        tokens.end()
        target.freeze()
