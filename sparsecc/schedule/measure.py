"""Schedules and covers judged by the simulator: the few that the cost model likes best are run.

The model looks at each engine alone. How engines wait for each other - full queues, accumulators that are
still stored, tiles that come late - only a run tells, and a run for its time takes milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from sparsecc.schedule.cost import Plan, schedules
from sparsecc.schedule.indexed import IndexedPlan
from sparsecc.target import Target

# Simulated cycles of a schedule.
Measure = Callable[[Plan | IndexedPlan], int]


@dataclass(frozen=True)
class Tries:
    """How many are run."""

    covers: int
    """The best covers by the model, each with its best schedules."""
    schedules: int
    """Schedules of each cover."""


# By effort.
TRIES = (Tries(2, 3), Tries(4, 4), Tries(6, 6), Tries(12, 12))


def fastest(
    plan: Plan | IndexedPlan, m: int, n: int, target: Target, tries: int, measure: Measure
) -> tuple[Plan | IndexedPlan, int]:
    """The fastest of the `tries` schedules of a plan's cover that the model likes best, and its cycles.

    Of equally fast ones the one that the model likes best.
    """
    options: list[Plan | IndexedPlan] = [plan]
    if isinstance(plan, Plan):
        options = list(
            heapq.nsmallest(
                tries,
                schedules(plan.metaops, m, n, target, plan.packing, plan.order),
                key=lambda p: p.estimate.score,
            )
        )
    cycles = [measure(option) for option in options]
    best = min(range(len(options)), key=cycles.__getitem__)
    return options[best], cycles[best]
