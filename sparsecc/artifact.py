"""A compiled operator: what is known of it, the folder it is saved to, and its runs on the simulator."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.codegen.folder import Check, write_folder
from sparsecc.cover.cells import count_cells
from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse import ProductOp
from sparsecc.emitted import Executable, built
from sparsecc.errors import UserError
from sparsecc.operator import Operator
from sparsecc.passes.sparse_compact import tried
from sparsecc.replay import replay
from sparsecc.report import Outlook, Report, outlook_of
from sparsecc.stages import Progress, Stage, save_stages
from sparsecc.target import Target
from sparsecc.toolchain import build_program

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Simulation:
    """What the simulator reported of one program."""

    report: dict[str, Any]
    check: dict[str, Any] | None

    @property
    def cycles(self) -> int:
        return int(self.report["cycles"])

    @property
    def energy_pj(self) -> float:
        return float(self.report["energy_pj"]["total"])


@dataclass(eq=False)
class Artifact:
    """A compiled operator. Call it to run it on the simulator."""

    operator: Operator
    target: Target
    stages: tuple[Stage, ...]
    find_check: Callable[[], Check]
    progress: Progress
    compile_dense: Callable[[], Artifact]
    reason_given: str | None = None
    """Why this plan, where it is not what the scheduler said."""
    tried_given: list[tuple[str, int, int]] | None = None
    """What the scheduler weighed, where another artifact of the operator lost on the simulator."""

    @cached_property
    def check(self) -> Check:
        """What the program checks itself against: of its cycles alone nobody needs that."""
        return self.find_check()

    @property
    def title(self) -> str:
        operator = self.operator
        return (
            f"{operator.name}: {operator.formula}, {operator.weight.nnz} nonzeros, {self.plan} plan, "
            f"{self.target.name}, {operator.in_type}"
        )

    @cached_property
    def spmm(self) -> ProductOp:
        """The operator as the last pass of the Sparse IR left it."""
        found = [spmm for stage in self.stages if (spmm := stage.spmm) is not None]
        if not found:
            raise UserError(
                f"the pipeline made no sparse.{self.operator.op}; it needs convert-linalg-to-sparse or "
                "convert-linalg-to-sddmm"
            )
        return found[-1]

    @property
    def is_dense(self) -> bool:
        return self.spmm.is_dense

    @property
    def plan(self) -> str:
        return "dense" if self.is_dense else "sparse"

    @property
    def reason(self) -> str:
        """Why this plan."""
        return self.reason_given or (self.spmm.reason.data if self.spmm.reason else "")

    @property
    def tried(self) -> list[tuple[str, int, int]]:
        """(candidate, predicted cycles, unit cells), the best first; empty where the plan was asked for."""
        return self.tried_given or tried(self.spmm)

    @cached_property
    def dense(self) -> Artifact:
        """The same operator as one dense meta-op: this one, where it is that."""
        return self if self.is_dense else self.compile_dense()

    @cached_property
    def cover(self) -> MetaOps:
        return self.spmm.cover()

    @cached_property
    def outlook(self) -> Outlook:
        """What is known before a run, for its report and that of the saved folder."""
        return outlook_of(self)

    def save(self, folder: str | os.PathLike[str], ir: bool = False) -> None:
        """Write the folder that stands alone (C, data, simulator, Makefile, report.json), and all IR."""
        self._write(Path(folder), self.predicted().to_json())
        if ir:
            save_stages(self.stages, Path(folder) / "ir")

    def _write(self, folder: Path, report: dict[str, object]) -> None:
        module = self.stages[-1].module
        write_folder(folder, module, self.title, self.operator.shape, self.target, self.check, report)

    def __call__(self, *inputs: Array) -> Array:
        """C on the simulator, of x [K, N], or of a [M, K] and b [K, N] (then 0 where the mask is).

        Inputs are in, or exactly convertible to, the input type.
        """
        return self._product(inputs, [])

    def _product(self, inputs: tuple[Array, ...], options: list[str]) -> Array:
        """The result of the program with these further options."""
        given = self.operator.checked_inputs(tuple(np.asarray(x) for x in inputs))
        return self._program.results(given, 1, *options)[0]

    @cached_property
    def _program(self) -> Executable:
        self.progress("compiling the C")
        return built(self, lambda folder: self._write(folder, {}), build_program)

    def simulate(self, values: bool = True) -> Simulation:
        """Run the program: on its stored input, every value checked, or for its time only."""
        program = self._program
        self.progress(f"simulating the {self.plan} plan" + ("" if values else " (time only)"))
        found: dict[str, Any] = program.report(*([] if values else ["--timing-only"]))
        return Simulation(found["simulation"], found.get("check"))

    def rerun(self, output: str | None, trace: str | None) -> None:
        """Run on the stored input once more and write C [M, N] as .npy, and a Chrome trace."""
        self._program.run(*(["--output", output] if output else []), *(["--trace", trace] if trace else []))

    def cells(self) -> tuple[int, int]:
        """(unit cells computed, unit cells of the whole computing space)."""
        product = self.spmm
        whole = MetaOps.whole(*self.operator.shape)
        kept, all_cells = (count_cells(product.plane(m), product.plane_unit) for m in (self.cover, whole))
        return kept, all_cells

    def predicted(self) -> Report:
        """The report as far as it is known without running."""
        return Report.of(self, None, None)

    @cached_property
    def timing(self) -> Simulation:
        """A run for its time only, of the program before it becomes C where the stages have it."""
        programs = [stage.module for stage in self.stages if stage.is_program]
        if not programs:
            return self.simulate(values=False)
        self.progress(f"simulating the {self.plan} plan (time only)")
        return Simulation(replay(programs[-1], self.target), None)

    @cached_property
    def report(self) -> Report:
        """The report of a simulated run, compared with the dense plan."""
        simulation = self.simulate()
        dense = simulation if self.is_dense else self.dense.timing
        return Report.of(self, simulation, dense)
