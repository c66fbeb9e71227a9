"""Reading one block ahead: the kernel walks a map while the block before is formatted or written."""

from __future__ import annotations

import _thread
from collections.abc import Iterator
from contextlib import suppress

from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.inventory.batch import Block


def read_ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """The items of ``blocks``: from the third on, a thread makes each while the one before is in use.

    An error of ``blocks`` is raised in its place.  The thread ends with the iterator.
    """
    for block in blocks:
        yield block
        if (second := next(blocks, None)) is not None:
            with _Ahead(blocks) as ahead:
                yield second
                yield from ahead


class _Ahead:
    """A thread that is one block ahead of who takes them.

    Locks are its semaphores.  ``_begun`` gives it the interpreter until it waits for the kernel: a thread
    that asks for the interpreter beside one that often lets go of it for a moment waits for ever.
    """

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._made, self._wanted, self._begun, self._ended = (_thread.allocate_lock() for _ in range(4))
        self._block: Block | None = None
        self._error: BaseException | None = None
        self._stop = False

    def __enter__(self) -> Iterator[Block]:
        for lock in (self._made, self._wanted, self._begun, self._ended):
            lock.acquire()
        _thread.start_new_thread(self._work, ())
        return iter(self._take, None)

    def __exit__(self, *exception: object) -> None:
        self._stop = True
        _open(self._wanted)
        self._ended.acquire()

    def _work(self) -> None:
        try:
            while not self._stop:
                self._block = self._next()
                _open(self._made)
                if self._block is None:
                    return
                self._wanted.acquire()
                _open(self._begun)
        finally:
            _open(self._ended)

    def _next(self) -> Block | None:
        try:
            return next(self._blocks, None)
        except BaseException as error:
            self._error = error
            return None

    def _take(self) -> Block | None:
        """The next block; None at the end."""
        self._made.acquire()
        block = self._block
        if block is not None:
            self._wanted.release()
            self._begun.acquire()
        elif self._error is not None:
            raise self._error
        return block


def _open(lock: _thread.LockType) -> None:
    """Release ``lock``, which may be open already where an interrupt cut a step short."""
    with suppress(RuntimeError):
        lock.release()
