"""Lines that say who keeps a program or map alive."""

from __future__ import annotations

from bpfctl.inventory.records import MapInfo, ProgramInfo


def holder_lines(record: ProgramInfo | MapInfo) -> list[str]:
    """A line for each pin, and one with the processes; none where nobody asked."""
    lines = [f"pinned {path}" for path in record.pinned or ()]
    if record.pids:
        lines.append("pids " + ", ".join(f"{process.comm}({process.pid})" for process in record.pids))
    return lines
