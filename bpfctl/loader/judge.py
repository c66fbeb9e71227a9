"""What a kernel has, for those who ask about an object: the running one by probe, any other by its BTF.

Answers are True, False, or None where it cannot be known.
"""

from __future__ import annotations

from functools import cached_property

from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.loader.kernel_types import KernelTypes
from bpfctl.loader.object_btf import btf_feature


class BtfJudge:
    """A kernel as a file of its BTF shows it: the numbers in the enums of its own header.

    What its configuration leaves out counts as there, as long as the header has it.
    """

    def __init__(self, types: KernelTypes) -> None:
        self.types = types

    def program_type(self, number: int) -> bool | None:
        return self._known("bpf_prog_type", number)

    def map_type(self, number: int) -> bool | None:
        return self._known("bpf_map_type", number)

    def attach_type(self, number: int) -> bool | None:
        return self._known("bpf_attach_type", number)

    def helper(self, program_type: int, number: int) -> bool | None:
        """Whether the kernel has the helper: which program types may call it is not in its types."""
        return self._known("bpf_func_id", number)

    def btf_feature(self, name: str) -> bool | None:
        """``name`` as ``btf.sanitise.features`` gives it; kinds by the names in the kernel's header."""
        kind = {"signed_enum": "ENUM64"}.get(name, name.upper())
        if not self._names("BTF_KIND_FUNC") or kind not in Kind.__members__:
            return None
        return self._names(f"BTF_KIND_{kind}")

    def missing_capabilities(self, *names: str) -> list[str]:
        """None: who will load the object there is not known."""
        return []

    @cached_property
    def _vmlinux(self) -> Btf:
        return self.types.vmlinux()

    def _names(self, text: str) -> bool:
        return next(self._vmlinux.string_offsets(text), None) is not None

    def _known(self, enum: str, number: int) -> bool | None:
        numbers = self._numbers.get(enum)
        if numbers is None:
            type_id = self._vmlinux.find(enum, Kind.ENUM)
            entries = self._vmlinux.enumerators(type_id) if type_id else []
            numbers = {entry.value for entry in entries if not entry.name.startswith("__")}
            self._numbers[enum] = numbers
        return number in numbers if numbers else None

    @cached_property
    def _numbers(self) -> dict[str, set[int]]:
        return {}


class RunningJudge(BtfJudge):
    """The running kernel: asked, and where it does not answer, seen by its BTF."""

    def program_type(self, number: int) -> bool | None:
        from bpfctl.kernel import probe_types

        return _first(probe_types.program_type(number), super().program_type, number)

    def map_type(self, number: int) -> bool | None:
        from bpfctl.kernel import probe_types

        return _first(probe_types.map_type(number), super().map_type, number)

    def attach_type(self, number: int) -> bool | None:
        from bpfctl.kernel import probe_types

        return _first(probe_types.attach_type(number), super().attach_type, number)

    def helper(self, program_type: int, number: int) -> bool | None:
        """Whether programs of the type may call it."""
        from bpfctl.kernel import probe_types

        answer = next(probe_types.helpers(program_type, (number,)))
        return super().helper(program_type, number) if answer is None else answer

    def btf_feature(self, name: str) -> bool | None:
        return btf_feature(name).available()

    def missing_capabilities(self, *names: str) -> list[str]:
        from bpfctl.kernel import privilege

        return privilege.missing_capabilities(*names)


def _first(answer: bool | None, otherwise: object, number: int) -> bool | None:
    assert callable(otherwise)
    return otherwise(number) if answer is None else answer
