"""What is told of a compiled operator: one record, as a table for people and as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Any, NamedTuple

from sparsecc.codegen.timing import with_stores
from sparsecc.cover.laws import fill
from sparsecc.cover.optimum import fewest_bicliques, fewest_windows
from sparsecc.dialects.sparse import SddmmOp, SpmmOp
from sparsecc.operator_report import OperatorReport
from sparsecc.patterns import recognise
from sparsecc.schedule.bound import cycle_bound
from sparsecc.schedule.cost import Estimate
from sparsecc.schedule.planning import plan_cover
from sparsecc.schedule.sddmm import mask_bound, plan_mask

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact, Simulation


@dataclass(frozen=True)
class Report(OperatorReport):
    """One operator on one target. What only a run tells is None before it."""

    reason: str
    meta_ops: int
    groups: int
    fill: float
    """Nonzeros / points of the meta-ops."""
    cells: int
    """Unit cells computed."""
    refused_cells: int
    """Unit cells of the whole space that are not computed."""
    padding: int
    """Zeros of W (or of the mask) computed anyway: points of the computed unit cells without a nonzero."""
    predicted_cycles: int
    bound_by: str
    """The engine that takes longest."""
    cycles_bound: int
    """No cover and no schedule for the target takes fewer cycles."""
    gap: float
    """Cycles (those predicted, before a run) / cycles_bound."""
    cells_bound: int
    """No cover that the target can run has fewer unit cells."""
    fewest_cells: int | None
    """The proven least number of unit cells, where the operator is small enough to be solved."""
    tried: list[tuple[str, int, int]]
    """(candidate, predicted cycles, unit cells), the best first; empty where the plan was asked for."""
    cycles: int | None
    dense_cycles: int | None
    speedup: float | None
    control_speedup: float | None
    """By the model, of a random matrix of the same shape and density: only what exceeds it is structure."""
    energy_pj: float | None
    dense_energy_pj: float | None
    energy_parts_pj: dict[str, float] | None
    """What the energy is made of: by memory, multiply-accumulates and the rest; the sum is energy_pj."""
    dram_bytes: int | None
    moved_bytes: dict[str, int] | None
    """Bytes read from and written to each memory."""
    utilization: float | None
    """Useful multiply-accumulates (nonzeros x N, points of a mask x K) / those of the array."""
    max_error: float | None
    error_bound: float | None
    """The bound of the value that came nearest to it; 0 for integers, which must be equal."""
    exact: bool | None
    """Whether every value is equal (integers) or within its bound (floats)."""
    zeroed: int
    stored_zeros: int
    pattern_only: bool
    engines: dict[str, Any] | None
    warnings: dict[str, int] | None
    assumed: tuple[str, ...]

    @staticmethod
    def of(artifact: Artifact, run: Simulation | None, dense: Simulation | None) -> Report:
        """The report of an artifact, with what its run and the dense plan's run told."""
        operator, target = artifact.operator, artifact.target
        m, n, k = operator.shape
        nnz = operator.weight.nnz
        cells, all_cells = artifact.cells()
        product = artifact.spmm
        unit = product.plane_unit
        pattern = product.weight.pattern
        outlook = artifact.outlook
        check = run.check if run else None
        return Report(
            name=operator.name,
            op=operator.op,
            formula=operator.formula,
            target=target.name,
            shape=(m, k, n),
            nnz=nnz,
            density=nnz / (pattern.m * pattern.k),
            pattern=str(recognise(pattern)),
            dtype=operator.in_type,
            plan=artifact.plan,
            reason=artifact.reason,
            meta_ops=len(artifact.cover),
            groups=len(product.sets),
            fill=fill(product.plane(artifact.cover), nnz),
            cells=cells,
            refused_cells=all_cells - cells,
            padding=cells * unit[0] * unit[2] - nnz,
            predicted_cycles=round(outlook.estimate.cycles),
            bound_by=_busiest(run) if run else outlook.estimate.bound,
            cycles_bound=max(0, floor(outlook.cycles_bound)),
            gap=outlook.gap(run.cycles if run else outlook.estimate.cycles),
            cells_bound=outlook.cells_bound,
            fewest_cells=outlook.fewest_cells,
            tried=artifact.tried,
            cycles=run.cycles if run else None,
            dense_cycles=dense.cycles if dense else None,
            speedup=dense.cycles / run.cycles if run and dense and run.cycles else None,
            control_speedup=None,
            energy_pj=run.energy_pj if run else None,
            dense_energy_pj=dense.energy_pj if dense else None,
            energy_parts_pj=_energy_parts(run) if run else None,
            dram_bytes=_dram_bytes(run) if run else None,
            moved_bytes=run.report["bytes"] if run else None,
            utilization=nnz * operator.depth / max(1.0, run.cycles * _peak(artifact)) if run else None,
            max_error=check["max_error"] if check else None,
            error_bound=check["error_bound"] if check else None,
            exact=check["wrong"] == 0 if check else None,
            zeroed=operator.zeroed,
            stored_zeros=operator.stored_zeros,
            pattern_only=operator.pattern_only,
            engines=run.report["engines"] if run else None,
            warnings=run.report["warnings"] if run else None,
            assumed=target.assumed,
        )

    def with_control(self, speedup: float) -> Report:
        """This report beside what a random matrix of the same shape and density gains."""
        return dataclasses.replace(self, control_speedup=speedup)

    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, value with unit) lines."""
        whole = self.cells + self.refused_cells
        sparse = "the mask" if self.op == "sddmm" else "W"
        rows = [
            ("operator", f"{self.formula}, {self.dtype}"),
            ("target", self.target),
            ("nonzeros", f"{self.nnz} ({100 * self.density:.2f} % of {sparse})" + self._remarks()),
            ("pattern", self.pattern),
            ("plan", self.plan),
            ("reason", self.reason),
            *self._tried_row(),
            (
                "meta-ops",
                f"{self.meta_ops} in {self.groups} group{'s' * (self.groups != 1)}, fill {self.fill:.3f}",
            ),
            (
                "unit cells",
                f"{self.cells} kept, {self.refused_cells} of {whole} refused, {self.padding} zeros padded; "
                + (
                    f"the fewest possible: {self.fewest_cells}"
                    if self.fewest_cells is not None
                    else f"no cover has fewer than {self.cells_bound}"
                ),
            ),
            ("cycles, lower bound", f"{self.cycles_bound}; this plan takes {self.gap:.2f} times as many"),
        ]
        if self.cycles is None:
            return [*rows, ("cycles, predicted", f"{self.predicted_cycles}, bound by {self.bound_by}")]
        assert self.dense_cycles is not None
        assert self.energy_pj is not None
        assert self.dense_energy_pj is not None
        assert self.dram_bytes is not None
        assert self.utilization is not None
        rows += [
            ("cycles", f"{self.cycles} (predicted {self.predicted_cycles}), bound by {self.bound_by}"),
            ("cycles, dense plan", str(self.dense_cycles)),
            ("speed-up over dense", f"{self.speedup:.2f} x" if self.speedup else "no cycle is left"),
            *self._control_row(),
            ("energy", f"{si(self.energy_pj)}J (dense {si(self.dense_energy_pj)}J)"),
            ("off-chip traffic", f"{self.dram_bytes} bytes"),
            (
                "utilisation",
                f"{100 * self.utilization:.1f} % useful multiply-accumulates of the array's peak",
            ),
        ]
        if self.exact is not None:
            verdict = (
                "every value equal" if self.exact and self.dtype == "i8" else "every value within its bound"
            )
            verdict = verdict if self.exact else "WRONG VALUES"
            rows.append(
                ("check", f"{verdict}; largest error {self.max_error:g}, bound there {self.error_bound:g}")
            )
        rows += [("warning", f"{count} x {name}") for name, count in (self.warnings or {}).items() if count]
        return rows

    def _control_row(self) -> list[tuple[str, str]]:
        if self.control_speedup is None:
            return []
        return [("random zeros instead", f"{self.control_speedup:.2f} x by the model, at the same density")]

    def _tried_row(self) -> list[tuple[str, str]]:
        """What the scheduler weighed, the best first."""
        found = ", ".join(f"{name} {cycles}" for name, cycles, _ in self.tried)
        return [("tried, cycles", found)] if found else []

    def _remarks(self) -> str:
        """What happened to the values, where anything did."""
        remarks = ["values drawn at random"] if self.pattern_only else []
        remarks += [f"{self.zeroed} became 0 in {self.dtype}"] if self.zeroed else []
        remarks += [f"{self.stored_zeros} stored zeros left out"] if self.stored_zeros else []
        return f"; {', '.join(remarks)}" if remarks else ""


class Outlook(NamedTuple):
    """What is known of an operator before a run."""

    estimate: Estimate
    cycles_bound: float
    cells_bound: int
    fewest_cells: int | None

    def gap(self, cycles: float) -> float:
        """How many times the bound this is; a cycle that nothing needs counts as one."""
        return max(cycles, 1.0) / max(self.cycles_bound, 1.0)


def outlook_of(artifact: Artifact) -> Outlook:
    """Schedules the operator as convert-sparse-to-tu does, and bounds it."""
    product = artifact.spmm
    if isinstance(product, SddmmOp):
        return _masked_outlook(artifact)
    pattern, n = product.weight.pattern, artifact.operator.shape[1]
    target = artifact.target
    if isinstance(product, SpmmOp):
        target = with_stores(target, product)
    bound = cycle_bound(pattern, n, target)
    solve = fewest_windows if target.indexed is None else fewest_bicliques
    fewest = solve(pattern, target.unit)
    return Outlook(
        plan_cover(artifact.cover, pattern, n, target, compress=not artifact.is_dense).estimate,
        bound.cycles,
        bound.cells.windows if target.indexed is None else bound.cells.any,
        fewest.cells if fewest and fewest.proven else None,
    )


def _masked_outlook(artifact: Artifact) -> Outlook:
    """Nothing of a mask is gathered, so the cells that hold a point are the fewest."""
    shape, target = artifact.operator.shape, artifact.target
    cycles, cells = mask_bound(artifact.spmm.weight.pattern, shape[2], target)
    return Outlook(plan_mask(artifact.cover, shape, target).estimate, cycles, cells, cells)


def _busiest(run: Simulation) -> str:
    """The engine with the most busy cycles, by name."""
    engines: dict[str, Any] = run.report["engines"]
    busy = max(engines, key=lambda name: int(engines[name]["busy"]))
    share = 100 * int(engines[busy]["busy"]) / max(1, run.cycles)
    return f"{busy} ({min(share, 100):.0f} % busy)"


def _energy_parts(run: Simulation) -> dict[str, float]:
    parts: dict[str, float] = run.report["energy_pj"]
    return {name: pj for name, pj in parts.items() if name != "total"}


def _dram_bytes(run: Simulation) -> int:
    moved: dict[str, int] = run.report["bytes"]
    return int(moved["dram_read"]) + int(moved["dram_write"])


def _peak(artifact: Artifact) -> float:
    """Multiply-accumulates per cycle."""
    array = artifact.target.array
    if array.kind == "ws":
        return array.rows * array.cols
    return array.mma_m * array.mma_n * array.mma_k / array.interval


def si(picojoules: float) -> str:
    """Picojoules with a fitting prefix."""
    for prefix, scale in (("p", 1.0), ("n", 1e3), ("u", 1e6), ("m", 1e9)):
        if picojoules < 1000 * scale or prefix == "m":
            return f"{picojoules / scale:.3g} {prefix}"
    raise AssertionError
