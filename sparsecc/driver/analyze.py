"""`sparsecc analyze`: one row for each operator of a file, a folder or a pack, and what they add up to."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sparsecc.analysis import Analysis, Search, analyze
from sparsecc.driver.tasks import (
    Failure,
    Task,
    counted,
    gathered,
    guarded,
    in_order,
    loaded,
    tasks_of,
    tell,
    verdicts,
)
from sparsecc.errors import UserError
from sparsecc.operator import operator_of
from sparsecc.patterns.declared import check_declared
from sparsecc.target import CpuTarget, Target, load_target
from sparsecc.target.crossbar import CrossbarTarget

if TYPE_CHECKING:
    from rich.table import Table

Row = Analysis | Failure


@dataclass(frozen=True)
class Options:
    """What holds for all operators."""

    target: str
    n: int
    dtype: str | None
    search: Search
    pattern: str | None = None
    """N:M or V:N:M that every matrix is to have."""


def run(arguments: argparse.Namespace) -> int:
    """The command. 1 when any operator could not be looked at, else 0."""
    if arguments.jobs < 1:
        raise UserError(f"--jobs {arguments.jobs}: at least 1 process is needed", exit_code=2)
    if arguments.n < 1:
        raise UserError(f"--n {arguments.n}: an operator needs at least 1 position", exit_code=2)
    if isinstance(found := load_target(arguments.target), CpuTarget):
        from sparsecc.driver import analyze_cpu

        return analyze_cpu.run(arguments, found)
    options = Options(
        arguments.target,
        arguments.n,
        arguments.dtype,
        Search(arguments.effort, arguments.seed),
        arguments.pattern,
    )
    found.with_type(arguments.dtype or found.in_type)
    if isinstance(found, CrossbarTarget):
        from sparsecc.driver import analyze_crossbar

        return analyze_crossbar.run(arguments, found, options)
    target = Target.load(arguments.target)
    tasks = tasks_of(arguments.path)
    rows = gathered(tasks, analyze_all(tasks, options, arguments.jobs), arguments.quiet)
    whole = to_json(rows, target, arguments.n)
    return tell(rows, whole, lambda: _shown(rows, target, arguments.n), arguments.json, 200)


def analyze_task(task: Task, options: Options) -> Row:
    """One row; a failure where the matrix cannot be read, held or compiled."""

    def work() -> Analysis:
        target = Target.load(options.target)
        operator = operator_of(loaded(task), options.n, target, options.dtype, options.search.seed, task.name)
        if options.pattern is not None:
            check_declared(operator.pattern, options.pattern, operator.name)
        return analyze(operator, target.with_type(operator.in_type), options.search)

    return guarded(task, work)


def analyze_all(tasks: list[Task], options: Options, jobs: int = 1) -> Iterator[Row]:
    """A row for each task, in order, whatever the number of processes."""
    return in_order(partial(analyze_task, options=options), tasks, jobs)


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """How many rows of each verdict, and the cycles of all operators together."""
    rows = list(rows)
    good = [row for row in rows if isinstance(row, Analysis)]
    cycles, dense = sum(row.cycles for row in good), sum(row.dense_cycles for row in good)
    control = sum(row.dense_cycles / row.control_speedup for row in good)
    return {
        **verdicts(rows),
        "cycles": cycles,
        "dense_cycles": dense,
        "speedup": dense / cycles if cycles else 1.0,
        "control_speedup": dense / control if control else 1.0,
        "cycles_bound": sum(row.cycles_bound for row in good),
    }


def to_json(rows: list[Row], target: Target, n: int) -> dict[str, Any]:
    """All of it as one JSON object."""
    return {
        "target": target.name,
        "n": n,
        "operators": [dataclasses.asdict(row) for row in rows],
        "summary": summary(rows),
    }


def table(rows: Iterable[Row]) -> Table:
    """One line for each operator."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.add_column("operator", overflow="fold")
    made.add_column("M x K")
    made.add_column("pattern", overflow="fold")
    made.add_column("density", justify="right")
    made.add_column("verdict")
    for head in ("sparse", "dense", "speed-up", "random", "bound", "gap"):
        made.add_column(head, justify="right", no_wrap=True)
    made.add_column("why", overflow="fold", ratio=1)
    for row in rows:
        if isinstance(row, Failure):
            made.add_row(row.name, "", "", "", row.verdict, *[""] * 6, row.error)
            continue
        m, k, _ = row.shape
        made.add_row(
            row.name, f"{m} x {k}", row.pattern, f"{row.density:.4f}", row.verdict, str(row.sparse_cycles),
            str(row.dense_cycles), f"{row.speedup:.2f}", f"{row.control_speedup:.2f}", str(row.cycles_bound),
            f"{row.gap:.2f}", row.why,
        )  # fmt: skip
    return made


def _shown(rows: list[Row], target: Target, n: int) -> Iterator[object]:
    """Above the table, the table, and below it."""
    yield (
        f"{target.name}, N = {n}: cycles predicted for the best cover and the dense plan, the speed-up of "
        "the plan taken beside that of a random matrix of the same density, and the lower bound"
    )
    yield table(rows)
    found = summary(rows)
    yield (
        f"\n{counted(rows, found)}; {found['cycles']} cycles, "
        f"dense {found['dense_cycles']}: {found['speedup']:.2f}x (random matrices "
        f"{found['control_speedup']:.2f}x); no plan takes fewer than {found['cycles_bound']}"
    )
