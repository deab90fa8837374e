"""Layouts: in which order the axes of a tensor lie in memory.

The network keeps ONNX's axes (N, channels, spatial...) as names; a layout says which of them lies outermost
in memory. Features first and batch last, [C, H, W, N], is the order in which a product with a constant needs
no transposition: its rows are the features, its columns all positions. A transposition of the network is a
layout and moves nothing; elements move only where an operator needs an order that is not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparsecc.host.walk import contiguous


@dataclass(frozen=True)
class Layout:
    """Extents by axis of the network, and those axes from the outermost in memory to the innermost."""

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @staticmethod
    def plain(shape: Sequence[int]) -> Layout:
        """Row-major."""
        return Layout(tuple(shape), tuple(range(len(shape))))

    @property
    def extents(self) -> tuple[int, ...]:
        """In memory, outermost first."""
        return tuple(self.shape[a] for a in self.order)

    @property
    def strides(self) -> tuple[int, ...]:
        """By axis of the network, in elements."""
        steps = dict(zip(self.order, contiguous(self.extents), strict=True))
        return tuple(steps[a] for a in range(len(self.shape)))

    def ordered(self, order: Sequence[int]) -> Layout:
        return Layout(self.shape, tuple(order))

    def same_memory(self, order: Sequence[int]) -> bool:
        """Whether elements lie in the same places in that order: axes of one element do not matter."""
        wide = [a for a in self.order if self.shape[a] != 1]
        return wide == [a for a in order if self.shape[a] != 1] or 0 in self.shape

    def around(self, axes: Sequence[int]) -> tuple[int, int, int] | None:
        """(outer, these axes, inner) elements, if the axes lie one after the other; otherwise None."""
        wanted = [a for a in axes if self.shape[a] != 1]
        wide = [a for a in self.order if self.shape[a] != 1]
        if not wanted:
            return math.prod(self.shape), 1, 1
        first = wide.index(wanted[0])
        if wide[first : first + len(wanted)] != wanted:
            return None
        parts = wide[:first], wanted, wide[first + len(wanted) :]
        outer, middle, inner = (math.prod(self.shape[a] for a in part) for part in parts)
        return outer, middle, inner

    def transposed(self, perm: Sequence[int]) -> Layout:
        """The layout of the same memory when axis i of the result is axis perm[i]."""
        place = {axis: i for i, axis in enumerate(perm)}
        return Layout(tuple(self.shape[p] for p in perm), tuple(place[a] for a in self.order))

    def reshaped(self, shape: Sequence[int]) -> Layout | None:
        """The layout of the same memory under the new shape (row-major in the network), if there is one."""
        groups = _groups(self.shape, shape)
        if groups is None:
            return None
        wide = [a for a in self.order if self.shape[a] != 1]
        order = [i for i, extent in enumerate(shape) if extent == 1]
        heads = {old[0]: (old, new) for old, new in groups}
        at = 0
        while at < len(wide):
            if wide[at] not in heads:
                return None
            old, new = heads[wide[at]]
            if wide[at : at + len(old)] != old:
                return None
            order += new
            at += len(old)
        return Layout(tuple(shape), tuple(order))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Axes of more than one element, in the smallest groups of equal size; None for empty tensors."""
    if 0 in old or 0 in new:
        return None
    a = [i for i, extent in enumerate(old) if extent != 1]
    b = [i for i, extent in enumerate(new) if extent != 1]
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(a):
        first_i, first_j = i, j
        left, right = old[a[i]], new[b[j]]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= old[a[i]]
                i += 1
            else:
                right *= new[b[j]]
                j += 1
        groups.append((a[first_i:i], b[first_j:j]))
    return groups


def features_first(rank: int) -> tuple[int, ...]:
    """Channels, spatial axes, then the batch."""
    return (*range(1, rank), 0)
