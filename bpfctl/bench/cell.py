"""One cell of the table: a map made and filled, its programs loaded, and samples taken of it."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from types import TracebackType

from bpfctl.bench import programs
from bpfctl.bench.figures import median
from bpfctl.bench.neighbour import Neighbour
from bpfctl.bench.programs import CHUNK, FILL, State, Target
from bpfctl.bench.shapes import Shape, create, inner_shape
from bpfctl.errors import KernelError
from bpfctl.kernel import bpf
from bpfctl.kernel.bpf import MapAttributes, ProgAttributes
from bpfctl.kernel.fd import Fd
from bpfctl.record import NamedTuple
from bpfctl.uapi import MapFlag, MapType, ProgramType

INDEPENDENT, DEPENDENT, COLD = "independent", "dependent", "cold"
KEY_MODES = (INDEPENDENT, DEPENDENT, COLD)

_PACKET = bytes(64)
_SAMPLES = 400  # chunks that count, of each round
_WARM_LIMIT_NS = 150_000_000
_COLD_SAMPLES = 24  # each with the caches emptied before
_CONTENDED_NS = 300_000_000  # for how long chunks are gathered that overlap with the neighbour's
_CONTENDED_CHUNKS = 1024  # of one run
_FEWEST = 8  # samples without which a round says nothing
_DISTURBED = 2  # times the median: something else ran meanwhile
_THRASH = 64 << 20  # bytes read to empty the caches
_LINE = 64


class CellKey(NamedTuple):
    """What is measured: ``operation`` on a map of ``shape`` with room for ``entries``, ``fill`` of it used.

    ``keys`` is one of KEY_MODES.
    """

    shape: Shape
    entries: int
    operation: str
    keys: str
    fill: float = 1.0


class Sample(NamedTuple):
    """Of one round: ``ns`` of the median operation, gross; ``hits`` 0 to 1 or None; shares of chunks.

    ``disturbed``: chunks that took more than twice the median.  ``overlap``: chunks during which the
    neighbour made progress, None without one.
    """

    ns: float
    hits: float
    disturbed: float
    overlap: float | None = None


class Cell:
    """Owns the map and programs of one cell.  Raises KernelError where this kernel refuses one."""

    def __init__(self, key: CellKey, cpus: tuple[int, int] | None = None) -> None:
        self.key = key
        self._stack = ExitStack()
        try:
            self._open(cpus)
        except OSError as error:
            self.close()
            raise KernelError(
                f"cannot measure {key.operation} on {key.shape.name} with {key.entries} entries",
                errno=error.errno or 0,
            ) from error
        except BaseException:
            self.close()
            raise

    def _open(self, cpus: tuple[int, int] | None) -> None:
        shape = self.key.shape
        self._state = self._own(state_map(shape))
        self._target = filled_map(shape, self.key.entries, self.key.fill, self._state, self._stack)
        dependent = self.key.keys == DEPENDENT
        self._neighbour: Neighbour | None = None
        other_fd = 0
        if cpus:
            other = self._own(state_map(shape))
            other_fd = other.number
            write_state(other_fd, programs.fresh_state(shape, seed=99))
            code = programs.measured_program(self.key.operation, self._target, other_fd)
            self._neighbour = Neighbour(self._own(load(code)).number, cpus[1])
        code = programs.measured_program(
            self.key.operation, self._target, self._state.number, dependent=dependent, other_fd=other_fd
        )
        self._measured = self._own(load(code))
        code = programs.baseline_program(
            self.key.operation, self._target, self._state.number, dependent=dependent
        )
        self._base = self._own(load(code))
        if self.key.keys == COLD:
            self._thrash_map = self._own(_thrash_map())
            self._thrash = self._own(load(thrash_program(self._thrash_map.number)))

    def _own(self, fd: Fd) -> Fd:
        return self._stack.enter_context(fd)

    # --- measuring ---

    def sample(self, round_: int) -> Sample:
        """One round: warm, then the median of some hundred chunks."""
        if self.key.keys == COLD:
            return self._sample_cold(round_)
        if self._neighbour:
            return self._sample_contended(round_)
        chunk_ns = self._run(self._measured, round_, 16).times[-1]
        chunks = warm_chunks(self._target, chunk_ns) + _SAMPLES
        return sample_of(self._run(self._measured, round_, chunks))

    def baseline(self, round_: int) -> float:
        """ns of one operation of the loop without the map."""
        times = self._run(self._base, round_, _SAMPLES).times
        return median(times) / CHUNK

    def _run(self, program: Fd, seed: int, chunks: int) -> State:
        """``chunks`` runs from a fresh state."""
        write_state(self._state.number, programs.fresh_state(self._target.shape, seed=seed * 7919 + 1))
        run(program.number, chunks)
        return self._read(min(chunks, _SAMPLES))

    def _read(self, most: int) -> State:
        return read_state(self._state.number, self._target.shape, most)

    def _sample_cold(self, round_: int) -> Sample:
        """Single chunks, each after a walk through more memory than the caches hold."""
        write_state(self._state.number, programs.fresh_state(self._target.shape, seed=round_ * 7919 + 1))
        for _ in range(_COLD_SAMPLES):
            run(self._thrash.number, _THRASH // (_LINE * CHUNK * 16))
            run(self._measured.number, 1)
        return sample_of(self._read(_COLD_SAMPLES))

    def _sample_contended(self, round_: int) -> Sample:
        """Chunks that overlapped with the neighbour's work, for a while or until there are enough."""
        assert self._neighbour is not None
        write_state(self._state.number, programs.fresh_state(self._target.shape, seed=round_ * 7919 + 1))
        times: list[int] = []
        done, spent = 0, 0
        with self._neighbour.working():
            while len(times) < _SAMPLES and spent < _CONTENDED_NS:
                before = _now()
                run(self._measured.number, _CONTENDED_CHUNKS)
                spent += _now() - before
                state = self._read(_CONTENDED_CHUNKS)
                times += state.times
                done += _CONTENDED_CHUNKS
        if len(times) < _FEWEST:
            raise KernelError(f"only {len(times)} of {done} chunks overlapped with the other CPU's work")
        return sample_of(state._replace(times=tuple(times)), len(times) / done)

    def close(self) -> None:
        """Close map and programs."""
        self._stack.close()

    def __enter__(self) -> Cell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _now() -> int:
    import time

    return time.monotonic_ns()


# --- kernel objects -----------------------------------------------------------------------------------


def filled_map(shape: Shape, entries: int, fill: float, state: Fd, stack: ExitStack) -> Target:
    """A map with room for ``entries``, ``fill`` of it used, which ``stack`` closes; raises OSError."""
    room = shape.entries(entries)
    table = stack.enter_context(create(shape, room))
    target = Target(table.number, shape, max(1, int(room * fill)))
    if shape.is_outer:
        _fill_outer(target)
    else:
        write_state(state.number, programs.fresh_state(shape, seed=0))
        with load(programs.fill_program(target, state.number)) as program:
            run(program.number, -(-target.entries // FILL))
    return target


def _fill_outer(target: Target) -> None:
    shape = inner_shape(target.shape)
    for number in range(target.entries):
        with create(shape, 1) as inner:
            bpf.map_update(inner.number, bytes(4), programs.one(shape)[: shape.value_size])
            bpf.map_update(target.fd, struct.pack("=I", number), struct.pack("=I", inner.number))


def warm_chunks(target: Target, chunk_ns: float) -> int:
    """How many chunks it takes until the caches hold of the map what they can."""
    return min(2 * target.entries // CHUNK, int(_WARM_LIMIT_NS / max(chunk_ns, 1)))


def sample_of(state: State, overlap: float | None = None) -> Sample:
    """What a round's state says."""
    middle = median(state.times)
    disturbed = sum(time > _DISTURBED * middle for time in state.times) / len(state.times)
    return Sample(middle / CHUNK, state.total / (state.chunks * CHUNK), disturbed, overlap)


def state_map(shape: Shape) -> Fd:
    """What a program for ``shape`` keeps its state in."""
    size = programs.state_size(shape)
    return Fd(bpf.map_create(MapAttributes(MapType.ARRAY, 4, size, 1, name="bpfctl_state")))


def write_state(fd: int, state: bytes) -> None:
    """Start from ``state``."""
    bpf.map_update(fd, bytes(4), state)


def read_state(fd: int, shape: Shape, most: int) -> State:
    """What programs left there, with at most the last ``most`` chunks."""
    return programs.read_state(bpf.map_lookup(fd, bytes(4), programs.state_size(shape)), most)


def load(code: bytes, kind: ProgramType = ProgramType.XDP) -> Fd:
    """A program of ``code``; raises OSError."""
    return Fd(bpf.prog_load(ProgAttributes(kind, code, "GPL", "bpfctl_bench")))


def run(fd: int, times: int) -> None:
    """Run the program ``times`` times; a signal ends it early and is handled before the next call."""
    bpf.prog_test_run(fd, bpf.RunInput(_PACKET, repeat=max(times, 1)))


def _thrash_map() -> Fd:
    return Fd(bpf.map_create(MapAttributes(MapType.ARRAY, 4, _THRASH, 1, int(MapFlag.MMAPABLE))))


def thrash_program(fd: int) -> bytes:
    """Reads one byte of each cache line, 4096 lines a run, on from where the last run stopped."""
    from bpfctl.asm import Code

    code = Code()
    code.map_value(6, fd, 0)
    code.load(8, 7, 6, 0)  # the cursor, which is overwritten as any other line is only read
    code.alu_imm("mov", 8, 0)
    code.label("again")
    code.alu_imm("add", 7, _LINE)
    code.alu_imm("and", 7, _THRASH - _LINE)
    code.alu("mov", 1, 6)
    code.alu("add", 1, 7)
    code.load(8, 2, 1, 0)
    code.alu_imm("add", 8, 1)
    code.jump_if("jne", 8, CHUNK * 16, "again")
    code.store(8, 6, 0, 7)
    code.alu_imm("mov", 0, programs.XDP_PASS)
    code.exit()
    return code.build()
