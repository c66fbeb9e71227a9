"""A stand-in for the kernel that has the BTF objects of modules."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from bpfctl.kernel import syscall
from bpfctl.uapi import Command

Entry = tuple[str, bytes, bool]  # name, bytes, of the kernel


class Modules(syscall.System):
    """Has the BTF objects ``entries``, with ids from 1; ``refusals``: command -> errno."""

    def __init__(self, *entries: Entry, refusals: dict[Command, int] | None = None) -> None:
        self._entries = entries
        self._refusals = refusals or {}
        self._open: dict[int, Entry] = {}

    def bpf(self, command: int, attr: bytearray) -> int:
        number = self._refusals.get(Command(command), 0)
        start, *_ = struct.unpack_from("=I", attr)
        if command == Command.BTF_GET_NEXT_ID and start == len(self._entries):
            number = number or errno.ENOENT
        if number:
            raise OSError(number, os.strerror(number))
        if command == Command.BTF_GET_NEXT_ID:
            struct.pack_into("=I", attr, 4, start + 1)
            return 0
        if command == Command.BTF_GET_FD_BY_ID:
            fd = os.open("/dev/null", os.O_RDONLY)
            self._open[fd] = self._entries[start - 1]
            return fd
        assert command == Command.OBJ_GET_INFO_BY_FD
        self._info(*self._open[start], struct.unpack_from("=Q", attr, 8)[0])
        return 0

    @staticmethod
    def _info(name: str, data: bytes, kernel: bool, address: int) -> None:
        """struct bpf_btf_info: btf, btf_size, id, name, name_len, kernel_btf."""
        info = (ctypes.c_char * 32).from_address(address)
        blob, size, _, text, text_size, _ = struct.unpack("=Q2IQ2I", bytes(info))
        ctypes.memmove(blob, data, min(size, len(data)) if blob else 0)
        ctypes.memmove(text, name.encode() + b"\0", min(text_size, len(name) + 1) if text else 0)
        struct.pack_into("=Q2IQ2I", info, 0, blob, len(data), 1, text, len(name), kernel)
