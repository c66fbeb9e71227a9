"""Custom pinning numbers: the file that iproute2 reads, in both of its places."""

from __future__ import annotations

from pathlib import Path

import pytest

from bpfctl.errors import UsageError
from bpfctl.kernel import bpffs
from bpfctl.loader.pins import read_pinning_file


def test_first_existing_file_counts(tmp_path: Path) -> None:
    second = tmp_path / "usr"
    second.write_text("# comment\n\n 7 tenants/blue  trailing words\n0x10 hex\n010 octal\n7 tenants/red\n")
    table = read_pinning_file((str(tmp_path / "etc"), str(second)))
    assert table == {7: "tenants/red", 16: "hex", 8: "octal"}


def test_no_file_no_numbers(tmp_path: Path) -> None:
    assert read_pinning_file((str(tmp_path / "etc"),)) == {}


@pytest.mark.parametrize("line", ["seven path", "7", "-", "2 globals"])
def test_bad_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "bpf_pinning"
    file.write_text(f"9 fine\n{line}\n")
    with pytest.raises(UsageError, match=f"{file}:2: "):
        read_pinning_file((str(file),))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a.b", "x" * 256, "ä" * 128, "a\nb", "a\x1b[31m"]
)
def test_names_that_cannot_be_pins(name: str) -> None:
    assert bpffs.check_name(name)


@pytest.mark.parametrize("name", ["a", "cilium_lxc", "x" * 255, "A-b c"])
def test_names_that_can(name: str) -> None:
    assert bpffs.check_name(name) is None
