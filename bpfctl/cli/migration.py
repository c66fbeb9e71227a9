"""``dry-run`` of every command that loads: what ``migrate`` would do to pinned maps."""

from __future__ import annotations

from collections.abc import Iterable

from bpfctl.api.loading import LoadOptions
from bpfctl.api.sources import ObjectSource
from bpfctl.cli.app import App
from bpfctl.record import TYPE_CHECKING

if TYPE_CHECKING:
    from bpfctl.loader.migrate import Plan


def dry_run(app: App, sources: Iterable[object], options: LoadOptions | None = None) -> bool:
    """Show the plan if one of ``sources`` asks for it; True if so, and then there is nothing to do.

    ``options``: of ``prog load``, which pins elsewhere than the hooks do.
    """
    asked = [source for source in sources if isinstance(source, ObjectSource) and source.dry_run]
    if not asked:
        return False
    from bpfctl.api import loading
    from bpfctl.errors import PinMismatchError

    plans = [plan for s in asked for plan in loading.plan_migration(s, options=options, session=app.session)]
    app.output.records(plans, _text)
    refused = [plan.refused for plan in plans if plan.refused]
    if refused:
        raise PinMismatchError(refused[0], hint="nothing was changed")
    return True


def _text(plan: Plan) -> str:
    from bpfctl.cli.output import columns
    from bpfctl.loader.reuse import mismatch_table

    lines = [f"map {plan.map}: id {plan.id} pinned at {plan.pinned}, {plan.elements} elements"]
    lines += (
        [f"  {line}" for line in mismatch_table([*plan.differences], "pinned")] if plan.differences else []
    )
    rows = [
        (m.action, f"{m.part}.{m.field}" if m.field else m.part, m.old or "-", "->", m.new or "-")
        for m in plan.members
    ]
    if rows:
        lines.append(columns(rows, "  "))
    if plan.refused:
        lines.append(f"  refused: {plan.refused}")
    return "\n".join(lines)
