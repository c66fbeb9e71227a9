"""Ownership of a descriptor."""

from __future__ import annotations

from types import TracebackType

from bpfctl.kernel import syscall


class Fd:
    """Owns one descriptor until :meth:`close`, the end of its ``with`` block, or :meth:`detach`."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def number(self) -> int:
        """The descriptor; ``ValueError`` once it is closed."""
        if self._number < 0:
            raise ValueError("descriptor is closed")
        return self._number

    def detach(self) -> int:
        """Give the descriptor away: the caller closes it."""
        number, self._number = self.number, -1
        return number

    def close(self) -> None:
        """Close it; a second time does nothing."""
        if self._number >= 0:
            number, self._number = self._number, -1
            syscall.system.close(number)

    def __enter__(self) -> Fd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
