"""Which cover of an operator to take: every candidate, the dense plan among them, costed by one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sparsecc.cover.cells import count_cells, split
from sparsecc.cover.compact import global_compaction, live_columns, live_rows, window_compaction
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lift import lift
from sparsecc.cover.metaops import MetaOps
from sparsecc.schedule.cost import Plan, best_plan
from sparsecc.target import Target

# A sparse plan must beat the dense one by this much of its cycles: the model's error on equal work.
MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to cover an operator."""

    name: str
    compacted: MetaOps
    """Meta-ops before they are split to unit cells."""
    plan: Plan
    cells: int
    """Unit cells computed."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The candidate taken, and why."""

    best: Candidate
    dense: Candidate
    candidates: tuple[Candidate, ...]
    reason: str

    @property
    def plan(self) -> str:
        return "dense" if self.best is self.dense else "sparse"

    @property
    def compacted(self) -> MetaOps:
        return self.best.compacted


def covers(pattern: Pattern, n: int, target: Target) -> Iterator[tuple[str, MetaOps]]:
    """Candidates by name: the aligned grid, without empty rows and columns, windows of many heights."""
    unit = target.unit
    yield "aligned", MetaOps.whole(pattern.m, n, pattern.k)
    rows = len(live_rows(pattern))
    if rows < pattern.m or len(live_columns(pattern)) < pattern.k:
        yield "global", global_compaction(pattern, n, unit)
    height = unit[0]
    while height < 2 * max(rows, 1) and height <= 16 * unit[0]:
        yield f"window-{height}", window_compaction(pattern, n, unit, height)
        height *= 2


def choose(pattern: Pattern, n: int, target: Target) -> Choice:
    """The cover of least estimated cycles on the target; the dense plan unless another is clearly better."""
    whole = MetaOps.whole(pattern.m, n, pattern.k)
    unit = target.unit
    total = count_cells(whole, unit)
    dense = Candidate("dense", whole, best_plan(whole, pattern.m, n, target), total)
    candidates: list[Candidate] = []
    for name, compacted in covers(pattern, n, target):
        cells = split(compacted, pattern, unit)
        plan = best_plan(lift(cells), pattern.m, n, target)
        candidates.append(Candidate(name, compacted, plan, len(cells)))
    best = min(candidates, key=lambda c: c.plan.estimate.cycles)
    if best.plan.estimate.cycles > (1 - MARGIN) * dense.plan.estimate.cycles:
        return Choice(dense, dense, tuple(candidates), _why_dense(best, dense, total))
    return Choice(best, dense, tuple(candidates), _why_sparse(best, dense, total))


def _why_dense(best: Candidate, dense: Candidate, total: int) -> str:
    gain = dense.plan.estimate.cycles / best.plan.estimate.cycles
    kept = f"{best.cells} of {total} unit cells hold a nonzero in the best cover ({best.name})"
    if best.cells >= total:
        kept = f"every one of {total} unit cells holds a nonzero in every cover"
    bound = best.plan.estimate.bound
    return f"{kept}, which would give {gain:.2f}x of dense speed by the model; bound by {bound}"


def _why_sparse(best: Candidate, dense: Candidate, total: int) -> str:
    if not best.cells:
        return f"{best.name}: all {total} unit cells refused, W has no nonzero; the result is zeros"
    gain = dense.plan.estimate.cycles / best.plan.estimate.cycles
    allowed = total / best.cells
    return (
        f"{best.name}: {total - best.cells} of {total} unit cells refused ({allowed:.1f}x less work), "
        f"{gain:.2f}x faster than dense by the model; bound by {best.plan.estimate.bound}"
    )
