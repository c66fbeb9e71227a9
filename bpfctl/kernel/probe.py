"""What this kernel can do, found by trying it: one small probe for each feature that a fallback depends on.

A version number says little, since distributions port features back and configurations leave them out.
``since`` is only for messages and tests.  Probes run when they are asked, mostly after something failed, and
answer once a process: a load on a kernel that takes everything asks none.

    if probe.ENUM64.missing():
        ...  # only on evidence: an answer that the kernel keeps to itself is no reason for a fallback

What each loader has to know of a kernel, and the ways to ask: libbpf's features.c has the same list.
"""

from __future__ import annotations

import errno
import struct
import sys
from collections.abc import Callable

from bpfctl.insn import Instruction, encode
from bpfctl.kernel import bpf, privilege, probe_btf, syscall
from bpfctl.kernel.bpf import MapAttributes, ProgAttributes, VerifierLog
from bpfctl.kernel.fd import Fd
from bpfctl.kernel.syscall import address
from bpfctl.uapi import (
    BPF_PSEUDO_CALL,
    BPF_PSEUDO_MAP_VALUE,
    AttachType,
    Command,
    MapFlag,
    MapType,
    ProgramType,
)

# The kernel did not say no; it (or what guards it) did not let us ask, or was short of something.
_NO_ANSWER = frozenset({errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


class Feature:
    """``name`` for people and JSON; ``since``: the Linux that got it; ``meaning``: what it is, briefly."""

    def __init__(self, name: str, since: str, meaning: str, ask: Callable[[], bool]) -> None:
        self.name = name
        self.since = since
        self.meaning = meaning
        self._ask = ask
        self._asked: object = None
        self._answer: bool | None = None

    def available(self) -> bool | None:
        """Whether the kernel has it; None where it does not let this process find out."""
        if self._asked is not syscall.system:  # a test's stand-in is another kernel
            self._asked = syscall.system
            try:
                self._answer = self._ask()
            except OSError as error:  # something that the probe needs first
                self._answer = None if no_answer(error) else False
        return self._answer

    def missing(self) -> bool:
        """True when the kernel is known to lack it: what a fallback needs to hear."""
        return self.available() is False


FEATURES: dict[str, Feature] = {}


def _feature(name: str, since: str, meaning: str) -> Callable[[Callable[[], bool]], Feature]:
    def add(ask: Callable[[], bool]) -> Feature:
        FEATURES[name] = Feature(name, since, meaning, ask)
        return FEATURES[name]

    return add


# --- tools of the probes ---------------------------------------------------------------------------


def no_answer(error: OSError) -> bool:
    """True for an error that says nothing of the kernel's abilities."""
    return error.errno in _NO_ANSWER


def refusal_of(call: Callable[[], object]) -> int:
    """The errno with which the kernel refuses ``call``, 0 when it does not.

    Kernels before 5.11 say EPERM when too little memory may be locked: that limit is lifted first.  OSError
    for what is no answer.
    """
    try:
        try:
            call()
        except OSError as error:
            if error.errno != errno.EPERM or not privilege.raise_memlock():
                raise
            call()
    except OSError as error:
        if error.errno is None or no_answer(error):
            raise
        return error.errno
    return 0


def refusal(call: Callable[[], int]) -> int:
    """As :func:`refusal_of` for a call that gives a descriptor, which is closed."""
    return refusal_of(lambda: Fd(call()).close())


def instructions(*fields: tuple[int, int, int, int, int]) -> bytes:
    """Code of this machine's byte order from (code, dst, src, off, imm)."""
    return b"".join(encode(Instruction(*each), sys.byteorder) for each in fields)


RETURN_0 = instructions((0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0))


def call(helper: int) -> tuple[int, int, int, int, int]:
    """The call of a helper, for :func:`instructions`."""
    return (0x85, 0, 0, 0, helper)


_EXIT = (0x95, 0, 0, 0, 0)


def _loads(code: bytes, kind: ProgramType = ProgramType.SOCKET_FILTER, **more: int) -> bool:
    wanted = ProgAttributes(kind, code, "GPL", **more)  # type: ignore[arg-type]
    return not refusal(lambda: bpf.prog_load(wanted))


def _program(kind: ProgramType = ProgramType.SOCKET_FILTER, attach_type: int = 0) -> Fd:
    return Fd(bpf.prog_load(ProgAttributes(kind, RETURN_0, "GPL", expected_attach_type=attach_type)))


def _array(value_size: int = 4, flags: int = 0) -> Fd:
    return privilege.create_map(MapAttributes(MapType.ARRAY, 4, value_size, 1, flags))


def _command(command: int, fields: bytes) -> int:
    """Refusal of a command that gives a descriptor, with its attributes packed."""
    return refusal(lambda: syscall.system.bpf(command, bytearray(fields)))


# --- names, maps, programs -------------------------------------------------------------------------


@_feature("object_names", "4.15", "names of programs and maps")
def OBJECT_NAMES() -> bool:
    wanted = ProgAttributes(ProgramType.SOCKET_FILTER, RETURN_0, "GPL", name="probe")
    return not refusal(lambda: bpf.prog_load(wanted))


@_feature("global_data", "5.2", "global variables, in array maps that programs address directly")
def GLOBAL_DATA() -> bool:
    with _array(value_size=32) as array:
        store = (0x7A, 1, 0, 0, 42)
        return _loads(_value_address(array, 16) + instructions(store) + RETURN_0)


@_feature("percpu_data", "7.3", "global variables of each CPU, in per-CPU arrays")
def PERCPU_DATA() -> bool:
    with Fd(bpf.map_create(MapAttributes(MapType.PERCPU_ARRAY, 4, 8, 1))) as array:
        return _loads(_value_address(array, 0) + instructions((0x79, 0, 1, 0, 0)) + RETURN_0)


@_feature("array_mmap", "5.5", "array maps that user space can mmap()")
def ARRAY_MMAP() -> bool:
    wanted = MapAttributes(MapType.ARRAY, 4, 4, 1, MapFlag.MMAPABLE)
    return not refusal(lambda: bpf.map_create(wanted))


@_feature("prog_bind_map", "5.10", "BPF_PROG_BIND_MAP: a program that holds a map it does not use")
def PROG_BIND_MAP() -> bool:
    with _array() as array, _program() as program:
        return not refusal_of(lambda: bpf.prog_bind_map(program.number, array.number))


@_feature("expected_attach_type", "4.17", "the attach type at load")
def EXPECTED_ATTACH_TYPE() -> bool:
    return _loads(RETURN_0, ProgramType.CGROUP_SOCK, expected_attach_type=AttachType.CGROUP_INET_SOCK_CREATE)


@_feature("memcg_accounting", "5.11", "memory counted by cgroup instead of RLIMIT_MEMLOCK")
def MEMCG_ACCOUNTING() -> bool:
    return _loads(instructions(call(160), _EXIT))  # bpf_ktime_get_coarse_ns, of the same release


@_feature("probe_read_kernel", "5.5", "bpf_probe_read_kernel() and its kin, beside bpf_probe_read()")
def PROBE_READ_KERNEL() -> bool:
    to_stack = ((0xBF, 1, 10, 0, 0), (0x07, 1, 0, 0, -8), (0xB7, 2, 0, 0, 8), (0xB7, 3, 0, 0, 0))
    return _loads(instructions(*to_stack, call(113), _EXIT), ProgramType.TRACEPOINT)


@_feature("bpf_cookie", "5.15", "a number of the user's for each attachment (bpf_get_attach_cookie())")
def BPF_COOKIE() -> bool:
    return _loads(instructions(call(174), _EXIT), ProgramType.TRACEPOINT)


@_feature("ldimm64_full_range", "7.1", "addresses of map values past 512 MiB, where arenas keep global data")
def LDIMM64_FULL_RANGE() -> bool:
    with _array() as array:
        log = VerifierLog(1, 4096)
        wanted = ProgAttributes(ProgramType.SOCKET_FILTER, _value_address(array, 1 << 30) + RETURN_0, "GPL")
        refusal(lambda: bpf.prog_load(wanted, log))
        return bool(log.text) and "direct value offset" not in log.text


def _value_address(array: Fd, offset: int) -> bytes:
    return instructions((0x18, 1, BPF_PSEUDO_MAP_VALUE, 0, array.number), (0, 0, 0, 0, offset))


@_feature("common_attrs", "7.1", "a log for every command of bpf(2), BPF_MAP_CREATE among them")
def COMMON_ATTRS() -> bool:
    # The attributes themselves are fine, the common ones are at address 0.
    return _command(Command.PROG_LOAD | 1 << 16, bytes(148)) == errno.EFAULT


# --- instructions ----------------------------------------------------------------------------------


@_feature("large_insn_limit", "5.2", "programs of more than 4096 instructions")
def LARGE_INSN_LIMIT() -> bool:
    return _loads(instructions(*((0xB7, 0, 0, 0, 1),) * 4096) + RETURN_0)


@_feature("bounded_loops", "5.3", "loops that the verifier sees the end of")
def BOUNDED_LOOPS() -> bool:
    # r0 = 10; do { r0 -= 1 } while (r0 != 0)
    return _loads(instructions((0xB7, 0, 0, 0, 10), (0x07, 0, 0, 0, -1), (0x55, 0, 0, -2, 0), _EXIT))


@_feature("v2_isa", "4.14", "instruction set v2: jumps by less-than")
def V2_ISA() -> bool:
    return _loads(instructions((0xB7, 0, 0, 0, 0), (0xA5, 0, 0, 1, 1), (0xB7, 0, 0, 0, 1), _EXIT))


@_feature("v3_isa", "5.1", "instruction set v3: 32-bit jumps")
def V3_ISA() -> bool:
    return _loads(instructions((0xB7, 0, 0, 0, 0), (0xA6, 0, 0, 1, 1), (0xB7, 0, 0, 0, 1), _EXIT))


@_feature("atomics", "5.12", "atomic exchange and fetch, of instruction set v3")
def ATOMICS() -> bool:
    return _loads(instructions((0x7A, 10, 0, -8, 1), (0xB7, 0, 0, 0, 0), (0xDB, 10, 0, -8, 0xE1)) + RETURN_0)


@_feature("v4_isa", "6.6", "instruction set v4: signed moves and division, long jumps")
def V4_ISA() -> bool:
    return _loads(instructions((0xB7, 0, 0, 0, 0), (0xBF, 0, 0, 8, 0), _EXIT))  # r0 = (s8)r0


@_feature("may_goto", "6.9", "loops that the kernel ends (can_loop, cond_break)")
def MAY_GOTO() -> bool:
    return _loads(instructions((0xB7, 0, 0, 0, 0), (0xE5, 0, 0, 1, 0), (0x05, 0, 0, -2, 0), _EXIT))


# --- BTF -------------------------------------------------------------------------------------------


def _takes_btf(data: bytes) -> bool:
    return not refusal(lambda: bpf.btf_load(data))


@_feature("btf", "4.18", "types of maps and programs")
def BTF() -> bool:
    return _takes_btf(probe_btf.integer())


@_feature("btf_func", "5.0", "BTF of functions, and with it source lines")
def BTF_FUNC() -> bool:
    return _takes_btf(probe_btf.function(is_global=False))


@_feature("btf_func_global", "5.6", "BTF of global functions, which are verified one by one")
def BTF_FUNC_GLOBAL() -> bool:
    return _takes_btf(probe_btf.function(is_global=True))


@_feature("btf_datasec", "5.2", "BTF of variables and data sections")
def BTF_DATASEC() -> bool:
    return _takes_btf(probe_btf.datasec(".data"))


@_feature("btf_qmark_datasec", "6.9", "BTF of data sections whose names begin with a question mark")
def BTF_QMARK_DATASEC() -> bool:
    return _takes_btf(probe_btf.datasec("?.data"))


@_feature("btf_float", "5.13", "BTF of floating-point types")
def BTF_FLOAT() -> bool:
    return _takes_btf(probe_btf.floating())


@_feature("btf_decl_tag", "5.16", "BTF tags of declarations")
def BTF_DECL_TAG() -> bool:
    return _takes_btf(probe_btf.decl_tag())


@_feature("btf_type_tag", "5.17", "BTF tags of types")
def BTF_TYPE_TAG() -> bool:
    return _takes_btf(probe_btf.type_tag())


@_feature("btf_enum64", "6.0", "BTF of 64-bit enums and of signed ones")
def BTF_ENUM64() -> bool:
    return _takes_btf(probe_btf.enum64())


@_feature("btf_layout", "7.1", "BTF that says how long its kinds of type are")
def BTF_LAYOUT() -> bool:
    return _takes_btf(probe_btf.with_layout())


@_feature("module_btf", "5.11", "BTF of kernel modules")
def MODULE_BTF() -> bool:
    """BTF got names when modules got BTF: a kernel without them refuses a longer struct bpf_btf_info."""
    with Fd(bpf.btf_load(probe_btf.integer())) as fd:
        name = bytearray(64)
        wanted = bytearray(struct.pack("=Q2IQ2I", 0, 0, 0, address(name), len(name), 0))
        return not refusal_of(lambda: bpf.obj_get_info(fd.number, wanted))


@_feature("arg_ctx", "6.8", "__arg_ctx: arguments of global functions that are a program's context")
def ARG_CTX() -> bool:
    """A global function that reads a context through a ``void *`` with the tag."""
    code = instructions(
        (0x85, 0, BPF_PSEUDO_CALL, 0, 1),
        _EXIT,
        (0x61, 0, 1, 0, 0),
        _EXIT,  # r0 = *(u32 *)(r1 + 0)
    )
    data, main, callee = probe_btf.tagged_context()
    with Fd(bpf.btf_load(data)) as btf:
        wanted = ProgAttributes(
            ProgramType.SCHED_CLS,
            code,
            "GPL",
            btf_fd=btf.number,
            func_info=struct.pack("=4I", 0, main, 2, callee),
            func_info_size=8,
        )
        return not refusal(lambda: bpf.prog_load(wanted))


# --- attaching -------------------------------------------------------------------------------------


def _link_create(program: Fd, target: int, attach_type: int, rest: bytes = b"") -> int:
    fields = struct.pack("=IiII", program.number, target, attach_type, 0) + rest
    return _command(Command.LINK_CREATE, fields)


@_feature("perf_link", "5.15", "links to perf events: kprobes, uprobes, tracepoints")
def PERF_LINK() -> bool:
    with _program(ProgramType.TRACEPOINT) as program:
        return _link_create(program, -1, AttachType.PERF_EVENT) == errno.EBADF


@_feature("kprobe_multi", "5.18", "one link for many kprobes")
def KPROBE_MULTI() -> bool:
    with _program(ProgramType.KPROBE, AttachType.TRACE_KPROBE_MULTI) as program:
        nowhere = struct.pack("=IIQQQ", 0, 1, 0, 1, 0)  # one address, to be read at 1
        return _link_create(program, 0, AttachType.TRACE_KPROBE_MULTI, nowhere) == errno.EFAULT


@_feature("tracing_multi", "7.2", "one link for the entry or return of many functions, by trampoline")
def TRACING_MULTI() -> bool:
    return _loads(RETURN_0, ProgramType.TRACING, expected_attach_type=AttachType.TRACE_FENTRY_MULTI)


@_feature("uprobe_multi", "6.6", "one link for many uprobes, with a filter by process that works")
def UPROBE_MULTI() -> bool:
    """The root folder is no file to probe: EBADF; a negative process id, since the filter works: EINVAL."""
    with _program(ProgramType.KPROBE, AttachType.TRACE_UPROBE_MULTI) as program:
        path, offset = bytearray(b"/\0"), bytearray(8)

        def attach(pid: int) -> int:
            sites = struct.pack("=4Q2Ii4x", address(path), address(offset), 0, 0, 1, 0, pid)
            return _link_create(program, 0, AttachType.TRACE_UPROBE_MULTI, sites)

        return attach(0) == errno.EBADF and attach(-1) == errno.EINVAL


@_feature("tcx", "6.6", "links to tc's ingress and egress, without a qdisc")
def TCX() -> bool:
    with _program(ProgramType.SCHED_CLS) as program:
        # A device that is not there; a kernel without tcx does not come to look for it.
        return _link_create(program, 0x7FFFFFFF, AttachType.TCX_INGRESS) == errno.ENODEV


@_feature("syscall_wrapper", "4.17", "system calls behind a function named for the machine (__x64_sys_...)")
def SYSCALL_WRAPPER() -> bool:
    prefix = {"x86_64": "x64", "aarch64": "arm64", "s390x": "s390x", "riscv64": "riscv"}
    machine = prefix.get(syscall.machine())
    return machine is not None and _kernel_names(f"__{machine}_sys_bpf")


@_feature("uprobe_syscall", "6.18", "uprobes that need no trap (x86-64)")
def UPROBE_SYSCALL() -> bool:
    return syscall.machine() == "x86_64" and syscall.system.uprobe() == errno.ENXIO


@_feature("token", "6.9", "BPF tokens: privileges handed out by a bpffs")
def TOKEN() -> bool:
    return _command(Command.TOKEN_CREATE, struct.pack("=2I", 0, 0xFFFFFFFF)) == errno.EBADF


def _kernel_names(symbol: str) -> bool:
    """Whether the kernel has a function of that name, by its BTF, else by its symbols."""
    from bpfctl.kernel import kernel_btf

    try:
        return kernel_btf.vmlinux().data.find(f"\0{symbol}\0".encode()) >= 0
    except OSError:
        with open("/proc/kallsyms", encoding="ascii", errors="replace") as symbols:
            return any(line.split()[2] == symbol for line in symbols)
