"""BTF as C: a header that declares every named type, in an order that a compiler accepts.

A definition comes after those of what it contains and after the typedefs that it mentions; a struct that is
only pointed to is declared by its tag.  The output compiles to the layouts that BTF records (``c_layout``).

BTF may be hostile.  Chains, nesting and the number of declarations printed are bounded, the last because
nameless types are printed wherever they are used, and a few bytes could ask for that in exponential numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bpfctl.btf.c_layout import Layouts, fill
from bpfctl.btf.c_names import Names, arithmetic_type, bytes_type, identifier
from bpfctl.btf.kinds import Kind, Member
from bpfctl.btf.reader import KIND_MASK, KIND_SHIFT
from bpfctl.btf.types import MAX_CHAIN, Btf
from bpfctl.errors import BtfError, printable
from bpfctl.record import NamedTuple

_COMPOSITES = (Kind.STRUCT, Kind.UNION)
_ENUMS = (Kind.ENUM, Kind.ENUM64)
_QUALIFIERS = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}
_PASSED = frozenset({*_QUALIFIERS, Kind.TYPE_TAG, Kind.TYPEDEF, Kind.PTR})
_MODES = {1: "QI", 2: "HI", 8: "DI"}  # machine modes of gcc by size in bytes; 4 is what an enum has
_NOT_IN_C23 = ("bool", "false", "true", "nullptr")  # keywords there

_DECLARATIONS_PER_TYPE = 32  # far more than vmlinux has, where a nameless type has hardly two users
_LEAST_DECLARATIONS = 20_000
_LONGEST_FILL = 4096  # bits that nameless bit-fields take; an array takes more


class _Item(NamedTuple):
    """Something at the top level: ``complete`` for a definition, else a tag is declared."""

    type_id: int
    complete: bool


class CDump:
    """The C text of one BTF (with its base's types as far as they are needed), a top-level item at a time."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._names = Names(btf)
        self._layouts = Layouts(btf)
        self._left = len(btf) * _DECLARATIONS_PER_TYPE + _LEAST_DECLARATIONS
        self._printed: set[_Item] = set()
        self._known_needs: dict[int, tuple[_Item, ...]] = {}
        self._declared: set[str] = set()  # tags
        self._tags = _declaration_tags(btf)

    # --- which, and in which order -----------------------------------------------------------------

    def types(self, type_ids: Iterable[int] | None = None) -> Iterator[str]:
        """Definitions of ``type_ids`` and all that they need, or of every type that is not the base's.

        Each text is one item without its last newline; none comes twice in the life of this object.  Raises
        BtfError for types that C cannot have: contained in themselves, with overlapping members, without end.
        """
        btf = self._btf
        if type_ids is None:
            loose = _loose_enums(btf)
            for type_id in range(btf.first_id, len(btf)):
                kind = btf.kind(type_id)
                is_builtin = kind is Kind.TYPEDEF and self._is_builtin(type_id)
                if (self._names[type_id] and not is_builtin) or type_id in loose:
                    yield from self._with_needs(_Item(type_id, kind is not Kind.FWD))
            return
        for type_id in type_ids:
            for item in self._needs(type_id, True):
                yield from self._with_needs(item)
            if btf.kind(type_id) in (*_COMPOSITES, *_ENUMS) and not btf.name(type_id):
                yield self._declaration(type_id, "", 0) + ";"

    def prototype(self, func_id: int) -> str:
        """``int f(struct x *arg)`` of a FUNC, whether what it needs was printed or not."""
        return self._declaration(self._btf.size_or_type(func_id), identifier(self._btf.name(func_id)), 0)

    def functions(self, names_of: Iterable[int], suffix: str) -> Iterator[str]:
        """Prototypes of FUNC types, each behind what it needs; ``suffix`` is written behind each."""
        for func_id in names_of:
            proto = self._btf.size_or_type(func_id)
            for item in self._needs(proto, False):
                yield from self._with_needs(item)
            name = self._names.ordinary(self._btf.name(func_id))
            yield f"extern {self._declaration(proto, name, 0)}{suffix};"

    def _with_needs(self, wanted: _Item) -> Iterator[str]:
        """``wanted``, and before it, depth first, what it needs and is not printed yet."""
        if wanted in self._printed:
            return
        open_: set[_Item] = {wanted}
        stack = [(wanted, self._needs_of(wanted))]
        while stack:
            item, needs = stack[-1]
            for need in needs:
                if need in self._printed or (not need.complete and need.type_id == item.type_id):
                    continue
                if need in open_:
                    raise self._error(need.type_id, "contains itself")
                open_.add(need)
                stack.append((need, self._needs_of(need)))
                break
            else:
                stack.pop()
                open_.discard(item)
                self._printed.add(item)
                text = self._item(item)
                if text:
                    yield text

    def _needs_of(self, item: _Item) -> Iterator[_Item]:
        if not item.complete:
            return
        kind = self._btf.kind(item.type_id)
        if kind is Kind.TYPEDEF:
            yield from self._needs(self._btf.type(item.type_id).size_or_type, False)
        elif kind in _COMPOSITES:
            for member in self._btf.members(item.type_id):
                yield from self._member_needs(member.type_id)

    def _member_needs(self, type_id: int) -> tuple[_Item, ...]:
        """What a member of that type needs; remembered, as most members are of a few types."""
        needs = self._known_needs.get(type_id)
        if needs is None:
            needs = self._known_needs[type_id] = tuple(self._needs(type_id, True))
        return needs

    def _needs(self, type_id: int, complete: bool, depth: int = 0) -> Iterator[_Item]:
        """What has to be printed before a declaration that mentions ``type_id``.

        ``complete``: a value of it is declared, not only a pointer to one.
        """
        self._count(type_id, depth)
        btf = self._btf
        in_typedef = False  # what a typedef stands for was needed by the typedef itself
        for _ in range(MAX_CHAIN):
            kind = btf.kind(type_id)
            if kind is Kind.TYPEDEF and not self._is_builtin(type_id):
                if not in_typedef:
                    yield _Item(type_id, True)
                if not complete:
                    return
                in_typedef = True
            elif kind is Kind.PTR:
                if in_typedef:
                    return
                complete = False
            elif kind is Kind.ARRAY:
                complete, type_id = True, btf.array(type_id).element_id
                continue
            elif kind not in _PASSED:
                break
            type_id = btf.size_or_type(type_id)
        else:
            raise self._error(type_id, f"more than {MAX_CHAIN} references in a row, perhaps a loop")
        if self._names[type_id]:
            yield _Item(type_id, kind in _ENUMS or (complete and kind is not Kind.FWD))
        elif not in_typedef:
            yield from self._needs_of_nameless(type_id, kind, depth)

    def _needs_of_nameless(self, type_id: int, kind: Kind, depth: int) -> Iterator[_Item]:
        btf = self._btf
        if kind in _COMPOSITES:
            for member in btf.members(type_id):
                yield from self._needs(member.type_id, True, depth + 1)
        elif kind is Kind.FUNC_PROTO:
            for part in (btf.size_or_type(type_id), *(p.type_id for p in btf.params(type_id))):
                yield from self._needs(part, False, depth + 1)
        elif kind in (Kind.INT, Kind.FLOAT) and self._arithmetic(type_id) is None:
            yield _Item(type_id, True)
        elif kind in (Kind.FUNC, Kind.VAR):
            yield from self._needs(btf.size_or_type(type_id), True, depth + 1)
        elif kind is Kind.DATASEC:
            for variable in btf.datasec(type_id):
                yield from self._needs(variable.type_id, True, depth + 1)

    # --- items ---------------------------------------------------------------------------------------

    def _item(self, item: _Item) -> str:
        type_id, complete = item
        kind, name = self._btf.kind(type_id), self._names[type_id]
        if not complete:
            return self._tag_declaration(type_id, kind, name)
        if kind is Kind.TYPEDEF:
            target = self._declaration(self._btf.size_or_type(type_id), name, 0)
            return _guarded(name, f"typedef {target}{self._attributes(type_id)};")
        if kind in (Kind.INT, Kind.FLOAT):
            record = self._btf.type(type_id)
            return f"typedef {bytes_type(record, self._is_signed(type_id))} {identifier(record.name)};"
        if kind in _ENUMS:
            text = self._enum(type_id, 0) + ";"
            return _guarded(*(e.name for e in self._btf.enumerators(type_id)), text) if not name else text
        self._declared.add(name)
        return self._composite(type_id, kind, 0) + ";"

    def _tag_declaration(self, type_id: int, kind: Kind, name: str) -> str:
        if name in self._declared:
            return ""
        self._declared.add(name)
        is_union = kind is Kind.UNION or (kind is Kind.FWD and self._btf.type(type_id).kflag)
        return f"{'union' if is_union else 'struct'} {name};"

    def _composite(self, type_id: int, kind: Kind, depth: int) -> str:
        """``struct x { ... }`` with attributes, the first line not indented."""
        layout = self._layouts.of(type_id)
        indent = "\t" * (depth + 1)
        lines: list[str] = []
        at = number = 0
        members = self._btf.members(type_id)
        names: set[str] = set()
        for number, (member, padding) in enumerate(zip(members, layout.padding, strict=False)):
            lines += _padding(at, padding, number, layout.packed, kind)
            lines.append(self._member(member, names, type_id, number, depth))
            at = member.offset + (member.bitfield_size or self._layouts.size(member.type_id) * 8)
        size = self._btf.size_or_type(type_id) * 8
        start = 0 if kind is Kind.UNION else at
        lines += _padding(start, size - start if layout.padding[-1] else 0, len(members), layout.packed, kind)
        name = self._names[type_id]
        head = f"{kind.label} {name} {{" if name else f"{kind.label} {{"
        body = "".join(f"{indent}{line};\n" for line in lines)
        tail = "}" + " __attribute__((packed))" * layout.packed + self._attributes(type_id)
        return f"{head}\n{body}{indent[1:]}{tail}" if body else head + tail

    def _member(self, member: Member, names: set[str], type_id: int, number: int, depth: int) -> str:
        name = identifier(member.name) if member.name else ""
        if name in names:
            raise self._error(type_id, f"has two members called {name}")
        names.update((name,) if name else ())
        bits = f": {member.bitfield_size}" if member.bitfield_size else ""
        return self._declaration(member.type_id, name, depth + 1) + bits + self._attributes(type_id, number)

    def _enum(self, type_id: int, depth: int) -> str:
        btf = self._btf
        record, name = btf.type(type_id), self._names[type_id]
        suffix = ("LL" if record.kflag else "ULL") if record.kind is Kind.ENUM64 else ""
        indent = "\t" * (depth + 1)
        lines = [
            f"{indent}{self._names.ordinary(e.name)} = {e.value}{suffix},\n" for e in btf.enumerators(type_id)
        ]
        head = f"enum {name} {{" if name else "enum {"
        fits = record.size_or_type == 4 or (record.kind is Kind.ENUM64 and _is_wide(btf, type_id))
        mode = "" if fits else _MODES.get(record.size_or_type, "")
        tail = "}" + (f" __attribute__((mode({mode})))" if mode else "")
        return f"{head}\n{''.join(lines)}{indent[1:]}{tail}" if lines else f"enum {name}".rstrip()

    def _attributes(self, type_id: int, component: int = -1) -> str:
        """The declaration tags of a type, or of its member number ``component``."""
        tags = self._tags.get((type_id, component), ())
        return "".join(f' __attribute__((btf_decl_tag("{_quoted(tag)}")))' for tag in tags)

    # --- declarations --------------------------------------------------------------------------------

    def _declaration(self, type_id: int, declarator: str, depth: int) -> str:
        """C reads inside out: ``declarator`` grows around the name while references lead to the base type."""
        self._count(type_id, depth)
        btf = self._btf
        qualifiers: list[str] = []  # of what comes next
        for _ in range(MAX_CHAIN):
            kind = btf.kind(type_id)
            if kind is Kind.PTR:
                words = " ".join(_ordered(qualifiers))
                declarator = f"*{words}{' ' * bool(words and declarator)}{declarator}"
                qualifiers = []
            elif kind is Kind.ARRAY:
                array = btf.array(type_id)
                declarator = f"{_grouped(declarator)}[{array.length}]"
                type_id = array.element_id
                continue
            elif kind is Kind.FUNC_PROTO:
                declarator = f"{_grouped(declarator)}({self._parameters(type_id, depth)})"
                qualifiers = []
            elif kind in _QUALIFIERS:
                qualifiers.append(_QUALIFIERS[kind])
            elif kind is Kind.TYPE_TAG:
                qualifiers += _type_tag(btf, type_id)
            elif kind is not Kind.TYPEDEF or not self._is_builtin(type_id):
                # restrict is for pointers, and says nothing of a layout
                words = "".join(f"{word} " for word in _ordered(qualifiers) if word != "restrict")
                base = self._base(type_id, kind, depth)
                gap = "" if not declarator or declarator.startswith("[") else " "
                return words + base + gap + declarator
            type_id = btf.size_or_type(type_id)
        raise self._error(type_id, f"more than {MAX_CHAIN} references in a row, perhaps a loop")

    def _parameters(self, type_id: int, depth: int) -> str:
        params = self._btf.params(type_id)
        if not params or (len(params) == 1 and not params[0].type_id):
            return "void"
        texts = []
        for name, param_id in params:
            if param_id:
                texts.append(self._declaration(param_id, identifier(name) if name else "", depth + 1))
        if not params[-1].type_id:
            texts.append("...")
        return ", ".join(texts)

    def _base(self, type_id: int, kind: Kind, depth: int) -> str:
        if kind is Kind.VOID:
            return "void"
        name = self._names[type_id]
        if kind is Kind.TYPEDEF:
            return name
        if kind in (Kind.INT, Kind.FLOAT):
            return self._arithmetic(type_id) or identifier(self._btf.name(type_id))
        if kind is Kind.FWD:
            return f"{'union' if self._btf.type(type_id).kflag else 'struct'} {name}"
        if kind in _ENUMS:
            return f"enum {name}" if name else self._enum(type_id, depth)
        if kind in _COMPOSITES:
            return f"{kind.label} {name}" if name else self._composite(type_id, kind, depth)
        raise self._error(type_id, f"a {kind.label} is no type of a value")

    def _arithmetic(self, type_id: int) -> str | None:
        return arithmetic_type(self._btf.type(type_id), self._is_signed(type_id))

    def _is_signed(self, type_id: int) -> bool:
        return self._btf.kind(type_id) is Kind.INT and self._btf.int_encoding(type_id).signed

    def _is_builtin(self, type_id: int) -> bool:
        """Whether a typedef is the compiler's own, as __builtin_va_list, whose size on BPF is another."""
        return self._names[type_id].startswith("__builtin_")

    # --- bounds --------------------------------------------------------------------------------------

    def _count(self, type_id: int, depth: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise self._error(type_id, "its nameless types repeat too often to be printed")
        if depth > MAX_CHAIN:
            raise self._error(type_id, f"nests deeper than {MAX_CHAIN} levels")

    def _error(self, type_id: int, message: str) -> BtfError:
        name = printable(self._btf.name(type_id)) or "(anon)"
        text = f"type {type_id} ({name}): {message}"
        return BtfError(text, path=self._btf.path, section=self._btf.section)


def _ordered(qualifiers: list[str]) -> list[str]:
    """Each once; of several attributes, clang makes the last one the outermost type."""
    tags = [word for word in qualifiers if word not in _QUALIFIERS.values()]
    return [*dict.fromkeys(word for word in qualifiers if word not in tags), *reversed(tags)]


def _grouped(declarator: str) -> str:
    return f"({declarator})" if declarator.startswith("*") else declarator


def _padding(at: int, bits: int, number: int, packed: bool, kind: Kind) -> Iterator[str]:
    """Members that take ``bits`` bits from bit ``at``; ``number`` makes their names unique."""
    if kind is Kind.UNION:
        if bits:
            yield f"unsigned char __pad{number}[{bits // 8}]"
        return
    short = bits if bits <= _LONGEST_FILL else -at % 64
    yield from (f"long: {width}" for width in fill(at, short, packed))
    if short < bits:
        long_ = (bits - short) // 8
        yield f"unsigned char __pad{number}[{long_}]"
        yield from (f"long: {width}" for width in fill(at + short + long_ * 8, (bits - short) % 8, packed))


def _is_wide(btf: Btf, type_id: int) -> bool:
    """Whether a compiler makes the enum 64 bits wide by itself."""
    return any(not -(1 << 31) <= e.value < 1 << 32 for e in btf.enumerators(type_id))


def _type_tag(btf: Btf, type_id: int) -> list[str]:
    """A type tag as a qualifier; with the flag it is an attribute of its own (Linux 6.15)."""
    record = btf.type(type_id)
    if not record.kflag:
        return [f'__attribute__((btf_type_tag("{_quoted(record.name)}")))']
    # An attribute is code: only plain words and numbers pass.
    is_plain = all(c.isascii() and (c.isalnum() or c in "_(), ") for c in record.name)
    return [f"__attribute__(({record.name}))"] if is_plain and record.name else []


def _quoted(text: str) -> str:
    """The inside of a C string literal."""
    return printable(text, 4096).replace("\\", "\\\\").replace('"', '\\"')


def _guarded(*names_and_text: str) -> str:
    """A text that declares names which C23 has as keywords is left out there."""
    *names, text = names_and_text
    if not any(name in _NOT_IN_C23 for name in names):
        return text
    return f"#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n{text}\n#endif"


def _declaration_tags(btf: Btf) -> dict[tuple[int, int], list[str]]:
    """(type, component) -> texts of the own types' declaration tags."""
    tags: dict[tuple[int, int], list[str]] = {}
    for tag_id in btf.ids(Kind.DECL_TAG):
        record = btf.type(tag_id)
        tags.setdefault((record.size_or_type, btf.component(tag_id)), []).append(record.name)
    return tags


def _loose_enums(btf: Btf) -> set[int]:
    """Own enums without a name that no type uses: only their enumerators matter."""
    loose = {type_id for kind in _ENUMS for type_id in btf.ids(kind) if not btf.name(type_id)}
    if loose:
        for type_id in range(btf.first_id, len(btf)):
            words = btf.record_words(type_id)
            loose.difference_update(words[_REFERRING.get(words[1] >> KIND_SHIFT & KIND_MASK, _NOTHING)])
    return loose


# Where in the words of a record of that kind the numbers of other types are.
_TARGET = (Kind.PTR, Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.VAR, Kind.TYPE_TAG)
_NOTHING = slice(0, 0)
_REFERRING: dict[int, slice] = {
    **{kind: slice(2, 3) for kind in _TARGET},
    Kind.ARRAY: slice(3, 4),
    Kind.STRUCT: slice(4, None, 3),
    Kind.UNION: slice(4, None, 3),
    Kind.FUNC_PROTO: slice(2, None, 2),
}
