"""Products for any number of columns up to a bound, which the program is told when it runs.

A tensor unit takes any width of its last tile, so one schedule - its cover, its blocks and panels - runs for
every number of columns N; which schedule is the fastest depends on N. A few kernels, each the best schedule
for one N, are therefore compiled with N as an argument, and a table names one for every N: the idea of
MikPoly (Yu et al., ASPLOS 2024), with the simulator instead of a model to choose by. No column is computed in
vain, so nothing is padded but what the unit pads. On crossbars one kernel serves all N
(`sparsecc.crossbar_any_n`).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp

from sparsecc.artifact import Artifact
from sparsecc.codegen.any_n import AnyNProgram, write_any_n
from sparsecc.codegen.tiled import TiledWriter
from sparsecc.compiler import compile
from sparsecc.dialects.sparse import SpmmOp
from sparsecc.emitted import Executable, built
from sparsecc.errors import UserError
from sparsecc.operator import Spmm
from sparsecc.passes.convert_sparse_to_tu import schedule_of
from sparsecc.replay import replay
from sparsecc.report import si
from sparsecc.schedule.cost import Plan
from sparsecc.schedule.measure import TRIES
from sparsecc.schedule.tables import Program, build
from sparsecc.stages import Progress, silent
from sparsecc.target import AnyTarget, Target
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target
from sparsecc.toolchain import build_program, find_compiler

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[Any]

MOST_KERNELS = 6
# A kernel is worth its code where it saves so much of the geometric mean over all N.
WORTH = 0.005
# Up to here the cycles of every N are known, above it those of whole tiles.
EVERY = 128


def anchors(most: int, tile: int) -> list[int]:
    """Numbers of columns that get a schedule of their own: powers of 4 in a tile, then doubled tiles."""
    inside = [4**i for i in range(10) if 4**i < tile]
    tiles = [tile * 2**i for i in range(20)]
    return sorted({n for n in [*inside, *tiles] if n < most} | {most})


def known_columns(most: int, tile: int) -> list[int]:
    """Numbers of columns whose cycles are simulated."""
    if most <= EVERY:
        return list(range(1, most + 1))
    inside = [2**i for i in range(20) if 2**i < tile]
    return sorted({*inside, *range(tile, most + 1, tile), most})


class AnyKernel(Protocol):
    """A program of any number of columns."""

    @property
    def name(self) -> str: ...

    def module(self) -> ModuleOp:
        """Its instructions; the number of columns is the last argument."""
        ...


@dataclass(frozen=True, eq=False)
class Kernel:
    """A schedule as a program of any number of columns."""

    name: str
    spmm: SpmmOp
    """The product with its cover, for the most columns."""
    program: Program
    target: Target

    @staticmethod
    def _entry() -> func.FuncOp:
        return func.FuncOp("main", FunctionType.from_lists((), ()))

    def cycles(self, n: int) -> int:
        """Simulated cycles for so many columns."""
        program = dataclasses.replace(self.program, n=n)
        writer = TiledWriter(self._entry(), self.spmm, self.target, program)
        functions = writer.functions()
        return int(replay(ModuleOp([*writer.constants, *functions]), self.target)["cycles"])

    def module(self) -> ModuleOp:
        """Its instructions; the number of columns is the last argument."""
        entry = self._entry()
        module = ModuleOp([entry])
        TiledWriter(entry, self.spmm, self.target, self.program, any_n=True).emit(module)
        return module


@dataclass(frozen=True)
class AnyNReport:
    """A product for any number of columns up to `max_n`."""

    name: str
    formula: str
    target: str
    dtype: str
    nnz: int
    max_n: int
    kernels: list[str]
    columns: list[dict[str, float]]
    """For each N that was simulated: its kernel, cycles, those of dense plans; on crossbars its energy."""
    padded_cycles: int
    """Of padding to max_n."""
    over_padding: float
    """Padded cycles / cycles, the geometric mean over `columns`."""
    over_dense: float
    """Cycles of the dense kernels / cycles, the geometric mean."""
    of_fixed: float
    """Cycles / those of compiling for one N, the geometric mean over the N that kernels are made for."""

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return dataclasses.asdict(self)

    def tables(self) -> list[Table]:
        """For people; of a long table some rows."""
        from rich.table import Table

        found = Table(title=f"{self.name} on {self.target}, {self.dtype}", title_justify="left", min_width=60)
        energy = "energy_pj" in self.columns[0]
        for heading in ("n", "kernel", "cycles", "dense", *(["energy"] if energy else [])):
            found.add_column(heading, justify="left" if heading == "kernel" else "right")
        step = max(1, len(self.columns) // 16)
        for i, row in enumerate(self.columns):
            if i % step == 0 or i == len(self.columns) - 1:
                name = self.kernels[int(row["kernel"])]
                joules = [f"{si(row['energy_pj'])}J"] if energy else []
                found.add_row(str(row["n"]), name, str(row["cycles"]), str(row["dense"]), *joules)
        totals = Table(show_header=False, box=None)
        totals.add_row("product", self.formula)
        totals.add_row(f"over padding to {self.max_n}", f"{self.over_padding:.2f} x (geometric means)")
        totals.add_row("over dense plans", f"{self.over_dense:.2f} x")
        totals.add_row("of compiling for one n", f"{self.of_fixed:.3f} of the cycles")
        return [found, totals]


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


@dataclass(eq=False)
class AnyN:
    """A compiled product. Call it with X [K, n] of any n up to the bound."""

    largest: Artifact
    """The product compiled for the most columns."""
    kernels: Sequence[AnyKernel]
    choice: NDArray[np.uint8]
    cycles: dict[int, int]
    dense: dict[int, int]
    fixed: dict[int, int]
    """Cycles of the product compiled for these numbers of columns alone."""
    progress: Progress
    energy_pj: dict[int, float] = field(default_factory=dict[int, float])
    """Of crossbars, as `cycles`."""

    @property
    def most(self) -> int:
        return self.largest.operator.shape[1]

    @property
    def _formula(self) -> str:
        m, _, k = self.largest.operator.shape
        return f"C[{m}, n] = W[{m}, {k}] X[{k}, n], n <= {self.most}"

    @cached_property
    def report(self) -> AnyNReport:
        """Cycles by number of columns."""
        operator, padded = self.largest.operator, self.cycles[self.most]
        rows: list[dict[str, float]] = [
            {"n": n, "kernel": int(self.choice[n]), "cycles": c, "dense": self.dense[n]}
            | ({"energy_pj": self.energy_pj[n]} if self.energy_pj else {})
            for n, c in self.cycles.items()
        ]
        return AnyNReport(
            name=operator.name, formula=self._formula, target=self.largest.target.name,
            dtype=operator.in_type, nnz=operator.weight.nnz, max_n=self.most,
            kernels=[k.name for k in self.kernels], columns=rows, padded_cycles=padded,
            over_padding=_mean([padded / c for c in self.cycles.values()]),
            over_dense=_mean([self.dense[n] / c for n, c in self.cycles.items()]),
            of_fixed=_mean([self.cycles[n] / c for n, c in self.fixed.items()]),
        )  # fmt: skip

    def _emitted(self) -> AnyNProgram:
        operator = self.largest.operator
        return AnyNProgram(
            f"{operator.name}: {self._formula}, {operator.weight.nnz} nonzeros, {self.largest.target.name}, "
            f"{operator.in_type}",
            operator.shape, self.largest.target, [k.module() for k in self.kernels], self.choice, self.cycles,
            self.largest.check,
        )  # fmt: skip

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder that stands alone (C, data, simulator, Makefile, report.json)."""
        write_any_n(Path(folder), self._emitted(), self.report.to_json())

    @cached_property
    def _program(self) -> Executable:
        self.progress("compiling the C")
        return built(self, lambda folder: write_any_n(folder, self._emitted(), {}), build_program)

    def check(self) -> None:
        """Run every number of columns of the table on the stored input. Raises UserError for wrong values."""
        self.progress("simulating all numbers of columns")
        self._program.run()

    def measured(self) -> list[dict[str, int]]:
        """As `check`; what the program told of each number of columns."""
        return self._program.report()

    def __call__(self, x: Array) -> Array:
        """C on the simulator, of x [K, n]. Raises UserError for an n beyond the bound."""
        operator = cast(Spmm, self.largest.operator)
        if x.ndim != 2 or not 1 <= x.shape[1] <= self.most:
            raise UserError(
                f"the input has shape {list(x.shape)}; operator {operator.name} takes [K, n] = "
                f"[{operator.shape[2]}, 1 to {self.most}]"
            )
        (given,) = dataclasses.replace(operator, n=x.shape[1]).checked_inputs((x,))
        return self._program.results([given], 1, "--n", str(x.shape[1]))[0]


def compile_any_n(
    source: object,
    *,
    target: str | AnyTarget = "gemmini16",
    max_n: int,
    dtype: str | None = None,
    seed: int = 0,
    effort: int = 1,
    x: Array | None = None,
    plan: str = "auto",
    name: str | None = None,
    progress: Progress = silent,
) -> AnyN:
    """Compile C[M,n] = W[M,K] X[K,n] for every n from 1 to max_n, as one program. Needs a C compiler.

    source, target, dtype, seed, effort, plan, name: as for `sparsecc.compile`. x: X [K, max_n] to check with,
    random by default. Raises UserError.
    """
    chip = load_target(target) if isinstance(target, str) else target
    if not isinstance(chip, Target | CrossbarTarget):
        raise UserError(
            f"target {chip.name} is a CPU; columns at run time are for tensor units and crossbars: leave "
            "--max-n out and give --n"
        )
    if max_n < 1:
        raise UserError(f"--max-n {max_n}: needed at least one column", exit_code=2)
    find_compiler()
    if isinstance(chip, CrossbarTarget):
        from sparsecc.crossbar_any_n import compile_on_crossbars

        return compile_on_crossbars(
            source, chip, max_n, progress, target=target, dtype=dtype, seed=seed, effort=effort, plan=plan,
            name=name, x=x,
        )  # fmt: skip
    tile = chip.array.cols
    found: dict[int, Artifact] = {}

    def compiled(n: int, plan: str) -> Artifact:
        return compile(
            source, target=target, n=n, dtype=dtype, seed=seed, effort=effort, plan=plan, name=name,
            x=x if n == max_n else None, progress=lambda text: progress(f"n = {n}: {text}"),
        )  # fmt: skip

    for n in reversed(anchors(max_n, tile)):
        found[n] = compiled(n, plan)
    largest = found[max_n]
    # Covers that own any rows are scheduled for one number of columns; windows are the best of the others.
    tiled: dict[int, tuple[SpmmOp, Plan]] = {}
    for n, artifact in found.items():
        product, schedule = _scheduled(artifact, effort)
        if not isinstance(schedule, Plan):
            product, schedule = _scheduled(compiled(n, "window"), effort)
        if isinstance(schedule, Plan):
            tiled[n] = product, schedule
    dense = {n: _scheduled(a.dense, effort) for n, a in found.items()}
    kernels = _kernels({f"{a.plan}-{n}": tiled[n] for n, a in found.items() if n in tiled}, largest)
    plain = _kernels({f"dense-{n}": (p, s) for n, (p, s) in dense.items() if isinstance(s, Plan)}, largest)
    columns = known_columns(max_n, tile)
    progress(f"simulating {len(kernels) + len(plain)} kernels for {len(columns)} numbers of columns")
    of_plain = np.array([[k.cycles(n) for n in columns] for k in plain])
    times = np.array([[k.cycles(n) for n in columns] for k in kernels])
    kept = _kept(np.concatenate([times, of_plain]))
    every = [*kernels, *plain]
    best = np.concatenate([times, of_plain])[kept]
    used = best.argmin(axis=0)
    # Between two known numbers of columns: the kernel of the larger one.
    choice = used[np.searchsorted(columns, np.arange(max_n + 1))].astype(np.uint8)
    return AnyN(
        largest, [every[i] for i in kept], choice,
        dict(zip(columns, best.min(axis=0).tolist(), strict=True)),
        dict(zip(columns, of_plain.min(axis=0).tolist(), strict=True)),
        {n: a.timing.cycles for n, a in found.items() if n in columns}, progress,
    )  # fmt: skip


def _scheduled(artifact: Artifact, effort: int) -> tuple[SpmmOp, object]:
    product = cast(SpmmOp, artifact.spmm)
    return product, schedule_of(product, artifact.target, TRIES[effort])


def _kernels(schedules: dict[str, tuple[SpmmOp, Plan]], largest: Artifact) -> list[Kernel]:
    """Programs of different schedules, for the most columns."""
    spmm, target = cast(SpmmOp, largest.spmm), largest.target
    n, pattern, values = spmm.positions, spmm.weight.pattern, spmm.weight.data
    found: dict[object, Kernel] = {}
    for name, (product, plan) in schedules.items():
        cover = product.cover()
        key = plan.knobs, cover.table.tobytes(), cover.index.tobytes()
        if key not in found:
            found[key] = Kernel(name, spmm, build(plan, pattern, values, n, target), target)
    return list(found.values())


def _kept(times: NDArray[np.int64]) -> list[int]:
    """Kernels [kernels, columns] that are worth their code, the most useful first."""
    logs = np.log(times.astype(np.float64))
    kept = [int(logs.mean(axis=1).argmin())]
    while len(kept) < min(MOST_KERNELS, len(times)):
        now = logs[kept].min(axis=0)
        gains = (now - np.minimum(now, logs)).mean(axis=1)
        if gains.max() < WORTH:
            break
        kept.append(int(gains.argmax()))
    return kept
