"""The words of ``bench maps``, each once and in any order; those of ours may be written as options.

[ types LIST ] [ sizes LIST ] [ op LIST ] [ keys MODE ] [ rounds N ] [ cpus A[,B] ]
[ like { OBJ:MAP | id N | pinned PATH | name NAME } ] [ path LIST ] [ json FILE ] [ plot FILE ]
[ compare FILE ]
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.bench.cell import DEPENDENT, KEY_MODES
from bpfctl.bench.maps import ROUNDS
from bpfctl.bench.network import PATHS
from bpfctl.bench.shapes import DEFAULT_SHAPES, LOOKUP, OPERATIONS, SHAPES
from bpfctl.cli.grammar.reference import maybe_reference
from bpfctl.cli.grammar.tokens import Tokens, parse_number, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.inventory.reference import Reference
from bpfctl.record import NamedTuple

KEYWORDS = "types sizes op keys rounds cpus like path json plot compare"
_SUFFIXES = {"k": 1 << 10, "M": 1 << 20}
_LARGEST = 1 << 22  # entries
_MOST_ROUNDS = 1000
_OF_PATHS = ((LOOKUP,), DEPENDENT, False)  # operations and keys as they are by default, no second CPU


class BenchCommand(NamedTuple):
    """What was asked for.  ``like``: a reference, or (object file, map)."""

    types: tuple[str, ...] = DEFAULT_SHAPES
    sizes: tuple[int, ...] = ()
    operations: tuple[str, ...] = (LOOKUP,)
    keys: str = DEPENDENT
    rounds: int = ROUNDS
    cpus: tuple[int, ...] = ()
    like: Reference | tuple[str, str] | None = None
    paths: tuple[str, ...] = ()
    json: str | None = None
    plot: str | None = None
    compare: str | None = None


def parse_bench(words: Sequence[str]) -> BenchCommand:
    """UsageError for what cannot be understood, or contradicts itself."""
    tokens = Tokens([_undashed(word) for word in words])
    command = BenchCommand()
    while tokens:
        if tokens.take("types"):
            command = command._replace(types=_names(tokens, "types", tuple(SHAPES)))
        elif tokens.take("sizes"):
            command = command._replace(sizes=tuple(map(_size, _list(tokens, "sizes"))))
        elif tokens.take("op"):
            command = command._replace(operations=_names(tokens, "op", OPERATIONS))
        elif tokens.take("keys"):
            command = command._replace(keys=_one_of(tokens.value("keys"), KEY_MODES))
        elif tokens.take("rounds"):
            command = command._replace(rounds=max(tokens.number("rounds", _MOST_ROUNDS), 1))
        elif tokens.take("cpus"):
            command = command._replace(cpus=_cpus(tokens))
        elif tokens.take("like"):
            command = command._replace(like=_like(tokens))
        elif tokens.take("path"):
            command = command._replace(paths=_names(tokens, "path", PATHS))
        elif tokens.take("json"):
            command = command._replace(json=tokens.value("FILE"))
        elif tokens.take("plot"):
            command = command._replace(plot=_picture(tokens.value("FILE")))
        elif tokens.take("compare"):
            command = command._replace(compare=tokens.value("FILE"))
        else:
            raise unknown(tokens.peek(), ", ".join(KEYWORDS.split()))
    if command.paths and (command.operations, command.keys, len(command.cpus) > 1) != _OF_PATHS:
        raise UsageError("path measures lookups of one random key in each packet, on one CPU")
    return command


def _undashed(word: str) -> str:
    bare = word.removeprefix("--")
    return bare if bare in KEYWORDS.split() else word


def _list(tokens: Tokens, what: str) -> list[str]:
    items = [item for item in tokens.value(what).split(",") if item]
    if not items:
        raise UsageError(f"{what}: a list, its members apart by commas, is wanted")
    return list(dict.fromkeys(items))


def _names(tokens: Tokens, what: str, known: Sequence[str]) -> tuple[str, ...]:
    return tuple(_one_of(word, known) for word in _list(tokens, what))


def _one_of(word: str, known: Sequence[str]) -> str:
    if word not in known:
        raise unknown(word, ", ".join(known))
    return word


def _size(word: str) -> int:
    """A number of entries; ``64k`` is 65536, ``1M`` 1048576."""
    factor = _SUFFIXES.get(word[-1:], 1)
    number = parse_number(word[:-1] if factor > 1 else word)
    if not number or number * factor > _LARGEST:
        raise UsageError(f"Illegal size {shown(word)}: 1 to {_LARGEST >> 20}M entries are wanted")
    return number * factor


def _picture(path: str) -> str:
    if not path.endswith((".svg", ".png")):
        raise UsageError(f"Illegal plot {shown(path)}: a file that ends in .svg or .png is wanted")
    return path


def _cpus(tokens: Tokens) -> tuple[int, ...]:
    numbers = [parse_number(word) for word in _list(tokens, "cpus")]
    if None in numbers or len(numbers) > 2:
        raise UsageError("Illegal cpus: the number of one CPU is wanted, or of two")
    return tuple(number for number in numbers if number is not None)


def _like(tokens: Tokens) -> Reference | tuple[str, str]:
    reference = maybe_reference(tokens)
    if reference is not None:
        return reference
    word = tokens.value("like")
    path, colon, name = word.rpartition(":")
    if not colon or not path or not name:
        raise UsageError(f"Illegal like {shown(word)}: FILE:MAP, or one of id, pinned, name is wanted")
    return path, name
