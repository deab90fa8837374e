"""`sparsecc analyze` for crossbars: arrays, converters, energy and programming beside the dense mapping."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from sparsecc.crossbar_analysis import CrossbarAnalysis, analyze_crossbar
from sparsecc.driver.analyze import Options
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
from sparsecc.operator import operator_of
from sparsecc.patterns.declared import check_declared
from sparsecc.report import si
from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.load import load_target

if TYPE_CHECKING:
    from rich.table import Table

Row = CrossbarAnalysis | Failure


def run(arguments: argparse.Namespace, target: CrossbarTarget, options: Options) -> int:
    """The command. 1 when any operator could not be looked at, else 0."""
    tasks = tasks_of(arguments.path)
    found = in_order(partial(analyze_task, options=options), tasks, arguments.jobs)
    rows = gathered(tasks, found, arguments.quiet)
    whole = to_json(rows, target, arguments.n)
    return tell(rows, whole, lambda: _shown(rows, target, arguments.n), arguments.json, 220)


def analyze_task(task: Task, options: Options) -> Row:
    """One row; a failure where the matrix cannot be read, held or compiled."""

    def work() -> CrossbarAnalysis:
        target = cast(CrossbarTarget, load_target(options.target))
        operator = operator_of(loaded(task), options.n, target, options.dtype, options.search.seed, task.name)
        if options.pattern is not None:
            check_declared(operator.pattern, options.pattern, operator.name)
        return analyze_crossbar(operator, target, options.target, options.search)

    return guarded(task, work)


def summary(rows: Iterable[Row]) -> dict[str, Any]:
    """How many rows of each verdict, and what all operators take together."""
    rows = list(rows)
    good = [row for row in rows if isinstance(row, CrossbarAnalysis)]
    names = ("arrays", "arrays_dense", "cycles", "dense_cycles", "energy_pj", "dense_energy_pj",
             "program_energy_pj", "dense_program_energy_pj", "energy_bound_pj")  # fmt: skip
    sums = {name: sum(getattr(row, name) for row in good) for name in names}
    control = sum(row.dense_energy_pj / row.control_energy_ratio for row in good)
    return {
        **verdicts(rows),
        **sums,
        "speedup": sums["dense_cycles"] / sums["cycles"] if sums["cycles"] else 1.0,
        "energy_ratio": sums["dense_energy_pj"] / sums["energy_pj"] if sums["energy_pj"] else 1.0,
        "control_energy_ratio": sums["dense_energy_pj"] / control if control else 1.0,
    }


def to_json(rows: list[Row], target: CrossbarTarget, n: int) -> dict[str, Any]:
    """All of it as one JSON object."""
    operators = [dataclasses.asdict(row) for row in rows]
    return {"target": target.name, "n": n, "operators": operators, "summary": summary(rows)}


def table(rows: Iterable[Row]) -> Table:
    """One line for each operator."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.add_column("operator", overflow="fold")
    made.add_column("M x K")
    made.add_column("density", justify="right")
    made.add_column("verdict")
    heads = (
        "arrays", "ADC bits", "speed-up", "energy", "dense", "ratio", "random", "gap", "programming",
        "repaid",
    )  # fmt: skip
    for head in heads:
        made.add_column(head, justify="right", no_wrap=True)
    made.add_column("why", overflow="fold", ratio=1)
    for row in rows:
        if isinstance(row, Failure):
            made.add_row(row.name, "", "", row.verdict, *[""] * len(heads), row.error)
            continue
        m, k, _ = row.shape
        repaid = row.inferences_to_break_even
        made.add_row(
            row.name, f"{m} x {k}", f"{row.density:.4f}", row.verdict, f"{row.arrays}/{row.arrays_dense}",
            f"{_mean(row.adc_bits):.1f}/{_mean(row.dense_adc_bits):.1f}", f"{row.speedup:.2f}",
            f"{si(row.energy_pj)}J", f"{si(row.dense_energy_pj)}J", f"{row.energy_ratio:.2f}",
            f"{row.control_energy_ratio:.2f}", f"{row.energy_gap:.2f}", f"{si(row.program_energy_pj)}J",
            "never" if repaid is None else str(repaid), row.why,
        )  # fmt: skip
    return made


def _mean(bits: dict[int, int]) -> float:
    """Bits of a conversion on average."""
    return sum(b * count for b, count in bits.items()) / max(1, sum(bits.values()))


def _shown(rows: list[Row], target: CrossbarTarget, n: int) -> Iterator[object]:
    """Above the table, the table, and below it."""
    yield (
        f"{target.name}, N = {n}: arrays and mean ADC bits of the plan taken / of the dense mapping; energy "
        "of an inference, predicted, and how many times less that is than dense, beside the same values at "
        "random places; gap to the lower bound; energy to program, and the inferences that repay it"
    )
    yield table(rows)
    found = summary(rows)
    yield (
        f"\n{counted(rows, found)}; {found['arrays']} arrays for "
        f"{found['arrays_dense']}, {si(found['energy_pj'])}J for {si(found['dense_energy_pj'])}J: "
        f"{found['energy_ratio']:.2f}x less (random places {found['control_energy_ratio']:.2f}x), "
        f"{found['speedup']:.2f}x faster; no exact mapping below {si(found['energy_bound_pj'])}J"
    )
