"""Which variants of a network a program for any batch holds, and how they cover each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# A variant is worth its code where it saves so much of the geometric mean over all batches.
WORTH = 0.005


def candidates(most: int, every: int = 1) -> list[int]:
    """Batches that variants are compiled for: powers of 2, the bound, and all up to `every`."""
    powers = {2**i for i in range(most.bit_length()) if 2**i < most}
    return sorted(powers | {most} | set(range(1, min(every, most) + 1)))


@dataclass(frozen=True)
class Cover:
    """How each batch is covered."""

    seconds: list[float]
    """Of each batch; of 0 none."""
    choice: list[int]
    """The variant that runs first."""

    def chunks(self, batch: int) -> list[int]:
        """The variants that run for a batch, in order."""
        found: list[int] = []
        while batch > 0:
            found.append(self.choice[batch])
            batch -= self.choice[batch]
        return found


def cover(costs: Mapping[int, float], most: int) -> Cover:
    """The cheapest cover of each batch by variants of these seconds; of equal ones that of the fewest."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    choice = [0]
    for batch in range(1, most + 1):
        found = min(
            (cost + best[max(0, batch - rows)][0], 1 + best[max(0, batch - rows)][1], rows)
            for rows, cost in costs.items()
        )
        best.append(found[:2])
        choice.append(found[2])
    return Cover([seconds for seconds, _ in best], choice)


def kept(costs: Mapping[int, float], most: int, limit: float = math.inf) -> dict[int, float]:
    """The variants that are worth their code: others go, the least useful first.

    limit: none goes without which a batch takes so many times as long as a variant of its own.
    """

    def mean(variants: Mapping[int, float]) -> float:
        return float(np.mean(np.log(np.maximum(cover(variants, most).seconds[1:], 1e-12))))

    def within(variants: Mapping[int, float]) -> bool:
        seconds = cover(variants, most).seconds
        return all(seconds[size] <= limit * cost for size, cost in costs.items())

    found, whole = dict(costs), mean(costs)
    while len(found) > 1:
        fewer = {size: {s: c for s, c in found.items() if s != size} for size in found}
        without = {size: mean(rest) for size, rest in fewer.items() if within(rest)}
        least = min(without, key=lambda size: (without[size], size), default=0)
        if not without or without[least] > whole + WORTH:
            break
        del found[least]
    return found
