"""USDT probes of a program or library: the notes that tell where they are and where their arguments lie.

A probe is a ``nop`` in the code and a note in section ``.note.stapsdt`` (UserSpaceProbeImplementation in
systemtap's wiki): three addresses of 8 bytes (of the ``nop``, of ``.stapsdt.base`` when linked, of the
semaphore or 0), then three texts, a zero byte behind each: provider, name, arguments.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator

from bpfctl.errors import NotFoundError, ObjectFileError, printable
from bpfctl.objfile.executable import Executable, Section, Segment
from bpfctl.record import NamedTuple

NOTES = ".note.stapsdt"
BASE = ".stapsdt.base"
_OWNER, _TYPE = b"stapsdt\0", 3
_HEADER = struct.Struct("=3I")
_ADDRESSES = struct.Struct("=3Q")
_SHT_NOTE = 7
_MAX_NOTES = 16 << 20  # bytes


class Note(NamedTuple):
    """A probe as its note has it: addresses as linked; ``at``: of the note in its section, bytes."""

    at: int
    location: int
    base: int
    semaphore: int
    provider: str
    name: str
    arguments: str


class Site(NamedTuple):
    """A place of a probe: ``offset`` and ``semaphore`` (0: none) in bytes from the start of the file."""

    offset: int
    semaphore: int
    arguments: str
    at: int  # of its note in the section, bytes


def sites(binary: Executable, provider: str, name: str) -> list[Site]:
    """All places of probe ``provider``:``name``: a function that is inlined has many.

    NotFoundError where the file has none; ObjectFileError for notes that are malformed or point nowhere.
    """
    section = binary.section(NOTES)
    shown = printable(binary.path, 4096)
    if section is None:
        raise NotFoundError(
            f"{shown}: no USDT probes (no section {NOTES})",
            hint="it was built without them, or stripped",
        )
    base = binary.section(BASE)
    segments = sorted(binary.segments)
    found: list[Site] = []
    others: set[str] = set()
    for note in notes(binary, section):
        if (note.provider, note.name) == (provider, name):
            found.append(_site(binary, segments, note, base.address if base else 0))
        elif len(others) < 100:
            others.add(f"{note.provider}:{note.name}")
    if not found:
        near = sorted(printable(other) for other in others)[:8]
        raise NotFoundError(
            f"{shown}: no USDT probe {printable(provider)}:{printable(name)}",
            hint=f"it has {', '.join(near)}{', ...' if len(others) > len(near) else ''}" if near else None,
        )
    return found


def notes(binary: Executable, section: Section) -> Iterator[Note]:
    """The probes that ``section`` of ``binary`` has notes of, in their order."""
    if section.type != _SHT_NOTE or section.size > _MAX_NOTES:
        what = "not a section of notes" if section.type != _SHT_NOTE else f"over {_MAX_NOTES} bytes"
        raise _error(binary, what, None)
    data, at = binary.contents(section), 0
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise _error(binary, "a note is cut off", at)
        owner_size, size, kind = _HEADER.unpack_from(data, at)
        owner = at + _HEADER.size
        start = owner + _aligned(owner_size)
        if start + size > len(data):
            raise _error(binary, "a note is longer than its section", at)
        if kind == _TYPE and data[owner : owner + owner_size] == _OWNER:
            yield _note(binary, data[start : start + size], at)
        at = start + _aligned(size)


def _note(binary: Executable, text: bytes, at: int) -> Note:
    if len(text) < _ADDRESSES.size:
        raise _error(binary, "a probe's note is too short for its addresses", at)
    words = text[_ADDRESSES.size :].split(b"\0", 3)
    if len(words) < 4:
        raise _error(binary, "a probe's note lacks provider, name or arguments", at)
    provider, name, arguments = (word.decode("utf-8", "backslashreplace") for word in words[:3])
    location, base, semaphore = _ADDRESSES.unpack_from(text)
    return Note(at, location, base, semaphore, provider, name, arguments)


def _site(binary: Executable, segments: list[Segment], note: Note, base: int) -> Site:
    """Where ``note`` points to in the file: the addresses move with ``.stapsdt.base`` if prelink moved it."""
    moved = base - note.base if base and note.base else 0
    code = _segment(segments, note.location + moved)
    if code is None or not code.executable:
        raise _error(binary, f"no code is loaded at the probe's address {note.location:#x}", note.at)
    offset = note.location + moved - code.address + code.offset
    if not note.semaphore:
        return Site(offset, 0, note.arguments, note.at)
    counter = _segment(segments, note.semaphore + moved)
    if counter is None or counter.executable:
        raise _error(binary, f"no data is loaded at its semaphore's address {note.semaphore:#x}", note.at)
    semaphore = note.semaphore + moved - counter.address + counter.offset
    return Site(offset, semaphore, note.arguments, note.at)


def _segment(segments: list[Segment], address: int) -> Segment | None:
    """The part of the file that is loaded to where ``address`` is; ``segments`` in order."""
    at = bisect_right(segments, address, key=lambda segment: segment.address) - 1
    found = segments[at] if at >= 0 else None
    return found if found and address < found.address + found.size else None


def _aligned(size: int) -> int:
    return size + 3 & ~3


def _error(binary: Executable, message: str, at: int | None) -> ObjectFileError:
    return ObjectFileError(message, path=printable(binary.path, 4096), section=NOTES, offset=at)
