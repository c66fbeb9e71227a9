"""A command line of ``ip`` or ``tc`` that may be ours.

What loads a program, attaches one or takes XDP off is ours; what deletes, lists or shows is the real
tool's, and so is a line that our grammar does not know: it says what is wrong in its own words.  Without
a real tool bpfctl's own commands answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bpfctl.cli.app import App, Options
from bpfctl.cli.errors import report
from bpfctl.cli.grammar.tokens import matches
from bpfctl.cli.shim import handover
from bpfctl.cli.shim.work import FAILED, RestRefusedError, Tool, Work
from bpfctl.errors import BpfctlError, UsageError

_FILTER_COMMANDS = ("add", "change", "replace", "delete", "get", "list", "show", "lst", "help")
_ROUTE_COMMANDS = ("list", "show", "lst", "get", "add", "change", "chg", "replace", "prepend", "append")
_NEXTHOP_COMMANDS = ("add", "replace", "delete", "list", "show", "lst", "get", "flush")
_EXEC_COMMANDS = ("import", "debug", "dbg", "graft")
_LINK_COMMANDS = ("add", "set", "change", "replace", "delete", "show", "list", "lst")
_OWN_OBJECTS = {
    "ip": ("link", "route", "nexthop"),
    "tc": ("qdisc", "filter", "actions"),
}  # where there is no real tool


def run(name: str, arguments: list[str]) -> int:
    """The exit status of ``name`` with ``arguments``, or the real tool in the place of this process."""
    split = handover.split_options(name, arguments)
    path = handover.find(name)
    if split is None:
        return _theirs(name, path, arguments)
    given, at = split
    tool = Tool(name, path, arguments[:at], handover.spell_options(given, but=("batch", "netns")))
    app = App(_options(given))
    try:
        if "batch" in given:
            from bpfctl.cli.shim import mixed

            return mixed.run(app, tool, given["batch"])
        return _run_line(app, tool, arguments[at:], arguments)
    except BpfctlError as error:
        return report(error, "")
    finally:
        app.close()


def _options(given: dict[str, str]) -> Options:
    return Options(
        json="json" in given,
        pretty="pretty" in given,
        details="details" in given,
        stats="stats" in given or "statistics" in given,
        force="force" in given,
        netns=given.get("netns"),
        ipv4="4" in given or given.get("family") == "inet",
        ipv6="6" in given or given.get("family") == "inet6",
    )


def _run_line(app: App, tool: Tool, words: list[str], arguments: list[str]) -> int:
    work = find_work(tool, words)
    if work is None and tool.path:
        handover.become(tool.path, tool.name, arguments)
    if work is None:
        return handover.no_tool(tool.name)
    enter_namespace(app)
    return work.run(app)


def find_work(tool: Tool, words: list[str]) -> Work | None:
    """The work that a line means, if it is not the real tool's; where there is none, all that we can do."""
    try:
        work = ours(tool, words)
    except UsageError:
        if not tool.path:
            raise
        from bpfctl.cli.shim import foreign

        return foreign.find(tool, _finder(tool, words[0])[0], words)
    return work if work or tool.path else own_work(tool, words)


def enter_namespace(app: App) -> None:
    """Enter the network namespace that ``-n`` names."""
    if app.options.netns is not None:
        from bpfctl.attach import namespace

        namespace.enter(app.options.netns)


def own_work(tool: Tool, words: list[str]) -> Work | None:
    """bpfctl's own command of this name, for where there is no real tool; None if it has none."""
    if not words or not any(matches(words[0], name) for name in _OWN_OBJECTS[tool.name]):
        return None
    from bpfctl.cli.root import ROOT

    return Work(tool.name, lambda app, loaded: ROOT.run(app, words), loads=False)


def _theirs(name: str, path: str, arguments: list[str]) -> int:
    if path:
        handover.become(path, name, arguments)
    return handover.no_tool(name)


# --- which lines are ours ---


def ours(tool: Tool, words: list[str]) -> Work | None:
    """The work that ``words`` mean; None, or a UsageError, for a line that is the real tool's."""
    if len(words) < 2 or not handover.is_marked(tool.name, words):
        return None
    return _finder(tool, words[0])[1](tool, words[1:])


def _finder(tool: Tool, word: str) -> tuple[str, _Finder]:
    """What ``word``, the object of a line, means, and who knows its lines."""
    finders = _IP_OBJECTS if tool.name == "ip" else _TC_OBJECTS
    known = (pair for pair in finders if matches(word, pair[0]))
    return next(known, ("", lambda tool, words: None))


def _command(word: str, known: Sequence[str]) -> str:
    """What ``word``, which may be cut, means; "" for nothing known."""
    return next((name for name in known if matches(word, name)), "")


def _ip_link(tool: Tool, words: list[str]) -> Work | None:
    if _command(words[0], _LINK_COMMANDS) not in ("set", "change"):
        return None
    from bpfctl.api import hooks
    from bpfctl.cli.grammar.iplink import parse_line

    (device, mode, source), others = parse_line(words[1:])
    if others and not tool.path:
        raise UsageError(
            f"{' '.join(others)}: for these words a real ip is wanted, and there is none in PATH"
        )

    def do_others() -> None:
        status = tool.call(["link", "set", *others]) if others else 0
        if status:
            raise RestRefusedError(device, status)

    def take_off(app: App, loaded: Callable[[], None]) -> None:
        do_others()
        hooks.detach_xdp(device, mode=mode)

    def attach(app: App, loaded: Callable[[], None]) -> None:
        assert source is not None

        def before() -> None:
            loaded()
            do_others()

        hooks.attach_xdp(
            device,
            source,
            mode=mode,
            force=app.options.force,
            session=app.session,
            warn=app.warn,
            before=before,
        )

    return Work("ip", take_off, loads=False) if source is None else Work("ip", attach)


def _ip_route(tool: Tool, words: list[str]) -> Work | None:
    command = _command(words[0], _ROUTE_COMMANDS)
    if command not in ("add", "change", "chg", "replace", "prepend", "append"):
        return None
    from bpfctl.api import routes
    from bpfctl.cli.grammar.route import in_family, parse_route

    parsed = parse_route(words[1:], strict=True)
    if not any(parsed.tunnels):
        return None
    how = "change" if command == "chg" else command

    def attach(app: App, loaded: Callable[[], None]) -> None:
        request, tunnels = in_family(parsed, app.options.family)
        routes.attach_route(request, tunnels, how=how, session=app.session, warn=app.warn, before=loaded)

    return Work("ip", attach)


def _ip_nexthop(tool: Tool, words: list[str]) -> Work | None:
    command = _command(words[0], _NEXTHOP_COMMANDS)
    if command not in ("add", "replace"):
        return None
    from bpfctl.api import routes
    from bpfctl.cli.grammar.nexthop import parse_nexthop

    request, tunnel = parse_nexthop(words[1:], strict=True)
    if tunnel is None:
        return None

    def attach(app: App, loaded: Callable[[], None]) -> None:
        family = 0 if request.gateway else app.options.family
        wanted = request._replace(family=family) if family else request
        routes.attach_nexthop(wanted, tunnel, how=command, session=app.session, warn=app.warn, before=loaded)

    return Work("ip", attach)


def _tc_filter(tool: Tool, words: list[str]) -> Work | None:
    command = _command(words[0], _FILTER_COMMANDS)
    if command not in ("add", "change", "replace"):
        return None
    from bpfctl.api import hooks
    from bpfctl.cli.filter_set import request
    from bpfctl.cli.grammar.filter import parse_filter

    parsed = parse_filter(words[1:], strict=True)
    if not parsed.kind or not (parsed.device or parsed.block):
        return None
    source, wanted = parsed.source, request(parsed)

    def attach(app: App, loaded: Callable[[], None]) -> None:
        if source is None:
            loaded()  # tc(8) asks the kernel, and fails there
            raise BpfctlError(
                "the filter has no program", hint="one of: obj FILE, pinned PATH, bytecode CODE"
            )
        hooks.attach_filter(
            wanted,
            source,
            how=command,
            actions=parsed.actions,
            session=app.session,
            warn=app.warn,
            before=loaded,
        )

    return Work("tc", attach)


def _tc_actions(tool: Tool, words: list[str]) -> Work | None:
    command = _command(words[0], ("add", "change", "replace"))
    if not command:
        return None
    from bpfctl.api import actions
    from bpfctl.cli.grammar.action import parse_list

    parsed = parse_list(words[1:], strict=True)
    if all(action.source is None for action in parsed):
        return None
    how = "add" if command == "add" else "replace"

    def make(app: App, loaded: Callable[[], None]) -> None:
        actions.set_actions(parsed, how=how, session=app.session, warn=app.warn, before=loaded)

    return Work("tc", make, always=FAILED)


def _tc_exec(tool: Tool, words: list[str]) -> Work | None:
    if words[0] != "bpf" or not _command(words[1] if len(words) > 1 else "", _EXEC_COMMANDS):
        return None
    from bpfctl.cli.root import ROOT

    return Work("", lambda app, loaded: ROOT.run(app, ["exec", *words]), always=FAILED)


_Finder = Callable[[Tool, list[str]], "Work | None"]

# Objects in the order in which the tools try them: what may hide one of ours, and ours.
_IP_OBJECTS: tuple[tuple[str, _Finder], ...] = (
    ("route", _ip_route),
    ("link", _ip_link),
    ("neighbour", lambda tool, words: None),
    ("netns", lambda tool, words: None),
    ("nexthop", _ip_nexthop),
)
_TC_OBJECTS: tuple[tuple[str, _Finder], ...] = (
    ("filter", _tc_filter),
    ("actions", _tc_actions),
    ("exec", _tc_exec),
)
