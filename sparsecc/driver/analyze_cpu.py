"""`sparsecc analyze` for CPUs: every operator is measured on this machine beside the dense plan."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sparsecc.cpu_compiler import compile_cpu
from sparsecc.cpu_report import CpuReport
from sparsecc.driver.tasks import Failure, Task, counted, gathered, guarded, loaded, tasks_of, tell
from sparsecc.errors import UserError
from sparsecc.target.cpu import CpuTarget

if TYPE_CHECKING:
    from rich.table import Table

Row = CpuReport | Failure


def run(arguments: argparse.Namespace, target: CpuTarget) -> int:
    """The command. 1 when any operator could not be looked at, else 0."""
    target.check_runs_here()
    if arguments.jobs != 1:
        raise UserError(
            f"--jobs {arguments.jobs}: on a CPU times are measured, and processes would disturb each other; "
            "leave --jobs out",
            exit_code=2,
        )
    tasks = tasks_of(arguments.path)
    rows = gathered(tasks, (_row(task, arguments, target) for task in tasks), arguments.quiet)
    operators = [{"name": r.name, "error": r.error} if isinstance(r, Failure) else r.to_json() for r in rows]
    whole = {"target": target.name, "n": arguments.n, "operators": operators, "summary": summary(rows)}
    return tell(rows, whole, lambda: _shown(rows, target, arguments.n), arguments.json, 200)


def _row(task: Task, arguments: argparse.Namespace, target: CpuTarget) -> Row:
    """One row; a failure where the matrix cannot be read, held or compiled."""

    def work() -> CpuReport:
        artifact = compile_cpu(
            loaded(task), target, arguments.target, n=arguments.n, dtype=arguments.dtype, seed=arguments.seed,
            x=None, plan="auto", pattern=arguments.pattern, passes=None, name=task.name, check_stages=False,
            progress=lambda _: None,
        )  # fmt: skip
        return artifact.report

    return guarded(task, work)


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """What all operators take together."""
    rows = list(rows)
    good = [row for row in rows if isinstance(row, CpuReport)]
    wall = sum(row.wall_ms or 0.0 for row in good)
    dense = sum(row.dense_ms or 0.0 for row in good if row.dense_ms is not None)
    compared = sum(row.wall_ms or 0.0 for row in good if row.dense_ms is not None)
    speedups = [row.speedup for row in good if row.speedup]
    return {
        "sparse": sum(row.plan == "sparse" for row in good),
        "dense": sum(row.plan == "dense" for row in good),
        "failed": len(rows) - len(good),
        "wall_ms": wall,
        "dense_ms": dense,
        "speedup": dense / compared if compared else 1.0,
        "mean_speedup": math.exp(sum(map(math.log, speedups)) / len(speedups)) if speedups else 1.0,
    }


def table(rows: Iterable[Row]) -> Table:
    """One line for each operator."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.add_column("operator", overflow="fold")
    made.add_column("M x K")
    made.add_column("density", justify="right")
    made.add_column("plan")
    for head in ("ms", "GFLOP/s", "% of peak", "dense ms", "speed-up"):
        made.add_column(head, justify="right", no_wrap=True)
    made.add_column("kernel", overflow="fold", ratio=1)
    for row in rows:
        if isinstance(row, Failure):
            made.add_row(row.name, "", "", "failed", *[""] * 5, row.error)
            continue
        m, k, _ = row.shape
        made.add_row(
            row.name, f"{m} x {k}", f"{row.density:.4f}", row.plan, f"{row.wall_ms:.4g}", f"{row.gflops:.1f}",
            f"{100 * (row.peak_fraction or 0):.1f}", "" if row.dense_ms is None else f"{row.dense_ms:.4g}",
            "" if row.speedup is None else f"{row.speedup:.2f}", row.kernel,
        )  # fmt: skip
    return made


def _shown(rows: list[Row], target: CpuTarget, n: int) -> Iterator[object]:
    """Above the table, the table, and below it."""
    yield f"{target.name}, N = {n}, one core: times measured on this machine beside the dense plan"
    yield table(rows)
    found = summary(rows)
    yield (
        f"\n{counted(rows, found)}; {found['wall_ms']:.4g} ms, "
        f"dense {found['dense_ms']:.4g} ms: {found['speedup']:.2f}x; geometric mean "
        f"{found['mean_speedup']:.2f}x"
    )
