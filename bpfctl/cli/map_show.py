"""``map show`` and ``map pin``."""

from __future__ import annotations

from bpfctl.api import pinning, sources
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.grammar.reference import FORMS, maybe_reference, parse_reference
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.holdertext import holder_lines
from bpfctl.inventory import listing
from bpfctl.inventory.records import MapInfo


@words_command("show", "[ { id N | pinned PATH | name NAME } [ count ] ]", "id pinned name count")
def show(app: App, words: list[str]) -> None:
    """Show maps, or the one named; for that one also where it is pinned, its programs and how full it is.

    With -d also where each is pinned, the programs that use it and the processes that hold it.  "count": how
    full it is also where the whole map has to be read for that.
    """
    tokens = Tokens(words)
    reference = maybe_reference(tokens)
    count = reference is not None and tokens.take("count")
    tokens.end("count" if reference else FORMS)
    details = app.options.details
    if reference is None:
        app.output.records(listing.list_maps(pins=details, processes=details), _text)
    else:
        app.output.record(
            listing.find_map(sources.resolved(reference), processes=details, count=count), _text
        )


def _text(record: MapInfo) -> str:
    first = f"{record.id}: {record.type}  name {record.name}  flags {record.flags:#x}"
    first += f" ({', '.join(record.flag_names)})" if record.flag_names else ""
    first += f"  dev {record.ifindex}" if record.ifindex else ""
    sizes = f"key {record.bytes_key}B  value {record.bytes_value}B  max_entries {record.max_entries}"
    sizes += f"  memlock {record.bytes_memlock}B"
    sizes += f"  map_extra {record.map_extra:#x}" if record.map_extra else ""
    sizes += f"  entries {record.entries}" if record.entries is not None else ""
    sizes += "  frozen" if record.frozen else ""
    sizes += f"  owner_prog_type {record.owner_prog_type}" if record.owner_prog_type else ""
    lines = [first, sizes] + ([f"btf_id {record.btf_id}"] if record.btf_id else [])
    lines += [f"prog_ids {','.join(map(str, record.prog_ids))}"] if record.prog_ids else []
    return "\n\t".join(lines + holder_lines(record))


@words_command("pin", "{ id N | pinned PATH | name NAME } PATH", "id pinned name")
def pin(app: App, words: list[str]) -> None:
    """Pin a map at PATH, a name on a bpffs; "m:globals/NAME" is NAME where tc and ip share maps."""
    tokens = Tokens(words)
    reference = parse_reference(tokens)
    path = tokens.value("PATH")
    tokens.end()
    pinning.pin_map(reference, path)
