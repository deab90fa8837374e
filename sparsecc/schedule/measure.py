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
    pessimism: float
    """By how much of its estimate the model may be too high: what cannot be the best even so is not run."""

    def may_beat(self, estimate: float, cycles: float) -> bool:
        """Whether what the model estimates so may be faster than what took so long on the simulator."""
        return (1 - self.pessimism) * estimate < cycles


# By effort.
TRIES = (Tries(2, 3, 0.01), Tries(4, 4, 0.05), Tries(6, 6, 0.2), Tries(12, 12, 0.3))


def fastest(
    plan: Plan | IndexedPlan, m: int, n: int, target: Target, tries: Tries, measure: Measure
) -> tuple[Plan | IndexedPlan, int]:
    """The fastest of the schedules of a plan's cover that the model likes best, and its cycles.

    Of equally fast ones the one that the model likes best.
    """
    options: list[Plan | IndexedPlan] = [plan]
    if isinstance(plan, Plan):
        every = schedules(plan.metaops, m, n, target, plan.packing, plan.order)
        options = list(heapq.nsmallest(tries.schedules, every, key=lambda p: p.estimate.score))
    best, least = options[0], measure(options[0])
    for option in options[1:]:
        if tries.may_beat(option.estimate.cycles, least) and (cycles := measure(option)) < least:
            best, least = option, cycles
    return best, least
