"""The schedule of a cover, whichever kind it needs."""

from __future__ import annotations

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.rows import has_bicliques
from sparsecc.errors import UserError
from sparsecc.schedule.cost import Plan, best_plan
from sparsecc.schedule.indexed import IndexedPlan, best_indexed_plan
from sparsecc.target import Target


def plan_cover(metaops: MetaOps, pattern: Pattern, n: int, target: Target) -> Plan | IndexedPlan:
    """The schedule of least estimated cycles. Raises UserError when the target cannot run the cover."""
    if not has_bicliques(metaops):
        return best_plan(metaops, pattern.m, n, target)
    if target.indexed is None:
        raise UserError(
            "the cover has meta-ops that list the same rows differently; they need indexed addressing, which "
            f"target {target.name} does not have; use sparse-compact modes none, global or window, or a "
            "target with [indexed]"
        )
    return best_indexed_plan(metaops, pattern.k, pattern.m, n, target)
