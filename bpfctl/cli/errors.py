"""From an exception to what the user reads on stderr, and to the exit status."""

from __future__ import annotations

import sys

from bpfctl.errors import BpfctlError, printable

_LONGEST = 4096  # characters of a line


def report(error: BpfctlError, position: str) -> int:
    """Print ``error``, prefixed with the place in a batch, and return the exit status that it means."""
    where = f"{position}: " if position else ""
    lines = [f"Error: {where}{printable(error.message, _LONGEST)}"]
    lines += [f"  {printable(line.expandtabs(), _LONGEST)}" for line in error.details]
    if error.hint:
        lines.append(f"Hint: {printable(error.hint, _LONGEST)}")
    sys.stdout.flush()
    print("\n".join(lines), file=sys.stderr)
    return error.exit_status
