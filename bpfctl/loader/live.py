"""Live things: a map or program that this process holds open."""

from __future__ import annotations

from types import TracebackType

from bpfctl.errors import NotFoundError
from bpfctl.kernel import info
from bpfctl.kernel.fd import Fd
from bpfctl.objfile.spec import LinkedProgram, MapSpec, ObjectSpec, ProgramSpec
from bpfctl.record import TYPE_CHECKING, dataclass, field

if TYPE_CHECKING:
    from bpfctl.kernel.memory import Mapping
    from bpfctl.loader.migrate import Migration
    from bpfctl.loader.struct_ops import FittedMap


@dataclass(slots=True)
class Map:
    """An open map.  ``pin_path`` is where it is, or is to be, pinned; ``reused``: it was there
    before.

    ``value``: of a struct_ops map, what it is registered with.  ``data_offset``: where in an arena the
    object's variables are, bytes; ``mapping``: an arena made here, in this process's memory.
    ``migration``: of a new map that is to take a pinned one's place.
    """

    spec: MapSpec
    fd: Fd
    pin_path: str | None = None
    reused: bool = False
    value: bytes | None = None
    data_offset: int = 0
    mapping: Mapping | None = None
    migration: Migration | None = None


@dataclass(slots=True)
class Program:
    """An open program; ``program_type`` is what it was loaded as, ``maps`` those of its object."""

    spec: ProgramSpec
    linked: LinkedProgram
    program_type: int
    fd: Fd
    maps: dict[str, Map] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the function in the object."""
        return self.spec.name


@dataclass(slots=True)
class LoadedObject:
    """Maps and programs of one object, open until :meth:`close` or the end of a ``with`` block.

    Unpinned maps live on in the programs that use them; a program array without a pin is emptied by
    the kernel when the last descriptor goes.
    """

    spec: ObjectSpec
    maps: dict[str, Map] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    btf: Fd | None = None
    struct_ops: dict[str, FittedMap] = field(default_factory=dict)
    has_function_types: bool = True  # False: the kernel takes no function and line records
    config: bytes | None = None  # content of the map of configuration values
    warnings: list[str] = field(default_factory=list)

    def program(self, name: str) -> Program:
        """The loaded program ``name``; NotFoundError for one that was not asked for."""
        try:
            return self.programs[name]
        except KeyError:
            raise NotFoundError(f"{self.spec.path}: program {name} was not loaded") from None

    def pinned_map_ids(self) -> frozenset[int]:
        """Kernel ids of the maps that have a pin."""
        return frozenset(info.map_info(live.fd.number).id for live in self.maps.values() if live.pin_path)

    def close(self) -> None:
        """Close every descriptor."""
        for live in self.maps.values():
            if live.mapping:
                live.mapping.close()
            if live.migration:
                live.migration.close()
            live.fd.close()
        for program in self.programs.values():
            program.fd.close()
        if self.btf:
            self.btf.close()
        for fitted in self.struct_ops.values():
            if fitted.btf:
                fitted.btf.close()

    def __enter__(self) -> LoadedObject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
