"""Elements as records, which feed JSON and text: bpftool's bytes, and beside them what they mean."""

from __future__ import annotations

from bpfctl.btf.scalars import Codec, Raw
from bpfctl.btf.views import PlainNumber
from bpfctl.inventory.elements import Element
from bpfctl.inventory.typed import Types, total
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, TypeAlias

Facts: TypeAlias = "dict[str, Any]"


def element_record(element: Element, types: Types) -> Facts:
    """``key`` and ``value`` (or ``values``, one for each CPU) as bytes; ``formatted`` has them by type."""
    record: Facts = {"key": hex_list(element.key)} if element.key else {}
    formatted: Facts = {"key": types.key.decode(element.key)} if element.key and says_more(types.key) else {}
    if element.value is None:
        record["value"] = {"error": element.error}
    elif isinstance(element.value, bytes):
        record["value"] = hex_list(element.value)
        if says_more(types.value):
            formatted["value"] = types.value.decode(element.value)
    else:
        shown = [types.value.decode(value) for value in element.value]
        record["values"] = [{"cpu": cpu, "value": hex_list(v)} for cpu, v in enumerate(element.value)]
        if says_more(types.value):
            formatted["values"] = [{"cpu": cpu, "value": value} for cpu, value in enumerate(shown)]
            formatted["total"] = total(shown)
    record["formatted"] = formatted
    return record


def says_more(codec: Codec) -> bool:
    """Whether the value by type says more than its bytes in hex."""
    return type(codec) is not Raw


def hex_list(data: bytes) -> list[str]:
    """``["0x0a", "0x00"]``, as bpftool has it."""
    return [f"{byte:#04x}" for byte in data]


def element_text(record: Facts, types: Types) -> str:
    """One line; in a per-CPU map one more for each CPU and one for all of them."""
    formatted = record["formatted"]
    key = f"key: {_cell(record['key'], formatted.get('key'), types.key)}" if "key" in record else ""
    if "values" in record:
        shown = formatted.get("values") or [{"value": None}] * len(record["values"])
        lines = [
            f"\tvalue (CPU {raw['cpu']:02}): {_cell(raw['value'], typed['value'], types.value)}"
            for raw, typed in zip(record["values"], shown, strict=True)
        ]
        whole = formatted.get("total")
        return "\n".join([key, *lines] + ([] if whole is None else [f"\ttotal: {value_text(whole)}"]))
    if "error" in record["value"]:
        return f"{key}  value: {record['value']['error']}"
    return f"{key}  value: {_cell(record['value'], formatted.get('value'), types.value)}".lstrip()


def _cell(data: list[str], value: Any, codec: Codec) -> str:
    """A typed value; bytes without a type, and behind them the number that they are."""
    text = " ".join(byte.removeprefix("0x") for byte in data)
    if isinstance(codec, PlainNumber):
        return f"{text} ({value})"
    return value_text(value) if says_more(codec) else text


def value_text(value: Any) -> str:
    """A string as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    import json

    return json.dumps(value, separators=(",", ":"))
