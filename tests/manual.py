"""The manual as data: sections of the pages in `man/`, their tables of JSON keys, the commands shown.

Reads the few man(7) requests that our pages are written in; `mandoc -T lint` judges whether they are
used well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(path.name for path in (ROOT / "man").glob("*.8"))

_ESCAPES = ((r"\-", "-"), (r"\&", ""), (r"\(dq", '"'), (r"\(bu", "*"), (r"\e", "\\"))
_FONTS = ("BR", "RB", "IR", "RI", "BI", "IB")  # their arguments follow each other without a blank
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_KEY_TABLE = "key\ttype\tmeaning"


def page_of(*words: str) -> str:
    """The page that documents the command ``words``."""
    page = f"bpfctl-{words[0]}.8"
    return page if page in PAGES else "bpfctl.8"


def section(page: str, heading: str) -> str:
    """The source of section ``heading`` (``.SH``)."""
    return _split(source(page), ".SH")[heading]


def source(page: str) -> str:
    return (ROOT / "man" / page).read_text()


def text(roff: str) -> str:
    """What a reader sees of ``roff``, a line for each of its lines."""
    return "\n".join(filter(None, map(_line, roff.splitlines())))


def _line(line: str) -> str:
    if line.startswith("'"):
        return ""
    request, _, rest = line.partition(" ")
    if line.startswith("."):
        words = [quoted or plain for quoted, plain in _ARGUMENT.findall(rest)]
        if request[1:] in _FONTS:
            line = "".join(words)
        elif request in (".B", ".I", ".SH", ".SS"):
            line = " ".join(words)
        else:
            return ""
    line = re.sub(r"\\f[BIR]", "", line)
    for escape, character in _ESCAPES:
        line = line.replace(escape, character)
    return line


def _split(roff: str, request: str) -> dict[str, str]:
    """``roff`` by its headings; what stands before the first one is under ""."""
    heading, *parts = re.split(rf"^{re.escape(request)} (.*)$", roff, flags=re.MULTILINE)
    return {"": heading, **dict(zip(parts[::2], parts[1::2], strict=True))}


def documented_keys(page: str, subsection: str = "") -> dict[str, str]:
    """JSON keys and their types: ``pids[].comm`` -> ``string``.  ``subsection``: the ``.SS`` it is in."""
    keys: dict[str, str] = {}
    for heading in ("OUTPUT",) if "\n.SH OUTPUT\n" in source(page) else ("OBJECTS AND COMMANDS",):
        part = _split(section(page, heading), ".SS").get(subsection, "")
        for table in re.findall(r"^\.TS\n.*?\n(.*?)^\.TE", part, flags=re.MULTILINE | re.DOTALL):
            head, *rows = text(table).splitlines()
            if head == _KEY_TABLE:
                keys |= {key: kind for key, kind, _ in (row.split("\t") for row in rows) if key}
    return keys


def shape(value: Any, path: str = "") -> dict[str, str]:
    """Keys and types of a JSON document in the manner of :func:`documented_keys`."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for key, member in value.items():
            name = f"{path}.{key}" if path else key
            found |= {name: kind(member)} | shape(member, name)
    elif isinstance(value, list):
        for member in value:
            found |= shape(member, f"{path}[]" if path else "")
    return found


def kind(value: object) -> str:
    """The manual's word for a JSON type; the plural for an array."""
    if isinstance(value, list):
        return f"{kind(value[0])}s" if value else ""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}
    return names[type(value)]


def examples(page: str) -> str:
    """The script of section EXAMPLES; "" if there is none."""
    if "\n.SH EXAMPLES\n" not in source(page):
        return ""
    blocks = re.findall(r"^\.nf\n(.*?)^\.fi", section(page, "EXAMPLES"), re.MULTILINE | re.DOTALL)
    return "\n".join(map(text, blocks))


def readme_blocks(language: str, heading: str) -> list[str]:
    """Fenced blocks of README.md, by language, under the ``##`` heading."""
    parts = re.split(r"^## (.*)$", README.read_text(), flags=re.MULTILINE)
    body = dict(zip(parts[1::2], parts[2::2], strict=True))[heading]
    return re.findall(rf"^```{language}\n(.*?)^```", body, re.MULTILINE | re.DOTALL)


def commands(script: str) -> list[str]:
    """The lines of ``script`` that are a command of bpfctl's, up to a pipe or a redirection of stderr."""
    lines = (line.partition(" | ")[0].partition(" 2>")[0] for line in script.splitlines())
    return [line for line in lines if line.startswith("bpfctl ")]
