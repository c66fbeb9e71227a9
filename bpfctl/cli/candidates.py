"""What a shell may offer in the place of a value: devices, parts of the object file, pins, ids."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bpfctl.errors import BpfctlError

_OBJECT_WORDS = ("obj", "object-file")
_PIN_WORDS = ("pinned", "object-pinned", "fd")


def values(words: Sequence[str], kind: str) -> list[str] | None:
    """Candidates for what the last of ``words`` asks for; None where it asks for nothing known.

    ``kind``: ``map`` where ids and pins are those of maps, anything else where they are of programs.
    """
    before = words[-1] if words else ""
    try:
        if before == "dev":
            return sorted(os.listdir("/sys/class/net"))
        if before in ("sec", "section", "program"):
            return _parts(words, before == "program")
        if before == "id":
            return _ids(kind)
        if before in _PIN_WORDS:
            return _pins(kind)
    except (BpfctlError, OSError):
        return []
    return None


def _parts(words: Sequence[str], names: bool) -> list[str]:
    """Names of the programs, or of their sections, of the object file that is named in ``words``."""
    path = next((word for at, word in enumerate(words[1:]) if words[at] in _OBJECT_WORDS), words[0])
    from bpfctl.objfile import read_object

    programs = read_object(path).programs.values()
    return list(dict.fromkeys(program.name if names else program.section for program in programs))


def _pins(kind: str) -> list[str]:
    """Paths of pins, the short way first for those that ``m:`` reaches."""
    from bpfctl.inventory import holders
    from bpfctl.loader.pins import resolve_pin_path

    kind = "map" if kind == "map" else "prog"
    paths = sorted(path for path, number in holders.iter_pins(kind) if number is not None)
    folder = resolve_pin_path("m:")
    return [f"m:{path.removeprefix(folder)}" for path in paths if path.startswith(folder)] + paths


def _ids(kind: str) -> list[str]:
    from bpfctl.inventory import listing

    records = listing.list_maps() if kind == "map" else listing.list_programs()
    return [str(record.id) for record in records]
