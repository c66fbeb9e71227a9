"""``obj show``: what ``readelf -S``, ``-x`` and ``-s`` would have to be asked for, in one place."""

from __future__ import annotations

from collections.abc import Iterator

from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.spec import parse_object
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.obj_records import MapRecord, ObjectRecord, ProgramRecord, RelocationRecord, describe
from bpfctl.cli.output import columns
from bpfctl.objfile import read_object


@words_command("show", "FILE [ maps-abi ABI ]", "maps-abi")
def show(app: App, words: list[str]) -> None:
    """Show sections, programs, maps, relocations, externs, licence and BTF of an object file.

    Of each relocation also the instruction as it stands in FILE and as it will be loaded.  Objects of either
    byte order; the kernel is not asked.
    """
    tokens = Tokens(words)
    source = parse_object(tokens.value("FILE"), tokens)
    tokens.end()
    record = describe(read_object(source.path, maps_abi=source.maps_abi))
    app.output.record(record, _text)


def _text(record: ObjectRecord) -> str:
    return "\n".join(_lines(record))


def _lines(record: ObjectRecord) -> Iterator[str]:
    yield f"{record.path}: {record.byte_order}-endian, {_license(record)}"
    yield from (f"warning: {warning}" for warning in record.warnings)
    yield "sections"
    heading = ("nr", "name", "program type", "attach type", "size")
    rows = [
        (str(s.number), s.name or "-", s.program_type or "-", s.attach_type or "-", str(s.size))
        for s in record.sections
    ]
    yield columns([heading, *rows], "  ")
    yield from _block("programs", map(_program, record.programs))
    yield from _block("maps", (_map(spec) for spec in record.maps))
    yield from _block("relocations", map(_relocation, record.relocations))
    yield from _block(
        "externs", (f"{extern.name}  {extern.kind}{'  weak' * extern.weak}" for extern in record.externs)
    )
    if record.btf is None:
        yield "btf none"
    else:
        types, size, strings = record.btf
        yield f"btf {types} types in {size} bytes, {strings} of them names"


def _block(heading: str, texts: Iterator[str]) -> Iterator[str]:
    """``heading`` and each text, indented; ``heading none`` for none."""
    lines = [f"  {line}" for text in texts for line in text.splitlines()]
    yield heading if lines else f"{heading} none"
    yield from lines


def _license(record: ObjectRecord) -> str:
    version = "" if record.version is None else f", version {record.version:#x}"
    return (f"licence {record.license}" if record.license else "no licence") + version


def _program(record: ProgramRecord) -> str:
    words = [record.name, f"section {record.section}"]
    words += [f"type {record.program_type}"] if record.program_type else []
    words += [f"attach type {record.attach_type}"] if record.attach_type else []
    words += [f"flags {','.join(record.flags)}"] if record.flags else []
    words.append(f"{record.size // 8} instructions")
    words += [] if record.autoload else ["not loaded by default"]
    if record.tail_call:
        words.append(f"slot {record.tail_call['key']} of the map with id {record.tail_call['map_id']}")
    words += [f"with {', '.join(record.subprograms)}"] if record.subprograms else []
    text = "  ".join(words)
    return text if record.error is None else f"{text}\n  cannot be linked: {record.error}"


def _map(record: MapRecord, label: str = "") -> str:
    first = f"{label}{record.name}  {record.type}  section {record.section}+{record.offset:#x}  {record.abi}"
    shape = f"key {_sized(record.key_size, record.key_type)}"
    shape += f"  value {_sized(record.value_size, record.value_type)}"
    shape += f"  max_entries {record.max_entries}  flags {record.flags:#x}"
    shape += f" ({', '.join(record.flag_names)})" if record.flag_names else ""
    lines = [first, shape]
    rest = [f"pinning {record.pinning}"]
    fields = ("map_extra", "numa_node", "id", "inner_id", "inner_idx", "inner_map_idx", "data_size")
    rest += [f"{name} {getattr(record, name)}" for name in fields if getattr(record, name) is not None]
    rest += ["frozen"] if record.frozen else []
    rest += ["not made by default"] if record.autocreate is False else []
    lines.append("  ".join(rest))
    if record.slots:
        lines.append("slots " + ", ".join(f"[{key}] = {target}" for key, target in record.slots))
    if record.functions:
        lines.append("functions " + ", ".join(f".{member} = {name}" for member, name in record.functions))
    if record.inner:
        lines += _map(record.inner, "inner ").splitlines()
    return "\n  ".join(lines)


def _sized(size: int, type_text: str | None) -> str:
    return f"{size}B ({type_text})" if type_text else f"{size}B"


def _relocation(record: RelocationRecord) -> str:
    where = f"{record.section}+{record.offset:#x}"
    inside = f"  in {record.function}" if record.function else ""
    first = f"{where}  {record.type}  {record.symbol or '-'}  ->  {record.target}{inside}"
    texts = [first]
    texts += [f"before: {record.before}"] if record.before is not None else []
    texts += [f"after:  {record.after}"] if record.after is not None else []
    return "\n    ".join(texts)
