"""The map of configuration values: what the kernel's configuration, or the kernel itself, says of each.

Rules of libbpf: ``CONFIG_*`` are read from the configuration's text, three ``LINUX_*`` names are answered
by the running kernel, a weak one that is not there is zero.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from bpfctl.errors import MissingExternError, ObjectFileError, printable
from bpfctl.kernel import kconfig
from bpfctl.objfile.spec import ConfigValue, ExternSpec

_CONFIG, _VIRTUAL = "CONFIG_", "LINUX_"
_TRISTATE = {"n": 0, "y": 1, "m": 2}
_ASKED: dict[str, Callable[[], int]] = {
    "LINUX_KERNEL_VERSION": kconfig.version,
    "LINUX_HAS_BPF_COOKIE": lambda: bool(_probe().BPF_COOKIE.available()),
    "LINUX_HAS_SYSCALL_WRAPPER": kconfig.has_syscall_wrapper,
}


def _probe() -> ModuleType:
    from bpfctl.kernel import probe

    return probe


def config_image(externs: Sequence[ExternSpec], size: int, path: str) -> bytes:
    """``size`` bytes with each of ``externs`` in its place.

    Raises ObjectFileError where a value does not fit the type that the object ``path`` declares,
    MissingExternError for one that is not weak and not there.
    """
    image = bytearray(size)
    names = [extern.name for extern in externs if extern.name.startswith(_CONFIG)]
    source, texts = _read(names, path) if names else ("", {})
    for extern in externs:
        data = b""
        if extern.name in texts:
            data = _encoded(extern, texts[extern.name], path)
        elif extern.name in _ASKED:
            data = _number(extern, int(_ASKED[extern.name]()), path)
        elif not extern.weak or not extern.name.startswith((_CONFIG, _VIRTUAL)):
            raise _missing(extern, source, path)
        image[extern.value.offset : extern.value.offset + len(data)] = data
    return bytes(image)


def _read(names: Sequence[str], path: str) -> tuple[str, dict[str, str]]:
    try:
        return kconfig.config_values(names)
    except OSError as error:
        raise MissingExternError(
            f"{path}: it asks for {printable(names[0])}, and {error.filename} with the kernel's "
            "configuration cannot be read",
            feature="kconfig",
            errno=error.errno or 0,
            hint="the kernel has to be built with CONFIG_IKCONFIG_PROC=y, or installed with its /boot/config",
        ) from error


def _missing(extern: ExternSpec, source: str, path: str) -> MissingExternError | ObjectFileError:
    if not extern.name.startswith(_CONFIG):
        known = ", ".join(("CONFIG_...", *_ASKED))
        text = f"extern {printable(extern.name)} is no configuration value that a loader knows"
        return ObjectFileError(text, path=path, hint=f"known are {known}; a weak LINUX_... would be 0")
    return MissingExternError(
        f"{path}: {printable(extern.name)} is not set in {source}",
        feature=extern.name,
        hint="declared weak, it would be 0",
    )


def _encoded(extern: ExternSpec, text: str, path: str) -> bytes:
    """The bytes for what stands right of ``=``: a letter, a quoted string or a number."""
    if text[:1] in _TRISTATE and text:
        return _letter(extern, text[0], path)
    if text.startswith('"'):
        return _string(extern, text, path)
    number = _parsed(text)
    if number is None or extern.value.form not in ("int", "char"):
        raise _misfit(extern, text, path)
    return _number(extern, number, path)


def _letter(extern: ExternSpec, letter: str, path: str) -> bytes:
    form = extern.value.form
    if form == "char":
        return letter.encode()
    if form == "tristate" or (form == "bool" and letter != "m"):
        return _packed(_TRISTATE[letter], extern.value)
    raise _misfit(extern, letter, path)


def _string(extern: ExternSpec, text: str, path: str) -> bytes:
    """Without its quotes, cut to the array less the NUL at its end."""
    if extern.value.form != "string" or len(text) < 2 or not text.endswith('"'):
        raise _misfit(extern, text, path)
    return text[1:-1].encode(errors="surrogateescape")[: extern.value.size - 1]


def _number(extern: ExternSpec, number: int, path: str) -> bytes:
    """``number`` is an unsigned word of 64 bits; a signed type takes the upper end as negative numbers."""
    value = extern.value
    bits = value.size * 8
    if value.form == "bool":
        fits = number <= 1
    elif value.form in ("int", "char"):
        shifted = number + (1 << bits - 1) if value.signed else number
        fits = bits == 64 or (shifted & (1 << 64) - 1) < 1 << bits
    else:
        fits = False
    if not fits:
        raise _misfit(extern, str(number), path)
    return _packed(number, value)


def _packed(number: int, value: ConfigValue) -> bytes:
    return (number & (1 << value.size * 8) - 1).to_bytes(value.size, sys.byteorder)


def _parsed(text: str) -> int | None:
    """As strtoull(3) reads it, base by prefix, all of it: 64 bits, a minus wraps; None for anything else."""
    digits = text.strip(" \t").removeprefix("-").removeprefix("+")
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") and digits != "0" else 10
    try:
        number = int(digits, base) if digits.isascii() and digits.isalnum() else -1
    except ValueError:
        return None
    if not 0 <= number < 1 << 64:
        return None
    return -number & (1 << 64) - 1 if text.lstrip(" \t").startswith("-") else number


def _misfit(extern: ExternSpec, text: str, path: str) -> ObjectFileError:
    value = extern.value
    kind = {"int": f"{'a signed' if value.signed else 'an unsigned'} integer", "char": "a character"}
    return ObjectFileError(
        f"{printable(extern.name)} is {printable(text)} here, and the object declares "
        f"{kind.get(value.form, 'a ' + value.form)} of {value.size} byte{'s' * (value.size != 1)}",
        path=path,
    )
