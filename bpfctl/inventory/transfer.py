"""Blocks into a map: all of them, or none when the first that fails takes the others back."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without enum, see record.py
import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType

from bpfctl.errors import BpfctlError, KernelError, errno_text
from bpfctl.inventory import maptypes
from bpfctl.inventory.batch import Block, Bulk, PartialWriteError
from bpfctl.inventory.elements import OpenMap
from bpfctl.kernel import bpf
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import BinaryIO

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Report = Callable[[int], object]  # how many more elements went in


class Piece(NamedTuple):
    """A block to write; ``where`` names the place that its element ``n`` comes from."""

    block: Block
    where: Callable[[int], str]


class UndoLog:
    """What was in the map before, in a file: memory does not grow with what is written.

    Use it in a ``with`` block; leaving by an exception puts everything back, last block first.
    """

    def __init__(self, bulk: Bulk) -> None:
        self._bulk = bulk
        self._file: BinaryIO | None = None
        self._blocks: list[tuple[int, int]] = []  # offset and number of elements

    def __enter__(self) -> UndoLog:
        import tempfile

        self._file = tempfile.TemporaryFile()  # closed by __exit__
        return self

    def note(self, block: Block) -> None:
        """Remember what the keys of ``block`` hold now; before it is written."""
        assert self._file is not None
        width = self._bulk.target.value_bytes
        values = list(self._bulk.look_up(block.keys))
        self._blocks.append((self._file.tell(), block.count))
        self._file.write(block.keys)
        self._file.write(bytes(value is not None for value in values))
        self._file.writelines(bytes(width) if value is None else value for value in values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        with self._file:
            if error is None:
                return
            # A second signal must not cut the way back in two.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
            try:
                failure = self._restore()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            if failure is not None and isinstance(error, BpfctlError):
                error.details += (f"could not put back what was there: {errno_text(failure.errno or 0)}",)

    def _restore(self) -> OSError | None:
        """Put all back; the first refusal, which does not stop the rest."""
        assert self._file is not None
        failure = None
        target = self._bulk.target
        size, width = target.key_size, target.value_bytes
        for offset, count in reversed(self._blocks):
            self._file.seek(offset)
            keys = self._file.read(count * size)
            held = self._file.read(count)
            for number in range(count):
                key = keys[number * size : (number + 1) * size]
                value = self._file.read(width)
                try:
                    if held[number]:
                        bpf.map_update(target.fd, key, value)
                    elif target.map_type not in maptypes.FIXED:
                        with suppress(FileNotFoundError):
                            bpf.map_delete(target.fd, key)
                except OSError as error:
                    failure = failure or error
        return failure


def write_all(
    target: OpenMap,
    pieces: Iterable[Piece],
    *,
    flags: int = 0,
    atomic: bool = False,
    report: Report | None = None,
) -> int:
    """Write every piece; how many elements that were.

    The first element that the kernel refuses ends it: KernelError says which one that is and how many went
    in before.  With ``atomic`` those are taken back, and what they overwrote is put back.
    """
    bulk = Bulk(target)
    if not atomic:
        return _write(bulk, pieces, flags, report, None)
    if target.holds or not target.key_size:
        raise BpfctlError(f"{target}: what is put in cannot be taken back, so there is no atomic")
    with UndoLog(bulk) as log:
        return _write(bulk, pieces, flags, report, log)


def _write(
    bulk: Bulk, pieces: Iterable[Piece], flags: int, report: Report | None, log: UndoLog | None
) -> int:
    total = 0
    for piece in pieces:
        for part, start in _parts(bulk, piece.block):
            if log is not None:
                log.note(part)
            try:
                bulk.write(part, flags)
            except PartialWriteError as error:
                place = piece.where(start + error.done)
                raise _refusal(bulk.target, place, total + error.done, error.cause, log) from error.cause
            total += part.count
            if report:
                report(part.count)
    return total


def _parts(bulk: Bulk, block: Block) -> Iterator[tuple[Block, int]]:
    """``block`` in parts of a size that suits the map, each with the number of its first element."""
    size, width = bulk.target.key_size, bulk.target.value_bytes
    if block.count <= bulk.entries:
        yield block, 0
        return
    for start in range(0, block.count, bulk.entries):
        end = min(start + bulk.entries, block.count)
        part = Block(
            end - start, block.keys[start * size : end * size], block.values[start * width : end * width]
        )
        yield part, start


def _refusal(target: OpenMap, place: str, done: int, cause: OSError, log: UndoLog | None) -> KernelError:
    number = cause.errno or 0
    kept = "the map is as it was" if log else f"{done} elements before it are in the map"
    hint = None
    if number == errno.E2BIG:
        hint = f"the map takes {target.max_entries} entries: it is full, or the index lies outside"
    elif number == errno.EPERM:
        hint = "the map may be frozen or read-only; else CAP_BPF is missing"
    elif number == errno.EEXIST:
        hint = "without noexist it would be overwritten"
    return KernelError(
        f"{place}: cannot update {target}",
        errno=number,
        hint=hint,
        details=(f"{kept[0].upper()}{kept[1:]}.",),
    )
