"""Products on crossbars for any number of positions up to a bound, which the program is told when it runs.

Every position is one read of the arrays, so one mapping and one program, whose loops over positions end where
they are told, serve all numbers. The arrays are written once. What a number of positions costs is simulated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from sparsecc.any_n import AnyN, known_columns
from sparsecc.codegen.any_n import AnyNProgram, write_any_n
from sparsecc.compiler import compile
from sparsecc.crossbar_compiler import CrossbarArtifact
from sparsecc.dialects import xbar
from sparsecc.emitted import built
from sparsecc.passes.xbar_schedule import schedule
from sparsecc.stages import Progress
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.toolchain import build_program


@dataclass(frozen=True)
class PositionsCost:
    """Of one inference of a product, without programming."""

    cycles: int
    energy_pj: float


@dataclass(frozen=True, eq=False)
class CrossbarKernel:
    """A product on arrays that are written once, as a program of any number of positions."""

    name: str
    artifact: CrossbarArtifact
    """The product compiled for the most positions."""

    @cached_property
    def program(self) -> ModuleOp:
        """Its instructions: `program` writes the arrays, `main` takes the number of positions last.

        Raises UserError where arrays are multiplexed.
        """
        placed = next(
            stage.module
            for stage in reversed(self.artifact.stages)
            if any(isinstance(op, xbar.SpmmOp) for op in stage.module.walk())
        ).clone()
        function = next(op for op in placed.ops if isinstance(op, func.FuncOp))
        schedule(placed, function, self.artifact.target, any_n=True)
        return placed

    def module(self) -> ModuleOp:
        """A copy of the program."""
        return self.program.clone()

    def costs(self, numbers: Iterable[int]) -> dict[int, PositionsCost]:
        """Simulated costs of these numbers of positions. Needs a C compiler."""
        artifact = self.artifact
        most = artifact.operator.shape[1]
        program = AnyNProgram(
            artifact.title, artifact.operator.shape, artifact.target, [self.module()],
            np.zeros(most + 1, np.uint8), dict.fromkeys(numbers, -1), artifact.check,
        )  # fmt: skip
        timed = built(self, lambda folder: write_any_n(folder, program, {}), build_program)
        rows: list[dict[str, Any]] = timed.report("--timing-only")
        return {row["n"]: PositionsCost(row["cycles"], row["energy_pj"]) for row in rows}


def compile_on_crossbars(
    source: object, chip: CrossbarTarget, max_n: int, progress: Progress, **options: Any
) -> AnyN:
    """As `sparsecc.any_n.compile_any_n` on a target with crossbars, which `options` name."""

    def compiled(n: int) -> CrossbarArtifact:
        given: dict[str, Any] = {**options, "x": options["x"] if n == max_n else None}
        found = compile(source, n=n, progress=lambda text: progress(f"n = {n}: {text}"), **given)
        return cast(CrossbarArtifact, found)

    largest = compiled(max_n)
    kernel = CrossbarKernel(f"{largest.plan}-{max_n}", largest)
    dense = CrossbarKernel(f"dense-{max_n}", cast(CrossbarArtifact, largest.dense))
    columns = known_columns(max_n, chip.row_elements)
    progress(f"simulating {len(columns)} numbers of columns")
    costs = kernel.costs(columns)
    plain = costs if largest.is_dense else dense.costs(columns)
    fixed = {1: compiled(1).timing.cycles} if max_n > 1 else {}
    return AnyN(
        largest, [kernel], np.zeros(max_n + 1, np.uint8), {n: c.cycles for n, c in costs.items()},
        {n: c.cycles for n, c in plain.items()}, fixed | {max_n: largest.timing.cycles}, progress,
        {n: c.energy_pj for n, c in costs.items()},
    )  # fmt: skip
