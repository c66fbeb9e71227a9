"""Variables of an object, set before it is loaded."""

from __future__ import annotations

import struct

import pytest
from netlab import TESTDATA

from bpfctl.btf.values import value_codec
from bpfctl.errors import BpfctlError, NotFoundError, TypedValueError
from bpfctl.objfile import read_object
from bpfctl.objfile.globals import with_settings
from bpfctl.objfile.spec import ObjectSpec, Setting
from bpfctl.uapi import MapType


@pytest.fixture(scope="module")
def obj() -> ObjectSpec:
    return read_object(str(TESTDATA / "elastic_ip.bpf.o"))


def variables(obj: ObjectSpec) -> dict[str, object]:
    """Every variable of the data sections, by name."""
    assert obj.btf is not None
    found = {}
    for spec in obj.maps.values():
        if spec.name.startswith("."):
            image = spec.data or bytes(spec.value_size)
            found |= value_codec(obj.btf, spec.value_type_id).decode(image)
    return found


BEFORE = {
    "settings": {
        "fallback": "POLICY_DENY",
        "gateway": "0.0.0.0",
        "ports": [0, 0, 0, 0],
        "site": "lab",
        "strict": False,
    },
    "sample_rate": 1,
    "denied": 0,
}


def test_each_section_and_parts(obj: ObjectSpec) -> None:
    words = {
        "settings.fallback": "POLICY_LIMIT",
        "settings.gateway": "192.0.2.1",
        "settings.ports[1]": "0x50",
        "settings.site": "east",
        "settings.strict": "true",
        "sample_rate": "100",
        "denied": "5",
    }
    changed = with_settings(obj, [Setting(*item) for item in words.items()])
    assert variables(changed) == {
        "settings": {
            "fallback": "POLICY_LIMIT",
            "gateway": "192.0.2.1",
            "ports": [0, 0x50, 0, 0],
            "site": "east",
            "strict": True,
        },
        "sample_rate": 100,
        "denied": 5,
    }
    assert variables(obj) == BEFORE
    assert changed.maps[".rodata"].frozen


def test_a_whole_array(obj: ObjectSpec) -> None:
    changed = with_settings(obj, [Setting("settings.ports", "80,443"), Setting("settings.ports[3]", "22")])
    assert variables(changed)["settings"] == BEFORE["settings"] | {"ports": [80, 443, 0, 22]}  # type: ignore[operator]


REFUSED = [
    ("sample_rat=1", NotFoundError, "the object has no variable sample_rat"),
    ("settings=1", TypedValueError, "settings: '1' does not fit; struct settings, an object with fallback,"),
    (
        "settings.port=1",
        TypedValueError,
        "settings.port: there is no such member; struct settings, an object",
    ),
    (
        "settings.ports[4]=1",
        TypedValueError,
        "settings.ports[4]: there is no such element; __u16[4] is wanted",
    ),
    (
        "settings.fallback=NO",
        TypedValueError,
        "settings.fallback: 'NO' does not fit; enum policy (POLICY_DENY,",
    ),
    ("sample_rate=4294967296", TypedValueError, "sample_rate: '4294967296' does not fit; __u32 from 0 to"),
]


@pytest.mark.parametrize(("word", "kind", "message"), REFUSED, ids=[word for word, _, _ in REFUSED])
def test_refused(obj: ObjectSpec, word: str, kind: type[BpfctlError], message: str) -> None:
    with pytest.raises(kind) as caught:
        with_settings(obj, [Setting(*word.split("=", 1))])
    assert caught.value.message.removeprefix(f"{obj.path}: ").startswith(message)


def test_members_of_a_struct_ops_map() -> None:
    obj = read_object(str(TESTDATA / "steady_window.bpf.o"))
    name = next(spec.name for spec in obj.maps.values() if spec.map_type == MapType.STRUCT_OPS)
    words = [(f"{name}.name", "slow"), (f"{name}.init", "")]
    spec = with_settings(obj, [Setting(*word) for word in words]).maps[name]
    assert obj.btf is not None
    assert value_codec(obj.btf, spec.value_type_id).decode(spec.data or b"")["name"] == "slow"
    assert "init" in [function.member for function in obj.maps[name].functions]
    assert "init" not in [function.member for function in spec.functions]


@pytest.mark.parametrize(
    ("name", "settings", "data"),
    [
        ("arena_globals", {"total": "7", "steps[1]": "9"}, struct.pack("<Q3I", 7, 1, 9, 3)),
        ("percpu_variables", {"packets": "1", "last_protocol": "17"}, struct.pack("<QB7x", 1, 17)),
    ],
)
def test_variables_of_an_arena_and_of_each_cpu(name: str, settings: dict[str, str], data: bytes) -> None:
    obj = read_object(str(TESTDATA / f"{name}.bpf.o"))
    changed = with_settings(obj, [Setting(*word) for word in settings.items()])
    (spec,) = (spec for spec in changed.maps.values() if spec.data)
    assert spec.data == data


def test_without_types_there_is_nothing_to_set() -> None:
    bare = read_object(str(TESTDATA / "tc_pass_nobtf.bpf.o"))
    with pytest.raises(NotFoundError) as caught:
        with_settings(bare, [Setting("x", "1")])
    assert caught.value.hint == "the object has no global variables with types (BTF): compile with -g"
