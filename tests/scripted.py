"""A stand-in for the kernel that answers netlink requests from a script."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bpfctl.kernel import syscall
from bpfctl.kernel.netlink import attribute, attribute_text

NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
NLM_F_MULTI, NLM_F_DUMP_INTR, NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x2, 0x10, 0x100, 0x200
IFINDEX = 3


class Request(NamedTuple):
    """One message that was sent, its header taken apart."""

    type: int
    flags: int
    sequence: int
    body: bytes


Datagram = bytes | BaseException
Answer = Callable[[Request], Iterable[Datagram]]


def message(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    """One netlink message, padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


def ack(request: Request, code: int = 0, text: str = "", more: bytes = b"") -> bytes:
    """NLMSG_ERROR with ``code`` 0 or a positive errno; ``more`` are further extended-ACK attributes."""
    repeated = struct.pack("=IHHII", 16 + len(request.body), request.type, request.flags, request.sequence, 0)
    tlvs = (attribute_text(1, text) if text else b"") + more
    flags = NLM_F_CAPPED | (NLM_F_ACK_TLVS if tlvs else 0)
    return message(NLMSG_ERROR, request.sequence, struct.pack("=i", -code) + repeated + tlvs, flags)


def done(request: Request, code: int = 0, flags: int = 0) -> bytes:
    """NLMSG_DONE, the end of a dump."""
    return message(NLMSG_DONE, request.sequence, struct.pack("=i", -code), flags | NLM_F_MULTI)


def accepted(request: Request) -> list[Datagram]:
    return [ack(request)]


def refused(code: int, text: str = "") -> Answer:
    return lambda request: [ack(request, code, text)]


def lost(code: int) -> Answer:
    """The request arrives, but its answer cannot be received."""
    return lambda request: [OSError(code, os.strerror(code))]


def link(native: int = 0, generic: int = 0, *, ifindex: int = IFINDEX, name: str = "v0") -> bytes:
    """The body of an RTM_NEWLINK with these programs in the slots."""
    slots = [(5, native), (6, generic)]
    attached = 1 if native else 2 if generic else 0
    xdp = attribute(2, bytes([attached])) + b"".join(
        attribute(kind, struct.pack("=I", number)) for kind, number in slots if number
    )
    fields = attribute_text(3, name) + attribute(4, struct.pack("=I", 1500)) + attribute(43, xdp)
    return struct.pack("=BxHiII", 0, 1, ifindex, 1, 0) + fields


def shows(native: int = 0, generic: int = 0) -> Answer:
    """An answer to RTM_GETLINK."""
    return lambda request: [message(16, request.sequence, link(native, generic)), ack(request)]


class ScriptedSystem(syscall.System):
    """Answers each request by the next entry of ``script``; ``sent`` keeps the requests."""

    def __init__(self, *script: Answer) -> None:
        self.script = deque(script)
        self.sent: list[Request] = []
        self.opened = 0
        self._inbox: deque[Datagram] = deque()

    def netlink_open(self) -> int:
        self.opened += 1
        return os.open("/dev/null", os.O_RDWR)

    def netlink_send(self, fd: int, message: bytes) -> None:
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", message)
        assert length == len(message)
        request = Request(kind, flags, sequence, message[16:])
        self.sent.append(request)
        self._inbox.extend(self.script.popleft()(request))

    def netlink_receive(self, fd: int, size: int) -> bytes:
        item = self._inbox.popleft()
        if isinstance(item, BaseException):
            raise item
        return item

    def interface_index(self, fd: int, name: bytes) -> int:
        if name != b"v0":
            raise OSError(19, os.strerror(19))
        return IFINDEX
