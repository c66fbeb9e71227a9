"""What one process keeps between commands: the object it read last, what it loaded of it, the kernel's types.

A batch that attaches one object to a thousand interfaces reads and links it once.  A loaded program is
handed out again only where a fresh load would share everything anyway: all of its object's maps are
pinned, and the pins still lead to the same maps, or are constants.
"""

from __future__ import annotations

import os
from types import TracebackType

from bpfctl.errors import BpfctlError
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.loader.live import LoadedObject, Map
from bpfctl.loader.load import LoadRequest, kernel_types, load
from bpfctl.loader.transaction import Transaction
from bpfctl.objfile import read_object
from bpfctl.objfile.spec import ObjectSpec, Setting
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.loader.kernel_types import KernelTypes


class _FileKey(NamedTuple):
    """Identity and state of a file; a rewritten object gets another key."""

    path: str
    device: int
    inode: int
    size: int
    mtime: int
    maps_abi: str | None
    settings: tuple[Setting, ...]


class Session:
    """Owns what it hands out: descriptors stay open until the next object or the end of the block."""

    def __init__(self) -> None:
        self._key: _FileKey | None = None
        self._object: ObjectSpec | None = None
        self._loaded: tuple[LoadRequest, LoadedObject] | None = None
        self._kernel: KernelTypes | None = None

    def read(self, path: str, maps_abi: str | None = None, settings: tuple[Setting, ...] = ()) -> ObjectSpec:
        """``read_object`` with its variables set, remembered while the file stays as it is."""
        key = _file_key(path, maps_abi, settings)
        if self._object is None or key != self._key:
            self._drop()
            obj = read_object(path, maps_abi=maps_abi)
            self._object, self._key = _with_settings(obj, settings), key
        return self._object

    def load(self, obj: ObjectSpec, request: LoadRequest, transaction: Transaction) -> LoadedObject:
        """``loader.load``, or what it returned for the same request if that is as good as new."""
        if self._loaded:
            last, loaded = self._loaded
            same = last == request and loaded.spec is obj and request.target is None
            if same and all(_is_shared(live) for live in loaded.maps.values()):
                return loaded
        self._drop_loaded()
        loaded = self.load_apart(obj, request, transaction)
        self._loaded = request, loaded
        return loaded

    def load_apart(self, obj: ObjectSpec, request: LoadRequest, transaction: Transaction) -> LoadedObject:
        """``loader.load``; the caller owns what it returns: for a command that holds several programs."""
        if self._kernel is None or self._kernel.path != request.btf_path:
            self._drop_kernel()
            self._kernel = kernel_types(obj, request.btf_path, request.program_type)
        return load(obj, request, transaction, self._kernel)

    def _drop_loaded(self) -> None:
        if self._loaded:
            self._loaded[1].close()
            self._loaded = None

    def _drop(self) -> None:
        self._drop_loaded()
        self._object = self._key = None

    def _drop_kernel(self) -> None:
        if self._kernel:
            self._kernel.close()
            self._kernel = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()
        self._drop_kernel()


def _with_settings(obj: ObjectSpec, settings: tuple[Setting, ...]) -> ObjectSpec:
    if not settings:
        return obj
    from bpfctl.objfile.globals import with_settings

    return with_settings(obj, settings)


def _file_key(path: str, maps_abi: str | None, settings: tuple[Setting, ...]) -> _FileKey:
    try:
        status = os.stat(path)
    except OSError as error:
        raise BpfctlError(f"{path}: {error.strerror}") from error
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _FileKey(path, *state, maps_abi, settings)


def _is_shared(live: Map) -> bool:
    """True when loading again would find this very map, or one that cannot be told from it."""
    if live.pin_path is None:
        return live.spec.frozen and not live.reused
    try:
        with Fd(bpf.obj_get(live.pin_path)) as pinned:
            return info.map_info(pinned.number).id == info.map_info(live.fd.number).id
    except OSError:
        return False
