"""Where activations lie in one arena: arrays that live at the same time do not overlap.

Greedy by size, the best of the simple orders in Pisarchyk and Lee, "Efficient memory management for deep
neural net inference" (MLSys workshop 2020): the largest array first, each at the lowest place that is free
while it lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """An array of so many bytes, needed from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def place(arrays: Sequence[Lifetime]) -> tuple[list[int], int]:
    """The offset of each array, a multiple of ALIGNMENT, and the bytes of all."""
    offsets = [0] * len(arrays)
    placed: list[int] = []
    for i in sorted(range(len(arrays)), key=lambda i: (-arrays[i].size, arrays[i].first)):
        one = arrays[i]
        rivals = [j for j in placed if arrays[j].first <= one.last and one.first <= arrays[j].last]
        at = 0
        for j in sorted(rivals, key=lambda j: offsets[j]):
            if at + one.size <= offsets[j]:
                break
            at = max(at, _aligned(offsets[j] + arrays[j].size))
        offsets[i] = at
        placed.append(i)
    return offsets, max((_aligned(offsets[i] + a.size) for i, a in enumerate(arrays)), default=0)


def lower_bound(arrays: Sequence[Lifetime]) -> int:
    """No plan needs fewer bytes: the most that live at one step."""
    steps = {a.first for a in arrays}
    return max((sum(a.size for a in arrays if a.first <= s <= a.last) for s in steps), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
