"""From an exception to what the user reads on stderr, and to the exit status."""

from __future__ import annotations

import sys

import click

from bpfctl.errors import EXIT_USAGE, BpfctlError, printable

_LONGEST = 4096  # characters of a line


def report(error: BpfctlError | click.ClickException, position: str) -> int:
    """Print ``error``, prefixed with the place in a batch, and return the exit status that it means."""
    if isinstance(error, click.ClickException):
        # click's own status for usage errors is 2, which here is the kernel's.
        error = _translated(error)
    where = f"{position}: " if position else ""
    lines = [f"Error: {where}{printable(error.message, _LONGEST)}"]
    lines += [f"  {printable(line.expandtabs(), _LONGEST)}" for line in error.details]
    if error.hint:
        lines.append(f"Hint: {printable(error.hint, _LONGEST)}")
    sys.stdout.flush()
    print("\n".join(lines), file=sys.stderr)
    return error.exit_status


def _translated(error: click.ClickException) -> BpfctlError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"{context.command_path} --help" if context else None
    found = BpfctlError(error.format_message(), hint=hint)
    assert found.exit_status == EXIT_USAGE
    return found
