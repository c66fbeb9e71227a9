"""``prog show``."""

from __future__ import annotations

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import FORMS, maybe_reference
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.holdertext import holder_lines
from bpfctl.inventory import listing
from bpfctl.inventory.records import ProgramInfo


@words_command("show", "[ id N | pinned PATH | name NAME | tag TAG ]", "id pinned name tag")
def show(app: App, words: list[str]) -> None:
    """Show loaded programs, or the one named; for that one also where it is pinned.

    With -d also where each is pinned and which processes hold it; with -s how often they ran and for how
    long, if kernel.bpf_stats_enabled is set.
    """
    tokens = Tokens(words)
    reference = maybe_reference(tokens)
    tokens.end(FORMS)
    details = app.options.details

    def text(record: ProgramInfo) -> str:
        return _text(record, stats=app.options.stats)

    if reference is None:
        app.output.records(listing.list_programs(pins=details, processes=details), text)
    else:
        app.output.record(listing.find_program(resolved(reference), processes=details), text)


def _text(record: ProgramInfo, *, stats: bool) -> str:
    first = f"{record.id}: {record.type}  name {record.name}  tag {record.tag}"
    first += "  gpl" if record.gpl_compatible else ""
    first += f"  dev {record.ifindex}" if record.ifindex else ""
    if stats:
        first += f"  run_time_ns {record.run_time_ns}  run_cnt {record.run_cnt}"
        first += f"  recursion_misses {record.recursion_misses}" if record.recursion_misses else ""
    jited = f"jited {record.bytes_jited}B" if record.jited else "not jited"
    sizes = f"xlated {record.bytes_xlated}B  {jited}  memlock {record.bytes_memlock}B"
    if record.map_ids:
        sizes += f"  map_ids {','.join(map(str, record.map_ids))}"
    lines = [first, f"loaded_at {_time(record.loaded_at)}  uid {record.uid}", sizes]
    lines += [f"btf_id {record.btf_id}"] if record.btf_id else []
    return "\n\t".join(lines + holder_lines(record))


def _time(unix_seconds: int) -> str:
    """Local time with its offset, ISO 8601."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(unix_seconds))
