"""Facts of the machine that the figures were taken on: they belong into every record of a benchmark."""

from __future__ import annotations

import os

from bpfctl.record import NamedTuple

_CPU = "/sys/devices/system/cpu"


class Cache(NamedTuple):
    """A cache of CPU 0: ``size`` as the kernel writes it, ``512K``."""

    level: int
    type: str
    size: str


class Host(NamedTuple):
    """Kernel, processor and what slows or disturbs them; None where the machine does not say.

    ``load_before`` and ``load_after``: the one-minute load average around the run.
    """

    kernel: str
    machine: str
    cpu: str | None
    cpus: int
    caches: tuple[Cache, ...]
    mitigations: dict[str, str]
    jit: bool | None
    nodes: str | None
    governor: str | None
    load_before: float
    load_after: float


def describe(load_before: float) -> Host:
    """The facts as they are now."""
    jit = _read("/proc/sys/net/core/bpf_jit_enable")
    return Host(
        kernel=os.uname().release,
        machine=os.uname().machine,
        cpu=_cpu_model(),
        cpus=os.cpu_count() or 1,
        caches=tuple(_caches()),
        mitigations=_mitigations(),
        jit=None if jit is None else jit != "0",
        nodes=_read("/sys/devices/system/node/online"),
        governor=_read(f"{_CPU}/cpu0/cpufreq/scaling_governor"),
        load_before=load_before,
        load_after=load_average(),
    )


def load_average() -> float:
    """Of the last minute."""
    return round(os.getloadavg()[0], 2)


def last_level_cache() -> int:
    """Bytes of CPU 0's largest cache; 32 MiB where the machine does not say."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    sizes = [int(cache.size[:-1]) * units[cache.size[-1]] for cache in _caches() if cache.size[-1:] in units]
    return max(sizes, default=32 << 20)


def _cpu_model() -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return None


def _caches() -> list[Cache]:
    caches = []
    for number in range(8):
        folder = f"{_CPU}/cpu0/cache/index{number}"
        level, size = _read(f"{folder}/level"), _read(f"{folder}/size")
        if level is None or size is None:
            break
        caches.append(Cache(int(level), _read(f"{folder}/type") or "", size))
    return caches


def _mitigations() -> dict[str, str]:
    """Those that lengthen indirect calls and branches, which is what a map's lookup may be."""
    texts = {
        name: _read(f"{_CPU}/vulnerabilities/{name}") for name in ("spectre_v1", "spectre_v2", "retbleed")
    }
    return {name: text for name, text in texts.items() if text}


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
