"""Where maps are pinned, and how a pin comes into being.

The paths are iproute2's, so that both tools share maps (``<mnt>`` is the bpffs):

=====================================  ======================================
``pinning`` of the object              path
=====================================  ======================================
``PIN_OBJECT_NS`` (1)                  ``<mnt>/tc/<sha1 of the object>/NAME``
``PIN_GLOBAL_NS`` (2)                  ``<mnt>/tc/globals/NAME``
``LIBBPF_PIN_BY_NAME``                 ``<root>/NAME``; ``<mnt>/tc/globals`` when attaching
a number of the ``bpf_pinning`` file   ``<mnt>/<path in the file>/NAME``
=====================================  ======================================

iproute2 reaches ``tc`` through the links ``xdp`` and ``ip``; they are made here too, relative, so
that they hold wherever the bpffs is seen.  We always go to ``tc`` itself: a real directory ``xdp``
that another tool made does not split the sharing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from bpfctl.errors import BpfctlError, KernelError, ObjectFileError, UsageError, printable
from bpfctl.kernel import bpf, bpffs
from bpfctl.kernel.privilege import permission_hint
from bpfctl.loader.transaction import Transaction
from bpfctl.objfile.data_maps import data_map_kernel_name
from bpfctl.objfile.spec import MapOrigin, MapSpec, ObjectSpec, Pinning

PINNING_FILES = ("/etc/iproute2/bpf_pinning", "/usr/share/iproute2/bpf_pinning")
_LINKS = ("xdp", "ip")


def read_pinning_file(paths: Sequence[str] = PINNING_FILES) -> dict[int, str]:
    """Custom pinning numbers: lines ``NUMBER PATH`` of the first of ``paths`` that exists.

    ``NUMBER`` is decimal, hex or octal, and not one of the reserved 0 to 2; text after the path is
    ignored, a later line wins.  Raises UsageError for a line that does not parse.
    """
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return _parse_pinning(path, file.read(1 << 20))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BpfctlError(f"{path}: {error.strerror}") from error
    return {}


def _parse_pinning(path: str, text: str) -> dict[int, str]:
    table: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = _any_base(words[0])
        if key is None or len(words) < 2:
            raise UsageError(f"{path}:{number}: not NUMBER PATH: {printable(line.strip())}")
        if key in tuple(Pinning):
            raise UsageError(f"{path}:{number}: pinning {key} is reserved")
        table[key] = words[1]
    return table


def _any_base(word: str) -> int | None:
    """strtol(3) with base 0: decimal, 0x hex, 0 octal."""
    try:
        return int(word, 8 if word.startswith("0") and word.isdigit() else 0)
    except ValueError:
        return None


class PinPlan:
    """Decides the pin path of each map of one object, and makes directories when one is needed.

    ``root``: directory for LIBBPF_PIN_BY_NAME, None for iproute2's ``<mnt>/tc/globals``; ``rest``:
    directory for the maps that the object does not pin, None to leave them without.  Nothing is touched
    until the first map that pins asks: an object without pins needs no bpffs.  ``makes``: False only to
    look.
    """

    def __init__(
        self,
        obj: ObjectSpec,
        transaction: Transaction,
        root: str | None = None,
        rest: str | None = None,
        *,
        makes: bool = True,
    ) -> None:
        self._object = obj
        self._transaction = transaction
        self._root = root
        self._rest = rest
        self._makes = makes

    def path(self, spec: MapSpec) -> str | None:
        """Where ``spec`` is to be pinned, or None; the directory exists afterwards.

        Raises ObjectFileError for a map name that cannot be a pin or a pinning number that no file
        explains, KernelError when there is no bpffs and none can be mounted.
        """
        if not spec.pinning:
            return self._path_of_rest(spec) if self._rest is not None else None
        reason = bpffs.check_name(spec.name)
        if reason:
            raise ObjectFileError(
                f"map {printable(spec.name)!r} is to be pinned, but its name cannot be a file name: {reason}",
                path=self._object.path,
                section=spec.section,
                offset=spec.offset,
            )
        return f"{self._directory(spec)}/{spec.name}"

    def _path_of_rest(self, spec: MapSpec) -> str:
        """As bpftool names them: by what the kernel is told, and ``_`` for the dot that bpffs refuses."""
        dotted = spec.origin is MapOrigin.DATA and "." in spec.name[1:]
        name = spec.name if dotted else kernel_map_name(spec, self._object.path)
        name = name.replace(".", "_")
        reason = bpffs.check_name(name)
        if reason:
            raise ObjectFileError(
                f"map {printable(name)!r} cannot be pinned: {reason}",
                path=self._object.path,
                section=spec.section,
                offset=spec.offset,
                hint="leave out pinmaps",
            )
        self._make_below(self._rest or "")
        return f"{self._rest}/{name}"

    def _directory(self, spec: MapSpec) -> str:
        if spec.pins_by_name and self._root is not None:
            self._make_below(self._root)
            return self._root
        if spec.pins_by_name or spec.pinning == Pinning.GLOBAL_NS:
            return self._layout() + "/tc/globals"
        if spec.pinning == Pinning.OBJECT_NS:
            directory = f"{self._layout()}/tc/{self._object.sha1}"
        else:
            directory = f"{self._layout()}/{self._custom_path(spec)}"
        self._make_below(directory)
        return directory

    def _custom_path(self, spec: MapSpec) -> str:
        table = read_pinning_file()
        if spec.pinning not in table:
            raise ObjectFileError(
                f"map {printable(spec.name)} has pinning {spec.pinning}, which no pinning file explains",
                path=self._object.path,
                section=spec.section,
                offset=spec.offset,
                hint=f"add a line `{spec.pinning} SUBDIRECTORY` to {PINNING_FILES[0]}",
            )
        parts = [part for part in table[spec.pinning].split("/") if part]
        if not parts or any(bpffs.check_name(part) for part in parts):
            raise UsageError(
                f"pinning {spec.pinning}: {printable(table[spec.pinning])!r} is no bpffs directory"
            )
        return "/".join(parts)

    def _make_below(self, directory: str) -> None:
        if self._makes:
            make_directories(directory, self._transaction)

    def _layout(self) -> str:
        if self._makes:
            return make_layout(self._transaction)
        return wanted_bpffs()

    def current(self, path: str) -> str:
        """Where the map is that will be pinned at ``path`` when the command is through."""
        return self._transaction.staged.get(path, path)


class NoPins:
    """The plan of a load that is to leave nothing: every map is new and stays without a name."""

    def path(self, spec: MapSpec) -> None:
        """None, whatever ``spec`` asks for."""

    def current(self, path: str) -> str:
        """``path``."""
        return path


def possible_pins(obj: ObjectSpec, rest: str | None = None) -> dict[str, list[str]]:
    """Where the maps of ``obj`` are pinned, if they are, by name: by ``prog load`` first, then by the hooks.

    ``rest`` as in :class:`PinPlan`, which raises the same; a map that nothing pins has no path.
    """
    found: dict[str, list[str]] = {name: [] for name in obj.maps}
    for root in (wanted_bpffs(), None):
        plan = PinPlan(obj, Transaction(), root, rest, makes=False)
        for name, spec in obj.maps.items():
            path = plan.path(spec)
            if path is not None and path not in found[name]:
                found[name].append(path)
    return found


def make_directories(directory: str, transaction: Transaction) -> None:
    """Make ``directory`` and those above it that are missing; all must lie on a bpffs."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory) or "."
    if not bpffs.is_bpffs(directory):
        raise BpfctlError(f"{directory} is not on a bpffs", hint=f"mount -t bpf bpf {bpffs.wanted_mount()}")
    for path in reversed(missing):
        _make(path, transaction)


def kernel_map_name(spec: MapSpec, object_path: str) -> str:
    """The name that the kernel is given for a map, before it is cut to 15 bytes."""
    if spec.origin is MapOrigin.DATA:
        return data_map_kernel_name(object_path, spec.name)
    return spec.name


def make_layout(transaction: Transaction) -> str:
    """Mount point of the bpffs, with iproute2's directories in it; what is new is undone on failure."""
    mount = bpffs_mount(transaction)
    for name in ("tc", "tc/globals"):
        _make(f"{mount}/{name}", transaction)
    for name in _LINKS:
        _make_link(f"{mount}/{name}", transaction)
    return mount


def _make(directory: str, transaction: Transaction) -> None:
    with transaction.step():
        try:
            made = bpffs.make_directory(directory)
        except OSError as error:
            raise _cannot_make(directory, error) from error
        if made:
            undo = functools.partial(bpffs.remove_directory, directory)
            transaction.undo(f"remove {directory}", undo)


def _make_link(path: str, transaction: Transaction) -> None:
    with transaction.step():
        try:
            made = bpffs.make_link("tc", path)
        except OSError as error:
            raise _cannot_make(path, error) from error
        if made:
            transaction.undo(f"remove {path}", functools.partial(bpffs.unpin, path))


def _cannot_make(path: str, error: OSError) -> KernelError:
    hint = permission_hint("CAP_SYS_ADMIN") if isinstance(error, PermissionError) else None
    return KernelError(f"cannot make {path}", call="mkdir", errno=error.errno or 0, hint=hint)


def wanted_bpffs() -> str:
    """Where the bpffs is, or would be mounted."""
    return bpffs.find_mount() or bpffs.wanted_mount()


def bpffs_mount(transaction: Transaction) -> str:
    """Mount point of the bpffs to use; one is mounted (and undone on failure) where there is none."""
    found = bpffs.find_mount()
    if found:
        return found
    path = bpffs.wanted_mount()
    try:
        with transaction.step():
            if bpffs.make_directory(path):
                transaction.undo(f"remove {path}", functools.partial(bpffs.remove_directory, path))
        with transaction.step():
            bpffs.mount(path)
            transaction.undo(f"unmount {path}", functools.partial(bpffs.unmount, path))
    except OSError as error:
        hint = permission_hint("CAP_SYS_ADMIN") if isinstance(error, PermissionError) else None
        raise KernelError(
            f"no bpffs is mounted and mounting one on {path} failed",
            call="mount",
            errno=error.errno or 0,
            hint=hint,
        ) from error
    return path


def resolve_pin_path(path: str) -> str:
    """Path of a pin that is there, as typed: ``m:REST`` is ``<bpffs>/tc/REST``, as in iproute2."""
    if not path.startswith("m:"):
        return path
    mount = bpffs.find_mount()
    if mount is None:
        raise BpfctlError(f"{path}: no bpffs is mounted", hint=f"mount -t bpf bpf {bpffs.wanted_mount()}")
    return f"{mount}/tc/{path[2:]}"


def new_pin_path(path: str, transaction: Transaction) -> str:
    """Path of a pin to be made, as typed; ``m:`` makes iproute2's directories where they are missing."""
    return f"{make_layout(transaction)}/tc/{path[2:]}" if path.startswith("m:") else path


def pin(fd: int, path: str, transaction: Transaction) -> bool:
    """Pin ``fd``; False when another command was first to take the name.

    Raises KernelError with what is wrong with the path.
    """
    with transaction.step():
        try:
            bpf.obj_pin(fd, path)
        except FileExistsError:
            return False
        except OSError as error:
            hint = _pin_hint(path, error)
            what = f"cannot pin to {path}"
            raise KernelError(what, call="BPF_OBJ_PIN", errno=error.errno or 0, hint=hint) from error
        transaction.undo(f"remove the pin {path}", functools.partial(bpffs.unpin, path))
    return True


def _pin_hint(path: str, error: OSError) -> str | None:
    parent = os.path.dirname(path) or "."
    if not os.path.isdir(parent):
        return f"{parent} does not exist"
    if not bpffs.is_bpffs(parent):
        return f"{parent} is not on a bpffs; mount one with: mount -t bpf bpf DIRECTORY"
    reason = bpffs.check_name(os.path.basename(path))
    if reason:
        return f"the name cannot be a pin: {reason}"
    return permission_hint("CAP_BPF") if isinstance(error, PermissionError) else None
