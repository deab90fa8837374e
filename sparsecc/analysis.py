"""What sparsity is worth to an operator on a target, by the model: taken or not, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from sparsecc.operator import Operator
from sparsecc.patterns import Structure, pattern_of, recognise, unstructured
from sparsecc.patterns.generate import VNM_WIDTH
from sparsecc.schedule.bound import cycle_bound
from sparsecc.schedule.choose import Candidate, Choice, choose
from sparsecc.schedule.cost import Plan
from sparsecc.schedule.indexed import IndexedPlan, step_rows
from sparsecc.target import Target

# Of break-even densities: how many times the bisection halves the logarithm of the interval.
COARSE_STEPS, FINE_STEPS = 7, 3
# Orders of rows raise the break-even density of the covers that need none by less than this factor.
ORDERS_GAIN = 2.0


@dataclass(frozen=True)
class Analysis:
    """One operator on one target. Cycles are predicted; `sparse` is the best cover but the dense plan."""

    name: str
    shape: tuple[int, int, int]
    """[M, K, N]."""
    nnz: int
    density: float
    pattern: str
    verdict: str
    """chosen: a cover beats the dense plan. eligible: a cover refuses cells, but the dense plan is as
    fast. refused: no cover refuses a cell."""
    why: str
    """The numbers that decide, in short."""
    reason: str
    """What the scheduler said."""
    best: str
    """The best cover, of those that refuse a cell if any does."""
    bound_by: str
    """The engine that takes longest in it."""
    cells: int
    dense_cells: int
    fill: float
    """Nonzeros / points of the cells of the best cover, or of the values kept of them."""
    padding: int
    """Zeros of W computed in it."""
    weight_bytes: int
    """Bytes of weights, packed, that one pass over the best cover fetches."""
    dense_weight_bytes: int
    sparse_cycles: int
    dense_cycles: int
    speedup: float
    """Cycles of the dense plan / cycles of the plan taken; 1 for the dense plan."""
    control_speedup: float
    """The same of a random matrix of this shape and density: only what exceeds it is structure."""
    break_even: float | None
    """Density at which the best cover of a random matrix of this shape is as fast as the dense plan.
    None where a cover was chosen."""
    cycles_bound: int
    gap: float
    """Cycles of the plan taken / cycles_bound."""

    @property
    def cycles(self) -> int:
        """Of the plan taken."""
        return self.sparse_cycles if self.verdict == "chosen" else self.dense_cycles


@dataclass(frozen=True)
class Search:
    """How covers are searched for; the same as for compiling."""

    effort: int = 1
    seed: int = 0


def analyze(operator: Operator, target: Target, search: Search) -> Analysis:
    """All of it. target: with the operator's input type."""
    m, n, k = operator.shape
    pattern = operator.pattern
    choice = choose(pattern, n, target, search.effort, search.seed)
    refusing = [c for c in choice.candidates if c.cells < choice.dense.cells or _kept_share(c.plan)]
    # A cover that refuses nothing, neither cells nor values, is the dense plan by another name.
    best = min(refusing or choice.candidates, key=lambda c: c.plan.estimate.cycles)
    dense = choice.dense.plan.estimate.cycles
    taken = choice.best.plan.estimate.cycles
    bound = cycle_bound(pattern, n, target)
    if choice.plan == "sparse":
        best, verdict = choice.best, "chosen"
    else:
        verdict = "eligible" if refusing else "refused"
    points = _points(best, target)
    break_even = None if verdict == "chosen" else _break_even(m, k, n, target, search)
    structure = recognise(pattern)
    found = Analysis(
        name=operator.name,
        shape=(m, k, n),
        nnz=pattern.nnz,
        density=pattern.nnz / (m * k),
        pattern=str(structure),
        verdict=verdict,
        why="",
        reason=choice.reason,
        best=best.name,
        bound_by=best.plan.estimate.bound,
        cells=best.cells,
        dense_cells=choice.dense.cells,
        fill=pattern.nnz / points if points else 1.0,
        padding=points - pattern.nnz,
        weight_bytes=_weight_bytes(best.plan, target),
        dense_weight_bytes=_weight_bytes(choice.dense.plan, target),
        sparse_cycles=round(best.plan.estimate.cycles),
        dense_cycles=round(dense),
        speedup=max(dense, 1.0) / max(taken, 1.0),
        control_speedup=control(m, k, pattern.nnz, n, target, search),
        break_even=break_even,
        cycles_bound=int(bound.cycles),
        gap=bound.gap(taken),
    )
    return _with_why(found, structure, choice, target)


def _with_why(found: Analysis, structure: Structure, choice: Choice, target: Target) -> Analysis:
    refused = 100 * max(0.0, 1 - found.cells / found.dense_cells)
    best = next((c for c in (choice.best, *choice.candidates) if c.name == found.best), choice.best)
    kept = _kept_words(best.plan)
    gain = max(found.dense_cycles, 1) / max(found.sparse_cycles, 1)
    match found.verdict:
        case "chosen":
            why = (
                f"{found.best} refuses {refused:.0f} % of the cells{kept}, fill {found.fill:.2f}; "
                f"bound by {found.bound_by}"
            )
        case "eligible":
            why = (
                f"{found.best} refuses {refused:.0f} % of the cells{kept}, fill {found.fill:.2f}, but takes "
                f"{1 / gain:.2f} of the dense cycles: bound by {found.bound_by}, {found.weight_bytes} bytes "
                f"of weights (dense {found.dense_weight_bytes})"
            )
        case _:
            why = f"every cell holds a nonzero in every cover, {found.padding} zeros would be padded"
    if found.break_even is not None:
        relation = "above" if found.density > found.break_even else "below"
        why += f"; density {found.density:.3g} is {relation} break-even {found.break_even:.2g}"
    leaf = structure.parts[-1] if structure.parts else structure
    if leaf.kind in ("nm", "vnm"):
        why += f"; {_native(found, leaf, target)}"
    return replace(found, why=why)


def _native(found: Analysis, leaf: Structure, target: Target) -> str:
    """What an N:M pattern is worth, to the target or to another one."""
    parameters = dict(leaf.parameters)
    # V:N:M is N:4 in the columns that a block of rows keeps.
    keep, group = int(parameters["n"]), VNM_WIDTH if leaf.kind == "vnm" else int(parameters["m"])
    pattern = f"{keep}:{group}"
    if any(kept.keep * group >= keep * kept.group for kept in target.kept_patterns):
        return f"{leaf} fits the unit's {', '.join(map(str, target.kept_patterns))}"
    has = ", ".join(map(str, target.kept_patterns))
    return (
        f"{leaf} fills {100 * found.cells / found.dense_cells:.0f} % of the cells to {found.fill:.2f}, and "
        f"{target.name} {f'skips inside groups only as {has}' if has else 'cannot skip inside them'}: a unit "
        f"that takes {pattern} would do {group / keep:.1f}x less work"
    )


def _kept_share(plan: Plan | IndexedPlan) -> float:
    """Tiles of weights that are compressed, of all."""
    compressed = None if isinstance(plan, IndexedPlan) else plan.tiles.compressed
    return float(compressed.mean()) if compressed is not None and len(compressed) else 0.0


def _kept_words(plan: Plan | IndexedPlan) -> str:
    share = 100 * _kept_share(plan)
    if not share or isinstance(plan, IndexedPlan) or plan.packing is None:
        return ""
    return f", {share:.0f} % of the tiles kept are {plan.packing.kept}"


def _points(candidate: Candidate, target: Target) -> int:
    """Points of W that are computed: of whole cells, or of the values kept of them."""
    m, _, k = target.unit
    if isinstance(candidate.plan, IndexedPlan) or not _kept_share(candidate.plan):
        return candidate.cells * m * k
    tiles, bands = candidate.plan.tiles, candidate.plan.bands
    return int((-(-bands.rows[tiles.band] // m) * -(-tiles.depth // k)).sum()) * m * k


def _weight_bytes(plan: Plan | IndexedPlan, target: Target) -> int:
    if isinstance(plan, IndexedPlan):
        weights, index = step_rows(target)
        return len(plan.cells) * (weights + 2 * index) * target.row_bytes
    return int(plan.tiles.weight_rows.sum()) * target.row_bytes


@lru_cache(maxsize=4096)
def control(m: int, k: int, nnz: int, n: int, target: Target, search: Search) -> float:
    """Speed-up over dense, by the model, of the plan that is taken for a random matrix."""
    choice = _random_choice(m, k, nnz / (m * k), n, target, search)
    return max(choice.dense.plan.estimate.cycles, 1.0) / max(choice.best.plan.estimate.cycles, 1.0)


def _random_choice(m: int, k: int, density: float, n: int, target: Target, search: Search) -> Choice:
    pattern = pattern_of(unstructured((m, k), density, search.seed))
    return choose(pattern, n, target, search.effort, search.seed)


@lru_cache(maxsize=4096)
def _break_even(m: int, k: int, n: int, target: Target, search: Search) -> float:
    """Density at which a random matrix's best cover is as fast as the dense plan.

    Bisected twice: over all densities without orders, which is fast, then with the search that was asked for,
    above that. 1 where even a full matrix is not slower; 0 where a single nonzero is.
    """

    def wins(density: float, by: Search) -> bool:
        choice = _random_choice(m, k, density, n, target, by)
        best = min(c.plan.estimate.cycles for c in choice.candidates)
        return best < choice.dense.plan.estimate.cycles

    def bisect(low: float, high: float, steps: int, by: Search) -> tuple[float, float]:
        for _ in range(steps):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if wins(middle, by) else (low, middle)
        return low, high

    quick = Search(0, search.seed)
    least = 1 / (m * k)
    if not wins(least, quick):
        return 0.0
    low, _ = bisect(least, 1.0, COARSE_STEPS, quick)
    if search.effort == 0:
        return low
    low, high = bisect(low, min(1.0, ORDERS_GAIN * low), FINE_STEPS, search)
    return (low * high) ** 0.5
