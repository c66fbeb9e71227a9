"""Parts of a value by name: ``peer.ports[1]``, to set one of them or to show it in another form."""

from __future__ import annotations

import copy
from collections.abc import Callable

from bpfctl.btf.aggregates import ArrayOf, Field, Place, Record, write_place
from bpfctl.btf.scalars import Codec
from bpfctl.errors import TypedValueError
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def find_place(codec: Codec, path: str, name: str = "") -> Place:
    """Where the part ``path`` of a value is; "" is the whole.

    TypedValueError for a part that is not there; ``name`` is what the whole is called.
    """
    place = Place(codec, 0)
    rest = path
    while rest:
        step, rest = _first_step(place.codec, rest, joined(name, path))
        place = Place(step.codec, place.offset + step.offset, step.bits)
    return place


def assign(codec: Codec, image: bytearray, path: str, value: Any, name: str = "") -> None:
    """Set the part ``path`` of the value in ``image`` to ``value``; the other parts stay as they are."""
    place = find_place(codec, path, name)
    order = getattr(codec, "byte_order", "little")
    write_place(image, place, order, value, joined(name, path))


def joined(name: str, path: str) -> str:
    """``cfg`` and ``peer.ids`` as ``cfg.peer.ids``; either may be ""."""
    return name + path if path.startswith("[") or not (name and path) else f"{name}.{path}"


def _first_step(codec: Codec, path: str, whole: str) -> tuple[Place | Field, str]:
    """The part that ``path`` begins with, and what follows it."""
    if isinstance(codec, Record):
        return _member(codec, path.removeprefix("."), whole)
    if isinstance(codec, ArrayOf) and path.startswith("["):
        index, bracket, rest = path[1:].partition("]")
        if bracket and index.isascii() and index.isdigit() and len(index) < 12 and int(index) < codec.count:
            return codec.place(int(index)), rest
        raise codec.wrong(path, whole, "there is no such element")
    raise codec.wrong(path, whole, "there is no such part")


def _member(record: Record, path: str, whole: str) -> tuple[Field, str]:
    field = record.field_of(path)
    if field is None:
        raise record.wrong(path, whole, "there is no such member")
    return field, path[len(field.name) :]


def replaced(codec: Codec, path: str, change: Callable[[Codec, str], Codec], name: str = "") -> Codec:
    """``codec`` with its part ``path`` exchanged for what ``change(part, name)`` makes of it.

    A path through an array means its elements and has no index.
    """
    if not path:
        return change(codec, name)
    if isinstance(codec, ArrayOf):
        element = replaced(codec.element, path, change, name)
        return ArrayOf(element, codec.count, codec.label)
    if not isinstance(codec, Record):
        raise codec.wrong(path, joined(name, path), "there is no such part")
    field, rest = _member(codec, path, joined(name, path))
    if field.bits and not rest:
        raise TypedValueError(name, f"{path} is a bit-field", "a member of whole bytes")
    inner = replaced(field.codec, rest.removeprefix("."), change, joined(name, field.name))
    changed = copy.copy(codec)
    changed.fields = codec.fields | {field.name: field._replace(codec=inner)}
    return changed
