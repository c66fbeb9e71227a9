"""A program with USDT probes, written byte by byte: x86-64, no library, no compiler.

It hits probe ``bpfctl:work`` at two places, then ``bpfctl:idle`` if its semaphore says that somebody listens,
and exits with what the semaphore counts.
"""

from __future__ import annotations

import struct
from pathlib import Path

NAME = "bpfctl-probed"  # what testdata/usdt.bpf.c names; it is searched for in $PATH
ARGUMENTS = "-4@%eax 8@$7 -2@2(%rbx) 1@(%rbx,%rcx,2)"
VALUES = (-5, 7, -2, 200)
CODE, DATA = 0x401000, 0x404000  # where they are loaded
CODE_OFFSET, DATA_OFFSET = 0x1000, 0x2000  # in the file
SEMAPHORE = DATA + 16
# at 2 the number -2 of two bytes, at 6 the byte 200; the semaphore behind
_CONTENTS = struct.pack("<2xh2xB", -2, 200).ljust(24, b"\0")


def _relative(opcode: bytes, at: int, target: int, after: bytes = b"") -> bytes:
    """An instruction at ``at`` whose operand is ``target``, relative to its end."""
    end = at + len(opcode) + 4 + len(after)
    return opcode + struct.pack("<i", target - end) + after


def _code() -> tuple[bytes, dict[str, list[int]]]:
    """The machine code, and the addresses of its probes."""
    places: dict[str, list[int]] = {"work": [], "idle": []}
    code = b"\xb8" + struct.pack("<i", -5)  # mov eax, -5
    code += b"\xb9" + struct.pack("<i", 3)  # mov ecx, 3
    code += _relative(b"\x48\x8d\x1d", CODE + len(code), DATA)  # lea rbx, [data]
    code += b"\x8a\x13"  # mov dl, [rbx]: the page is there when a BPF program reads it
    for _ in range(2):
        places["work"].append(CODE + len(code))
        code += b"\x90"
    code += _relative(b"\x66\x83\x3d", CODE + len(code), SEMAPHORE, b"\0")  # cmp word [semaphore], 0
    code += b"\x74\x01"  # je past the next
    places["idle"].append(CODE + len(code))
    code += b"\x90"
    code += _relative(b"\x0f\xb7\x3d", CODE + len(code), SEMAPHORE)  # movzx edi, word [semaphore]
    code += b"\xb8" + struct.pack("<i", 60) + b"\x0f\x05"  # exit(edi)
    return code, places


def note(
    location: int, name: str, arguments: str, *, base: int = 0, semaphore: int = 0, provider: str = "bpfctl"
) -> bytes:
    """The note of a probe."""
    text = struct.pack("<3Q", location, base, semaphore)
    text += b"".join(word.encode() + b"\0" for word in (provider, name, arguments))
    return struct.pack("<3I", 8, len(text), 3) + b"stapsdt\0" + text + bytes(-len(text) % 4)


def own_notes() -> bytes:
    """The notes that belong to the program."""
    places = _code()[1]
    notes = [note(at, "work", ARGUMENTS) for at in places["work"]]
    notes += [note(at, "idle", "", semaphore=SEMAPHORE) for at in places["idle"]]
    return b"".join(notes)


def executable(notes: bytes, *, kind: int = 7, base: int = 0) -> bytes:
    """The ELF file with a section of ``notes``, of type ``kind``; ``base``: address of ``.stapsdt.base``."""
    names = b"\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0"
    image = bytearray(DATA_OFFSET)
    code = _code()[0]
    image[CODE_OFFSET : CODE_OFFSET + len(code)] = code
    image += _CONTENTS
    notes_at = len(image)
    image += notes
    names_at = len(image)
    image += names
    table = len(image)
    sections = [(0,) * 10, (1, kind, 0, 0, notes_at, len(notes), 0, 0, 4, 0)]
    if base:
        sections.append((15, 1, 2, base, 0, 1, 0, 0, 1, 0))
    sections.append((names.index(b".shstrtab"), 3, 0, 0, names_at, len(names), 0, 0, 1, 0))
    image += b"".join(struct.pack("<2I4Q2I2Q", *section) for section in sections)
    header = struct.pack(
        "<16s2HI3QI6H",
        b"\x7fELF\x02\x01\x01",
        2,
        62,
        1,
        CODE,
        64,
        table,
        0,
        64,
        56,
        2,
        64,
        len(sections),
        len(sections) - 1,
    )
    image[:64] = header
    size = len(code)
    image[64:120] = struct.pack("<2I6Q", 1, 5, CODE_OFFSET, CODE, CODE, size, size, 4096)
    size = len(_CONTENTS)
    image[120:176] = struct.pack("<2I6Q", 1, 6, DATA_OFFSET, DATA, DATA, size, size, 4096)
    return bytes(image)


def write(directory: Path) -> Path:
    """The program as a file of ``directory``."""
    path = directory / NAME
    path.write_bytes(executable(own_notes()))
    path.chmod(0o755)
    return path
