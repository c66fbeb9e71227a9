"""A cursor over the words of one command, with iproute2's matching rules.

Most of iproute2's keywords may be cut to any non-empty prefix, and the first test that fits wins; the
order of the tests in a parser is therefore part of the grammar.  Our own keywords are whole words.
"""

from __future__ import annotations

from collections.abc import Sequence

from bpfctl.errors import UsageError, printable


def matches(word: str, keyword: str) -> bool:
    """Whether ``word`` is ``keyword`` or a non-empty prefix of it."""
    return bool(word) and keyword.startswith(word)


def shown(word: str) -> str:
    """``word`` in double quotes, as iproute2's errors show it; safe for a terminal."""
    return f'"{printable(word)}"'


class Tokens:
    """The words not yet read.

    ``take`` methods consume a word if it fits and say whether it did; ``value`` methods need one more
    word and raise UsageError without it.  ``strict``: parsers are to take words in iproute2's order only.
    """

    def __init__(self, words: Sequence[str], *, strict: bool = False) -> None:
        self.strict = strict
        self._words = [*words, ""]  # so that there is always a next word to look at
        self._end = len(words)
        self._next = 0

    def __bool__(self) -> bool:
        return self._next < self._end

    @property
    def position(self) -> int:
        """How many words have been read."""
        return self._next

    def copy(self) -> Tokens:
        """Another cursor at the same word, to look ahead with."""
        other = Tokens(self._words[: self._end], strict=self.strict)
        other._next = self._next
        return other

    def peek(self) -> str:
        """The next word; "" at the end."""
        return self._words[self._next]

    def next(self) -> str:
        """Consume the next word, which must be there."""
        word = self._words[self._next]
        self._next += 1
        return word

    def take(self, *words: str) -> bool:
        """Consume the next word if it is one of ``words``."""
        fits = self._words[self._next] in words and self._next < self._end
        self._next += fits
        return fits

    def take_prefix(self, *keywords: str) -> bool:
        """Consume the next word if it is a prefix of one of ``keywords``."""
        word = self._words[self._next]
        for keyword in keywords:
            if word and keyword.startswith(word):
                self._next += 1
                return True
        return False

    def value(self, what: str) -> str:
        """Consume the word that the keyword just read asks for; ``what`` it is, for the error."""
        if not self:
            raise UsageError(f"Command line is not complete: {what} is missing", hint='try "help"')
        return self.next()

    def number(self, what: str, limit: int) -> int:
        """A number in any of C's bases, from 0 up to ``limit``."""
        word = self.value(what)
        number = parse_number(word)
        if number is None or number > limit:
            raise UsageError(f"Illegal {what} {shown(word)}: a number from 0 to {limit} is wanted")
        return number

    def end(self, known: str = "") -> None:
        """UsageError if there is another word; ``known`` lists what could have come."""
        if self:
            raise unknown(self.peek(), known)


def unknown(word: str, known: str = "") -> UsageError:
    """The error for a word that nothing fits; ``known`` lists what would."""
    return UsageError(f"What is {shown(word)}?", hint=f"known here: {known}" if known else 'try "help"')


def parse_number(word: str) -> int | None:
    """``word`` as strtoul(3) with base 0 reads it whole: decimal, 0x hex, 0 octal; None if it is none."""
    if not word.isascii() or not word[:1].isdigit() or "_" in word:
        return None
    try:
        return int(word, 8 if word.isdigit() and word.startswith("0") else 0)
    except ValueError:
        return None
