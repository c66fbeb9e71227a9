"""The kept index of a BTF: the same types with it as without, and nothing believed that is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from btf_builder import BtfBuilder
from hypothesis import given
from hypothesis import strategies as st

from bpfctl.btf.index import key_of, pack, unpack
from bpfctl.btf.kinds import Kind
from bpfctl.btf.types import Btf
from bpfctl.kernel import saved_index


def example() -> bytes:
    b = BtfBuilder()
    number = b.int()
    b.struct("pair", 8, [("a", number, 0), ("b", number, 32)])
    b.func("f", b.func_proto(0))
    return b.blob()


def test_types_are_the_same_with_an_index() -> None:
    plain = Btf.from_bytes(example())
    index = unpack(plain.packed_index())
    assert index is not None
    btf = Btf.from_bytes(example(), index=index)
    assert [btf.type(n) for n in range(len(btf))] == [plain.type(n) for n in range(len(plain))]
    assert btf.find("pair", Kind.STRUCT) == plain.find("pair", Kind.STRUCT)
    assert btf.packed_index() == plain.packed_index()


@given(st.lists(st.integers(0, (1 << 32) - 1)))
def test_what_is_packed_comes_back(numbers: list[int]) -> None:
    index = unpack(pack(numbers, numbers[::-1]))
    assert index is not None
    assert (list(index.starts), list(index.names)) == (numbers, numbers[::-1])


@given(st.data())
def test_damage_is_seen(data: st.DataObject) -> None:
    packed = bytearray(pack([0, 3, 9], [1, 0, 5]))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    assert unpack(bytes(packed)) is None
    assert unpack(bytes(packed[:at])) is None


def test_key_tells_size_and_beginning() -> None:
    assert len({key_of(b"a"), key_of(b"b"), key_of(b"aa")}) == 3


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if os.geteuid() != 0:
        pytest.skip("only root leaves files behind")
    monkeypatch.setattr(saved_index, "DIRECTORY", str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_file_comes_back(directory: Path) -> None:
    assert saved_index.read("x") is None
    saved_index.write("x", b"index")
    saved_index.write("x", b"newer")
    assert saved_index.read("x") == b"newer"
    assert [path.name for path in directory.iterdir()] == ["x"]


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_file_that_others_may_write_is_not_believed(directory: Path, mode: int) -> None:
    saved_index.write("x", b"index")
    (directory / "x").chmod(mode)
    assert saved_index.read("x") is None


def test_file_or_directory_of_somebody_else_is_not_believed(directory: Path) -> None:
    saved_index.write("x", b"index")
    os.chown(directory / "x", 65534, 65534)
    assert saved_index.read("x") is None
    os.chown(directory / "x", 0, 0)
    os.chown(directory, 65534, 65534)
    assert saved_index.read("x") is None
    saved_index.write("y", b"index")
    assert not (directory / "y").exists()


def test_link_is_not_followed(directory: Path) -> None:
    saved_index.write("x", b"index")
    (directory / "y").symlink_to("x")
    assert saved_index.read("y") is None


def test_no_place_to_write_is_no_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_index, "DIRECTORY", "/proc/no-such-place")
    saved_index.write("x", b"index")
    assert saved_index.read("x") is None
