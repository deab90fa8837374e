"""What is told of an operator compiled for crossbars: as for tensor units, and what arrays add to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sparsecc.cover.laws import fill
from sparsecc.crossbar.bound import energy_bound
from sparsecc.crossbar.dense import dense_arrays
from sparsecc.dialects.sparse_quantization import quantization_of
from sparsecc.patterns import recognise
from sparsecc.report import Report, si

if TYPE_CHECKING:
    from sparsecc.artifact import Simulation
    from sparsecc.crossbar_compiler import CrossbarArtifact
    from sparsecc.operator import Spmm


@dataclass(frozen=True)
class CrossbarReport(Report):
    """One operator on one target with crossbars. Cycles and energy are those of an inference of N vectors."""

    arrays: int
    """Arrays used."""
    arrays_by_shape: dict[str, int]
    """Of these, by word lines x bit lines: several where the target's cells make arrays of several shapes."""
    arrays_dense: int
    """Arrays of the dense mapping: the whole grid, for all slices."""
    arrays_available: int
    rounds: int
    """Times that the arrays are written anew in each inference; 0 where they all fit the chip."""
    tiles: int
    """Blocks of an array that are read by an XB.MVM each."""
    array_utilization: float | None
    """Cells with a level that stands for something / cells of the arrays used."""
    adc_bits: dict[int, int]
    """Tiles by the bits of their conversions."""
    may_clip: int
    """Tiles whose sums even the target's converters may clip."""
    lost: int
    """Weights that changed by their lowest bit: only where a lossy pass was asked for."""
    energy_bound_pj: float | None
    """No exact mapping takes less for an inference; None after lossy passes."""
    scales: tuple[float, float] | None
    """The least and the largest number that sums are multiplied by to become int8; None where they stay."""
    steps: tuple[float, float] | None
    """What one step of the sums is worth, by row: the least and the largest; None where all came as int8."""
    adc_conversions: int | None
    adc_conversions_dense: int | None
    adc_clipped: int | None
    """Sums that were clipped in this run."""
    program_cycles: int | None
    """Of writing the cells, once."""
    program_energy_pj: float | None
    dense_program_energy_pj: float | None
    writes_per_cell: dict[str, float] | None
    """Of the cells that were written, after one inference: min, mean, max."""
    inferences_to_break_even: int | None
    """Inferences after which programming and inferring have taken no more energy than the dense mapping; None
    where they never do."""

    @staticmethod
    def of_crossbar(
        artifact: CrossbarArtifact, run: Simulation | None, dense: Simulation | None
    ) -> CrossbarReport:
        """The report of an artifact, with what its run and the dense mapping's run told."""
        operator, target, placed = artifact.operator, artifact.target, artifact.placed
        m, n, k = operator.shape
        nnz, tiles = operator.weight.nnz, list(placed.tiles)
        kept, all_cells = artifact.cells()
        rows, columns = target.array.rows, target.array.cols
        check, found, other = (
            run.check if run else None, run.report["crossbar"] if run else None,
            dense.report["crossbar"] if dense else None,
        )  # fmt: skip
        cycles, energy = _inference(found)
        dense_cycles, dense_energy = _inference(other)
        bound = _cycle_bound(artifact)
        ends = (cycles if cycles is not None else artifact.estimate.cycles) / max(1.0, bound)
        rounds = max((t.array for t in tiles), default=0) // artifact.chip_arrays + 1
        programmed, program_cycles = _programming(found)
        dense_programmed, _ = _programming(other)
        return CrossbarReport(
            name=operator.name,
            op=operator.op,
            formula=operator.formula,
            target=target.name,
            shape=(m, k, n),
            nnz=nnz,
            density=nnz / (m * k),
            pattern=str(recognise(artifact.spmm.weight.pattern)),
            dtype=operator.in_type,
            plan=artifact.plan,
            reason=artifact.reason,
            meta_ops=len(artifact.cover),
            groups=len(artifact.spmm.sets),
            fill=fill(artifact.cover, nnz),
            cells=kept,
            refused_cells=all_cells - kept,
            padding=sum(t.levels.size for t in tiles if t.slice == 0) - nnz if tiles else 0,
            predicted_cycles=round(artifact.estimate.cycles),
            bound_by=_bound_by(run) if run else "arrays",
            cycles_bound=math.floor(bound),
            gap=ends,
            cells_bound=-(-nnz // (rows * columns)),
            fewest_cells=None,
            tried=artifact.tried,
            cycles=cycles,
            dense_cycles=dense_cycles,
            speedup=dense_cycles / cycles if cycles and dense_cycles else None,
            control_speedup=None,
            energy_pj=energy,
            dense_energy_pj=dense_energy,
            energy_parts_pj=_parts(run),
            dram_bytes=_dram_bytes(run),
            moved_bytes=run.report["bytes"] if run else None,
            utilization=_useful(artifact, cycles) if cycles is not None else None,
            max_error=check["max_error"] if check else None,
            error_bound=check["error_bound"] if check else None,
            exact=check["wrong"] == 0 if check else None,
            zeroed=operator.zeroed,
            stored_zeros=operator.stored_zeros,
            pattern_only=operator.pattern_only,
            engines=run.report["engines"] if run else None,
            warnings=run.report["warnings"] if run else None,
            assumed=target.assumed,
            arrays=placed.tiles.arrays,
            arrays_by_shape=artifact.arrays_by_shape,
            arrays_dense=dense_arrays(target, (m, n, k)),
            arrays_available=artifact.arrays_available,
            rounds=rounds if rounds > 1 else 0,
            tiles=len(tiles),
            array_utilization=_array_utilization(artifact),
            adc_bits=artifact.adc_bits,
            may_clip=artifact.may_clip,
            lost=placed.lost_weights,
            energy_bound_pj=_energy_bound(artifact),
            scales=_scales(artifact),
            steps=_steps(artifact),
            adc_conversions=found["adc_conversions"] if found else None,
            adc_conversions_dense=other["adc_conversions"] if other else None,
            adc_clipped=found["adc_clipped"] if found else None,
            program_cycles=program_cycles,
            program_energy_pj=programmed,
            dense_program_energy_pj=dense_programmed,
            writes_per_cell=found["writes_per_cell"] if found else None,
            inferences_to_break_even=break_even(programmed, energy, dense_programmed, dense_energy),
        )

    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, value with unit) lines."""
        rows = [
            ("operator", f"{self.formula}, {self.dtype}"),
            ("target", self.target),
            ("nonzeros", f"{self.nnz} ({100 * self.density:.2f} % of W)" + self._remarks()),
            ("pattern", self.pattern),
            ("plan", self.plan),
            ("reason", self.reason),
            *self._tried_row(),
            ("meta-ops", f"{self.meta_ops}, fill {self.fill:.3f}; {self.tiles} tiles in arrays"),
            ("arrays", self._arrays_text()),
            (
                "ADC bits",
                ", ".join(f"{count} tiles of {bits}" for bits, count in self.adc_bits.items()) or "-",
            ),
        ]
        if self.scales:
            rows.append(
                ("result", "int8: sums times {:.4g} to {:.4g}, as they are stored".format(*self.scales))
            )
        if self.steps:
            rows.append(("a step of the sums", "worth {:.4g} to {:.4g}, by row".format(*self.steps)))
        if self.may_clip:
            rows.append(
                ("ADC may clip", f"{self.may_clip} tiles: their sums can exceed the target's converters")
            )
        if self.lost:
            rows.append(("lossy", f"{self.lost} weights changed by their lowest bit"))
        if self.cycles is None:
            return [*rows, ("cycles, predicted", f"{self.predicted_cycles} for an inference")]
        assert self.dense_cycles is not None
        assert self.energy_pj is not None
        assert self.dense_energy_pj is not None
        assert self.program_energy_pj is not None
        assert self.writes_per_cell is not None
        ratio = self.dense_energy_pj / self.energy_pj if self.energy_pj else math.inf
        rows += [
            ("cycles", f"{self.cycles} (predicted {self.predicted_cycles}), bound by {self.bound_by}"),
            ("cycles, dense plan", str(self.dense_cycles)),
            ("speed-up over dense", f"{self.speedup:.2f} x" if self.speedup else "no cycle is left"),
            ("energy", f"{si(self.energy_pj)}J (dense {si(self.dense_energy_pj)}J, {ratio:.2f} x)"),
            *self._energy_bound_row(),
            ("ADC conversions", f"{self.adc_conversions} (dense {self.adc_conversions_dense})"),
            ("off-chip traffic", f"{self.dram_bytes} bytes"),
            (
                "programming, once",
                f"{self.program_cycles} cycles, {si(self.program_energy_pj)}J; {self._break_even_text()}",
            ),
            (
                "writes of a cell",
                "{min:g} to {max:g}, {mean:.3g} on average".format(**self.writes_per_cell)
                + (", again in each inference" if self.rounds else ""),
            ),
        ]
        if self.adc_clipped:
            rows.append(("ADC clipped", f"{self.adc_clipped} sums of this run"))
        if self.exact is not None:
            verdict = "every value equal" if self.exact else "WRONG VALUES"
            rows.append(("check", f"{verdict}; largest error {self.max_error:g}"))
        rows += [("warning", f"{count} x {name}") for name, count in (self.warnings or {}).items() if count]
        return rows

    def _energy_bound_row(self) -> list[tuple[str, str]]:
        """How much is left at most, and how far below the dense mapping any other can be at most."""
        bound, energy, dense = self.energy_bound_pj, self.energy_pj, self.dense_energy_pj
        if not (bound and energy and dense):
            return []
        text = f"no exact mapping below {si(bound)}J (gap {energy / bound:.2f} x)"
        text += f", which is {dense / bound:.2f} x below dense"
        return [("energy, bound", text)]

    def _arrays_text(self) -> str:
        share = (
            f", {100 * self.array_utilization:.1f} % of their cells hold a level"
            if self.array_utilization
            else ""
        )
        shapes = ", ".join(f"{count} of {shape}" for shape, count in self.arrays_by_shape.items())
        several = len(self.arrays_by_shape) > 1
        text = f"{self.arrays}: {shapes}" if several else f"{self.arrays} of {self.arrays_available}"
        text += f" (dense {self.arrays_dense}){share}"
        return text + (f"; written anew {self.rounds} times in each inference" if self.rounds else "")

    def _break_even_text(self) -> str:
        if self.plan == "dense":
            return "this is the dense mapping"
        if self.inferences_to_break_even is None:
            return "never repaid against the dense mapping"
        return f"repaid against the dense mapping after {self.inferences_to_break_even} inferences"


def _inference(found: dict[str, Any] | None) -> tuple[int | None, float | None]:
    """(cycles, picojoules) of one inference."""
    return (found["inference"]["cycles"], found["inference"]["energy_pj"]) if found else (None, None)


def _programming(found: dict[str, Any] | None) -> tuple[float | None, int | None]:
    """(picojoules, cycles) of programming."""
    return (found["program"]["energy_pj"], found["program"]["cycles"]) if found else (None, None)


def break_even(
    programmed: float | None, energy: float | None, dense_programmed: float | None, dense_energy: float | None
) -> int | None:
    """Inferences after which programming and inferring took no more energy than dense; None for never.

    The energies of programming and of an inference, in picojoules, and the same of the dense mapping.
    """
    if programmed is None or energy is None or dense_programmed is None or dense_energy is None:
        return None
    more, saved = programmed - dense_programmed, dense_energy - energy
    if more <= 0:
        return 0
    return math.ceil(more / saved) if saved > 0 else None


def _parts(run: Simulation | None) -> dict[str, float] | None:
    """What the energy of programming and one inference is made of."""
    if run is None:
        return None
    parts: dict[str, float] = run.report["energy_pj"]
    return {name: pj for name, pj in parts.items() if name != "total"}


def _dram_bytes(run: Simulation | None) -> int | None:
    return int(run.report["bytes"]["dram_read"]) + int(run.report["bytes"]["dram_write"]) if run else None


def _bound_by(run: Simulation) -> str:
    """The engine with the most busy cycles; arrays count on average over those used."""
    engines = {name: float(e["busy"]) for name, e in run.report["engines"].items()}
    crossbar = run.report["crossbar"]
    engines["arrays"] = crossbar["array_cycles"]["busy"] / max(1, crossbar["arrays_used"])
    return max(engines, key=lambda name: engines[name])


def _array_utilization(artifact: CrossbarArtifact) -> float | None:
    own = [t for t in artifact.placed.tiles if t.image < 0]
    cells = artifact.cells_used
    return sum(int((t.values != 0).sum()) for t in own) / cells if cells else None


def _cycle_bound(artifact: CrossbarArtifact) -> float:
    """No mapping takes fewer cycles: results must be stored, and one vector after the other read once."""
    m, n, _ = artifact.operator.shape
    target = artifact.target
    store = m * math.ceil(4 * n / target.dma.bytes_per_cycle)
    read = n * target.steps() * target.array.read_cycles if artifact.operator.weight.nnz else 0.0
    return max(float(store), read)


def _energy_bound(artifact: CrossbarArtifact) -> float | None:
    if artifact.placed.lost_weights or artifact.may_clip:
        return None
    weight = artifact.spmm.weight
    return energy_bound(weight.pattern, weight.data, artifact.operator.shape[1], artifact.target)


def _scales(artifact: CrossbarArtifact) -> tuple[float, float] | None:
    epilogue = cast("Spmm", artifact.operator).epilogue
    if epilogue is None or epilogue.scale is None:
        return None
    return float(epilogue.scale.min()), float(epilogue.scale.max())


def _steps(artifact: CrossbarArtifact) -> tuple[float, float] | None:
    found = quantization_of(artifact.placed)
    return None if found is None else (float(found.worth.min()), float(found.worth.max()))


def _useful(artifact: CrossbarArtifact, cycles: int) -> float:
    """Useful multiply-accumulates / those that the arrays used could do in this time."""
    target = artifact.target
    columns = max((shape[1] for shape in artifact.pool.shapes), default=1)
    step = max(target.array.read_cycles, target.adc_cycles(target.adc.bits) * columns / target.adc.lanes)
    peak = artifact.cells_used / target.slices / (target.steps() * step)
    return artifact.operator.weight.nnz * artifact.operator.depth / max(1.0, cycles * peak)
