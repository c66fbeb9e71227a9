"""What rules need to know of this machine."""

from __future__ import annotations

from bpfctl.kernel.privilege import possible_cpus
from bpfctl.record import NamedTuple

_NODES = "/sys/devices/system/node/online"
_USUAL_L2 = 1 << 20


class Machine(NamedTuple):
    """Bytes of memory, 0 where it is not known; possible CPUs; NUMA nodes; bytes of CPU 0's L2 cache.

    ``memlock``: bytes that RLIMIT_MEMLOCK leaves to maps, None where nothing limits them.
    """

    memory: int
    cpus: int
    nodes: int
    l2: int = _USUAL_L2
    memlock: int | None = None


def this_machine() -> Machine:
    """The one that runs this."""
    return Machine(_memory(), possible_cpus(), _nodes(), _l2(), _memlock())


def _memlock() -> int | None:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY:
        return None
    from bpfctl.kernel import probe

    return limit if probe.MEMCG_ACCOUNTING.missing() else None


def _memory() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return 0


def _nodes() -> int:
    """As in "0-1,4"."""
    count = 0
    for part in _read(_NODES).strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            count += int(last or first) - int(first) + 1
    return max(count, 1)


def _l2() -> int:
    for index in range(8):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        size = _read(f"{folder}/size").strip()
        if _read(f"{folder}/level").strip() == "2" and size.endswith("K"):
            return int(size[:-1]) << 10
    return _USUAL_L2


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
