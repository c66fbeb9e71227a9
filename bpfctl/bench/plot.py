"""A report drawn by matplotlib: cost over size, rankings, what a second CPU does to it, shares of packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import ceil, floor, log10

from bpfctl.bench.maps import Report, Row
from bpfctl.bench.paths import PathRow
from bpfctl.errors import BpfctlError, printable
from bpfctl.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

_WIDTH = 9.0  # inches
_DPI = 150
_INK, _PALE = "#333333", "#c8ccd0"
# A colour for each family of types, told apart by people who do not see all colours (Okabe and Ito).
_FAMILIES = (
    ("array", "#0072b2"),
    ("lru", "#009e73"),
    ("hash", "#d55e00"),
    ("lpm_trie", "#cc79a7"),
    ("queue", "#56b4e9"),
    ("stack", "#e69f00"),
    ("bloom", "#000000"),
)
_OTHER = "#7f7f7f"
_STYLE = {
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _PALE,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bpfctl",  # the same report gives the same file
}


class _Panel(NamedTuple):
    """``height`` in inches; ``draw`` is given a figure of this height."""

    height: float
    draw: Callable[[Any], None]


def require() -> None:
    """BpfctlError where the library is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BpfctlError(
            "plots are drawn by matplotlib, which is not installed",
            hint="pip install 'bpfctl[plot]', or your distribution's package of matplotlib",
        ) from error


def write(report: Report, path: str) -> None:
    """Draw ``report`` into ``path``, whose ending says how; raises BpfctlError."""
    require()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = list(_panels(report))
    if not panels:
        raise BpfctlError(f"{printable(path)} is not written: nothing was measured that could be drawn")
    heights = [panel.height for panel in panels]
    kind = path.rpartition(".")[2]
    with rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.4), dpi=_DPI, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        places = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)
        for panel, place in zip(panels, places[:, 0], strict=True):
            panel.draw(place)
        figure.supxlabel(_footer(report), x=0.01, ha="left", fontsize=8)
        try:
            figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else None)
        except OSError as error:
            raise BpfctlError(f"cannot write {printable(path)}: {error.strerror}") from error


def _footer(report: Report) -> str:
    host = report.host
    parts = [f"Linux {host.kernel}", host.cpu or host.machine, f"{host.cpus} CPUs"]
    parts += [f"load {host.load_before} to {host.load_after}"]
    return ", ".join(parts).replace("$", r"\$")


def _panels(report: Report) -> Iterator[_Panel]:
    for operation in dict.fromkeys(row.operation for row in report.rows):
        rows = [row for row in report.rows if row.operation == operation]
        title = f"{operation}, {report.keys} keys"
        sizes = sorted({row.entries for row in rows})
        if len(sizes) > 1:
            yield _Panel(4.6, partial(_over_size, rows=rows, title=title))
        else:
            height = 1.2 + 0.3 * len(rows)
            title += f", {_count(sizes[0])} entries"
            yield _Panel(height, partial(_ranking, rows=rows, title=title))
        for entries in sizes:
            both = [row for row in rows if row.entries == entries and row.contended is not None]
            if both:
                name = f"{operation}, {_count(entries)} entries: alone, and with a second CPU at work"
                yield _Panel(4.2, partial(_slopes, rows=both, title=name))
    for entries in dict.fromkeys(row.entries for row in report.paths):
        shares = [row for row in report.paths if row.entries == entries]
        height = 1.3 + 0.26 * len({row.map for row in shares})
        yield _Panel(height, partial(_shares, rows=shares))


# --- charts -------------------------------------------------------------------------------------------


def _over_size(figure: Any, rows: Sequence[Row], title: str) -> None:
    """A line for each map, log-log, with the span of its rounds at each size."""
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="entries", ylabel="ns an operation")
    axes.set_title(title)
    lowest = _lowest(rows)
    ends = {}
    for name in dict.fromkeys(row.map for row in rows):
        line = sorted((row for row in rows if row.map == name), key=lambda row: row.entries)
        middles = [max(row.ns, lowest) for row in line]
        spans = [
            [middle - max(row.low, lowest) for row, middle in zip(line, middles, strict=True)],
            [max(row.high - middle, 0) for row, middle in zip(line, middles, strict=True)],
        ]
        sizes = [row.entries for row in line]
        axes.errorbar(sizes, middles, spans, capsize=2, lw=1.6, markersize=4.5, **_look(name))
        ends[name] = (sizes[-1], middles[-1])
    sizes = sorted({row.entries for row in rows})
    axes.set_xticks(sizes, [_count(size) for size in sizes])
    _log_ticks(axes)
    _label_ends(axes, ends, lambda name: name)


def _ranking(figure: Any, rows: Sequence[Row], title: str) -> None:
    """A bar for each map, fastest on top, with the span of its rounds; ties say so."""
    axes = figure.subplots()
    axes.set_title(title)
    ordered = sorted(rows, key=lambda row: row.ns, reverse=True)
    names = [f"{row.map}  {row.rank}{'=' if row.tied else ' '}" for row in ordered]
    spans = [
        [max(row.ns - row.low, 0) for row in ordered],
        [max(row.high - row.ns, 0) for row in ordered],
    ]
    looks = _bars([row.map for row in ordered])
    axes.barh(names, [max(row.ns, 0) for row in ordered], height=0.62, **looks)
    axes.errorbar(
        [row.ns for row in ordered], range(len(ordered)), xerr=spans, fmt="none", ecolor=_INK, capsize=3, lw=1
    )
    for place, row in enumerate(ordered):
        axes.annotate(
            f"{row.ns:.3g}", (max(row.high, 0), place), (6, 0), textcoords="offset points", va="center"
        )
    axes.set_xlabel("ns an operation, with the span of the rounds; = shares a rank")
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    _grid(axes, "x")


def _slopes(figure: Any, rows: Sequence[Row], title: str) -> None:
    """From what a map costs alone to what it costs with another CPU at work on it."""
    axes = figure.subplots()
    axes.set_title(title)
    axes.set(yscale="log", ylabel="ns an operation")
    lowest = _lowest(rows)
    before, after = {}, {}
    for row in rows:
        ends = [max(row.ns, lowest), max(row.contended or 0.0, lowest)]
        axes.plot([0, 1], ends, lw=1.8, markersize=5, **_look(row.map))
        before[row.map], after[row.map] = (0, ends[0]), (1, ends[1])
    axes.set_xticks([0, 1], ["alone", "contended"])
    axes.set_xlim(-0.35, 1.02)
    _log_ticks(axes)
    _label_ends(axes, before, lambda name: f"{before[name][1]:.3g}", left=True)
    _label_ends(
        axes, after, lambda name: f"{after[name][1]:.3g}  {name}  x{after[name][1] / before[name][1]:.2g}"
    )


def _shares(figure: Any, rows: Sequence[PathRow]) -> None:
    """For each path, a packet's time by map: what the lookup is of it, and the rest."""
    paths = list(dict.fromkeys(row.path for row in rows))
    names = list(dict.fromkeys(row.map for row in sorted(rows, key=lambda row: row.ns)))[::-1]
    title = f"a lookup in {_count(rows[0].entries)} entries, in colour, as part of a packet"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for axes, path in zip(figure.subplots(1, len(paths), sharey=True, squeeze=False)[0], paths, strict=True):
        by_name = {row.map: row for row in rows if row.path == path}
        present = [by_name[name] for name in names if name in by_name]
        places = [names.index(row.map) for row in present]
        extras = [max(row.ns, 0) for row in present]
        bases = [row.base for row in present]
        axes.barh(places, bases, color=_PALE, height=0.66)
        axes.barh(places, extras, left=bases, height=0.66, **_bars([row.map for row in present]))
        for place, row, extra in zip(places, present, extras, strict=True):
            axes.annotate(
                _percent(row.share),
                (row.base + extra, place),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(range(len(names)), names)
        axes.set_title(path, fontsize=10)
        axes.set_xlabel("ns a packet")
        axes.margins(x=0.22)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        _grid(axes, "x")


# --- parts of charts ----------------------------------------------------------------------------------


def _colour(name: str) -> str:
    return next((colour for family, colour in _FAMILIES if family in name), _OTHER)


def _look(name: str) -> dict[str, Any]:
    """Colour, line and marker of a map: one for each CPU is dashed, other kinds of a family dotted."""
    special = "no_" in name or "_of_maps" in name
    per_cpu = "percpu" in name
    return {
        "color": _colour(name),
        "linestyle": ":" if special else "--" if per_cpu else "-",
        "marker": "^" if special else "s" if per_cpu else "o",
        "markerfacecolor": "white" if per_cpu or special else _colour(name),
    }


def _bars(names: Sequence[str]) -> dict[str, Any]:
    """Colours of bars: paler for maps that have a value for each CPU."""
    from matplotlib.colors import to_rgba

    return {"color": [to_rgba(_colour(name), 0.55 if "percpu" in name else 1) for name in names]}


def _grid(axes: Any, which: str) -> None:
    axes.grid(axis=which, color="#e8eaec", lw=0.8)
    axes.set_axisbelow(True)


def _log_ticks(axes: Any) -> None:
    """The vertical axis in plain numbers: 1, 2, 5, 10, ..."""
    low, high = axes.get_ylim()
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) < 5 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.minorticks_off()
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    _grid(axes, "y")


def _lowest(rows: Sequence[Row]) -> float:
    """What stands for 0 and below, which noise may give, on a logarithmic axis."""
    return min((row.ns for row in rows if row.ns > 0), default=1.0) / 2


def _count(entries: int) -> str:
    for size, suffix in ((1 << 20, "M"), (1 << 10, "k")):
        if entries >= size and not entries % size:
            return f"{entries // size}{suffix}"
    return str(entries)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _label_ends(
    axes: Any, ends: Mapping[str, tuple[float, float]], text: Callable[[str], str], *, left: bool = False
) -> None:
    """A label beside the end of each line, moved up or down where they would lie on each other."""
    low, high = (log10(limit) for limit in axes.get_ylim())
    gap = (high - low) * 0.052
    wanted = {name: log10(value) for name, (_, value) in ends.items()}
    for name, place in spread(wanted, gap).items():
        axes.annotate(
            text(name).replace("$", r"\$"),
            ends[name],
            (-14 if left else 14, (place - wanted[name]) / (high - low) * _axes_points(axes)),
            textcoords="offset points",
            color=_colour(name),
            va="center",
            ha="right" if left else "left",
            arrowprops={
                "arrowstyle": "-",
                "color": _PALE,
                "lw": 0.8,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (int(left), 0.5),
            },
            annotation_clip=False,
        )


def _axes_points(axes: Any) -> float:
    """About how high the axes are, in points of 1/72 inch, before they have been laid out."""
    return float(axes.figure.bbox.height / axes.figure.dpi * 72 * 0.8)


def spread(places: Mapping[str, float], gap: float) -> dict[str, float]:
    """The same places, moved as little as it takes for neighbours to be ``gap`` apart.

    >>> spread({"a": 0, "b": 0, "c": 9}, 2)
    {'a': -1.0, 'b': 1.0, 'c': 9.0}
    """
    groups: list[tuple[float, list[str]]] = []  # (middle, names from bottom to top)
    for name in sorted(places, key=lambda name: places[name]):
        groups.append((places[name], [name]))
        while len(groups) > 1 and _touch(groups[-2], groups[-1], gap):
            (low, below), (high, above) = groups.pop(-2), groups.pop()
            middle = (low * len(below) + high * len(above)) / (len(below) + len(above))
            groups.append((middle, below + above))
    return {
        name: middle + (number - (len(names) - 1) / 2) * gap
        for middle, names in groups
        for number, name in enumerate(names)
    }


def _touch(below: tuple[float, list[str]], above: tuple[float, list[str]], gap: float) -> bool:
    return above[0] - below[0] < gap * (len(below[1]) + len(above[1])) / 2
