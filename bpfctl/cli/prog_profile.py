"""``prog profile``: how busy programs are."""

from __future__ import annotations

import time

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import maybe_reference
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.pace import parse_seconds
from bpfctl.errors import UsageError
from bpfctl.inventory.counters import COUNTERS, CounterRecord
from bpfctl.inventory.profile import Profile, profile


@words_command(
    "profile",
    "[ id N | pinned PATH | name NAME | tag TAG ] [ duration SECONDS ] [ COUNTER ]...",
    "id pinned name tag duration cycles instructions l1d_loads llc_misses itlb_misses dtlb_misses cpu_clock",
)
def profile_(app: App, words: list[str]) -> None:
    """Count runs of a program, or of all, for a while: how many, how long, how much of a CPU.

    For one second, or SECONDS (0.5 too), or until Ctrl-C.  Programs that did not run are left out of the list
    of all.  COUNTERs of the hardware (cycles, instructions, ...), or cpu_clock, are read at entry and exit of
    the one program.
    """
    tokens = Tokens(words)
    reference = maybe_reference(tokens)
    seconds = parse_seconds(tokens) if tokens.take("duration") else 1.0
    counters = []
    while tokens.peek() in COUNTERS:
        counters.append(tokens.next())
    tokens.end("id, pinned, name, tag, duration; the counters cycles, instructions, l1d_loads, ...")
    if counters and reference is None:
        raise UsageError(
            "counters are of one program", hint="say which: id N, pinned PATH, name NAME or tag TAG"
        )

    def wait() -> None:
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            return  # enough seen

    records = profile(resolved(reference) if reference else None, wait, counters)
    if reference is None:
        app.output.records(records, _text)
    else:
        app.output.record(records[0], _text)


def _text(record: Profile) -> str:
    each = "-" if record.ns_per_run is None else record.ns_per_run
    text = f"{record.id}: {record.type}  name {record.name}  runs {record.run_cnt}"
    text += f"  runs/s {record.runs_per_second}  ns/run {each}  cpu {record.cpu_percent}%"
    text += f"  recursion_misses {record.recursion_misses}" if record.recursion_misses else ""
    return "\n".join([text, *map(_counter, record.counters or ())])


def _counter(record: CounterRecord) -> str:
    mean = "-" if record.per_run is None else record.per_run
    text = f"    {record.name} {record.value}  runs {record.runs}  per run {mean}"
    return text if record.percent in (None, 100) else f"{text}  counted {record.percent}% of the time"
