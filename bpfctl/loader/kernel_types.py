"""The types that CO-RE fits programs to: those of the running kernel, or of a file's.

Opened when the first relocation asks, and kept as long as the process works.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bpfctl.btf.index import key_of, unpack
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, BtfError, KernelError, NotSupportedError, errno_text, printable
from bpfctl.kernel import bpf, info, kernel_btf, saved_index
from bpfctl.kernel.fd import Fd
from bpfctl.objfile.core import CoreRelocator
from bpfctl.objfile.spec import ObjectSpec
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import Command

if TYPE_CHECKING:
    from bpfctl.loader.externs import Externs

_LARGE = 10_000  # types: fewer are sooner walked over than found on disk


class KernelTypes:
    """``path`` None: the running kernel and its modules; else a file of raw BTF that stands for both.

    Modules are read one by one, as they are asked for.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._vmlinux: Btf | None = None
        self._modules: list[_Module] | None = None
        self._module_ids: dict[Btf, int] = {}  # of the BTF object in the kernel
        self._descriptors: dict[int, Fd] = {}  # of BTF objects, by that id
        self._running: KernelTypes | None = None
        self._warnings: list[str] = []
        self._relocator: CoreRelocator | None = None
        self._externs: tuple[ObjectSpec, Externs] | None = None

    def relocator(self, obj: ObjectSpec) -> CoreRelocator:
        """What a ``Linker`` asks for; the same again for the object of the last call."""
        if self._relocator is None or self._relocator.obj is not obj:
            self._relocator = CoreRelocator(obj, self.vmlinux, self.modules)
        return self._relocator

    def externs(self, obj: ObjectSpec) -> Externs:
        """What the running kernel says to the externs of ``obj``; the same again for that of the last call.

        Raises what ``externs.resolve`` does.
        """
        if self._externs is None or self._externs[0] is not obj:
            from bpfctl.loader.externs import resolve

            self._externs = obj, resolve(obj, self.running)
        return self._externs[1]

    def vmlinux(self) -> Btf:
        """The kernel's types.

        Raises NotSupportedError for a kernel without BTF, BpfctlError for a file that cannot be read,
        BtfError for bytes that are no BTF.
        """
        if self._vmlinux is None:
            source = self._open()
            if self.path is None:
                self._vmlinux = _indexed(source)
            else:
                self._vmlinux = Btf.from_bytes(source.data, path=source.name, section=None)
        return self._vmlinux

    def modules(self) -> list[Btf]:
        """The types of each module, none beside a file; what cannot be read of them becomes a warning."""
        return list(self._each_module())

    @property
    def running(self) -> KernelTypes:
        """The running kernel's types, also where a file's stand for them in CO-RE."""
        if self.path is None:
            return self
        if self._running is None:
            self._running = KernelTypes()
        return self._running

    def find(self, name: str, kind: Kind, module: str | None = None) -> tuple[Btf, int] | None:
        """A type of the kernel, else of the first module that has it: whose BTF, and its id there.

        ``module``: where alone to look, by its whole name; vmlinux has one too.
        """
        if module in (None, "vmlinux"):
            type_id = self.vmlinux().find(name, kind)
            if type_id is not None:
                return self.vmlinux(), type_id
        for types in self._each_module(module):
            type_id = types.find_own(name, kind)
            if type_id is not None:
                return types, type_id
        return None

    def find_each(self, names: Iterable[str], kind: Kind) -> dict[str, tuple[Btf, int]]:
        """:meth:`find` for many names at once; those that are nowhere are left out."""
        missing, vmlinux = set(names), self.vmlinux()
        found = {name: (vmlinux, type_id) for name, type_id in vmlinux.find_each(missing, kind).items()}
        missing -= found.keys()
        for types in self._each_module() if missing else ():
            own = types.find_each(missing, kind)
            found |= {name: (types, type_id) for name, type_id in own.items()}
            missing -= own.keys()
            if not missing:
                break
        return found

    def descriptor(self, btf: Btf) -> int:
        """That of a module's BTF, 0 for vmlinux's; open until :meth:`close`.

        Raises KernelError when the module is gone since.
        """
        number = self._module_ids.get(btf, 0)
        if number and number not in self._descriptors:
            opened = self.open_btf(btf)
            assert opened is not None  # as it is no module's only without a number
            self._descriptors[number] = opened
        return self._descriptors[number].number if number else 0

    def close(self) -> None:
        """Close what :meth:`descriptor` opened; it can be opened again."""
        for fd in self._descriptors.values():
            fd.close()
        self._descriptors.clear()
        self._externs = None
        if self._running:
            self._running.close()

    def open_btf(self, btf: Btf) -> Fd | None:
        """A descriptor of a module's BTF; None for that of vmlinux, which the kernel takes as the default.

        Raises KernelError when the module is gone since.
        """
        number = self._module_ids.get(btf)
        if number is None:
            return None
        try:
            return Fd(bpf.get_fd_by_id(Command.BTF_GET_FD_BY_ID, number))
        except OSError as error:
            what = f"cannot open the BTF of module {printable(btf.path)}"
            raise KernelError(what, call="BPF_BTF_GET_FD_BY_ID", errno=error.errno or 0) from error

    def new_warnings(self) -> list[str]:
        """Warnings since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings + (self._running.new_warnings() if self._running else [])

    def _open(self) -> kernel_btf.BtfSource:
        if self.path is not None:
            try:
                return kernel_btf.from_file(self.path)
            except OSError as error:
                raise BpfctlError(f"{self.path}: {error.strerror}") from error
        try:
            return kernel_btf.vmlinux()
        except OSError as error:
            raise NotSupportedError(
                f"the kernel's BTF is needed, and {error.filename} cannot be read",
                feature="btf",
                errno=error.errno or 0,
                hint="the kernel has to be built with CONFIG_DEBUG_INFO_BTF=y",
            ) from error

    def _each_module(self, name: str | None = None) -> Iterator[Btf]:
        """The types of each module that has any; ``name``: of that one alone."""
        for module in self._list_modules():
            if name in (None, module.source.name) and (types := self._types_of(module)):
                yield types

    def _list_modules(self) -> list[_Module]:
        if self._modules is None:
            self._modules = []
            try:
                for source in kernel_btf.modules() if self.path is None else ():
                    self._modules.append(_Module(source))
            except OSError as error:
                self._warnings.append(f"BTF of modules is left out: {errno_text(error.errno or 0)}")
        return self._modules

    def _types_of(self, module: _Module) -> Btf | None:
        if not module.is_read:
            module.is_read = True
            name = printable(module.source.name)
            try:
                data = info.btf_data(module.source.id)
                module.types = Btf.from_bytes(data, path=name, section=None, base=self.vmlinux())
                self._module_ids[module.types] = module.source.id
            except FileNotFoundError:
                pass  # unloaded since
            except BtfError as error:
                self._warnings.append(f"BTF of module {name} is left out: {error.reason}")
            except OSError as error:
                self._warnings.append(f"BTF of module {name} is left out: {errno_text(error.errno or 0)}")
        return module.types


class _Module:
    """A module; its types once they were read, None where they are broken or gone."""

    def __init__(self, source: kernel_btf.ModuleBtf) -> None:
        self.source = source
        self.types: Btf | None = None
        self.is_read = False


def _indexed(source: kernel_btf.BtfSource) -> Btf:
    """The running kernel's types, by the index of an earlier command where there is one."""
    name = f"btf-{key_of(source.data)}"
    saved = saved_index.read(name)
    index = unpack(saved) if saved else None
    btf = Btf.from_bytes(source.data, path=source.name, section=None, index=index)
    if index is None and len(btf) > _LARGE:
        saved_index.write(name, btf.packed_index())
    return btf
