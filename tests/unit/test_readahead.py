"""Blocks read ahead: in order, with errors in their place, and no thread left behind."""

from __future__ import annotations

import _thread
import time
from collections.abc import Iterator

import pytest

from bpfctl.inventory.batch import Block
from bpfctl.inventory.readahead import read_ahead


def blocks(count: int, log: list[int] | None = None, error: Exception | None = None) -> Iterator[Block]:
    for number in range(count):
        if log is not None:
            log.append(number)
        yield Block(1, bytes([number]), b"")
    if error:
        raise error


def threads() -> int:
    """A thread that has done its last step takes a moment to end."""
    deadline = time.monotonic() + 5
    while _thread._count() > 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    return _thread._count()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_every_block_in_order(count: int) -> None:
    assert list(read_ahead(blocks(count))) == list(blocks(count))
    assert threads() == 0


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_an_error_comes_after_the_blocks_before_it(count: int) -> None:
    seen = []
    with pytest.raises(ValueError, match="torn"):
        for block in read_ahead(blocks(count, error=ValueError("torn"))):
            seen.append(block)
    assert seen == list(blocks(count))
    assert threads() == 0


def test_one_block_ahead_and_no_more() -> None:
    made: list[int] = []
    reader = read_ahead(blocks(9, made))
    for number in range(9):
        assert next(reader).keys[0] == number
        deadline = time.monotonic() + 5
        expected = number if number < 1 else min(number + 1, 8)
        while made[-1] < expected and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert made[-1] == expected
    assert list(reader) == []


@pytest.mark.parametrize("taken", [1, 2, 3, 5])
def test_left_early(taken: int) -> None:
    reader = read_ahead(blocks(50))
    for _ in range(taken):
        next(reader)
    reader.close()
    assert threads() == 0


def test_the_next_block_is_begun_before_the_user_goes_on() -> None:
    """Else whoever lets go of the interpreter for short moments only, as writing does, would starve it."""
    begun: list[float] = []

    def slow() -> Iterator[Block]:
        for block in blocks(8):
            begun.append(time.monotonic())
            time.sleep(0.01)
            yield block

    taken = [time.monotonic() for _ in read_ahead(slow())]
    assert all(start < end for start, end in zip(begun[3:], taken[2:], strict=False))
