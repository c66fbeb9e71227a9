"""Netlink: requests with acknowledgement, dumps, attributes, the kernel's own words on failure.

Layouts are those of include/uapi/linux/netlink.h.  Numbers are in native byte order and everything
is aligned to 4 bytes.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from types import TracebackType

from bpfctl.kernel import syscall
from bpfctl.kernel.fd import Fd
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_ECHO = 0x8
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200

_NLMSG_NOOP = 1
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSG_OVERRUN = 4

_NLMSGERR_ATTR_MSG = 1
_NLMSGERR_ATTR_OFFS = 2
_NLMSGERR_ATTR_MISS_TYPE = 5

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: len, type
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without the nested and byte-order bits

_RECEIVE_SIZE = 65536  # bytes; the kernel sends at most 32 KiB at a time
_DUMP_TRIES = 5
_FOREIGN_LIMIT = 1000  # messages that answer an earlier request, whose answer was given up


class NetlinkError(OSError):
    """The kernel refused a request.

    ``text``: the extended ACK's message, or ''.  ``offset``: bytes from the start of the request to the
    attribute that is at fault; ``missing``: type of the attribute that is not there; None when unsaid.
    """

    def __init__(
        self, number: int, text: str = "", *, offset: int | None = None, missing: int | None = None
    ) -> None:
        super().__init__(number, text or os.strerror(number))
        self.text = text
        self.offset = offset
        self.missing = missing


class AnswerLostError(OSError):
    """The request went out, but no sound answer came in: whether it took effect is unknown."""


class Message(NamedTuple):
    """One message of a reply, header taken off."""

    type: int
    body: bytes


class _ExtendedAck(NamedTuple):
    text: str = ""
    offset: int | None = None
    missing: int | None = None


# --- attributes ---


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded.  ``kind`` may carry flag bits (0x8000: nested)."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attribute_u32(kind: int, value: int) -> bytes:
    """An attribute that holds a u32."""
    return struct.pack("=HHI", 8, kind, value)


def attribute_s32(kind: int, value: int) -> bytes:
    """An attribute that holds an s32, as descriptors do."""
    return struct.pack("=HHi", 8, kind, value)


def attribute_text(kind: int, text: str) -> bytes:
    """An attribute that holds a string, terminating NUL included."""
    return attribute(kind, os.fsencode(text) + b"\0")


def parse_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes from ``offset`` on, by type; the last one wins where a type comes twice.

    ``OSError`` EBADMSG when a length leads out of ``data``.
    """
    found = {}
    end = len(data)
    while end - offset >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not 4 <= length <= end - offset:
            raise OSError(errno.EBADMSG, f"netlink: attribute of {length} bytes, {end - offset} left")
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def unpack(layout: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """The fixed header that a message begins with; ``OSError`` EBADMSG when it is cut off."""
    if len(body) < layout.size:
        raise OSError(errno.EBADMSG, f"netlink: {len(body)} bytes where {layout.size} are due")
    return layout.unpack_from(body)


def number(payload: bytes) -> int:
    """The unsigned number that an attribute of 1, 2, 4 or 8 bytes holds; 0 for an empty one."""
    return int.from_bytes(payload, sys.byteorder)


def text(payload: bytes | None) -> str:
    """The string that an attribute holds; '' for None."""
    return os.fsdecode(payload.split(b"\0", 1)[0]) if payload else ""


# --- the socket ---


class NetlinkSocket:
    """An rtnetlink socket of the current network namespace, which it keeps after a setns(2).

    Every call sends one request and takes its whole answer.  It stays usable after a failure: answers
    to an earlier request are told by their sequence number, and a socket that lost one is replaced.
    """

    def __init__(self) -> None:
        self._fd: Fd | None = Fd(syscall.system.netlink_open())
        self._sequence = 0
        self.warning = ""  # what the kernel remarked on the last request that it accepted

    @property
    def fd(self) -> int:
        """The descriptor; ``OSError`` when a replacement is due and cannot be had."""
        if self._fd is None:
            self._fd = Fd(syscall.system.netlink_open())
        return self._fd.number

    def close(self) -> None:
        if self._fd is not None:
            self._fd.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, kind: int, flags: int, body: bytes) -> list[Message]:
        """Send one request, wait for its ACK and return the messages that came before it.

        Raises ``NetlinkError`` when the kernel refuses, ``AnswerLostError`` when the answer cannot be
        received or makes no sense, another ``OSError`` when the request cannot be sent.
        """
        self._send(kind, flags | NLM_F_ACK, body)
        return self._receive()[0]

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """Ask for a list; asked again when it changed under the kernel's hands, five times at most."""
        for _ in range(_DUMP_TRIES):
            self._send(kind, NLM_F_DUMP, body)
            messages, consistent = self._receive()
            if consistent:
                return messages
        raise OSError(errno.EAGAIN, f"the list changed each of the {_DUMP_TRIES} times that it was read")

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        syscall.system.netlink_send(self.fd, header + body)

    def _receive(self) -> tuple[list[Message], bool]:
        """The answer to the last request, and whether the kernel calls it consistent."""
        try:
            return self._collect()
        except AnswerLostError:
            # The kernel drops every answer to a socket that overflowed until its queue is read empty.
            self.close()
            self._fd = None
            raise

    def _collect(self) -> tuple[list[Message], bool]:
        messages: list[Message] = []
        consistent = True
        foreign = 0
        while True:
            data = self._read()
            offset = 0
            while offset < len(data):
                length, kind, flags, sequence = _parse_header(data, offset)
                body = data[offset + 16 : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    foreign += 1
                    if foreign > _FOREIGN_LIMIT:
                        raise _malformed("no answer among messages to others")
                    continue
                consistent = consistent and not flags & _NLM_F_DUMP_INTR
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    self.warning = _outcome(kind, flags, body)
                    return messages, consistent
                if kind == _NLMSG_OVERRUN:
                    raise AnswerLostError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
                if kind != _NLMSG_NOOP:
                    messages.append(Message(kind, body))

    def _read(self) -> bytes:
        try:
            data = syscall.system.netlink_receive(self.fd, _RECEIVE_SIZE)
        except OSError as error:
            raise AnswerLostError(error.errno, error.strerror) from error
        if not data:
            raise _malformed("empty answer")
        return data


def _parse_header(data: bytes, offset: int) -> tuple[int, int, int, int]:
    """Length, type, flags and sequence number of the message at ``offset``."""
    left = len(data) - offset
    if left < 16:
        raise _malformed(f"message header cut off after {left} bytes")
    length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
    if not 16 <= length <= left:
        raise _malformed(f"message of {length} bytes where {left} are left")
    return length, kind, flags, sequence


def _outcome(kind: int, flags: int, body: bytes) -> str:
    """The warning of a successful NLMSG_ERROR or NLMSG_DONE; raises ``NetlinkError`` for a refusal."""
    if len(body) < 4:
        raise _malformed("answer without an error code")
    code = int.from_bytes(body[:4], sys.byteorder, signed=True)
    ack = _ExtendedAck()
    if flags & _NLM_F_ACK_TLVS:
        ack = _parse_extended_ack(body, _tlv_offset(kind, flags, body))
    if code < 0:
        raise NetlinkError(-code, ack.text, offset=ack.offset, missing=ack.missing)
    return ack.text


def _tlv_offset(kind: int, flags: int, body: bytes) -> int:
    """Where the extended ACK begins: behind the error code and what is repeated of the request."""
    if kind == _NLMSG_DONE:
        return 4
    if flags & _NLM_F_CAPPED or len(body) < 20:
        return 20
    return 4 + ((int.from_bytes(body[4:8], sys.byteorder) + 3) & ~3)


def _parse_extended_ack(body: bytes, offset: int) -> _ExtendedAck:
    try:
        found = parse_attributes(body, offset)
    except OSError:
        return _ExtendedAck()  # the errno stands without it
    return _ExtendedAck(
        text=text(found.get(_NLMSGERR_ATTR_MSG)),
        offset=_optional_number(found.get(_NLMSGERR_ATTR_OFFS)),
        missing=_optional_number(found.get(_NLMSGERR_ATTR_MISS_TYPE)),
    )


def _optional_number(payload: bytes | None) -> int | None:
    return None if payload is None else number(payload)


def _malformed(what: str) -> AnswerLostError:
    return AnswerLostError(errno.EBADMSG, f"netlink: {what}")
