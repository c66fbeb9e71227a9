"""Elements of a map: list, look up, change; keys and values as bytes.

A value of a per-CPU map is one block per possible CPU, each rounded up to 8 bytes as the kernel
lays them out.  Maps of maps and program arrays take a descriptor and give an id back.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bpfctl.errors import BpfctlError, KernelError, NotFoundError, errno_text, printable
from bpfctl.inventory import maptypes
from bpfctl.inventory.reference import Reference, open_map, open_program
from bpfctl.kernel import bpf, info
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.privilege import possible_cpus
from bpfctl.record import NamedTuple
from bpfctl.uapi import ENOTSUPP, MapType, type_name

# Between two answers of BPF_MAP_GET_NEXT_KEY the key may go; a hash table then starts again from the
# front (kernel/bpf/hashtab.c, htab_map_get_next_key).  So many passes are enough for any sane map.
_MAX_PASSES = 4


class Element(NamedTuple):
    """One element.  ``value``: bytes; per-CPU maps: one block for each CPU; None with an ``error``."""

    key: bytes
    value: bytes | tuple[bytes, ...] | None
    error: str = ""


class OpenMap:
    """A map to read and change.  Use it in a ``with`` block.

    ``key_size`` and ``value_size`` in bytes (one CPU's); methods raise NotFoundError where an element
    is missing and KernelError, which names the map, for every other refusal.
    """

    def __init__(self, fd: Fd) -> None:
        self._fd = fd
        facts = self.facts = info.map_info(fd.number)
        self.id = facts.id
        self.name = facts.name
        self.map_type = facts.type
        self.key_size = facts.key_size
        self.value_size = facts.value_size
        self.max_entries = facts.max_entries
        self.per_cpu = facts.type in maptypes.PER_CPU
        self.cpus = possible_cpus() if self.per_cpu else 1
        self.stride = maptypes.value_stride(facts.type, facts.value_size)

    def __enter__(self) -> OpenMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        self._fd.close()

    @property
    def fd(self) -> int:
        """The descriptor."""
        return self._fd.number

    @property
    def value_bytes(self) -> int:
        """What the kernel copies for one value: in a per-CPU map the blocks of all CPUs."""
        return self.stride * self.cpus

    @property
    def holds(self) -> str:
        """What a value stands for: ``map``, ``program``, or ``""`` for plain bytes."""
        return maptypes.holds(self.map_type)

    def elements(self) -> Iterator[Element]:
        """All elements, one at a time; those deleted meanwhile are left out.

        A map that others change while it is read may show an element twice or miss one.
        """
        for count, key in enumerate(self._keys()):
            if count > self.max_entries * _MAX_PASSES:
                raise BpfctlError(f"{self} changes faster than it can be read: gave up after {count}")
            try:
                yield Element(key, self._read(key))
            except FileNotFoundError:
                continue
            except OSError as error:
                yield Element(key, None, errno_text(error.errno or 0))

    def _keys(self) -> Iterator[bytes]:
        key: bytes | None = None
        while True:
            with self.translated("list"):
                key = bpf.map_get_next_key(self._fd.number, key, self.key_size)
            if key is None:
                return
            yield key

    def lookup(self, key: bytes) -> Element:
        """The element of ``key``; of a queue or stack, whose key is empty, the next one."""
        with self.translated("look up an element of"):
            return Element(key, self._read(key))

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set ``key`` to ``value``, in a per-CPU map for every CPU.  ``flags``: BPF_ANY, _NOEXIST, _EXIST."""
        padded = value.ljust(self.stride, b"\0") * self.cpus
        with self.translated("update"):
            bpf.map_update(self._fd.number, key, padded, flags)

    def update_reference(self, key: bytes, reference: Reference, flags: int = 0) -> None:
        """Put the map or program that ``reference`` names at ``key``; only where :attr:`holds` says so."""
        opener = open_map if self.holds == "map" else open_program
        with opener(reference) as target:
            self.update(key, struct.pack("=I", target.number), flags)

    def delete(self, key: bytes) -> None:
        """Take ``key`` out."""
        with self.translated("delete from"):
            bpf.map_delete(self._fd.number, key)

    def next_key(self, key: bytes | None) -> bytes:
        """The key after ``key``, or the first; NotFoundError at the end."""
        with self.translated("list"):
            found = bpf.map_get_next_key(self.fd, key, self.key_size)
        if found is None:
            raise NotFoundError(f"{self} has no element" + (" after that one" if key is not None else ""))
        return found

    def take(self) -> Element:
        """Take the next element out of a queue or stack."""
        with self.translated("take an element out of"):
            return Element(b"", bpf.map_lookup_and_delete(self.fd, b"", self.value_size))

    def may_hold(self, value: bytes) -> bool:
        """Whether a bloom filter may have been given ``value``."""
        try:
            bpf.map_lookup_value(self.fd, value)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise KernelError(f"cannot look into {self}", errno=error.errno or 0) from error
        return True

    def freeze(self) -> None:
        """Refuse any write from user space from now on."""
        with self.translated("freeze"):
            bpf.map_freeze(self.fd)

    def _read(self, key: bytes) -> bytes | tuple[bytes, ...]:
        data = bpf.map_lookup(self._fd.number, key, self.stride * self.cpus)
        if not self.per_cpu:
            return data
        starts = range(0, len(data), self.stride)
        return tuple(data[start : start + self.value_size] for start in starts)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """A block whose OSError becomes one that names the map; ``doing`` completes "cannot ..."."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{self} has no such element") from error
        except OSError as error:
            number = error.errno or 0
            raise KernelError(f"cannot {doing} {self}", errno=number, hint=_hint(self, number)) from error

    def __str__(self) -> str:
        return f"{type_name(MapType, self.map_type)} map id {self.id} ({printable(self.name)})"


def open_elements(reference: Reference) -> OpenMap:
    """The map that ``reference`` names, to read and change; raises as :func:`open_map`."""
    fd = open_map(reference)
    try:
        return OpenMap(fd)
    except OSError as error:
        fd.close()
        raise KernelError(f"cannot read the info of map {reference}", errno=error.errno or 0) from error


def _hint(target: OpenMap, number: int) -> str | None:
    if number == errno.E2BIG:
        return f"the map takes {target.max_entries} entries: it is full, or the index lies outside"
    if number == errno.EEXIST:
        return "`any` or `exist` in place of `noexist` overwrites it"
    if number == errno.EPERM:
        with suppress(OSError):
            if info.fdinfo(target.fd).get("frozen") == "1":
                return "the map is frozen: user space can change it no more, programs can"
        return "the map may be read-only; else CAP_BPF is missing"
    if number in (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP):
        return f"maps of type {type_name(MapType, target.map_type)} may not allow this from user space"
    return None
