"""The process: from argv to an exit status.

The only place that turns an error into text and a status: 1 for what the user can put right on the
command line or in a file, 2 for a refusal by the kernel, 130 and 143 after SIGINT and SIGTERM, which
roll back first.  (Under the names ip and tc the statuses are iproute2's: ``shim/work.py``.)  Any
exception outside of ``BpfctlError`` is a bug and shows its traceback.
"""

from __future__ import annotations

import gc
import os
import sys

from bpfctl.cli.shim import handover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

INTERRUPTED = 130
TERMINATED = 143
BROKEN_PIPE = 141


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and leave the process.

    Without garbage collection and without tearing the interpreter down: together a sixth of the time
    that a short command takes.
    """
    gc.disable()
    arguments = sys.argv[1:]
    name = os.path.basename(sys.argv[0])
    if name in handover.TOOLS:
        arguments.insert(0, name)
    if arguments and arguments[0] in handover.TOOLS:
        handover.pass_on(arguments[0], arguments[1:])
    _unwind_on_sigterm()
    try:
        status = run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = BROKEN_PIPE
    os._exit(status)


def _unwind_on_sigterm() -> None:
    """SIGTERM and SIGHUP end the process as an exception, so that what a command made is undone."""
    import _signal as signal  # type: ignore[import-not-found]  # without enum, see record.py

    def stop(number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)


def run(arguments: Sequence[str]) -> int:
    """The exit status of one command line; its errors are on stderr when this returns."""
    if arguments and arguments[0] in handover.TOOLS:
        from bpfctl.cli.shim import lines

        return lines.run(arguments[0], list(arguments[1:]))
    from bpfctl.cli.root import invoke

    return invoke(list(arguments))
