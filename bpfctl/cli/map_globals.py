"""``map globals``: the global variables of a loaded program."""

from __future__ import annotations

from contextlib import ExitStack

from bpfctl.api.sources import resolved
from bpfctl.cli.app import App
from bpfctl.cli.command import words_command
from bpfctl.cli.elementtext import value_text
from bpfctl.cli.grammar.reference import parse_reference
from bpfctl.cli.grammar.spec import parse_setting
from bpfctl.cli.grammar.tokens import Tokens
from bpfctl.cli.map_words import MAP
from bpfctl.inventory.elements import open_elements
from bpfctl.inventory.variables import Sections, Variable


@words_command(
    "globals",
    f"{{ {MAP[2:-2]} | prog PROGRAM }} [ set NAME=VALUE ]...",
    "id pinned name prog tag set",
)
def globals_(app: App, words: list[str]) -> None:
    """Show the global variables of a map or of a program, or set some.

    NAME is a variable or a part of it, such as peer.ports[1]; VALUE is read by its type.  Constants
    (.rodata) are set when the program is loaded.
    """
    tokens = Tokens(words)
    with ExitStack() as stack:
        if tokens.take("prog"):
            from bpfctl.inventory.saving import maps_of_program

            targets = maps_of_program(resolved(parse_reference(tokens)), stack)
        else:
            targets = [stack.enter_context(open_elements(resolved(parse_reference(tokens))))]
        settings = []
        while tokens.take("set", "--set"):
            settings.append(parse_setting(tokens))
        tokens.end("set NAME=VALUE")
        sections = Sections(targets)
        if settings:
            sections.set(settings)
        else:
            app.output.records(sections.variables(), _text)


def _text(record: Variable) -> str:
    constant = "  constant" if record.frozen else ""
    return f"{record.name} = {value_text(record.value)}  ({record.type}, map {record.map}{constant})"
