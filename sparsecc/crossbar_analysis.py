"""What sparsity is worth to an operator on memristor crossbars, by the cost model: taken or not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsecc.analysis import Search
from sparsecc.cover.laws import Pattern
from sparsecc.crossbar.bound import energy_bound
from sparsecc.crossbar.choose import Candidate, choose, dense_cost
from sparsecc.crossbar.cost import Cost, adc_bits, conversions, cost, steps_of
from sparsecc.crossbar.dense import array_count
from sparsecc.crossbar.tiles import Tile
from sparsecc.crossbar_report import break_even
from sparsecc.dialects import xbar
from sparsecc.model import model_module
from sparsecc.operator import Spmm
from sparsecc.patterns import pattern_of, recognise, unstructured
from sparsecc.pipeline import crossbar
from sparsecc.stages import run_passes
from sparsecc.target.crossbar import CrossbarTarget

Verdict = Literal["chosen", "eligible", "refused"]


@dataclass(frozen=True)
class CrossbarAnalysis:
    """One operator on one target. Cycles and energy are those of one inference of N vectors, predicted."""

    name: str
    shape: tuple[int, int, int]
    """[M, K, N]."""
    nnz: int
    density: float
    pattern: str
    verdict: Verdict
    """chosen: a cover takes less energy than the dense mapping, and no more cycles. eligible: a cover
    programs fewer cells, but the dense mapping is as good. refused: no cover programs fewer cells."""
    why: str
    """The numbers that decide, in short."""
    reason: str
    """What the scheduler said."""
    best: str
    """The best cover but the dense mapping."""
    arrays: int
    """Of the plan taken."""
    arrays_dense: int
    arrays_available: int
    rounds: int
    """Times that the arrays are written anew in each inference; 0 where they all fit the chip."""
    adc_bits: dict[int, int]
    """Conversions of an inference by their bits, of the plan taken."""
    dense_adc_bits: dict[int, int]
    sparse_cycles: int
    """Of the best cover."""
    dense_cycles: int
    speedup: float
    """Cycles of the dense mapping / cycles of the plan taken; 1 for the dense mapping."""
    sparse_energy_pj: float
    dense_energy_pj: float
    energy_ratio: float
    """Energy of the dense mapping / energy of the plan taken; 1 for the dense mapping."""
    control_energy_ratio: float
    """The same with the values at random places: only what exceeds it is structure."""
    program_cycles: int
    program_energy_pj: float
    """Of the plan taken, once."""
    dense_program_energy_pj: float
    inferences_to_break_even: int | None
    """Inferences after which programming and inferring have taken no more energy than the dense mapping; None
    where they never do."""
    energy_bound_pj: float
    """No exact mapping takes less."""
    energy_gap: float
    """Energy of the plan taken / energy_bound_pj."""

    @property
    def cycles(self) -> int:
        """Of the plan taken."""
        return self.sparse_cycles if self.verdict == "chosen" else self.dense_cycles

    @property
    def energy_pj(self) -> float:
        """Of the plan taken."""
        return self.sparse_energy_pj if self.verdict == "chosen" else self.dense_energy_pj


def analyze_crossbar(operator: Spmm, target: CrossbarTarget, named: str, search: Search) -> CrossbarAnalysis:
    """All of it. named: what passes call the target. Raises UserError for operators it cannot hold."""
    m, n, k = operator.shape
    placed = _placed(operator, target, named, "auto", search)
    dense_placed = placed if placed.is_dense else _placed(operator, target, named, "dense", search)
    tiles, dense_tiles = list(placed.tiles), list(dense_placed.tiles)
    taken, dense = _cost(placed, target), _cost(dense_placed, target)
    pattern, data = operator.pattern, operator.weight.data
    reason = placed.reason.data if placed.reason else ""
    if placed.is_dense:
        candidates = choose(pattern, data, n, target, search.effort, search.seed).candidates
        other: Candidate | None = next((c for c in candidates if c.name != "dense"), None)
        sparse, best = (other.cost, other.name) if other else (dense, "dense")
        verdict: Verdict = "eligible" if sparse.cells < dense.cells else "refused"
    else:
        sparse, verdict = taken, "chosen"
        best = reason.partition(":")[0] if pattern.nnz else "none"  # the scheduler names it first
    bound = energy_bound(pattern, data, n, target)
    chip = placed.pool(array_count(target, placed.shape)).count
    rounds = max((t.array for t in tiles), default=0) // chip + 1
    bits, dense_bits = (_bits(some, target, n) for some in (tiles, dense_tiles))
    return CrossbarAnalysis(
        name=operator.name,
        shape=(m, k, n),
        nnz=pattern.nnz,
        density=pattern.nnz / (m * k),
        pattern=str(recognise(pattern)),
        verdict=verdict,
        why=_why(verdict, best, sparse, dense, (bits, dense_bits), target),
        reason=reason,
        best=best,
        arrays=taken.arrays,
        arrays_dense=dense.arrays,
        arrays_available=chip,
        rounds=rounds if rounds > 1 else 0,
        adc_bits=bits,
        dense_adc_bits=dense_bits,
        sparse_cycles=round(sparse.cycles),
        dense_cycles=round(dense.cycles),
        speedup=max(dense.cycles, 1.0) / max(taken.cycles, 1.0),
        sparse_energy_pj=sparse.energy_pj,
        dense_energy_pj=dense.energy_pj,
        energy_ratio=_ratio(dense.energy_pj, taken.energy_pj),
        control_energy_ratio=_control(pattern, data, n, target, search),
        program_cycles=round(taken.program_cycles),
        program_energy_pj=taken.program_energy_pj,
        dense_program_energy_pj=dense.program_energy_pj,
        inferences_to_break_even=break_even(
            taken.program_energy_pj, taken.energy_pj, dense.program_energy_pj, dense.energy_pj
        ),
        energy_bound_pj=bound,
        energy_gap=_ratio(taken.energy_pj, bound),
    )


def _placed(operator: Spmm, target: CrossbarTarget, named: str, plan: str, search: Search) -> xbar.SpmmOp:
    """The operator as the passes leave it before it becomes a program."""
    passes = crossbar(named, plan, search.effort, search.seed)
    placing = next(i for i, one in enumerate(passes) if one.name == "xbar-place")
    module = model_module(operator, target)
    stages = run_passes(module, passes[: placing + 1], lambda _: None, lambda _: None)
    return next(op for op in stages[-1].module.walk() if isinstance(op, xbar.SpmmOp))


def _cost(placed: xbar.SpmmOp, target: CrossbarTarget) -> Cost:
    chip = placed.pool(array_count(target, placed.shape)).count
    return cost(list(placed.tiles), target, placed.space, chip)


def _bits(tiles: list[Tile], target: CrossbarTarget, n: int) -> dict[int, int]:
    """Conversions of n vectors by their bits."""
    found: dict[int, int] = {}
    for t in tiles:
        bits = adc_bits(t, target)
        found[bits] = found.get(bits, 0) + n * steps_of(t, target) * conversions(t, target)
    return dict(sorted(found.items()))


def _ratio(more: float, less: float) -> float:
    """How many times as much; 1 where neither is anything."""
    return max(more, 1e-9) / max(less, 1e-9)


def _control(pattern: Pattern, data: NDArray[Any], n: int, target: CrossbarTarget, search: Search) -> float:
    """How many times less energy than dense, by the model, the same values take at random places."""
    m, k = pattern.m, pattern.k
    if pattern.nnz in (0, m * k):
        places, values = pattern, data
    else:
        places = pattern_of(unstructured((m, k), pattern.nnz / (m * k), search.seed))
        values = np.random.default_rng(search.seed).permutation(data)
    choice = choose(places, values, n, target, search.effort, search.seed)
    return _ratio(dense_cost(places, values, n, target).energy_pj, choice.candidates[0].cost.energy_pj)


def _why(
    verdict: Verdict,
    best: str,
    sparse: Cost,
    dense: Cost,
    bits: tuple[dict[int, int], dict[int, int]],
    target: CrossbarTarget,
) -> str:
    if not sparse.cells:
        return "W has no nonzero: no array is used"
    if verdict == "refused":
        return f"no cover programs fewer than the {dense.cells} cells of the dense mapping"
    energy, cycles = _ratio(sparse.energy_pj, dense.energy_pj), _ratio(sparse.cycles, dense.cycles)
    converted = 100 * sparse.conversions / max(1, dense.conversions)
    counts = f"{best} takes {converted:.0f} % of the dense conversions"
    if verdict == "eligible":
        return f"{counts}, but {energy:.2f} of the dense energy in {cycles:.2f} of the dense cycles"
    mine, theirs = (sum(b * c for b, c in of.items()) / max(1, sum(of.values())) for of in bits)
    of_adc = sum(count * target.adc_pj(b) for b, count in bits[0].items())
    share = 100 * of_adc / max(sparse.energy_pj, 1e-9)
    return (
        f"{counts} at {mine:.1f} bits for {theirs:.1f}; {100 * sparse.cells / max(1, dense.cells):.0f} % of "
        f"its cells; converters take {share:.0f} % of the energy left"
    )
