"""``map create`` and ``map freeze``."""

from __future__ import annotations

from bpfctl.api import hooks, pinning, sources
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, parse_number, unknown
from bpfctl.cli.map_words import MAP, open_target
from bpfctl.errors import UsageError
from bpfctl.loader.new_map import NewMap
from bpfctl.uapi import MapFlag, MapType

_U32 = 0xFFFFFFFF


@words_command(
    "create",
    "PATH type TYPE [ key SIZE ] value SIZE entries N [ name NAME ] [ flags FLAG[,FLAG]... ]\n"
    f"    [ inner_map {MAP} ] [ numa_node N ] [ map_extra N ] [ dev DEV ]",
    "type key value entries name flags inner_map id pinned numa_node map_extra dev",
)
def create(app: App, words: list[str]) -> None:
    """Make a map and pin it at PATH; "m:globals/NAME" is NAME where tc and ip share maps.

    FLAG is a number or a name: no_prealloc, no_common_lru, mmapable, ...; sizes are in bytes.
    """
    tokens = Tokens(words)
    path = tokens.value("PATH")
    record = pinning.create_map(_parse(tokens), path)
    if app.output.json:
        app.output.record(record, str)


def _parse(tokens: Tokens) -> NewMap:
    wanted = NewMap()
    while tokens:
        word = tokens.next()
        if word == "type":
            wanted = wanted._replace(map_type=_parse_type(tokens.value("TYPE")))
        elif word == "key":
            wanted = wanted._replace(key_size=tokens.number(word, _U32))
        elif word == "value":
            wanted = wanted._replace(value_size=tokens.number(word, _U32))
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
            raise unknown(
                word, "type, key, value, entries, name, flags, inner_map, numa_node, map_extra, dev"
            )
    if not wanted.map_type:
        raise UsageError("Command line is not complete: type is missing")
    return wanted


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
