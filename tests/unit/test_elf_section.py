"""One section of any ELF file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bpfctl.errors import ObjectFileError
from bpfctl.inventory import type_sources
from bpfctl.objfile.elf import Elf
from bpfctl.objfile.elf_section import section_contents

TESTDATA = Path(__file__).parents[2] / "testdata"


@pytest.mark.parametrize("name", ["btf_layouts", "subprogs_bigendian"])
def test_the_same_bytes_as_the_reader_of_objects(name: str) -> None:
    data = (TESTDATA / f"{name}.bpf.o").read_bytes()
    elf = Elf(data, "")
    for section in elf.sections:
        if section.name and section.size and section.type != 8:
            assert section_contents(data, section.name) == elf.section_data(section.index)
    assert section_contents(data, ".nothing") is None


def test_types_of_a_kernel_image(tmp_path: Path) -> None:
    """An executable for another machine: its types are a kernel's."""
    data = bytearray((TESTDATA / "btf_layouts.bpf.o").read_bytes())
    data[16:20] = struct.pack("<HH", 2, 62)
    image = tmp_path / "vmlinux"
    image.write_bytes(data)
    ours, objects = (type_sources.of_file(str(path)) for path in (image, TESTDATA / "btf_layouts.bpf.o"))
    assert (ours.of_kernel, objects.of_kernel) == (True, False)
    assert ours.btf.data == objects.btf.data


@pytest.mark.parametrize(
    ("at", "field", "message"),
    [
        (4, b"\1", "not a 64-bit ELF file"),
        (5, b"\3", "not a 64-bit ELF file"),
        (40, b"\xff" * 8, "no table of sections"),
        (58, b"\0\0", "no table of sections"),
        (60, b"\xff\xff", "runs past the end"),
        (62, b"\xfe\xff", "runs past the end"),
    ],
)
def test_what_is_broken_is_an_error(at: int, field: bytes, message: str) -> None:
    data = bytearray((TESTDATA / "xdp_pass.bpf.o").read_bytes())
    data[at : at + len(field)] = field
    with pytest.raises(ObjectFileError, match=message):
        section_contents(bytes(data), ".BTF", "x.o")


def test_a_file_that_is_cut_off_anywhere() -> None:
    data = (TESTDATA / "xdp_pass.bpf.o").read_bytes()
    for end in range(4, len(data), 97):
        with pytest.raises(ObjectFileError):
            section_contents(data[:end], ".BTF")
