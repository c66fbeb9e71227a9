"""The object's types, given to the kernel: as they are, or what an older kernel takes of them."""

from __future__ import annotations

from bpfctl.kernel import bpf
from bpfctl.kernel.fd import Fd
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bpfctl.btf.types import Btf
    from bpfctl.kernel.probe import Feature


class ObjectBtf(NamedTuple):
    """``has_functions`` False: the kernel knows no types of functions, so programs go without records."""

    fd: Fd
    has_functions: bool


def load_btf(data: bytes, path: str) -> ObjectBtf:
    """BPF_BTF_LOAD of the BTF ``data`` of the object ``path``; the caller closes the descriptor.

    Refused, it is written again for what the kernel is found to lack, and tried once more.  Raises the
    OSError of the last refusal.
    """
    try:
        return ObjectBtf(Fd(bpf.btf_load(data)), True)
    except PermissionError:
        raise
    except OSError:
        from bpfctl.btf.sanitise import sanitised
        from bpfctl.btf.types import Btf

        types = Btf.from_bytes(data, path=path)
        lacking = missing_features(types)
        if not lacking:
            raise
    return ObjectBtf(Fd(bpf.btf_load(sanitised(types, lacking))), "func" not in lacking)


def missing_features(types: Btf) -> set[str]:
    """What ``types`` ask for (names of ``btf.sanitise.features``) and the running kernel is known to lack."""
    from bpfctl.btf.sanitise import features

    return {name for name in features(types) if btf_feature(name).missing()}


def btf_feature(name: str) -> Feature:
    """The probe for a name of ``btf.sanitise.features``."""
    from bpfctl.kernel.probe import FEATURES

    # Signed enums and 64-bit ones came together.
    return FEATURES["btf_enum64" if name == "signed_enum" else f"btf_{name}"]
