"""Keys and values of maps as words.

    DATA := { N | BYTE... | hex BYTES... }

BYTE is a number in any of C's bases, one word for each byte.  One word alone is the whole key or value in
host byte order where that is 1, 2, 4 or 8 bytes.  BYTES are pairs of hex digits, with or without blanks.
"""

from __future__ import annotations

import sys

from bpfctl.cli.grammar.tokens import Tokens, parse_number, shown
from bpfctl.errors import UsageError

_INTEGER_SIZES = (1, 2, 4, 8)


def parse_bytes(tokens: Tokens, size: int, what: str, stop: tuple[str, ...] = ()) -> bytes:
    """DATA of ``size`` bytes up to one of the words ``stop``; ``what`` it is, for errors."""
    is_hex = tokens.take("hex")
    words = []
    while tokens and tokens.peek() not in stop:
        words.append(tokens.next())
    if not words and size:
        raise UsageError(f"Command line is not complete: the {what} of {size} bytes is missing")
    if is_hex:
        data = _parse_hex(words, what)
    elif len(words) == 1 and size in _INTEGER_SIZES:
        return _parse_integer(words[0], size, what)
    else:
        data = bytes(_parse_byte(word, what) for word in words)
    if len(data) != size:
        raise UsageError(f"The {what} has {size} bytes, not {len(data)}")
    return data


def _parse_hex(words: list[str], what: str) -> bytes:
    try:
        return bytes.fromhex(" ".join(words))
    except ValueError:
        raise UsageError(f"Illegal {what} {shown(' '.join(words))}: pairs of hex digits are wanted") from None


def _parse_integer(word: str, size: int, what: str) -> bytes:
    """An unsigned or negative number as ``size`` bytes in host order."""
    number = parse_number(word.removeprefix("-"))
    limit = 1 << 8 * size
    if number is None or number >= limit or (word.startswith("-") and number > limit // 2):
        raise UsageError(f"Illegal {what} {shown(word)}: a number of {size} bytes is wanted")
    if word.startswith("-"):
        number = -number % limit
    return number.to_bytes(size, sys.byteorder)


def _parse_byte(word: str, what: str) -> int:
    number = parse_number(word)
    if number is None or number > 0xFF:
        raise UsageError(f"Illegal {what} byte {shown(word)}: a number from 0 to 255 is wanted")
    return number


def integer(data: bytes) -> int | None:
    """The unsigned number in host order that ``data`` is, if it is 1, 2, 4 or 8 bytes."""
    return int.from_bytes(data, sys.byteorder) if len(data) in _INTEGER_SIZES else None
