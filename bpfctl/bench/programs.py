"""The measured programs: 256 operations on one map, timed inside of the kernel.

A run of the program is one chunk.  Keys come from a linear congruential generator,
``x = x * 1664525 + c``, of which the upper half is scaled to the number of entries.  With *independent*
keys ``c`` is 1 and the processor overlaps lookups; with *dependent* keys ``c`` is what the last lookup
found (always 1), so that each waits for the one before; other operations give nothing to wait for.  Time is
taken with bpf_ktime_get_ns around the chunk and put into a ring, since what BPF_PROG_TEST_RUN says of the
duration is a mean in which every preemption counts.

All stored values are 1 and their sum is kept, so that the share of hits can be checked.

State, the one value of an array map:

    0 generator   8 sum of what was found   16 chunks done   24 progress   32 the constant 1
    40 packets   48 time of the last packet of a chunk
    64 ring of 4096 times in ns, 8 bytes each   then a value as it is stored
"""

from __future__ import annotations

import struct
import sys

from bpfctl.asm import FP, Code
from bpfctl.bench.shapes import COUNT, EVICT, LOOKUP, MISS, REINSERT, UPDATE, Shape
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapType

CHUNK = 256  # operations
FILL = 16  # entries put in by one run: the verifier goes through every round of the loop
RING = 4096  # samples
RING_AT = 64  # bytes
VALUE_AT = RING_AT + RING * 8
SPOILED = 0  # a sample that does not count
XDP_DROP, XDP_PASS = 1, 2
TC_ACT_SHOT = 2

_UNROLLED = 4  # operations in one round of the loop
_MULTIPLIER = 1664525
_GENERATOR, _SUM, _CHUNKS, _PROGRESS, _ONE, _PACKETS, _LAST = 0, 8, 16, 24, 32, 40, 48

_LOOKUP_ELEM, _UPDATE_ELEM, _DELETE_ELEM, _KTIME_GET_NS, _REDIRECT = 1, 2, 3, 5, 23
_PUSH_ELEM, _PEEK_ELEM = 87, 89

# Registers that calls preserve.
_CONSTANT, _X, _ROUNDS, _TOTAL = 6, 7, 8, 9
# The stack, bytes from the frame pointer.
_START, _OTHER, _INNER_KEY, _KEY_END = -8, -16, -24, -32

_HEAD = struct.Struct("=5Q24x")
assert _HEAD.size == RING_AT


class Target(NamedTuple):
    """The map under test: ``fd``, its shape and number of ``entries``."""

    fd: int
    shape: Shape
    entries: int


class State(NamedTuple):
    """What a program left in its state map: hits summed, chunks done, times of the last chunks in ns."""

    total: int
    chunks: int
    times: tuple[int, ...]


def state_size(shape: Shape) -> int:
    """Bytes of the state map's value."""
    return VALUE_AT + stored_size(shape)


def stored_size(shape: Shape) -> int:
    """Bytes of a value of ``shape``, rounded up to whole words."""
    return -(-shape.value_size // 8) * 8


def fresh_state(shape: Shape, seed: int) -> bytes:
    """A state from which nothing has run yet."""
    return _HEAD.pack(seed, 0, 0, 0, 1) + bytes(RING * 8) + one(shape)


def one(shape: Shape) -> bytes:
    """The value that every entry holds, in whole words: 1, and zeroes."""
    return (1).to_bytes(_field(shape), sys.byteorder).ljust(stored_size(shape), b"\0")


def read_state(data: bytes, most: int) -> State:
    """``data`` of a state map taken apart; ``times`` are at most the last ``most``, spoiled ones left out."""
    _, total, chunks, _, _ = _HEAD.unpack_from(data)
    ring = memoryview(data)[RING_AT:VALUE_AT].cast("Q")
    kept = min(chunks, most, RING)
    times = (ring[number % RING] for number in range(chunks - kept, chunks))
    return State(total, chunks, tuple(time for time in times if time != SPOILED))


# --- programs -----------------------------------------------------------------------------------------


def fill_program(target: Target, state_fd: int) -> bytes:
    """Puts the entries 0 to ``entries`` - 1 in, FILL of them at each run.

    The number of the next one lives in the state, not in a register, where the verifier would follow it
    through every round.
    """
    code = Code()
    _prologue(code, state_fd, target.shape)
    code.label("again")
    code.map_value(1, state_fd, 0)
    code.load(8, _X, 1, _GENERATOR)
    code.alu("mov", 2, _X)
    code.alu_imm("add", 2, 1)
    code.store(8, 1, _GENERATOR, 2)
    code.jump_if("jge", _X, target.entries, "next")
    code.alu("mov", 1, _X)
    _store_key(code, target.shape)
    if target.shape.is_keyless:
        _push(code, target, state_fd)
    else:
        _update(code, target, state_fd)
    code.label("next")
    _loop(code, FILL)
    code.alu_imm("mov", 0, XDP_PASS)
    code.exit()
    return code.build()


def measured_program(
    operation: str, target: Target, state_fd: int, *, dependent: bool = False, other_fd: int = 0
) -> bytes:
    """A chunk of ``operation``.

    ``other_fd``: the state of a program that runs on another CPU; chunks in which it made no progress are
    marked as spoiled.
    """
    return _timed(operation, target, state_fd, dependent, other_fd, baseline=False)


def baseline_program(operation: str, target: Target, state_fd: int, *, dependent: bool = False) -> bytes:
    """The same loop with a constant's address in the place of what the map would give."""
    return _timed(operation, target, state_fd, dependent, 0, baseline=True)


def _timed(
    operation: str, target: Target, state_fd: int, dependent: bool, other_fd: int, *, baseline: bool
) -> bytes:
    dependent = dependent and operation == LOOKUP and not target.shape.is_keyless
    code = Code()
    _prologue(code, state_fd, target.shape)
    if other_fd:
        _read_progress(code, other_fd)
        code.store(8, FP, _OTHER, 2)
    code.call(_KTIME_GET_NS)
    code.store(8, FP, _START, 0)
    code.label("again")
    for number in range(_UNROLLED):
        _next_key(code, target, operation)
        done = f"done{number}"
        if baseline:
            _baseline(code, target, state_fd, operation, dependent)
        else:
            _OPERATIONS[operation](code, target, state_fd, dependent, done)
        code.label(done)
    _make_progress(code, state_fd)
    _loop(code, CHUNK // _UNROLLED)
    code.call(_KTIME_GET_NS)
    code.load(8, 1, FP, _START)
    code.alu("sub", 0, 1)
    if other_fd:
        _spoil_if_alone(code, other_fd)
    _epilogue(code, state_fd)
    return code.build()


def _prologue(code: Code, state_fd: int, shape: Shape) -> None:
    code.map_value(1, state_fd, 0)
    code.load(8, _X, 1, _GENERATOR)
    code.load(8, _TOTAL, 1, _SUM)
    code.alu_imm("mov", _CONSTANT, 1)
    code.alu_imm("mov", _ROUNDS, 0)
    start = _key_start(shape)
    for offset in range(start, _KEY_END, 4):
        code.store_imm(4, FP, offset, 0)
    if shape.prefix_size:
        code.store_imm(4, FP, start, shape.key_size * 8)
    code.store_imm(4, FP, _INNER_KEY, 0)


def _epilogue(code: Code, state_fd: int) -> None:
    """Save the state; r0 is the time of this chunk."""
    code.map_value(1, state_fd, 0)
    code.store(8, 1, _GENERATOR, _X)
    code.store(8, 1, _SUM, _TOTAL)
    _record(code)
    code.alu_imm("mov", 0, XDP_PASS)
    code.exit()


def _record(code: Code) -> None:
    """A chunk's time in r0 goes into the ring; r1 points to the state."""
    code.load(8, 2, 1, _CHUNKS)
    code.alu("mov", 3, 2)
    code.alu_imm("and", 3, RING - 1)
    code.alu_imm("lsh", 3, 3)
    code.alu("add", 3, 1)
    code.store(8, 3, RING_AT, 0)
    code.alu_imm("add", 2, 1)
    code.store(8, 1, _CHUNKS, 2)


def _loop(code: Code, rounds: int) -> None:
    """Back to "again" until it was run ``rounds`` times."""
    code.alu_imm("add", _ROUNDS, 1)
    code.jump_if("jne", _ROUNDS, rounds, "again")


# --- keys ---------------------------------------------------------------------------------------------


def _key_start(shape: Shape) -> int:
    """Where on the stack the key begins, bytes from the frame pointer; aligned to 8."""
    return _KEY_END - -(-(shape.key_size + shape.prefix_size) // 8) * 8


def _next_key(code: Code, target: Target, operation: str) -> None:
    code.alu_imm("mul", _X, _MULTIPLIER)
    code.alu("add", _X, _CONSTANT)
    code.alu("mov", 1, _X)
    code.alu_imm("rsh", 1, 32)
    if operation != EVICT:  # which takes any of 2^32 keys: nearly always a new one
        code.alu_imm("mul", 1, target.entries)
        code.alu_imm("rsh", 1, 32)
    if operation == MISS:
        code.alu_imm("add", 1, target.entries)
    _store_key(code, target.shape)


def _store_key(code: Code, shape: Shape) -> None:
    """r1 becomes the key's first bytes; the others stay zero."""
    size = max(size for size in (1, 2, 4) if size <= shape.key_size)
    code.store(size, FP, _key_start(shape) + shape.prefix_size, 1)


def _point_at_key(code: Code, shape: Shape) -> None:
    code.alu("mov", 2, FP)
    code.alu_imm("add", 2, _key_start(shape))


# --- operations: (code, target, state fd, dependent keys?, label behind) ------------------------------


def _lookup(code: Code, target: Target, state_fd: int, dependent: bool, done: str) -> None:
    if target.shape.is_keyless:
        _peek(code, target, state_fd, done)
        return
    code.map_fd(1, target.fd)
    _point_at_key(code, target.shape)
    code.call(_LOOKUP_ELEM)
    code.jump_if("jeq", 0, 0, done)
    if target.shape.is_outer:
        code.alu("mov", 1, 0)
        code.alu("mov", 2, FP)
        code.alu_imm("add", 2, _INNER_KEY)
        code.call(_LOOKUP_ELEM)
        code.jump_if("jeq", 0, 0, done)
    _use(code, target.shape, dependent)


def _peek(code: Code, target: Target, state_fd: int, done: str) -> None:
    """A queue or stack shows its next element, a bloom filter says whether it has seen the value."""
    code.map_fd(1, target.fd)
    _point_at_element(code, target, state_fd)
    code.call(_PEEK_ELEM)
    code.jump_if("jne", 0, 0, done)
    code.alu_imm("add", _TOTAL, 1)


def _update_existing(code: Code, target: Target, state_fd: int, _dependent: bool, done: str) -> None:
    _update(code, target, state_fd)
    code.jump_if("jne", 0, 0, done)
    code.alu_imm("add", _TOTAL, 1)


def _reinsert(code: Code, target: Target, state_fd: int, dependent: bool, done: str) -> None:
    """Delete an entry and insert it again, so that the map stays as full as it is."""
    code.map_fd(1, target.fd)
    _point_at_key(code, target.shape)
    code.call(_DELETE_ELEM)
    _update_existing(code, target, state_fd, dependent, done)


def _count(code: Code, target: Target, _state_fd: int, _dependent: bool, done: str) -> None:
    """A counter in place: added to at once for all CPUs, or plainly where each CPU has its own."""
    code.map_fd(1, target.fd)
    _point_at_key(code, target.shape)
    code.call(_LOOKUP_ELEM)
    code.jump_if("jeq", 0, 0, done)
    size = max(_field(target.shape), 4)
    if target.shape.is_per_cpu:
        code.load(size, 1, 0, 0)
        code.alu_imm("add", 1, 1)
        code.store(size, 0, 0, 1)
    else:
        code.alu_imm("mov", 1, 1)
        code.atomic_add(size, 0, 0, 1)
    code.alu_imm("add", _TOTAL, 1)


_OPERATIONS = {
    LOOKUP: _lookup,
    MISS: _lookup,
    UPDATE: _update_existing,
    REINSERT: _reinsert,
    EVICT: _update_existing,
    COUNT: _count,
}


def _update(code: Code, target: Target, state_fd: int) -> None:
    code.map_fd(1, target.fd)
    _point_at_key(code, target.shape)
    code.map_value(3, state_fd, VALUE_AT)
    code.alu_imm("mov", 4, 0)
    code.call(_UPDATE_ELEM)


def _push(code: Code, target: Target, state_fd: int) -> None:
    code.map_fd(1, target.fd)
    _point_at_element(code, target, state_fd)
    code.alu_imm("mov", 3, 0)
    code.call(_PUSH_ELEM)


def _point_at_element(code: Code, target: Target, state_fd: int) -> None:
    """r2: of a bloom filter the value made of the key; elsewhere what is stored, or overwritten by a peek."""
    if target.shape.map_type is MapType.BLOOM_FILTER:
        _point_at_key(code, target.shape)
    else:
        code.map_value(2, state_fd, VALUE_AT)


def _baseline(code: Code, target: Target, state_fd: int, operation: str, dependent: bool) -> None:
    if operation in (LOOKUP, MISS, COUNT):
        code.map_value(0, state_fd, _ONE)
        _use(code, target.shape._replace(value_size=8), dependent)
    else:
        code.alu_imm("add", _TOTAL, 1)


def _use(code: Code, shape: Shape, dependent: bool) -> None:
    """Load the value that r0 points to, and add it to the sum."""
    code.load(_field(shape), 1, 0, 0)
    code.alu("add", _TOTAL, 1)
    if dependent:
        code.alu("mov", _CONSTANT, 1)


def _field(shape: Shape) -> int:
    """Bytes of a value that are looked at."""
    return max(size for size in (1, 2, 4, 8) if size <= shape.value_size)


# --- two CPUs -----------------------------------------------------------------------------------------


def _make_progress(code: Code, state_fd: int) -> None:
    code.map_value(1, state_fd, 0)
    code.load(8, 2, 1, _PROGRESS)
    code.alu_imm("add", 2, 1)
    code.store(8, 1, _PROGRESS, 2)


def _read_progress(code: Code, other_fd: int) -> None:
    code.map_value(1, other_fd, 0)
    code.load(8, 2, 1, _PROGRESS)


def _spoil_if_alone(code: Code, other_fd: int) -> None:
    """r0 becomes SPOILED when the other program stood still meanwhile: there was no contention."""
    _read_progress(code, other_fd)
    code.load(8, 3, FP, _OTHER)
    code.jump_if_register("jne", 2, 3, "overlapped")
    code.alu_imm("mov", 0, SPOILED)
    code.label("overlapped")


# --- packets ------------------------------------------------------------------------------------------


def packet_program(
    target: Target, state_fd: int, verdict: int, redirect_to: int = 0, *, baseline: bool = False
) -> bytes:
    """XDP: reads a UDP packet's headers, looks one random key up, and lets the packet go where it should.

    ``verdict``: XDP_DROP or XDP_PASS, unless there is an interface to ``redirect_to``.  ``baseline``: without
    the lookup.  The time of 256 packets goes into the ring, with all that becomes of them meanwhile; the
    first one of a fresh state is wrong.
    """
    code = Code()
    _parse_udp(code)
    _prologue(code, state_fd, target.shape)
    _next_key(code, target, LOOKUP)
    if baseline:
        _baseline(code, target, state_fd, LOOKUP, False)
    else:
        _lookup(code, target, state_fd, False, "done")
    code.label("done")
    code.map_value(1, state_fd, 0)
    code.store(8, 1, _GENERATOR, _X)
    code.store(8, 1, _SUM, _TOTAL)
    code.load(8, 2, 1, _PACKETS)
    code.alu_imm("add", 2, 1)
    code.store(8, 1, _PACKETS, 2)
    code.alu_imm("and", 2, CHUNK - 1)
    code.jump_if("jne", 2, 0, "out")
    _record_since_last(code, state_fd)
    code.label("out")
    if redirect_to:
        code.alu_imm("mov", 1, redirect_to)
        code.alu_imm("mov", 2, 0)
        code.call(_REDIRECT)
    else:
        code.alu_imm("mov", 0, verdict)
    code.exit()
    return code.build()


def verdict_program(verdict: int) -> bytes:
    """Does nothing but return ``verdict``."""
    code = Code()
    code.alu_imm("mov", 0, verdict)
    code.exit()
    return code.build()


def _parse_udp(code: Code) -> None:
    """Ethernet, IPv4 and UDP of the packet, r1 being ``struct xdp_md``; others go "out" without a lookup."""
    code.load(4, 2, 1, 0)
    code.load(4, 3, 1, 4)
    code.alu("mov", 4, 2)
    code.alu_imm("add", 4, 42)  # bytes of the three headers
    code.jump_if_register("jgt", 4, 3, "out")
    code.load(2, 4, 2, 12)
    code.jump_if("jne", 4, int.from_bytes(b"\x08\x00", sys.byteorder), "out")
    code.load(1, 4, 2, 14)
    code.jump_if("jne", 4, 0x45, "out")
    code.load(1, 4, 2, 23)
    code.jump_if("jne", 4, 17, "out")
    code.load(2, 4, 2, 36)
    code.jump_if("jeq", 4, 0, "out")  # no port


def _record_since_last(code: Code, state_fd: int) -> None:
    code.call(_KTIME_GET_NS)
    code.map_value(1, state_fd, 0)
    code.load(8, 2, 1, _LAST)
    code.store(8, 1, _LAST, 0)
    code.alu("sub", 0, 2)
    _record(code)
