"""The error family.

Everything that bpfctl can foresee going wrong is a :class:`BpfctlError`: one message that names
what the user typed or what the file holds, an optional hint that says what to do, and the exit
status of the command line.  Any other exception is a bug and shows its traceback.

``kernel/`` does not use this family: it raises plain ``OSError`` and the verbs (``loader``,
``attach``, ``inventory``) translate with ``raise ... from``.
"""

from __future__ import annotations

import errno as _errno
import os

from bpfctl.uapi import ENOTSUPP

EXIT_USAGE = 1  # usage, file or object error, as ip(8)
EXIT_KERNEL = 2  # refused by the kernel


def errno_text(number: int) -> str:
    """``Permission denied (EACCES)``; also for 524, which leaks from the kernel without a libc text."""
    if number == ENOTSUPP:
        return "Operation not supported (ENOTSUPP, 524)"
    name = _errno.errorcode.get(number)
    return f"{os.strerror(number)} ({name})" if name else f"errno {number}"


class BpfctlError(Exception):
    """Root of the family: ``message`` on one line, ``hint`` or ``None``, ``details`` lines.

    ``details`` are shown below the message (a verifier log, a table of differing fields).
    """

    exit_status = EXIT_USAGE

    def __init__(self, message: str, *, hint: str | None = None, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message


class UsageError(BpfctlError):
    """The command line cannot be understood."""


class TypedValueError(BpfctlError):
    """A value that does not fit its type: ``path`` of the field (``value.rate``), ``expected`` in words."""

    def __init__(self, path: str, problem: str, expected: str) -> None:
        self.path = path
        self.expected = expected
        where = f"{printable(path, 1024)}: " if path else ""
        super().__init__(f"{where}{problem}; {expected} is wanted")


class NotFoundError(BpfctlError):
    """What the user named (interface, program, map, pin, section) is not there."""


class NoInterfaceError(NotFoundError):
    """There is no network interface of this name."""


class AmbiguousError(BpfctlError):
    """What the user named fits several things."""


class ObjectFileError(BpfctlError):
    """The object file breaks its contract: ``path``, ``section`` or None, byte ``offset`` or None.

    ``offset`` counts from the start of the section, or of the file when there is no section.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        section: str | None = None,
        offset: int | None = None,
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.section = section
        self.offset = offset
        self.reason = message
        where = path
        if section is not None:
            where += f", section {printable(section)}" if where else f"section {printable(section)}"
        if offset is not None:
            where += f", offset {offset:#x}" if where else f"offset {offset:#x}"
        super().__init__(f"{where}: {message}" if where else message, hint=hint, details=details)


class BtfError(ObjectFileError):
    """BTF or .BTF.ext bytes that do not parse, or types that do not fit together."""


class RelocationError(ObjectFileError):
    """A relocation that cannot be applied: names program, instruction and symbol in its text."""


class CoreRelocationError(RelocationError):
    """A CO-RE relocation that is malformed, ambiguous, or does not fit its instruction."""


class UnsupportedObjectError(ObjectFileError):
    """A well-formed object that needs a piece which bpfctl does not handle."""


class KernelError(BpfctlError):
    """The kernel refused: ``call`` (``BPF_MAP_CREATE``), ``errno``, ``text`` (extended ACK) or ''."""

    exit_status = EXIT_KERNEL

    def __init__(
        self,
        message: str,
        *,
        call: str = "",
        errno: int = 0,
        text: str = "",
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        self.call = call
        self.errno = errno
        self.text = text
        reason = text or (errno_text(errno) if errno else "")
        super().__init__(f"{message}: {reason}" if reason else message, hint=hint, details=details)


class VerifierError(KernelError):
    """BPF_PROG_LOAD refused by the verifier: ``program``, ``section``, ``source`` and the whole ``log``.

    ``reason``: the line of the log that says why.
    """

    def __init__(
        self,
        message: str,
        *,
        program: str,
        section: str,
        source: str | None,
        log: str,
        reason: str,
        errno: int,
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        self.program = program
        self.section = section
        self.source = source
        self.log = log
        self.reason = reason
        super().__init__(message, call="BPF_PROG_LOAD", errno=errno, hint=hint, details=details)


class NotSupportedError(KernelError):
    """The running kernel lacks ``feature``."""

    def __init__(self, message: str, *, feature: str, errno: int = 0, hint: str | None = None) -> None:
        self.feature = feature
        super().__init__(message, errno=errno, hint=hint)


class MissingExternError(NotSupportedError):
    """The running kernel, or its configuration, lacks what an extern of the object stands for."""


class MissingTargetError(NotSupportedError):
    """The running kernel lacks the function, hook, ... that a program is for."""


class AlreadyAttachedError(KernelError):
    """Another program holds the hook; the message says which."""


class PinMismatchError(BpfctlError):
    """A pinned map differs from the object's definition; ``details`` is the table of fields."""


class Note(str):
    """A remark that is no warning: what a command did beside what it was asked for."""

    __slots__ = ()


def printable(text: str, limit: int = 128) -> str:
    """``text`` from an untrusted file, safe for a terminal line: control characters escaped, cut."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
