"""``map dump``, ``lookup``, ``update`` and ``delete``: elements as plain bytes."""

from __future__ import annotations

from typing import Any

from bpfctl.api import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.element import integer, parse_bytes
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.tokens import Tokens, unknown
from bpfctl.errors import UsageError
from bpfctl.inventory.elements import Element, OpenMap, open_elements
from bpfctl.uapi import BPF_ANY, BPF_EXIST, BPF_NOEXIST

_FLAGS = {"any": BPF_ANY, "noexist": BPF_NOEXIST, "exist": BPF_EXIST}
_MAP = "{ id N | pinned PATH | name NAME }"
_WORDS = "id pinned name key value hex any noexist exist"


@words_command("dump", _MAP, _WORDS)
def dump(app: App, words: list[str]) -> None:
    """Print every element: key and value as bytes, and as numbers where they have 1, 2, 4 or 8.

    Values of per-CPU maps are printed for each CPU.
    """
    tokens = Tokens(words)
    with _open(tokens) as target:
        tokens.end()
        app.output.records(map(_record, target.elements()), _text)


@words_command("lookup", f"{_MAP} [ key DATA ]", _WORDS)
def lookup(app: App, words: list[str]) -> None:
    """Print one element; queues and stacks, which have no keys, show the next one.

    DATA is a number for 1, 2, 4 or 8 bytes in host order, else a number for each byte, or "hex" and digits.
    """
    tokens = Tokens(words)
    with _open(tokens) as target:
        key = _parse_key(tokens, target)
        tokens.end()
        app.output.record(_record(target.lookup(key)), _text)


@words_command("update", f"{_MAP} [ key DATA ] value VALUE [ any | noexist | exist ]", _WORDS)
def update(app: App, words: list[str]) -> None:
    """Set an element; in a per-CPU map for every CPU.

    VALUE is DATA as in "map lookup"; for a program array or a map of maps it is
    { id N | pinned PATH | name NAME | tag TAG }.
    """
    tokens = Tokens(words)
    with _open(tokens) as target:
        key = _parse_key(tokens, target, "value")
        if not tokens.take("value"):
            raise UsageError("Command line is not complete: value is missing")
        if target.holds:
            reference = resolved(parse_reference(tokens))
            target.update_reference(key, reference, _parse_flags(tokens))
        else:
            value = parse_bytes(tokens, target.value_size, "value", tuple(_FLAGS))
            target.update(key, value, _parse_flags(tokens))


@words_command("delete", f"{_MAP} key DATA", _WORDS)
def delete(app: App, words: list[str]) -> None:
    """Delete an element."""
    tokens = Tokens(words)
    with _open(tokens) as target:
        key = _parse_key(tokens, target)
        tokens.end()
        target.delete(key)


def _open(tokens: Tokens) -> OpenMap:
    return open_elements(resolved(parse_reference(tokens)))


def _parse_key(tokens: Tokens, target: OpenMap, *stop: str) -> bytes:
    if not target.key_size:
        return b""
    if not tokens.take("key"):
        raise UsageError("Command line is not complete: key is missing")
    return parse_bytes(tokens, target.key_size, "key", stop)


def _parse_flags(tokens: Tokens) -> int:
    word = tokens.next() if tokens else "any"
    if word not in _FLAGS:
        raise unknown(word, ", ".join(_FLAGS))
    tokens.end()
    return _FLAGS[word]


def _record(element: Element) -> dict[str, Any]:
    """bpftool's shape: bytes as hex strings; ``formatted`` has what can be read as a number."""
    record: dict[str, Any] = {"key": _hex(element.key)}
    formatted: dict[str, Any] = {"key": integer(element.key)}
    if element.value is None:
        record["value"] = {"error": element.error}
    elif isinstance(element.value, bytes):
        record["value"] = _hex(element.value)
        formatted["value"] = integer(element.value)
    else:
        record["values"] = [{"cpu": cpu, "value": _hex(v)} for cpu, v in enumerate(element.value)]
        if integer(element.value[0]) is not None:
            formatted["values"] = [{"cpu": cpu, "value": integer(v)} for cpu, v in enumerate(element.value)]
    record["formatted"] = formatted
    return record


def _hex(data: bytes) -> list[str]:
    return [f"{byte:#04x}" for byte in data]


def _text(record: dict[str, Any]) -> str:
    formatted = record["formatted"]
    key = f"key: {_cell(record['key'], formatted['key'])}" if record["key"] else ""
    if "values" in record:
        numbers = formatted.get("values") or [{"value": None}] * len(record["values"])
        cells = [
            f"\tvalue (CPU {slot['cpu']:02}): {_cell(slot['value'], number['value'])}"
            for slot, number in zip(record["values"], numbers, strict=True)
        ]
        return "\n".join([key, *cells])
    if "error" in record["value"]:
        return f"{key}  value: {record['value']['error']}"
    return f"{key}  value: {_cell(record['value'], formatted.get('value'))}".lstrip()


def _cell(data: list[str], number: int | None) -> str:
    text = " ".join(byte.removeprefix("0x") for byte in data)
    return text if number is None else f"{text} ({number})"
