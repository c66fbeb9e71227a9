"""The latest report of ``bench maps`` on this kernel, kept for ``advise`` until the next boot.

Rows of an earlier report stay where the new one has none, so that operations and sizes can be measured one
after the other.
"""

from __future__ import annotations

import os

from bpfctl.errors import BpfctlError
from bpfctl.kernel import saved_index
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from bpfctl.bench.compare import OldReport

_NAME = "bench-maps.json"
PATH = f"{saved_index.DIRECTORY}/{_NAME}"


def keep(report: str) -> None:
    """Add ``report``, a JSON document, to what is kept; only root keeps anything."""
    import json

    new, old = json.loads(report), _document()
    if _same_conditions(new, old):
        measured = {_cell(row) for row in new["rows"]}
        new["rows"] += [row for row in old["rows"] if _cell(row) not in measured]
    saved_index.write(_NAME, json.dumps(new).encode())


def latest() -> OldReport | None:
    """What is kept, if it is of the running kernel."""
    document = _document()
    if document is None:
        return None
    from bpfctl.bench.compare import checked_report

    try:
        report = checked_report(document, PATH)
    except BpfctlError:
        return None
    return report if report.kernel == os.uname().release else None


def _document() -> Any:
    data = saved_index.read(_NAME)
    if data is None:
        return None
    import json

    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _same_conditions(new: Any, old: Any) -> bool:
    if old is None:
        return False
    from bpfctl.bench.compare import checked_report

    try:
        checked_report(old, PATH)
    except BpfctlError:
        return False
    return bool(old["host"]["kernel"] == new["host"]["kernel"] and old["keys"] == new["keys"])


def _cell(row: Any) -> tuple[str, int, str]:
    return row["operation"], row["entries"], row["map"]
