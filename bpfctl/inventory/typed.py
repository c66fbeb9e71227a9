"""Keys and values of a map by the types that its program's BTF gives them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from bpfctl.btf.aggregates import CpuValues
from bpfctl.btf.scalars import Codec
from bpfctl.btf.views import plain_codec, prefix_codec, view_at
from bpfctl.errors import BtfError
from bpfctl.inventory.elements import OpenMap
from bpfctl.kernel import info
from bpfctl.record import TYPE_CHECKING, NamedTuple
from bpfctl.uapi import MapType

if TYPE_CHECKING:
    from typing import Any


class View(NamedTuple):
    """``as KIND`` for the part ``path`` of a key or value; "" is all of it."""

    path: str
    kind: str


class Types(NamedTuple):
    """Codecs of one map, ``value`` of one CPU's; ``typed``: one of them comes from BTF or the user."""

    key: Codec
    value: Codec
    typed: bool

    def whole_value(self, target: OpenMap) -> Codec:
        """Of what the kernel copies: in a per-CPU map the values of all CPUs, as a list."""
        return CpuValues(self.value, target.stride, target.cpus) if target.per_cpu else self.value

    def viewed(self, what: str, views: Sequence[View]) -> Types:
        """With ``what``, ``key`` or ``value``, shown as the user says."""
        codec: Codec = getattr(self, what)
        for path, kind in views:
            codec = view_at(codec, path, kind, sys.byteorder, what)
        typed = self.typed or bool(views)
        return Types(codec, self.value, typed) if what == "key" else Types(self.key, codec, typed)


def map_types(target: OpenMap) -> Types:
    """The codecs of ``target``; without BTF, or without the right to read it, those of plain bytes."""
    key: Codec | None = None
    value: Codec | None = None
    with suppress(OSError, BtfError):
        key, value = btf_codecs(target)
    typed = key is not None or value is not None
    order = sys.byteorder
    key = key or plain_codec(target.key_size, order)
    value = value or plain_codec(target.value_size, order)
    if target.map_type == MapType.LPM_TRIE:
        key = prefix_codec(key, order)
    return Types(key, value, typed)


def btf_codecs(target: OpenMap) -> tuple[Codec | None, Codec | None]:
    """Codecs of key and value by the map's BTF; None where it does not tell, or tells another size.

    Raises OSError where it cannot be read, BtfError where it does not hold together.
    """
    facts = target.facts
    if not facts.btf_id or not (facts.btf_key_type_id or facts.btf_value_type_id):
        return None, None
    from bpfctl.btf.types import Btf
    from bpfctl.btf.values import value_codec

    btf = Btf.from_bytes(info.btf_data(facts.btf_id))
    key = value_codec(btf, facts.btf_key_type_id) if facts.btf_key_type_id else None
    value = value_codec(btf, facts.btf_value_type_id) if facts.btf_value_type_id else None
    return (
        key if key and key.size == target.key_size else None,
        value if value and value.size == target.value_size else None,
    )


def split_cpus(target: OpenMap, value: bytes) -> list[bytes]:
    """The blocks of a per-CPU value, one for each possible CPU; of any other map the one value."""
    if not target.per_cpu:
        return [value]
    starts = range(0, target.value_bytes, target.stride)
    return [value[start : start + target.value_size] for start in starts]


def total(values: Sequence[Any]) -> Any:
    """The values of all CPUs together: numbers are added, the rest is kept where all agree, else None.

    >>> total([{"packets": 1, "proto": "TCP"}, {"packets": 2, "proto": "TCP"}])
    {'packets': 3, 'proto': 'TCP'}
    """
    first = values[0]
    if isinstance(first, dict):
        return {key: total([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [total(column) for column in zip(*values, strict=True)]
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        return sum(values) if all(isinstance(value, (int, float)) for value in values) else None
    return first if all(value == first for value in values) else None
