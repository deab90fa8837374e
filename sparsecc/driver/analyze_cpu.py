"""`sparsecc analyze` for CPUs: every operator is measured on this machine beside the dense plan."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sparsecc.cpu_compiler import compile_cpu
from sparsecc.cpu_report import CpuReport
from sparsecc.driver.analyze import Failure, Task, progress_bar, tasks_of
from sparsecc.errors import UserError
from sparsecc.importers import load_matrix
from sparsecc.importers.smtx import parse_smtx
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
    rows: list[Row] = []
    with progress_bar(len(tasks), arguments.quiet) as done:
        for task in tasks:
            rows.append(_row(task, arguments, target))
            done(task.name)
    if len(tasks) == 1 and isinstance(rows[0], Failure):
        raise UserError(rows[0].error)
    if arguments.json:
        operators = [
            {"name": r.name, "error": r.error} if isinstance(r, Failure) else r.to_json() for r in rows
        ]
        found = {"target": target.name, "n": arguments.n, "operators": operators, "summary": summary(rows)}
        print(json.dumps(found, indent=2))
    else:
        _print(rows, target, arguments.n)
    return int(any(isinstance(row, Failure) for row in rows))


def _row(task: Task, arguments: argparse.Namespace, target: CpuTarget) -> Row:
    """One row; a failure where the matrix cannot be read, held or compiled."""
    try:
        if task.data is None:
            matrix = load_matrix(task.source)
        else:
            matrix = parse_smtx(task.data, source=task.source, name=task.name)
        artifact = compile_cpu(
            matrix, target, arguments.target, n=arguments.n, dtype=arguments.dtype, seed=arguments.seed,
            x=None, plan="auto", pattern=arguments.pattern, passes=None, name=task.name, check_stages=False,
            progress=lambda _: None,
        )  # fmt: skip
        return artifact.report
    except UserError as error:
        return Failure(task.name, str(error))
    except MemoryError:
        return Failure(task.name, f"{task.source}: out of memory; take a larger machine")


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


def _print(rows: list[Row], target: CpuTarget, n: int) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(f"{target.name}, N = {n}, one core: times measured on this machine beside the dense plan")
    console.print(table(rows))
    found = summary(rows)
    parts = [f"{found[v]} {v}" for v in ("sparse", "dense", "failed") if found[v]]
    console.print(
        f"\n{len(rows)} operator{'s' * (len(rows) != 1)}: {', '.join(parts)}; {found['wall_ms']:.4g} ms, "
        f"dense {found['dense_ms']:.4g} ms: {found['speedup']:.2f}x; geometric mean "
        f"{found['mean_speedup']:.2f}x"
    )
