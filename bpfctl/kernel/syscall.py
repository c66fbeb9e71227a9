"""The seam: one method per primitive that changes or asks the kernel.

Convenience is out of scope here.  Each method makes one system call and raises ``OSError`` when the
kernel says no.  ``kernel/`` calls ``syscall.system.<method>`` and looks it up at call time: a test
puts a stand-in (scripted, failing or killing at call N) into :data:`system`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence

from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from select import epoll
    from typing import NoReturn

# bpf(2) has no libc wrapper; its number per machine (arch/*/syscalls).
_BPF_NUMBERS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "s390x": 351,
    "ppc64le": 361,
    "ppc64": 361,
}

# perf_event_open(2) has none either.
_PERF_NUMBERS = {
    "x86_64": 298,
    "aarch64": 241,
    "riscv64": 241,
    "loongarch64": 241,
    "s390x": 331,
    "ppc64le": 319,
    "ppc64": 319,
}
# membarrier(2), the same.
_MEMBARRIER_NUMBERS = {
    "x86_64": 324,
    "aarch64": 283,
    "riscv64": 283,
    "loongarch64": 283,
    "s390x": 356,
    "ppc64le": 365,
    "ppc64": 365,
}
_MEMBARRIER_CMD_GLOBAL = 1
# Since Linux 5.2, with one number for every machine.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_MACHINE = os.uname().machine

_PERF_FLAG_FD_CLOEXEC = 8
_PERF_EVENT_IOC_ENABLE = 0x2400

MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
CLONE_NEWNET = 0x40000000

_AF_NETLINK = 16
_SOCK_RAW_CLOEXEC = 3 | 0o2000000
_SOL_NETLINK = 270

_SIOCGIFINDEX = 0x8933
_IFNAMSIZ = 16  # offset of the index in struct ifreq
_IFREQ_SIZE = 40

_X86_64_UPROBE = 336  # uprobe(2), arch/x86/entry/syscalls/syscall_64.tbl
_COMMON_ATTR_SIZE = 16  # struct bpf_common_attr, read when the command says so

_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED = 1
_MAP_FIXED_NOREPLACE = 0x100000
_MAP_FAILED = 2 ** (8 * ctypes.sizeof(ctypes.c_void_p)) - 1

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_pread = _libc.pread
_pread.restype = ctypes.c_ssize_t
_pread.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]


def address(buffer: bytearray) -> int:
    """Address of ``buffer``'s bytes; 0 for an empty one.

    It is valid while ``buffer`` lives and keeps its length: hold it in a local variable until the
    call that uses the address has returned.
    """
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0


def machine() -> str:
    """As ``uname -m``."""
    return _MACHINE


def release() -> str:
    """As ``uname -r``."""
    return os.uname().release


def page_size() -> int:
    """Bytes of a page."""
    return os.sysconf("SC_PAGE_SIZE")


def _check(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


class System:
    """The real kernel."""

    def bpf(self, command: int, attr: bytearray) -> int:
        """bpf(2) with ``union bpf_attr`` as bytes, which the kernel may write to."""
        number = _BPF_NUMBERS.get(machine())
        if number is None:
            raise OSError(38, f"bpf(2): number unknown on {machine()}")
        view = (ctypes.c_char * len(attr)).from_buffer(attr)
        return _check(_syscall(number, int(command), view, len(attr), None, _COMMON_ATTR_SIZE))

    def uprobe(self) -> int:
        """uprobe(2) of x86-64, which only the kernel's own trampolines may call: the errno that says so."""
        _syscall(_X86_64_UPROBE)
        return ctypes.get_errno()

    def perf_event_open(self, attr: bytearray, pid: int, cpu: int) -> int:
        """perf_event_open(2) of ``struct perf_event_attr`` as bytes, in no group; -1 is any pid or CPU."""
        number = _PERF_NUMBERS.get(machine())
        if number is None:
            raise OSError(38, f"perf_event_open(2): number unknown on {machine()}")
        view = (ctypes.c_char * len(attr)).from_buffer(attr)
        return _check(_syscall(number, view, pid, cpu, -1, ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC)))

    def perf_event_enable(self, fd: int) -> None:
        """PERF_EVENT_IOC_ENABLE."""
        _check(_libc.ioctl(fd, _PERF_EVENT_IOC_ENABLE, 0))

    def close(self, fd: int) -> None:
        os.close(fd)

    # --- file system ---

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, path: str, new_path: str) -> None:
        os.rename(path, new_path)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mount(self, source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
        """mount(2)."""
        encoded = [part.encode() if part is not None else None for part in (source, target, kind, data)]
        source_, target_, kind_, data_ = encoded
        _check(_libc.mount(source_, target_, kind_, ctypes.c_ulong(flags), data_), target)

    def fsopen(self, kind: str) -> int:
        """fsopen(2): the making (fd) of a file system that is mounted nowhere."""
        return _check(_syscall(_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC))

    def fsconfig_create(self, fd: int) -> None:
        """fsconfig(2), FSCONFIG_CMD_CREATE."""
        _check(_syscall(_FSCONFIG, fd, _FSCONFIG_CMD_CREATE, None, None, 0))

    def fsmount(self, fd: int) -> int:
        """fsmount(2): the file system's root (fd); it is gone with the last descriptor."""
        return _check(_syscall(_FSMOUNT, fd, _FSMOUNT_CLOEXEC, 0))

    def umount(self, target: str) -> None:
        """umount(2)."""
        _check(_libc.umount(os.fsencode(target)), target)

    def statfs_type(self, path: str) -> int:
        """``f_type`` of statfs(2): the magic number of the file system that holds ``path``."""
        # struct statfs is under 256 bytes everywhere and begins with f_type.
        buffer = (ctypes.c_long * 32)()
        _check(_libc.statfs(os.fsencode(path), buffer), path)
        return buffer[0] & 0xFFFFFFFF

    # --- memory ---

    def mmap(self, fd: int, size: int, address: int) -> int:
        """mmap(2), shared, to read and write; at ``address`` and nowhere else unless that is 0.

        Python's own mapping cannot be told where to go.
        """
        flags = _MAP_SHARED | (_MAP_FIXED_NOREPLACE if address else 0)
        result = _mmap(address, size, _PROT_READ | _PROT_WRITE, flags, fd, 0)
        if result == _MAP_FAILED:
            _check(-1)
        return int(result or 0)

    def munmap(self, address: int, size: int) -> None:
        """munmap(2)."""
        _check(_libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size)))

    def read_into(self, fd: int, address: int, size: int, offset: int) -> int:
        """pread(2) to a place in memory that may not be there: bytes read, EFAULT for none."""
        return int(_check(_pread(fd, address, size, offset)))

    # --- namespaces and network devices ---

    def setns(self, fd: int, kind: int) -> None:
        """setns(2); ``os.setns`` only exists from Python 3.12 on."""
        _check(_libc.setns(fd, kind))

    def unshare(self, kind: int) -> None:
        """unshare(2); ``os.unshare`` only exists from Python 3.12 on."""
        _check(_libc.unshare(kind))

    def interface_index(self, fd: int, name: bytes) -> int:
        """SIOCGIFINDEX of ``name`` (15 bytes at most) in the network namespace of the socket ``fd``."""
        request = ctypes.create_string_buffer(name, _IFREQ_SIZE)
        _check(_libc.ioctl(fd, _SIOCGIFINDEX, request))
        return ctypes.c_int.from_buffer(request, _IFNAMSIZ).value

    # --- rtnetlink ---

    def netlink_open(self) -> int:
        """A NETLINK_ROUTE socket that gives extended ACKs and strict checks (fd).

        Plain descriptors: a netlink socket without an address talks to the kernel, so read(2) and
        write(2) do, and importing ``socket`` would cost 7 ms of every start.
        """
        fd = _check(_libc.socket(_AF_NETLINK, _SOCK_RAW_CLOEXEC, 0))
        one = ctypes.c_int(1)
        for option in (11, 10, 12):  # NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK
            # An old kernel lacks the option and then says less; that is no reason to stop.
            _libc.setsockopt(fd, _SOL_NETLINK, option, ctypes.byref(one), 4)
        return fd

    def netlink_send(self, fd: int, message: bytes) -> None:
        os.write(fd, message)

    def netlink_receive(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    # --- unix sockets ---

    def unix_bind(self, path: str) -> int:
        """A datagram socket (fd) at ``path``, whose file it makes."""
        from bpfctl.kernel import unix

        return unix.bind(path)

    def unix_connect(self, path: str, patience: int) -> int:
        """A datagram socket (fd) that sends to ``path``; a queue full for ``patience`` seconds is EAGAIN."""
        from bpfctl.kernel import unix

        return unix.connect(path, patience)

    def send_descriptors(self, fd: int, data: bytes, descriptors: Sequence[int]) -> None:
        """sendmsg(2): one datagram with SCM_RIGHTS."""
        from bpfctl.kernel import unix

        unix.send(fd, data, descriptors)

    def receive_descriptors(self, fd: int, size: int, count: int) -> tuple[bytes, list[int], bool]:
        """recvmsg(2): a datagram, its descriptors (at most ``count``), and whether that was all of it."""
        from bpfctl.kernel import unix

        return unix.receive(fd, size, count)

    def epoll(self) -> epoll:
        """epoll_create1(2): Python's object, which has the other calls as methods."""
        from select import epoll

        return epoll()

    def wait_readable(self, fd: int, seconds: float | None) -> bool:
        """select(2) for input; None waits for ever."""
        import select

        return bool(select.select([fd], [], [], seconds)[0])

    # --- processes ---

    def membarrier(self) -> None:
        """MEMBARRIER_CMD_GLOBAL: returns after every program that runs now has ended.

        It waits for an RCU grace period (kernel/sched/membarrier.c), which programs run within.
        """
        number = _MEMBARRIER_NUMBERS.get(machine())
        if number is None:
            raise OSError(38, f"membarrier(2): number unknown on {machine()}")
        _check(_syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0))

    def set_affinity(self, cpus: set[int]) -> None:
        """sched_setaffinity(2) of this thread."""
        os.sched_setaffinity(0, cpus)

    def execute(self, words: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
        """execvpe(3): become another program."""
        os.execvpe(words[0], list(words), dict(environment))


system = System()
