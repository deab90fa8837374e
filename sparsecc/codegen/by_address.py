"""Programs of convolutions that find their patches by address: which schedule, and its instructions."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp

from sparsecc.codegen.tiled import TiledWriter
from sparsecc.codegen.timing import for_epilogue, measure_of, with_stores
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.errors import UserError
from sparsecc.schedule.cost import Plan, schedules
from sparsecc.schedule.measure import TRIES
from sparsecc.schedule.planning import plan_cover
from sparsecc.schedule.strips import Strips
from sparsecc.schedule.tables import build
from sparsecc.target import Target


@dataclass(frozen=True, eq=False)
class ByAddress:
    """A schedule of a product whose X lies in an image."""

    plan: Plan
    strips: Strips
    cycles: int
    """On the simulator."""


def plans_by_width(spmm: SpmmOp, strips: Strips, target: Target) -> list[Plan]:
    """The best schedule for each width of a panel by the cost model, the best first.

    Empty where the target has none for the cover; those whose rows are added by index are left out.
    """
    pattern, cols, target = spmm.weight.pattern, target.array.cols, with_stores(target, spmm)
    n = strips.columns(cols)
    best: dict[int, Plan] = {}
    try:
        plan = plan_cover(spmm.cover(), pattern, n, target, compress=not spmm.is_dense)
        if not isinstance(plan, Plan) or plan.order.added:
            return []
        for one in schedules(
            plan.metaops, pattern.m, n, target, plan.packing, plan.order, strips.widths(cols)
        ):
            width = one.knobs.panel_tiles
            if width not in best or one.estimate.score < best[width].estimate.score:
                best[width] = one
    except UserError:
        return []  # too large for the target's memories
    return sorted(best.values(), key=lambda p: p.estimate.score)


def fastest_by_address(spmm: SpmmOp, strips: Strips, target: Target, effort: int) -> ByAddress | None:
    """The fastest of the schedules that the cost model likes best; None where there is none."""
    measure = measure_of(spmm, target, strips)
    likely = plans_by_width(spmm, strips, target)[: TRIES[effort].schedules]
    found = [ByAddress(plan, strips, measure(plan)) for plan in likely]
    return min(found, key=lambda one: one.cycles, default=None)


def program_of(found: ByAddress, spmm: SpmmOp, target: Target) -> ModuleOp:
    """The instructions: main takes the image and the result."""
    entry = func.FuncOp("main", FunctionType.from_lists((), ()))
    module = ModuleOp([entry])
    plan, weight, target = for_epilogue(found.plan, spmm), spmm.weight, with_stores(target, spmm)
    n = found.strips.columns(target.array.cols)
    program = build(plan, weight.pattern, weight.data, n, target)
    TiledWriter(entry, spmm, target, program, strips=found.strips).emit(module)
    module.verify()
    return module
