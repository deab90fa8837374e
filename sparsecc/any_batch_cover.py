"""Which variants of a network a program for any batch holds, and how they cover each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# A variant is worth its code where it saves so much of the geometric mean over all batches.
WORTH = 0.005


def candidates(most: int) -> list[int]:
    """Batches that variants are compiled for: powers of 2, and the bound."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i < most} | {most})


def alone(costs: Mapping[int, float], most: int) -> dict[int, float]:
    """About the seconds of a variant of each batch: between those that are known on straight lines."""
    known = sorted(costs)
    found = np.interp(range(1, most + 1), known, [costs[size] for size in known])
    return dict(enumerate(found.tolist(), 1))


def missing(costs: Mapping[int, float], most: int, limit: float) -> list[int]:
    """Batches that need variants of their own, lest they take so many times as long as those would."""
    whole, found = alone(costs, most), dict(costs)
    while over := _over(cover(found, most), whole, limit):
        found[over[0]] = whole[over[0]]
    return sorted(set(found) - set(costs))


def _over(found: Cover, whole: Mapping[int, float], limit: float) -> list[int]:
    """Batches that take more than so many times as long as variants of their own."""
    return [size for size, cost in whole.items() if found.seconds[size] > limit * cost]


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

    limit: none goes without which a batch takes more than so many times as long as a variant of its own.
    """

    single = alone(costs, most)

    def mean(covered: Cover) -> float:
        return float(np.mean(np.log(np.maximum(covered.seconds[1:], 1e-12))))

    found, whole = dict(costs), mean(cover(costs, most))
    while len(found) > 1:
        fewer = {size: cover({s: c for s, c in found.items() if s != size}, most) for size in found}
        without = {size: mean(rest) for size, rest in fewer.items() if not _over(rest, single, limit)}
        least = min(without, key=lambda size: (without[size], size), default=None)
        if least is None or without[least] > whole + WORTH:
            break
        del found[least]
    return found
