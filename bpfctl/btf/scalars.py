"""Codecs of values without parts: numbers, enums, pointers, floats, addresses, text, plain bytes.

A codec turns ``size`` bytes into a value that JSON can hold, and such a value, or a person's word for it,
into bytes.  What ``decode`` gives, ``encode`` takes back without loss.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from bpfctl.btf.kinds import Kind
from bpfctl.errors import TypedValueError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_SHOWN = 60  # characters of a wrong value that an error repeats
_BYTES_A_LEAF = 16
_WIDEST_NUMBER = 64  # bits; a wider one is text in JSON, where readers would round it


class Codec:
    """``size`` in bytes, ``label`` the type's name in C, ``leaves`` how many plain values it holds."""

    leaves: int = 1

    def __init__(self, size: int, label: str) -> None:
        self.size = size
        self.label = label

    @property
    def expected(self) -> str:
        """What ``encode`` wants, in words."""
        return self.label

    def decode(self, data: bytes) -> Any:
        """The value that ``data``, of exactly ``size`` bytes, is."""
        raise NotImplementedError

    def encode(self, value: Any, path: str = "") -> bytes:
        """``value`` as bytes; TypedValueError names ``path``, where it stands, and what is expected."""
        raise NotImplementedError

    def mask(self) -> bytes:
        """1 for each bit that the value depends on: padding is 0."""
        return b"\xff" * self.size

    def wrong(self, value: Any, path: str, problem: str = "") -> TypedValueError:
        """The error for a value that does not fit."""
        return TypedValueError(path, problem or f"{_shown(value)} does not fit", self.expected)


def _shown(value: Any) -> str:
    from bpfctl.errors import printable

    text = repr(value) if isinstance(value, (str, bytes)) else str(value)
    return printable(text, _SHOWN)


def integer(text: str) -> int | None:
    """``text`` in one of C's bases, with a sign or not; None if it is no number."""
    digits = text.strip().lstrip("+-")
    if not digits[:1].isdigit() or not digits.isascii() or "_" in digits or len(digits) > 200:
        return None
    octal = digits.isdigit() and digits.startswith("0")
    try:
        number = int(digits, 8 if octal else 0)
    except ValueError:
        return None
    sign = text.strip()[: -len(digits)]
    return None if len(sign) > 1 else -number if sign == "-" else number


class Number(Codec):
    """An integer of ``bits`` bits in its bytes; the root of everything that can be a bit-field."""

    def __init__(
        self, size: int, label: str, byte_order: str, *, signed: bool = False, bits: int | None = None
    ) -> None:
        super().__init__(size, label)
        self.byte_order = byte_order
        self.signed = signed
        self.bits = size * 8 if bits is None else bits

    def narrowed(self, bits: int) -> Number:
        """The same as a bit-field of ``bits`` bits."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__, bits=bits)
        return copy

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest number."""
        half = 1 << self.bits - 1
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    @property
    def expected(self) -> str:
        low, high = self.limits
        return f"{self.label} from {low} to {high}"

    def present(self, number: int) -> Any:
        """The number, signed where the type is, as the value to show."""
        return number if self.bits <= _WIDEST_NUMBER else hex(number)

    def number(self, value: Any, path: str) -> int:
        """The number that ``value`` means, whatever its size."""
        found = integer(value) if isinstance(value, str) else value
        if isinstance(found, int):
            return int(found)
        raise self.wrong(value, path)

    def decode(self, data: bytes) -> Any:
        return self.present(int.from_bytes(data, self.byte_order, signed=self.signed))  # type: ignore[arg-type]

    def encode(self, value: Any, path: str = "") -> bytes:
        return self.checked(value, path).to_bytes(self.size, self.byte_order, signed=self.signed)  # type: ignore[arg-type]

    def checked(self, value: Any, path: str) -> int:
        """:meth:`number`, within the limits."""
        number = self.number(value, path)
        low, high = self.limits
        if low <= number <= high:
            return number
        raise self.wrong(value, path)


class Character(Number):
    """``char``: a number, which may be given as one character."""

    def number(self, value: Any, path: str) -> int:
        if isinstance(value, str) and len(value) == 1 and not value.isdigit() and ord(value) < 0x80:
            return ord(value)
        return super().number(value, path)


class Boolean(Number):
    """``bool``: true and false; other bytes, which C does not make, are numbers."""

    def present(self, number: int) -> Any:
        return bool(number) if number in (0, 1) else number

    def number(self, value: Any, path: str) -> int:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return int(value.lower() == "true")
        return super().number(value, path)

    @property
    def expected(self) -> str:
        return "true or false"


class Enum(Number):
    """An enum by name; a number that has none stays a number."""

    def __init__(
        self, size: int, label: str, byte_order: str, *, signed: bool, names: Sequence[tuple[str, int]]
    ) -> None:
        super().__init__(size, label, byte_order, signed=signed)
        self._values = dict(reversed(names))
        # Only names that lead back; the first of several for one number is the one to show.
        self._names = {number: name for name, number in reversed(names) if self._values[name] == number}

    def names_of(self, other: Codec) -> bool:
        """Whether ``other`` has the same names for the same numbers."""
        return isinstance(other, Enum) and self._values == other._values

    def present(self, number: int) -> Any:
        name = self._names.get(number)
        return number if name is None or integer(name) is not None else name

    def number(self, value: Any, path: str) -> int:
        if isinstance(value, str) and value in self._values:
            return self._values[value]
        return super().number(value, path)

    @property
    def expected(self) -> str:
        names = list(self._values)[::-1]
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        return f"{self.label} ({listed})" if names else self.label


class Pointer(Number):
    """A pointer, in hex as C prints it."""

    def present(self, number: int) -> Any:
        return hex(number)


class NetworkNumber(Number):
    """``__be16``, ``__be32``, ``__be64``: the number that the bytes are on the wire."""

    def __init__(self, size: int, label: str) -> None:
        super().__init__(size, label, "big")


class Float(Codec):
    """IEEE 754 of 2, 4 or 8 bytes; what JSON cannot say is ``inf``, ``-inf``, or the bits of a NaN in hex."""

    _CODES: Mapping[int, str] = {2: "e", 4: "f", 8: "d"}

    def __init__(self, size: int, label: str, byte_order: str) -> None:
        super().__init__(size, label)
        self.byte_order = byte_order
        self._struct = struct.Struct((">" if byte_order == "big" else "<") + self._CODES[size])

    def decode(self, data: bytes) -> Any:
        number = self._struct.unpack(data)[0]
        if number != number:  # NaN: its payload would be lost
            return hex(int.from_bytes(data, self.byte_order))  # type: ignore[arg-type]
        return number if abs(number) != float("inf") else ("inf" if number > 0 else "-inf")

    def encode(self, value: Any, path: str = "") -> bytes:
        if isinstance(value, str):
            return self._from_text(value, path)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(value, path)
        try:
            return self._struct.pack(value)
        except (OverflowError, struct.error):
            raise self.wrong(value, path) from None

    def _from_text(self, text: str, path: str) -> bytes:
        if text.lower().startswith("0x"):
            bits = integer(text)
            if bits is None or bits >> self.size * 8:
                raise self.wrong(text, path)
            return bits.to_bytes(self.size, self.byte_order)  # type: ignore[arg-type]
        try:
            return self._struct.pack(float(text))
        except (ValueError, OverflowError, struct.error):
            raise self.wrong(text, path) from None


class Bytes(Codec):
    """The root of what takes its bytes together; large ones count for several leaves."""

    def __init__(self, size: int, label: str) -> None:
        super().__init__(size, label)
        self.leaves = 1 + size // _BYTES_A_LEAF


class Raw(Bytes):
    """Plain bytes in hex: ``0a 00 00 01``.  Taken with blanks, colons or nothing between, or as a list."""

    @property
    def expected(self) -> str:
        return f"{self.label}: {self.size} in hex"

    def decode(self, data: bytes) -> Any:
        return data.hex(" ")

    def encode(self, value: Any, path: str = "") -> bytes:
        try:
            data = hex_bytes(value) if isinstance(value, str) else byte_list(value)
        except ValueError:
            raise self.wrong(value, path) from None
        if len(data) != self.size:
            raise self.wrong(value, path, f"there are {len(data)} bytes")
        return data


def hex_bytes(text: str) -> bytes:
    """Pairs of hex digits with blanks, colons or nothing between them; ValueError for anything else."""
    return bytes.fromhex(text.replace(":", " "))


def byte_list(value: Any) -> bytes:
    """Numbers from 0 to 255, or words for them such as bpftool's ``0x0a``; ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError
    numbers = [integer(item) if isinstance(item, str) else item for item in value]
    if not all(type(number) is int for number in numbers):
        raise ValueError
    return bytes(numbers)  # type: ignore[arg-type]  # ValueError outside of 0 to 255


class Text(Bytes):
    """A char array as a string, without the NULs at its end.

    A backslash is ``\\\\``; bytes that are no UTF-8, and NULs before the end, are ``\\xNN``.
    """

    @property
    def expected(self) -> str:
        return f"{self.label}, text of at most {self.size} bytes"

    def decode(self, data: bytes) -> Any:
        text = data.rstrip(b"\0").replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
        return text.replace("\0", "\\x00")

    def encode(self, value: Any, path: str = "") -> bytes:
        try:
            data = _unescaped(value) if isinstance(value, str) else byte_list(value)
        except ValueError:
            raise self.wrong(value, path) from None
        if len(data) > self.size:
            raise self.wrong(value, path, f"{_shown(value)} has {len(data)} bytes")
        return data.ljust(self.size, b"\0")


def _unescaped(text: str) -> bytes:
    """The bytes of ``text``; ValueError for a backslash that is no escape."""
    first, *others = text.split("\\")
    parts = [first]
    rest = iter(others)
    for part in rest:
        if part:
            parts.append(_escaped_byte(part) + part[3:])
        else:  # a backslash for itself; what stands behind the second one is plain
            parts.append("\\" + next(rest, "\udfff"))  # a surrogate, which has no bytes
    return "".join(parts).encode("utf-8", "surrogateescape")


def _escaped_byte(text: str) -> str:
    """``xNN...``: the byte, in the form that surrogateescape makes a byte of."""
    digits = text[1:3]
    if text[0] != "x" or len(digits) != 2 or digits.strip("0123456789abcdefABCDEF"):
        raise ValueError("not an escape")
    number = int(digits, 16)
    return chr(number if number < 0x80 else 0xDC00 + number)


class Ipv4(Codec):
    """Four bytes as ``192.0.2.7``; a number is taken as the address in host order."""

    @property
    def expected(self) -> str:
        return f"{self.label}, an IPv4 address"

    def decode(self, data: bytes) -> Any:
        return "%d.%d.%d.%d" % tuple(data)  # noqa: UP031  # the quickest of all forms

    def encode(self, value: Any, path: str = "") -> bytes:
        if isinstance(value, str) and value.count(".") == 3:
            parts = value.split(".")
            if all(p.isascii() and p.isdigit() and len(p) <= 3 and int(p) < 256 for p in parts):
                return bytes(map(int, parts))
            raise self.wrong(value, path)
        number = integer(value) if isinstance(value, str) else value
        if type(number) is not int or not 0 <= number < 1 << 32:
            raise self.wrong(value, path)
        return number.to_bytes(4, "big")


class Ipv6(Codec):
    """Sixteen bytes as ``2001:db8::1``."""

    @property
    def expected(self) -> str:
        return f"{self.label}, an IPv6 address"

    def decode(self, data: bytes) -> Any:
        from socket import AF_INET6, inet_ntop

        return inet_ntop(AF_INET6, data)

    def encode(self, value: Any, path: str = "") -> bytes:
        from socket import AF_INET6, inet_pton

        try:
            return inet_pton(AF_INET6, value)
        except (OSError, TypeError, ValueError):
            raise self.wrong(value, path) from None


class Mac(Raw):
    """Six bytes as ``02:00:00:00:00:01``."""

    @property
    def expected(self) -> str:
        return f"{self.label}, a MAC address"

    def decode(self, data: bytes) -> Any:
        return data.hex(":")


# Typedefs and structs of the kernel's headers that say how their bytes are meant.
ADDRESS_TYPES: Mapping[tuple[Kind, str, int], type[Codec]] = {
    (Kind.TYPEDEF, "__be16", 2): NetworkNumber,
    (Kind.TYPEDEF, "__be32", 4): Ipv4,
    (Kind.TYPEDEF, "__be64", 8): NetworkNumber,
    (Kind.TYPEDEF, "in_addr_t", 4): Ipv4,
    (Kind.STRUCT, "in_addr", 4): Ipv4,
    (Kind.STRUCT, "in6_addr", 16): Ipv6,
}
