"""USDT probes on bytes: where the notes say they are, and what their arguments become."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import probed
import pytest

from bpfctl.errors import BpfctlError, NotFoundError, ObjectFileError
from bpfctl.objfile.executable import Executable
from bpfctl.objfile.usdt import Site, sites
from bpfctl.objfile.usdt_arguments import SIZES, record

CONST, REGISTER, MEMORY, INDEXED = range(4)


def find(tmp_path: Path, data: bytes, name: str = "work") -> list[Site]:
    path = tmp_path / "probed"
    path.write_bytes(data)
    with Executable(str(path)) as binary:
        return sites(binary, "bpfctl", name)


def moved(at: int) -> int:
    return at - probed.CODE + probed.CODE_OFFSET


# --- notes ---------------------------------------------------------------------------------------


def test_places_in_the_file(tmp_path: Path) -> None:
    work = find(tmp_path, probed.executable(probed.own_notes()))
    code = probed.executable(b"")
    assert [code[site.offset] for site in work] == [0x90, 0x90]
    assert {(site.semaphore, site.arguments) for site in work} == {(0, probed.ARGUMENTS)}
    (idle,) = find(tmp_path, probed.executable(probed.own_notes()), "idle")
    assert idle.semaphore == probed.SEMAPHORE - probed.DATA + probed.DATA_OFFSET


def test_what_was_moved_after_linking(tmp_path: Path) -> None:
    note = probed.note(probed.CODE - 0x600, "work", "", base=0x1000, semaphore=probed.DATA - 0x5F0)
    (site,) = find(tmp_path, probed.executable(note, base=0x1600))
    assert site == Site(moved(probed.CODE), probed.DATA_OFFSET + 16, "", 0)


def test_notes_of_others_are_passed_over(tmp_path: Path) -> None:
    other = struct.pack("<3I", 4, 5, 3) + b"GNU\0" + b"hello\0\0\0"
    notes = (
        other + probed.note(probed.CODE, "work", "", provider="else") + probed.note(probed.CODE, "work", "")
    )
    (site,) = find(tmp_path, probed.executable(notes))
    assert site.at == len(notes) - len(probed.note(probed.CODE, "work", ""))


def test_probes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no USDT probe bpfctl:play") as refused:
        find(tmp_path, probed.executable(probed.own_notes()), "play")
    assert refused.value.hint == "it has bpfctl:idle, bpfctl:work"
    many = b"".join(probed.note(probed.CODE, f"n{number:03}", "") for number in range(200))
    with pytest.raises(NotFoundError) as refused:
        find(tmp_path, probed.executable(many))
    assert (refused.value.hint or "").endswith("bpfctl:n007, ...")
    plain = Path(__file__).parents[2] / "testdata" / "subprogs.bpf.o"
    with Executable(str(plain)) as binary, pytest.raises(NotFoundError, match=r"no section \.note\.stapsdt"):
        sites(binary, "a", "b")


GOOD = probed.note(probed.CODE, "work", "")
BROKEN = {
    "a note is cut off": GOOD + b"\1\2",
    "a note is longer than its section": GOOD[:-4],
    "is too short for its addresses": struct.pack("<3I", 8, 8, 3) + b"stapsdt\0" + bytes(8),
    "lacks provider, name or arguments": struct.pack("<3I", 8, 30, 3)
    + b"stapsdt\0"
    + bytes(24)
    + b"a\0bbbb\0\0",
    "no code is loaded at the probe's address 0x1": probed.note(1, "work", ""),
    "no code is loaded at the probe's address 0x404000": probed.note(probed.DATA, "work", ""),
    "no code is loaded at the probe's address 0xffffffffffffffff": probed.note(2**64 - 1, "work", ""),
    "no data is loaded at its semaphore's address 0x401000": probed.note(
        probed.CODE, "work", "", semaphore=probed.CODE
    ),
    "no data is loaded at its semaphore's address 0x404018": probed.note(
        probed.CODE, "work", "", semaphore=probed.DATA + 24
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_notes(tmp_path: Path, message: str) -> None:
    with pytest.raises(ObjectFileError, match=message) as refused:
        find(tmp_path, probed.executable(BROKEN[message]))
    assert refused.value.section == ".note.stapsdt"
    assert refused.value.offset in (0, len(GOOD))


def test_a_section_of_another_type(tmp_path: Path) -> None:
    with pytest.raises(ObjectFileError, match="not a section of notes"):
        find(tmp_path, probed.executable(probed.own_notes(), kind=1))


def test_program_headers_outside_of_the_file(tmp_path: Path) -> None:
    data = bytearray(probed.executable(probed.own_notes()))
    data[32:40] = struct.pack("<Q", len(data))
    with pytest.raises(ObjectFileError, match="program headers lie outside"):
        find(tmp_path, bytes(data))


def test_broken_bytes_end_in_our_error(tmp_path: Path) -> None:
    whole = probed.executable(probed.own_notes())
    start = whole.index(b"stapsdt\0") - 12
    chance = random.Random(11)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(3):
            data[chance.choice((chance.randrange(176), chance.randrange(start, len(data))))] = (
                chance.randrange(256)
            )
        try:
            for site in find(tmp_path, bytes(data)):
                record(site.arguments, "x86_64", 208)
        except (BpfctlError, ValueError):
            pass


# --- arguments -----------------------------------------------------------------------------------


def fields(text: str, machine: str) -> list[tuple[int, ...]]:
    """(number, kind, index offset, shift, register offset, signed, spare bits) of each argument."""
    data, wide = record(text, machine, 208), record(text, machine, 304)
    assert (len(data), len(wide)) == SIZES == (208, 304)
    assert [*struct.iter_unpack("=QB1xH2xh2B6x", wide[:288])] == [*struct.iter_unpack("=QBHxh2B", data[:192])]
    assert wide[288:] == data[192:]
    assert data[192:200] == bytes(8)
    count = struct.unpack_from("<h", data, 200)[0]
    assert data[16 * count : 192] == bytes(192 - 16 * count)
    rows = [struct.unpack_from("<qIhBB", data, 16 * at) for at in range(count)]
    return [
        (n, word & 0xFF, word >> 8 & 0xFFF, word >> 20 & 0xF, reg, sign, spare)
        for n, word, reg, sign, spare in rows
    ]


X86 = [
    ("", []),
    ("8@$5 -4@$-9", [(5, CONST, 0, 0, 0, 0, 0), (-9, CONST, 0, 0, 0, 1, 32)]),
    ("8@%rax 4@%eax 2@%ax 1@%al", [(0, REGISTER, 0, 0, 80, 0, 64 - bits) for bits in (64, 32, 16, 8)]),
    (
        "-4@%r9d 8@%r15 1@%sil",
        [(0, REGISTER, 0, 0, 64, 1, 32), (0, REGISTER, 0, 0, 0, 0, 0), (0, REGISTER, 0, 0, 104, 0, 56)],
    ),
    ("8@(%rsp)", [(0, MEMORY, 0, 0, 152, 0, 0)]),
    ("-4@-1204(%rbp)", [(-1204, MEMORY, 0, 0, 32, 1, 32)]),
    ("8@0x10(%rip)", [(16, MEMORY, 0, 0, 128, 0, 0)]),
    ("1@-96(%rbp,%rax,8)", [(-96, INDEXED, 80, 3, 32, 0, 56)]),
    ("2@(%rdi,%r10)", [(0, INDEXED, 56, 0, 112, 0, 48)]),
    ("8f@%rdi", [(0, REGISTER, 0, 0, 112, 0, 0)]),
]
ARM64 = [
    ("-4@5 8@-16", [(5, CONST, 0, 0, 0, 1, 32), (-16, CONST, 0, 0, 0, 0, 0)]),
    ("8@x0 -4@w30", [(0, REGISTER, 0, 0, 0, 0, 0), (0, REGISTER, 0, 0, 240, 1, 32)]),
    (
        "8@[sp] 8@[x29, 24] 4@[sp,-8]",
        [(0, MEMORY, 0, 0, 248, 0, 0), (24, MEMORY, 0, 0, 232, 0, 0), (-8, MEMORY, 0, 0, 248, 0, 32)],
    ),
]


@pytest.mark.parametrize(
    ("machine", "text", "expected"),
    [("x86_64", *row) for row in X86] + [("aarch64", *row) for row in ARM64],
)
def test_arguments(machine: str, text: str, expected: list[tuple[int, ...]]) -> None:
    assert fields(text, machine) == expected


def test_twelve_are_the_most() -> None:
    assert len(fields("8@%rax " * 12, "x86_64")) == 12
    with pytest.raises(ValueError, match="13 arguments, of which a BPF program can read 12"):
        record("8@%rax " * 13, "x86_64", 208)


def test_no_arguments_are_something() -> None:
    assert any(record("", "x86_64", 208))


@pytest.mark.parametrize(
    "text",
    [
        "8",
        "@",
        "3@%rax",
        "16@%xmm0",
        "8f@%xmm0",
        "8@%cr0",
        "8@counter(%rip)",
        "8@(%rax",
        "8@(%rax,%rbx,3)",
        "8@5",
        "8@[sp]",
        "%rax",
        "8@%rax,%rbx",
        "8@$",
        "8@(%xmm0)",
        "8@(%rax,%xmm1)",
        "--8@%rax",
        "8@$99999999999999999999999",
    ],
)
def test_what_is_no_argument(text: str) -> None:
    with pytest.raises(ValueError, match=r"argument 2 is not understood: "):
        record(f"8@%rax {text}", "x86_64", 208)


@pytest.mark.parametrize("text", ["8@[sp", "8@[sp,x1]", "8@[]", "8@xzr", "8@x31", "8@%x0", "8@[ "])
def test_what_is_no_argument_of_arm64(text: str) -> None:
    with pytest.raises(ValueError, match=r"argument 1 is not understood: "):
        record(text, "aarch64", 208)


def test_what_is_too_much() -> None:
    with pytest.raises(ValueError, match="arguments of 100000 characters"):
        record("8@[[[[[[[[" * 10000, "aarch64", 208)
    with pytest.raises(ValueError, match="not understood"):
        record("8@" + "[" * 4000, "aarch64", 208)
    with pytest.raises(ValueError, match="arguments of riscv64 cannot be read"):
        record("8@a0", "riscv64", 208)
