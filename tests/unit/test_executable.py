"""Functions of executables: where they lie in the file, and what becomes of broken files.

The test objects serve as executables here: to the reader one ELF file is as good as another.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from bpfctl.attach.pattern import matcher
from bpfctl.errors import BpfctlError, NotFoundError, ObjectFileError
from bpfctl.objfile import read_object
from bpfctl.objfile.executable import Executable, function_offset

SUBPROGS = Path(__file__).parents[2] / "testdata" / "subprogs.bpf.o"

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the object is little endian")


def test_functions_lie_where_the_object_reader_finds_them() -> None:
    obj = read_object(str(SUBPROGS))
    expected = {f.name: obj.sections[f.section_index].offset + f.offset for f in obj.functions}
    with Executable(str(SUBPROGS)) as binary:
        assert {f.name: f.offset for f in binary.functions(lambda _: True)} == expected
        assert {name: function_offset(binary, name) for name in expected} == expected


def test_what_is_not_there() -> None:
    with Executable(str(SUBPROGS)) as binary:
        with pytest.raises(NotFoundError, match="no function nobody"):
            function_offset(binary, "nobody")
        with pytest.raises(NotFoundError, match="no function sum_up@V2"):
            function_offset(binary, "sum_up@V2")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 1000])
def test_a_file_cut_off(tmp_path: Path, size: int) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(SUBPROGS.read_bytes()[:size])
    with pytest.raises(ObjectFileError, match=str(cut)):
        Executable(str(cut))


def test_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(BpfctlError):
        Executable(str(tmp_path))
    with pytest.raises(BpfctlError, match="not a regular file"):
        Executable("/dev/null")


def test_broken_bytes_are_refused_or_read(tmp_path: Path) -> None:
    whole, broken = bytearray(SUBPROGS.read_bytes()), tmp_path / "broken"
    chance = random.Random(7)
    table = int.from_bytes(whole[40:48], "little")
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(3):  # in the header, and in the section table
            place = chance.choice((chance.randrange(64), chance.randrange(table, len(data))))
            data[place] = chance.randrange(256)
        broken.write_bytes(data)
        try:
            with Executable(str(broken)) as binary:
                list(binary.functions(lambda _: True))
        except BpfctlError:
            pass


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("getpid", ("getpid",), ("getppid", "getpi")),
        ("get?id", ("getpid", "getuid"), ("getppid",)),
        ("get*id", ("getid", "getpid", "getppid"), ("getpids", "xgetpid")),
        ("*", ("", "anything"), ()),
        ("a*b*c", ("abc", "a-b-b-c"), ("acb", "ab", "abcd")),
        ("a**?c", ("abc", "aabc"), ("ac",)),
        ("ab*ba", ("abba", "ab-ba"), ("aba",)),
    ],
)
def test_patterns(pattern: str, fits: tuple[str, ...], others: tuple[str, ...]) -> None:
    assert [name for name in (*fits, *others) if matcher(pattern)(name)] == list(fits)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matcher("*a" * 500 + "b")("a" * 4000)
