"""Keys and values of maps as words.

    DATA := [ as VIEW ] { VALUE | FIELD=VALUE... | JSON | BYTE... | hex BYTES... }
    VIEW := KIND | FIELD=KIND[,FIELD=KIND]...

One word is a value of the map's own type: a number, an address, an enumerator, text; words with ``=`` set
fields of a struct by name, and what is left out is zero.  Several words without ``=`` are bytes, one number
each, as bpftool(8) has it; BYTES are pairs of hex digits, with or without blanks.
"""

from __future__ import annotations

from bpfctl.btf.aggregates import ArrayOf, Record
from bpfctl.btf.paths import assign
from bpfctl.btf.scalars import Codec
from bpfctl.btf.views import KINDS
from bpfctl.cli.grammar.tokens import Tokens, parse_number, shown, unknown
from bpfctl.errors import UsageError
from bpfctl.inventory.typed import View
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_DEEPEST_JSON = 200  # brackets; far more than a type has


def parse_views(tokens: Tokens) -> list[View]:
    """``as VIEW`` if it comes next."""
    if not tokens.take("as"):
        return []
    views = []
    for part in tokens.value("KIND").split(","):
        path, _, kind = part.rpartition("=")
        if kind not in KINDS:
            raise unknown(kind, ", ".join(KINDS))
        views.append(View(path, kind))
    return views


def parse_data(tokens: Tokens, codec: Codec, what: str, stop: tuple[str, ...] = ()) -> bytes:
    """DATA without its VIEW, up to one of the words ``stop``; ``what`` it is, for errors."""
    is_hex = tokens.take("hex")
    words = take_words(tokens, stop)
    if not words and codec.size:
        raise UsageError(f"Command line is not complete: the {what} of {codec.size} bytes is missing")
    if is_hex:
        return _sized(_parse_hex(words, what), codec.size, what)
    if isinstance(codec, Record) and words and all(_sets_a_field(codec, word) for word in words):
        return _assigned(codec, words, what)
    if len(words) == 1:
        return encode_word(codec, words[0], what)
    return _sized(bytes(_parse_byte(word, what) for word in words), codec.size, what)


def take_words(tokens: Tokens, stop: tuple[str, ...]) -> list[str]:
    """Words up to one of ``stop``; the first is taken whatever it is."""
    words = [tokens.next()] if tokens else []
    while tokens and tokens.peek() not in stop:
        words.append(tokens.next())
    return words


def encode_word(codec: Codec, word: str, what: str) -> bytes:
    """A value in one word, or JSON."""
    if word[:1] in ("{", "[") and isinstance(codec, (Record, ArrayOf)):
        return codec.encode(parse_json(word, what), what)
    return codec.encode(word, what)


def parse_json(text: str, what: str) -> Any:
    """``text`` as JSON; UsageError for what is none, and for what would exhaust the parser."""
    import json

    if text.count("[") + text.count("{") > _DEEPEST_JSON:
        _check_depth(text, what)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"Illegal {what} {shown(text)}: {error}") from None


def _check_depth(text: str, what: str) -> None:
    depth = 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if depth > _DEEPEST_JSON:
            raise UsageError(f"Illegal {what}: its JSON is nested deeper than {_DEEPEST_JSON}")


def _sets_a_field(record: Record, word: str) -> bool:
    path, equals, _ = word.partition("=")
    if not equals or word.startswith("{"):
        return False
    # A struct around one text takes that text, whatever is in it.
    return len(record.fields) != 1 or record.field_of(path) is not None


def _assigned(record: Record, words: list[str], what: str) -> bytes:
    image = bytearray(record.size)
    seen = set()
    for word in words:
        path, _, text = word.partition("=")
        if path in seen:
            raise UsageError(f"{what}: {shown(path)} comes twice")
        seen.add(path)
        if text[:1] in ("{", "["):
            assign(record, image, path, parse_json(text, what), what)
        else:
            assign(record, image, path, text, what)
    return bytes(image)


def _sized(data: bytes, size: int, what: str) -> bytes:
    if len(data) != size:
        raise UsageError(f"The {what} has {size} bytes, not {len(data)}")
    return data


def _parse_hex(words: list[str], what: str) -> bytes:
    try:
        return bytes.fromhex(" ".join(words))
    except ValueError:
        raise UsageError(f"Illegal {what} {shown(' '.join(words))}: pairs of hex digits are wanted") from None


def _parse_byte(word: str, what: str) -> int:
    number = parse_number(word)
    if number is None or number > 0xFF:
        raise UsageError(f"Illegal {what} byte {shown(word)}: a number from 0 to 255 is wanted")
    return number
