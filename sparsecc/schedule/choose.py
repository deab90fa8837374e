"""Which cover of an operator to take: every candidate, the dense plan among them, costed by one model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sparsecc.cover.biclique import bicliques
from sparsecc.cover.cells import Unit, count_cells, split
from sparsecc.cover.fitted import MOST_ROWS, fitted_panels
from sparsecc.cover.laws import Pattern
from sparsecc.cover.lift import lift
from sparsecc.cover.metaops import MetaOps
from sparsecc.cover.orders import natural
from sparsecc.cover.panels import merged_columns
from sparsecc.cover.search import Search
from sparsecc.cover.strategies import HEIGHTS, STRATEGIES, Strategy
from sparsecc.errors import UserError
from sparsecc.schedule.bound import least_share, store_cycles
from sparsecc.schedule.cost import Plan, best_plan
from sparsecc.schedule.indexed import IndexedPlan, step_rows
from sparsecc.schedule.measure import TRIES, Measure, Tries, fastest
from sparsecc.schedule.planning import plan_cover
from sparsecc.target import Target

# A sparse plan must beat the dense one by this much of its cycles: the model's error on equal work.
MARGIN = 0.01
# How hard to search for covers unless asked otherwise.
EFFORT = 1
# At effort 1, larger matrices keep their order: the search takes time in proportion to nonzeros x windows.
MOST_ORDERED = 1 << 19
# Strategies that order rows, besides windows of ordered rows.
ORDERED = ("tiles", "mixed")
# Heights of windows whose columns are put together to obey an N:M pattern, in unit rows.
FITTED_HEIGHTS = (1, 2, 4)
# Bicliques whose rows are added in memory are searched for where simpler blocks are within this of the best.
ADDING_GAIN = 2.0
# Covers of published systems, and those that take longest last.
PUBLISHED = ("sgt", "1-sa", "tca")


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to cover an operator."""

    name: str
    compacted: MetaOps
    """Meta-ops before they are split to unit cells."""
    plan: Plan | IndexedPlan
    cells: int
    """Unit cells computed."""
    measured: int | None = None
    """Cycles on the simulator, where it was asked."""

    @property
    def cycles(self) -> float:
        """The best that is known of how long it takes."""
        return self.plan.estimate.cycles if self.measured is None else self.measured

    def run(self, pattern: Pattern, n: int, target: Target, tries: Tries, measure: Measure) -> Candidate:
        """The same cover with the fastest of its schedules."""
        plan, cycles = fastest(self.plan, pattern.m, n, target, tries, measure)
        return replace(self, plan=plan, measured=cycles)


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


def candidates(
    pattern: Pattern, n: int, target: Target, effort: int, seed: int, dense: Candidate
) -> Iterator[Candidate]:
    """Every cover of the portfolio that the target can run and that may be the best, with its schedule."""
    state = _State(dense, least_share(target))
    seen: set[MetaOps] = set()
    for name, compacted in _portfolio(pattern, n, target, effort, seed, state):
        cells = split(compacted, pattern, target.unit)
        state.cells = len(cells)
        # Cells that alone take longer than the best plan so far need no schedule to be refused.
        if name != "aligned" and state.too_many(len(cells)):
            continue
        fused = lift(cells)
        if fused in seen:
            continue
        seen.add(fused)
        try:
            plan = plan_cover(fused, pattern, n, target)
        except UserError:
            continue  # too large for the target's memories
        state.cycles[name] = plan.estimate.cycles
        state.least = min(state.least, plan.estimate.cycles)
        yield Candidate(name, compacted, plan, len(cells))


@dataclass(eq=False)
class _State:
    """What is known while candidates are tried, so that what cannot be the best is not searched for."""

    dense: Candidate
    share: float
    """Of a cell's cycles in the dense plan, those it takes at least."""
    cycles: dict[str, float] = field(default_factory=dict[str, float])
    """Estimates by name."""
    cells: int = 0
    """Of the cover yielded last."""

    def __post_init__(self) -> None:
        self.least = self.dense.plan.estimate.cycles

    def too_many(self, cells: int) -> bool:
        """Whether so many cells alone take longer than the best plan so far."""
        compute = self.dense.plan.estimate.compute * self.share
        return cells * compute > self.least * max(self.dense.cells, 1)

    def adding_may_pay(self, effort: int, tried: Mapping[str, Strategy]) -> bool:
        """Whether bicliques whose rows are added in memory are worth a search, which takes long.

        Blocks with rows of their own tell what the additions cost; no biclique makes more than a few of them
        unnecessary.
        """
        found = [self.cycles[name] for name, s in tried.items() if s.indexed_rows and name in self.cycles]
        return effort > 1 or min(found, default=math.inf) < ADDING_GAIN * self.least


def _row_order_cells(pattern: Pattern, unit: Unit) -> int:
    """Cells that any order of the rows leaves at least while columns keep theirs.

    The rows that use a unit column fill cells of their own there.
    """
    used = merged_columns(pattern, unit[2]).indices
    return int((-(-np.bincount(used) // unit[0])).sum())


def _portfolio(
    pattern: Pattern, n: int, target: Target, effort: int, seed: int, state: _State
) -> Iterator[tuple[str, MetaOps]]:
    """Covers by name, before they are split to cells."""
    search = Search(pattern, target.unit, effort, seed)
    indexed = target.indexed is not None
    any_rows = indexed or target.scatter_add is not None
    tried = {
        name: strategy
        for name, strategy in STRATEGIES.items()
        if strategy.indexed_rows <= any_rows and strategy.least_effort <= effort
    }
    for name, strategy in tried.items():
        if strategy.least_effort == 0 and name not in ORDERED and not strategy.published:
            yield name, strategy.build(search, n)
    if pattern.nnz:
        yield from _fitted(search, n, target)
    if effort == 0:
        return
    ordered = pattern.nnz and (effort > 1 or pattern.nnz <= MOST_ORDERED)
    store = store_cycles(pattern.m, n, target)
    if ordered and indexed:
        yield from _bicliques(pattern, n, target, effort, seed, state)
    if ordered and not indexed and target.scatter_add is not None and state.adding_may_pay(effort, tried):
        yield "biclique", bicliques(pattern, n, target.unit, effort=effort, seed=seed).metaops
    # Bicliques leave little to orders that all columns share. No order makes the stores of results fewer.
    if ordered and not (indexed and effort == 1) and store <= (1 - MARGIN) * state.least:
        yield from _ordered(search, n, tried, state)
    # The covers of published systems are now and then the best. Of those left out the one has the cells of
    # the aligned grid once empty ones are refused, as BSR has, and the other is behind the orders searched.
    for name in PUBLISHED if effort > 1 or not ordered else PUBLISHED[:2]:
        if name != "1-sa" or not state.too_many(_row_order_cells(pattern, target.unit)):
            yield name, tried[name].build(search, n)


def _ordered(
    search: Search, n: int, tried: Mapping[str, Strategy], state: _State
) -> Iterator[tuple[str, MetaOps]]:
    """Covers of orders that are searched for."""
    # Orders take time. At effort 1 only the height is ordered whose windows did best in the natural order,
    # and the next smaller one: like rows together need fewer columns, so that lower windows pay.
    best = min(HEIGHTS, key=lambda h: state.cycles.get(f"window-{h}", math.inf))
    for height in HEIGHTS if search.effort > 1 else (best, best // 2 if best > 1 else 2):
        yield f"rows-{height}", tried[f"rows-{height}"].build(search, n)
    for name in ORDERED:
        yield name, tried[name].build(search, n)


def _fitted(search: Search, n: int, target: Target) -> Iterator[tuple[str, MetaOps]]:
    """Windows whose columns are ordered to obey the N:M patterns that the target takes."""
    pattern, unit = search.pattern, target.unit
    for kept in target.kept_patterns:
        for height in FITTED_HEIGHTS:
            rows = height * unit[0]
            if rows > MOST_ROWS:
                continue
            yield f"{kept}-window-{height}", fitted_panels(pattern, n, unit, natural(pattern), rows, *kept)
            if search.effort > 1 and pattern.nnz <= MOST_ORDERED:
                yield f"{kept}-rows-{height}", fitted_panels(pattern, n, unit, search.rows(rows), rows, *kept)


def _bicliques(
    pattern: Pattern, n: int, target: Target, effort: int, seed: int, state: _State
) -> Iterator[tuple[str, MetaOps]]:
    """Bicliques among as many rows as the accumulators hold twice; among half of them where that leaves room.

    Fewer rows make fewer cells at a time, so that their weights may stay in the scratchpad.
    """
    most = target.acc_rows // 2
    for limit in (most, most // 2):
        cover = bicliques(pattern, n, target.unit, effort=effort, max_rows=limit, seed=seed)
        name = f"biclique-{limit}"
        yield name, cover.metaops
        weights, index = step_rows(target)
        cells = state.cells * min(1.0, limit / pattern.m)
        if effort == 1 and cells * (weights + 2 * index) + 2 * pattern.k <= target.spad_rows:
            return


def choose(
    pattern: Pattern,
    n: int,
    target: Target,
    effort: int = EFFORT,
    seed: int = 0,
    measure: Measure | None = None,
) -> Choice:
    """The cover of least cycles on the target; the dense plan unless another is better.

    The model estimates the cycles of all; with `measure` the simulator decides between those that the model
    likes best, and without it a cover must be clearly better than the dense plan. effort 0 to 3 bounds the
    search for orders and bicliques; the same arguments give the same choice.
    """
    whole = MetaOps.whole(pattern.m, n, pattern.k)
    total = count_cells(whole, target.unit)
    dense = Candidate("dense", whole, best_plan(whole, pattern.m, n, target), total)
    found = tuple(candidates(pattern, n, target, effort, seed, dense))
    least = dense.plan.estimate.cycles * (1 - MARGIN)
    if measure is not None:
        tries = TRIES[effort]
        dense = dense.run(pattern, n, target, tries, measure)
        ranked = sorted(found, key=lambda c: c.plan.estimate.cycles)
        shortlist: list[Candidate] = []
        for one in ranked[: tries.covers]:
            least = min((c.cycles for c in shortlist), default=math.inf)
            if tries.may_beat(one.plan.estimate.cycles, least):
                shortlist.append(one.run(pattern, n, target, tries, measure))
        found = (*shortlist, *ranked[len(shortlist) :])
        best, least = min(shortlist, key=lambda c: c.cycles), dense.cycles - 1
    else:
        best = min(found, key=lambda c: c.cycles)
    if best.cycles > least:
        return Choice(dense, dense, found, _why_dense(best, dense, total))
    return Choice(best, dense, found, _why_sparse(best, dense, total))


def _why_dense(best: Candidate, dense: Candidate, total: int) -> str:
    gain = dense.cycles / max(best.cycles, 1)
    kept = f"{best.cells} of {total} unit cells hold a nonzero in the best cover ({best.name})"
    if best.cells >= total:
        kept = f"every one of {total} unit cells holds a nonzero in every cover"
    bound = best.plan.estimate.bound
    return f"{kept}, which would give {gain:.2f}x of dense speed {_judge(best)}; bound by {bound}"


def _why_sparse(best: Candidate, dense: Candidate, total: int) -> str:
    if not best.cells:
        return f"{best.name}: all {total} unit cells refused, W has no nonzero; the result is zeros"
    gain = dense.cycles / max(best.cycles, 1)
    allowed, kept = total / best.cells, ""
    if isinstance(best.plan, Plan) and best.plan.packing and (compressed := best.plan.tiles.compressed).any():
        share = 100 * compressed.mean()
        kept = f", {share:.0f} % of the tiles kept are {best.plan.packing.kept}"
        allowed = dense.plan.estimate.compute / best.plan.estimate.compute
    refused = max(0, total - best.cells)
    return (
        f"{best.name}: {refused} of {total} unit cells refused{kept} ({allowed:.1f}x less work), "
        f"{gain:.2f}x faster than dense {_judge(best)}; bound by {best.plan.estimate.bound}"
    )


def _judge(candidate: Candidate) -> str:
    """Who says how fast it is."""
    return "by the model" if candidate.measured is None else "on the simulator"
