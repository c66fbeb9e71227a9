"""The types that CO-RE fits programs to: those of the running kernel, or of a file's.

Opened when the first relocation asks, and kept as long as the process works.
"""

from __future__ import annotations

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.errors import BpfctlError, BtfError, KernelError, NotSupportedError, errno_text, printable
from bpfctl.kernel import bpf, kernel_btf
from bpfctl.kernel.fd import Fd
from bpfctl.objfile.core import CoreRelocator
from bpfctl.objfile.spec import ObjectSpec
from bpfctl.uapi import Command


class KernelTypes:
    """``path`` None: the running kernel and its modules; else a file of raw BTF that stands for both."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._vmlinux: Btf | None = None
        self._modules: list[Btf] | None = None
        self._module_ids: dict[Btf, int] = {}  # of the BTF object in the kernel
        self._running: KernelTypes | None = None
        self._warnings: list[str] = []
        self._relocator: CoreRelocator | None = None

    def relocator(self, obj: ObjectSpec) -> CoreRelocator:
        """What ``link_program`` asks for; the same again for the object of the last call."""
        if self._relocator is None or self._relocator.obj is not obj:
            self._relocator = CoreRelocator(obj, self.vmlinux, self.modules)
        return self._relocator

    def vmlinux(self) -> Btf:
        """The kernel's types.

        Raises NotSupportedError for a kernel without BTF, BpfctlError for a file that cannot be read,
        BtfError for bytes that are no BTF.
        """
        if self._vmlinux is None:
            source = self._open()
            self._vmlinux = Btf.from_bytes(source.data, path=source.name, section=None)
        return self._vmlinux

    def modules(self) -> list[Btf]:
        """The types of each module, none beside a file; what cannot be read of them becomes a warning."""
        if self._modules is None:
            self._modules = []
            if self.path is None:
                self._read_modules(self._modules)
        return self._modules

    @property
    def running(self) -> KernelTypes:
        """The running kernel's types, also where a file's stand for them in CO-RE."""
        if self.path is None:
            return self
        if self._running is None:
            self._running = KernelTypes()
        return self._running

    def find(self, name: str, kind: Kind) -> tuple[Btf, int] | None:
        """A type of the kernel, else of the first module that has it: whose BTF, and its id there."""
        type_id = self.vmlinux().find(name, kind)
        if type_id is not None:
            return self.vmlinux(), type_id
        for module in self.modules():
            type_id = module.find(name, kind)
            if type_id is not None:
                return module, type_id
        return None

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
        return warnings

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
                f"CO-RE relocations need the kernel's BTF, and {error.filename} cannot be read",
                feature="btf",
                errno=error.errno or 0,
                hint="the kernel has to be built with CONFIG_DEBUG_INFO_BTF=y",
            ) from error

    def _read_modules(self, found: list[Btf]) -> None:
        try:
            for source in kernel_btf.modules():
                name = printable(source.name)
                try:
                    btf = Btf.from_bytes(source.data, path=name, section=None, base=self.vmlinux())
                except BtfError as error:
                    self._warnings.append(f"BTF of module {name} is left out of CO-RE: {error.reason}")
                    continue
                found.append(btf)
                self._module_ids[btf] = source.id
        except OSError as error:
            text = errno_text(error.errno or 0)
            self._warnings.append(f"BTF of modules is left out of CO-RE: {text}")
