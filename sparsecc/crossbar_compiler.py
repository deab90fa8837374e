"""Compiles one operator for memristor crossbars: what differs from `sparsecc.compiler`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import IntegerAttr
from xdsl.passes import ModulePass

from sparsecc.artifact import Artifact, Simulation
from sparsecc.codegen.folder import Check
from sparsecc.crossbar.cost import Cost, cost
from sparsecc.crossbar.dense import array_count
from sparsecc.crossbar.faults import Device, Fault, device_lines, devices_of, weights_hit
from sparsecc.crossbar.place import PLACE_COLUMNS, place_table
from sparsecc.crossbar.pool import Pool
from sparsecc.crossbar.tiles import ARRAY, IMAGE
from sparsecc.crossbar_report import CrossbarReport
from sparsecc.dialects import xbar
from sparsecc.dialects.sparse_quantization import quantization_of
from sparsecc.errors import UserError
from sparsecc.interpreters import sparse as sparse_interpreter
from sparsecc.interpreters.xbar import register
from sparsecc.model import model_module
from sparsecc.monte_carlo import NoisyRuns, monte_carlo, noise_words
from sparsecc.operator import Spmm, operator_of
from sparsecc.passes.xbar_fit_adc import MAY_CLIP
from sparsecc.patterns.declared import check_declared
from sparsecc.pipeline import crossbar
from sparsecc.replay import replay
from sparsecc.scales import Scales, real_values
from sparsecc.stages import Progress, Stage, compared, named_target, run_passes
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_noise import Noise
from sparsecc.toolchain import has_compiler

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class CrossbarSimulation(Simulation):
    """What the simulator reported: cycles and energy are those of the inference, without programming."""

    @property
    def cycles(self) -> int:
        return int(self.report["crossbar"]["inference"]["cycles"])

    @property
    def energy_pj(self) -> float:
        return float(self.report["crossbar"]["inference"]["energy_pj"])


@dataclass(eq=False)
class CrossbarArtifact(Artifact):
    """A compiled operator. Call it to run it on the simulator."""

    target: CrossbarTarget  # pyright: ignore[reportIncompatibleVariableOverride]

    @cached_property
    def placed(self) -> xbar.SpmmOp:
        """The operator as the last pass of the crossbar family left it."""
        found = [op for stage in self.stages for op in stage.module.walk() if isinstance(op, xbar.SpmmOp)]
        if not found:
            raise UserError("the pipeline made no xbar.spmm; it needs convert-sparse-to-xbar")
        return found[-1]

    @property
    def may_clip(self) -> int:
        """Tiles whose sums the converters may clip."""
        found = self.placed.attributes.get(MAY_CLIP)
        return cast("IntegerAttr[Any]", found).value.data if found else 0

    @cached_property
    def estimate(self) -> Cost:
        """What an inference costs, without running it."""
        return cost(list(self.placed.tiles), self.target, self.operator.shape, self.chip_arrays)

    @cached_property
    def adc_bits(self) -> dict[int, int]:
        """Tiles by the bits of their conversions."""
        bits = [t.adc_bits or self.target.adc.bits for t in self.placed.tiles]
        return {b: bits.count(b) for b in sorted(set(bits))}

    def simulate(self, values: bool = True) -> CrossbarSimulation:
        """Run the program: on its stored input, every value checked, or for its time only."""
        found = super().simulate(values)
        return CrossbarSimulation(found.report, found.check)

    @cached_property
    def timing(self) -> CrossbarSimulation:
        """A run for its time only, of the program before it becomes C where the stages have it."""
        programs = [stage.module for stage in self.stages if stage.is_program]
        if not programs:
            return self.simulate(values=False)
        self.progress(f"simulating the {self.plan} plan (time only)")
        return CrossbarSimulation(replay(programs[-1], self.target, ("program", "main")), None)

    def save_places(self, path: str | os.PathLike[str]) -> None:
        """Write where each weight lies, a line for each weight and slice, as .npy (int64) or .csv.

        Columns: see `sparsecc.crossbar.place.PLACE_COLUMNS`. Raises UserError for another ending of the name,
        or where the file cannot be written.
        """
        name, table = os.fspath(path), place_table(self.placed.tiles)
        if not name.endswith((".npy", ".csv")):
            problem = "a table of places is written as .npy or .csv; end the name so"
            raise UserError(f"{name}: {problem}", exit_code=2)
        try:
            if name.endswith(".npy"):
                np.save(name, table)
            else:
                np.savetxt(name, table, "%d", ",", header=",".join(PLACE_COLUMNS), comments="")
        except OSError as e:
            raise UserError(f"{name}: cannot be written: {e.strerror}; name another file") from e

    def noisy(self, noise: Noise, seeds: Sequence[int], faults: Sequence[Fault] = ()) -> NoisyRuns:
        """Runs on the stored input with devices that differ from their levels, one for each seed.

        faults: cells that are stuck in every run. Raises UserError for what are not cells of the target.
        """
        program, devices = self._program, self.stuck_devices(faults)
        self.progress(f"simulating {len(seeds)} runs with noise")
        return monte_carlo(program.path, noise, seeds, devices)

    def noisy_product(self, x: Array, noise: Noise, faults: Sequence[Fault] = ()) -> Array:
        """As a call, with devices that differ from their levels; [M, N] of x [K, N]."""
        options = ["--noise", noise_words(noise)]
        with tempfile.TemporaryDirectory(prefix="sparsecc-") as work:
            if devices := self.stuck_devices(faults):
                path = Path(work) / "faults.txt"
                path.write_text(device_lines(devices))
                options += ["--faults", str(path)]
            return self._product((x,), options)

    def real(self, *inputs: Array) -> NDArray[np.float32]:
        """As a call, in the units of the matrix and inputs as they came: float32, [M, N].

        Results are multiplied by what the IR says their steps are worth; int8 inputs and weights are worth 1.
        """
        found, rows = quantization_of(self.placed), self.operator.shape[0]
        epilogue = cast("Spmm", self.operator).epilogue
        worth = np.ones(rows) if found is None else found.worth
        return real_values(self(*inputs), worth, None if epilogue is None else epilogue.scale)

    @property
    def pool(self) -> Pool:
        """The arrays: all that the chip has of the shape that is used, or so many of each of several."""
        return self.placed.pool(array_count(self.target, self.placed.shape))

    @property
    def chip_arrays(self) -> int:
        """Arrays that the chip has of the shapes that are used."""
        return self.pool.count

    @property
    def arrays_available(self) -> int:
        """Arrays of the chip: where several shapes are used, these, and what is left in the usual shape."""
        array, pool = self.target.array, self.pool
        size = array.rows * array.cols
        return pool.count if self.placed.mixed is None else pool.count + array.count - -(-pool.cells // size)

    @property
    def cells_used(self) -> int:
        """Cells of the arrays in use, filled or not."""
        tiles = self.placed.tiles
        return self.pool.cells_of(np.unique(tiles.table[tiles.table[:, IMAGE] < 0, ARRAY]).tolist())

    @property
    def arrays_by_shape(self) -> dict[str, int]:
        """How many arrays of each shape are in use, by "word lines x bit lines"."""
        tiles = self.placed.tiles
        used = np.unique(tiles.table[tiles.table[:, IMAGE] < 0, ARRAY]).tolist()
        shapes = [self.pool.shape_of(array) for array in used]
        return {f"{s[0]}x{s[1]}": shapes.count(s) for s in self.pool.shapes if s in shapes}

    def stuck_devices(self, faults: Sequence[Fault]) -> list[Device]:
        """The devices of stuck cells. Raises UserError for those that are not cells of the target."""
        return devices_of(faults, self.placed.tiles, self.pool, self.target)

    def hit_by(self, faults: Sequence[Fault]) -> Array:
        """Lines of the table of places (`save_places`) whose cells are stuck at another level."""
        table = place_table(self.placed.tiles)
        return table[weights_hit(faults, table, self.chip_arrays)]

    def predicted(self) -> CrossbarReport:
        """The report as far as it is known without running."""
        return CrossbarReport.of_crossbar(self, None, None)

    @cached_property
    def report(self) -> CrossbarReport:
        """The report of a simulated run, compared with the dense mapping."""
        simulation = self.simulate()
        return CrossbarReport.of_crossbar(
            self, simulation, simulation if self.is_dense else self.dense.timing
        )


def compile_crossbar(
    source: object,
    chip: CrossbarTarget,
    named: str | CrossbarTarget,
    *,
    n: int,
    dtype: str | None,
    seed: int,
    effort: int,
    x: Array | tuple[Array, ...] | None,
    plan: str,
    pattern: str | None,
    passes: Sequence[ModulePass] | None,
    name: str | None,
    check_stages: bool,
    confirm: bool,
    progress: Progress,
    scales: Scales | None = None,
) -> Artifact:
    """As `sparsecc.compile`, for a target with crossbars; `named` is what passes call it."""
    register()
    progress("reading the matrix")
    operator = operator_of(source, n, chip, dtype, seed, name, scales)
    if pattern is not None:
        check_declared(operator.pattern, pattern, operator.name)
    given = operator.checked_inputs(_inputs(operator, chip, seed, x))
    check = operator.reference(given)
    after = _checked_stage(check) if check_stages else _verify_tiles

    def compiled(plan: str, passes: Sequence[ModulePass] | None = None) -> CrossbarArtifact:
        with named_target(named) as path:
            chosen = passes if passes is not None else crossbar(path, plan, effort, seed)
            stages = run_passes(model_module(operator, chip), chosen, after, progress)
            return CrossbarArtifact(
                operator, chip, tuple(stages), lambda: check, progress, lambda: compiled("dense")
            )

    found = compiled(plan, passes)
    if plan != "auto" or passes is not None or found.is_dense or not (confirm and has_compiler()):
        return found
    mine, dense = found.timing, found.dense.timing
    if mine.cycles <= dense.cycles and mine.energy_pj <= dense.energy_pj:
        return found
    found.dense.tried_given = found.tried
    found.dense.reason_given = (
        f"the best cover ({found.reason}) took {mine.cycles} cycles and {mine.energy_pj:.4g} pJ on the "
        f"simulator, the dense mapping {dense.cycles} and {dense.energy_pj:.4g}"
    )
    return found.dense


def _inputs(
    operator: Spmm, chip: CrossbarTarget, seed: int, x: Array | tuple[Array, ...] | None
) -> tuple[Array, ...]:
    """The inputs to check with. Sign-magnitude inputs have no -128."""
    if x is None:
        (drawn,) = operator.random_inputs(seed)
        return (np.maximum(drawn, -127) if chip.differential else drawn,)
    given = x if isinstance(x, tuple) else (x,)
    if operator.input_scale is None and chip.differential and len(given) == 1 and (given[0] == -128).any():
        row, column = np.argwhere(given[0] == -128)[0]
        raise UserError(
            f"the input has -128 at row {row}, column {column}; target {chip.name} takes sign-magnitude "
            "inputs, -127..127: clip the input"
        )
    return given


def _verify_tiles(stage: Stage) -> None:
    """Hold the laws of the last stage with tiles; those before led to it."""
    if stage.name == "xbar-place":
        stage.module.verify()


def _checked_stage(check: Check) -> Callable[[Stage], None]:
    """Compares what each stage computes."""

    def result(stage: Stage) -> Array | None:
        if stage.name == "convert-xbar-to-c" or stage.is_program:
            return None
        (y,) = sparse_interpreter.run_module(stage.module, *check.inputs.values())
        return y

    return compared(check, result, "converters clip, or this is a bug of the pass")
