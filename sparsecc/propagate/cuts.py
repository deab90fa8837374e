"""Which indices of which axes can be cut from all tensors of a network at once.

An axis is (tensor, number of the axis). A link says that indices of two axes can only be cut together, or
that one is cut only where the other is. What is left when no link objects is the largest such set.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
Axis = tuple[Any, int]

RESULT = -1
"""The result of an operator, in links between its operands (0, 1, ...) and what it makes."""


@dataclass(frozen=True, eq=False)
class Link:
    """Index at_a[i] of axis a is cut only if at_b[i] of axis b is, and unless `one_way` the reverse."""

    a: Axis
    at_a: Indices
    b: Axis
    at_b: Indices
    one_way: bool = False

    def between(self, name: Callable[[Any], Hashable]) -> Link:
        """The same link with tensors under other names."""
        return replace(self, a=(name(self.a[0]), self.a[1]), b=(name(self.b[0]), self.b[1]))


def same(a: Axis, b: Axis, extent: int) -> Link:
    """Two axes of one extent that are cut alike."""
    every = np.arange(extent)
    return Link(a, every, b, every)


def reshaped(a: Any, old: tuple[int, ...], b: Any, new: tuple[int, ...]) -> tuple[list[Link], list[Axis]]:
    """Links of a row-major reshape of tensor a to tensor b, and the axes that it freezes.

    Axes that split into several, or the other way, are linked through the outermost of them: cutting it
    keeps the others whole.
    """
    links: list[Link] = []
    frozen: list[Axis] = []
    left = [i for i, d in enumerate(old) if d != 1]
    right = [i for i, d in enumerate(new) if d != 1]
    while left and right:
        some, others = [left.pop(0)], [right.pop(0)]
        size, other = old[some[0]], new[others[0]]
        while size != other:
            if size < other:
                some.append(left.pop(0))
                size *= old[some[-1]]
            else:
                others.append(right.pop(0))
                other *= new[others[-1]]
        if len(some) > 1 and len(others) > 1:
            frozen += [(a, i) for i in some] + [(b, i) for i in others]
            continue
        every = np.arange(size)
        links.append(
            Link(
                (a, some[0]),
                every // (size // old[some[0]]),
                (b, others[0]),
                every // (size // new[others[0]]),
            )
        )
        frozen += [(a, i) for i in some[1:]] + [(b, i) for i in others[1:]]
    return links, frozen


def solve(cut: Mapping[Axis, Mask], links: Iterable[Link]) -> None:
    """Shrink the masks, in place, until no link objects: the greatest fixpoint, as masks only shrink."""
    by_axis: dict[Axis, list[Link]] = {}
    for link in links:
        by_axis.setdefault(link.a, []).append(link)
        by_axis.setdefault(link.b, []).append(link)
    waiting = list(cut)
    pending = set(waiting)
    while waiting:
        axis = waiting.pop()
        pending.discard(axis)
        for link in by_axis.get(axis, []):
            for changed in _apply(cut, link):
                if changed not in pending:
                    pending.add(changed)
                    waiting.append(changed)


def _apply(cut: Mapping[Axis, Mask], link: Link) -> list[Axis]:
    a, b = cut[link.a], cut[link.b]
    changed: list[Axis] = []
    keep = link.at_a[a[link.at_a] & ~b[link.at_b]]
    if len(keep):
        a[keep] = False
        changed.append(link.a)
    if not link.one_way:
        keep = link.at_b[b[link.at_b] & ~a[link.at_a]]
        if len(keep):
            b[keep] = False
            changed.append(link.b)
    return changed
