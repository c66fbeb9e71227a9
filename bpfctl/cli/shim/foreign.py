"""Lines that load a program, but of which other words are not known here: filters and actions of other
kinds, options of routes and links.

The program is loaded here and lent to the real tool, which gets ``pinned PATH`` where its words stood.
"""

from __future__ import annotations

from bpfctl.api.lending import Wanted, lend
from bpfctl.cli.app import App
from bpfctl.cli.grammar.programs import Place, in_actions, in_filter, in_link, in_route
from bpfctl.cli.grammar.tokens import matches
from bpfctl.cli.shim.work import FAILED, Loan, Tool, ToolRefusedError, Work, blocked_signals
from bpfctl.record import TYPE_CHECKING
from bpfctl.uapi import ProgramType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FINDERS = {
    "filter": in_filter,
    "actions": in_actions,
    "link": in_link,
    "route": in_route,
    "nexthop": in_route,
}


def find(tool: Tool, name: str, words: list[str]) -> Work | None:
    """The work of ``words``: object, which is ``name``, command, the rest; None where no object is loaded."""
    finder = _FINDERS.get(name)
    places = finder(words[2:]) if finder else []
    if not places:
        return None

    def work(app: App, loaded: Callable[[], None]) -> None:
        mask = blocked_signals()  # while the tool works, more are

        def hand_on(paths: list[str], fds: Sequence[int]) -> None:
            line = [*tool.line_options, *words[:2], *_with_paths(words[2:], places, paths)]
            status = tool.call(line, Loan(fds, mask))
            if status:
                raise ToolRefusedError(status)

        wanted = [Wanted(place.source, place.program_type, _offload(place, words)) for place in places]
        lend(wanted, hand_on, session=app.session, warn=app.warn, before=loaded)

    return Work(tool.name, work, always=FAILED if name == "actions" else 0)


def _with_paths(words: list[str], places: list[Place], paths: list[str]) -> list[str]:
    """``words`` with the programs at ``places`` told by path.

    ``verbose`` is the last word of a spec, and nothing is loaded that it could speak of: what follows is
    none of the spec, as it was not before.
    """
    given, at = list[str](), 0
    for place, path in zip(places, paths, strict=True):
        given += [*words[at : place.start], "pinned", path, "verbose"]
        at = place.end
    return given + words[at:]


def _offload(place: Place, words: list[str]) -> int:
    """The ``ifindex`` of the device that a filter is for alone: with ``skip_sw``."""
    if place.program_type != ProgramType.SCHED_CLS or "dev" not in words[:-1]:
        return 0
    if not any(matches(word, "skip_sw") and len(word) > len("skip_") for word in words):
        return 0
    from bpfctl.api.hooks import interface_index

    return interface_index(words[words.index("dev") + 1])
