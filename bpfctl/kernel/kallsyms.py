"""/proc/kallsyms: names of kernel addresses, found without taking a quarter of a million lines apart."""

from __future__ import annotations

from collections.abc import Iterable

_PATH = "/proc/kallsyms"
_CALL_BASE = "__bpf_call_base"


class Symbols:
    """The symbols as they are now; none where the kernel hides its addresses (kernel.kptr_restrict)."""

    def __init__(self) -> None:
        try:
            with open(_PATH, "rb") as file:
                self._text = b"\n" + file.read()
        except OSError:
            self._text = b""

    def call_base(self) -> int:
        """The address from which a call's target is counted; 0 where it is hidden."""
        at = self._text.find(f" T {_CALL_BASE}\n".encode())
        line = self._text[self._text.rfind(b"\n", 0, at) + 1 : at] if at >= 0 else b""
        return int(line, 16) if line else 0

    def names(self, addresses: Iterable[int]) -> dict[int, str]:
        """Address -> name, for those that have one."""
        found = {}
        for address in set(addresses):
            at = self._text.find(b"\n%016x " % address) if address else -1
            if at >= 0:
                _, _, name = self._text[at + 1 : self._text.find(b"\n", at + 1)].split(None, 2)
                found[address] = name.partition(b"\t")[0].decode("ascii", "replace")
        return found
