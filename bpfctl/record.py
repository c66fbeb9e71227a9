"""``NamedTuple``, ``dataclass``, ``IntEnum`` and ``StrEnum`` without their cost at start-up.

Those of the standard library compile methods for every class as it is defined, and importing ``typing``,
``dataclasses`` and ``enum`` takes longer than the work of a small command.  Here a constructor is compiled
when the first instance is made; a command makes instances of few of the classes that it imports.  Type
checkers see the originals, of which these do what the package uses.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as the one of typing, without the import

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from enum import IntEnum as IntEnum
    from enum import StrEnum as StrEnum
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    class _TupleMeta(type):
        """Makes a tuple with names of a class body with annotated fields."""

        def __new__(meta, name, bases, body):
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body[field] for field in fields if field in body}
            for at, field in enumerate(fields):
                body[field] = _tuplegetter(at, "")
            body |= {
                "__slots__": (),
                "__match_args__": fields,
                "_fields": fields,
                "_field_defaults": defaults,
            }
            return type.__new__(meta, name, bases, body)

    class NamedTuple(tuple, metaclass=_TupleMeta):
        """Base of the classes, with the methods of ``collections.namedtuple``."""

        def __new__(cls, *values, **named):
            """Only of the first instance: from then on the class has its own, compiled one."""
            names = "".join(f"{field}," for field in cls._fields)
            scope = {"_new": tuple.__new__, "__builtins__": {}}
            new = eval(f"lambda _cls, {names}: _new(_cls, ({names}))", scope)
            new.__defaults__ = tuple(cls._field_defaults.values())
            new.__name__, new.__qualname__ = "__new__", f"{cls.__qualname__}.__new__"
            cls.__new__ = new
            return new(cls, *values, **named)

        @classmethod
        def _make(cls, values):
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{len(cls._fields)} values are wanted, not {len(made)}")
            return made

        def _replace(self, /, **named):
            made = self._make(map(named.pop, self._fields, self))
            if named:
                raise ValueError(f"unknown fields: {', '.join(named)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            fields = ", ".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
            return f"{type(self).__qualname__}({fields})"

        def __getnewargs__(self):
            return tuple(self)

    class field:
        """What a dataclass does with one of its fields."""

        def __init__(self, *, default_factory=None, kw_only=False, repr=True, compare=True):
            self.default_factory = default_factory
            self.kw_only = kw_only
            self.repr = repr
            self.compare = compare

    def dataclass(*, slots):
        """Give a class with annotated fields a constructor, comparison and repr; ``slots`` must be true."""
        assert slots

        def decorate(cls):
            fields = {name: cls.__dict__.get(name, _NOTHING) for name in cls.__annotations__}
            body = {name: value for name, value in cls.__dict__.items() if name not in fields}
            body.pop("__dict__", None)
            body.pop("__weakref__", None)
            body |= _METHODS | {"__slots__": tuple(fields), "_fields_": fields, "__hash__": None}
            return type(cls)(cls.__name__, cls.__bases__, body)

        return decorate

    def replace(instance, /, **named):
        """A copy of a dataclass's ``instance`` with other values in the fields ``named``."""
        values = {name: getattr(instance, name) for name in instance._fields_}
        return type(instance)(**(values | named))

    _NOTHING = object()

    def _first_init(self, *values, **named):
        """Only of the first instance: from then on the class has its own, compiled one."""
        cls = type(self)
        cls.__init__ = init = _compiled_init(cls)
        init(self, *values, **named)

    def _compiled_init(cls):
        plain, keyword, lines = [], [], []
        scope = {}
        for name, value in cls._fields_.items():
            made = isinstance(value, field)
            has_default = value is not _NOTHING and not (made and value.default_factory is None)
            scope[f"_default_{name}"] = value.default_factory if made else value
            parameter = f"{name}=_default_{name}" if has_default else name
            (keyword if made and value.kw_only else plain).append(parameter)
            lines.append(
                f" self.{name} = _default_{name}() if {name} is _default_{name} else {name}"
                if made and has_default
                else f" self.{name} = {name}"
            )
        parameters = ", ".join(["self", *plain, *(["*", *keyword] if keyword else [])])
        exec(f"def __init__({parameters}):\n" + "\n".join(lines), scope)
        return scope["__init__"]

    def _compared(instance):
        return [
            getattr(instance, name)
            for name, value in instance._fields_.items()
            if not isinstance(value, field) or value.compare
        ]

    def _equal(self, other):
        return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented

    def _repr(self):
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name, value in self._fields_.items()
            if not isinstance(value, field) or value.repr
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"

    _METHODS = {"__init__": _first_init, "__eq__": _equal, "__repr__": _repr}

    class _EnumMeta(type):
        """Makes members of the plain values in a class body; a call finds the one that has a value."""

        def __new__(meta, name, bases, body):
            plain = bases[0].__mro__[1]
            values = {key: value for key, value in body.items() if type(value) is plain and key[0] != "_"}
            cls = type.__new__(meta, name, bases, {k: v for k, v in body.items() if k not in values})
            cls._by_value = {}
            cls.__members__ = {}
            for key, value in values.items():
                member = cls._by_value.get(value)
                if member is None:  # else an alias
                    member = cls._by_value[value] = plain.__new__(cls, value)
                    member.name, member.value = key, value
                cls.__members__[key] = member
                setattr(cls, key, member)
            return cls

        def __call__(cls, value):
            try:
                return cls._by_value[value]
            except KeyError:
                raise ValueError(f"{value!r} is not a valid {cls.__qualname__}") from None

        def __getitem__(cls, name):
            return cls.__members__[name]

        def __iter__(cls):
            return iter(cls._by_value.values())

        def __len__(cls):
            return len(cls._by_value)

    def _enum_repr(self):
        return f"<{type(self).__qualname__}.{self.name}: {self.value!r}>"

    class IntEnum(int, metaclass=_EnumMeta):
        """Base of enumerations whose members are numbers."""

        __repr__ = _enum_repr
        __str__ = int.__repr__

        def __reduce__(self):
            return type(self), (self.value,)

    class StrEnum(str, metaclass=_EnumMeta):
        """Base of enumerations whose members are texts."""

        __repr__ = _enum_repr
        __str__ = str.__str__

        def __reduce__(self):
            return type(self), (self.value,)
