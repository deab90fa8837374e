"""The schedule of a cover, whichever kind it needs."""

from __future__ import annotations

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.rows import has_bicliques
from sparsecc.errors import UserError
from sparsecc.schedule.cost import Plan, best_plan
from sparsecc.schedule.geometry import scattered_order
from sparsecc.schedule.indexed import IndexedPlan, best_indexed_plan
from sparsecc.schedule.packing import Packing
from sparsecc.target import Target


def plan_cover(
    metaops: MetaOps, pattern: Pattern, n: int, target: Target, compress: bool = True
) -> Plan | IndexedPlan:
    """The schedule of least estimated cycles. Raises UserError when the target cannot run the cover.

    compress: whether weights may be compressed where the target takes N:M; those of the dense plan are not.
    """
    order = None
    if has_bicliques(metaops):
        if target.indexed is not None:
            return best_indexed_plan(metaops, pattern.k, pattern.m, n, target)
        if target.scatter_add is None:
            raise UserError(
                "the cover has meta-ops that list the same rows differently; they need indexed addressing or "
                f"stores that add, which target {target.name} does not have; use sparse-compact modes none, "
                "global or window, or a target with [indexed] or [scatter_add]"
            )
        order = scattered_order(metaops, pattern.m, target.unit[0])
    plans = [best_plan(metaops, pattern.m, n, target, order=order)]
    order = plans[0].order
    for kept in target.kept_patterns if compress and len(metaops) else ():
        packing = Packing.of(metaops, pattern, order, kept, target)
        try:
            plans.append(best_plan(metaops, pattern.m, n, target, packing, order))
        except UserError:
            continue  # larger tiles of X may not fit
    return min(plans, key=lambda plan: plan.estimate.score)
