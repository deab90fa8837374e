"""Which indices of which axes may change places in all tensors of a network at once.

The links of `sparsecc.propagate.cuts` say which indices of two axes belong together. Those that do, in all
axes of a network, are one *atom*: a channel, in every tensor that holds it. Atoms that stand in the same
axes, equally often, may change places with each other: that moves every link onto another one, so that
constants with their entries moved and all operators as they are compute the same, in another order. A
residual sum keeps the orders of its operands equal, a concatenation keeps each part to itself, a group of a
grouped convolution moves as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from sparsecc.propagate.cuts import Axis, Indices, Link


@dataclass(frozen=True, eq=False)
class Atoms:
    """The atoms of a network."""

    of: dict[Axis, Indices]
    """The atom at each index of each axis."""
    block: Indices
    """Of each atom: equal for atoms that may change places, -1 for those that stay."""
    links: tuple[Link, ...]

    @staticmethod
    def find(
        extents: Mapping[Axis, int], links: Sequence[Link], fixed: Iterable[tuple[Axis, Indices | slice]]
    ) -> Atoms:
        """From the extents of all axes, their links, and indices that keep their places."""
        import scipy.sparse  # pyright: ignore[reportMissingTypeStubs]  # slow to import
        import scipy.sparse.csgraph  # pyright: ignore[reportMissingTypeStubs]

        components = cast(Any, scipy.sparse.csgraph).connected_components

        first: dict[Axis, int] = {}
        total = 0
        for axis, extent in extents.items():
            first[axis] = total
            total += extent
        none = np.zeros(0, np.intp)
        left = np.concatenate([none, *(link.at_a + first[link.a] for link in links)])
        right = np.concatenate([none, *(link.at_b + first[link.b] for link in links)])
        graph = scipy.sparse.coo_array((np.ones(len(left), np.bool_), (left, right)), (total, total))
        count, labels = cast("tuple[int, Indices]", components(graph, directed=False))
        label = labels.astype(np.intp)
        of = {axis: label[first[axis] : first[axis] + extent] for axis, extent in extents.items()}
        stays = np.zeros(count, np.bool_)
        for axis, at in fixed:
            stays[of[axis][at]] = True
        return Atoms(of, _blocks(of, stays), tuple(links))

    def exchange(self, axis: Axis, order: Indices) -> Indices | None:
        """For each atom the one whose place it takes when this axis gets a new order.

        order: for each new place the old one. None where that moves what must stay, or tears apart what
        moves together.
        """
        here = self.of[axis]
        found = np.arange(len(self.block))
        found[here] = here[order]
        moved = found[here] != here
        consistent = np.array_equal(found[here], here[order])
        alike = np.array_equal(self.block[here], self.block[here[order]])
        return found if consistent and alike and not (self.block[here[moved]] < 0).any() else None

    def moved(self, exchange: Indices) -> dict[Axis, Indices] | None:
        """For each axis that changes, the old index at each new place; None where some link objects."""
        changes = exchange != np.arange(len(exchange))
        found: dict[Axis, Indices] = {}
        for axis, here in self.of.items():
            if changes[here].any():
                # The first index of an atom takes the place of the first one of the other, and so on.
                by_atom = np.argsort(here, kind="stable")
                start = np.searchsorted(here[by_atom], np.arange(len(exchange)))
                rank = np.empty(len(here), np.intp)
                rank[by_atom] = np.arange(len(here)) - start[here[by_atom]]
                found[axis] = by_atom[start[exchange[here]] + rank]
        return found if all(_stands(link, found) for link in self.links) else None


def _blocks(of: Mapping[Axis, Indices], stays: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Indices:
    """Atoms that stand in the same axes equally often, numbered; -1 for those that stay or are alone."""
    rows: list[Indices] = []
    for number, here in enumerate(of.values()):
        atoms, counts = np.unique(here, return_counts=True)
        rows.append(np.stack([atoms, np.full(len(atoms), number), counts], axis=1))
    table = np.concatenate(rows) if rows else np.zeros((0, 3), np.intp)
    table = table[~stays[table[:, 0]]]
    if not len(table):
        return np.full(len(stays), -1, np.intp)
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    atoms, start = np.unique(table[:, 0], return_index=True)
    alike: dict[bytes, list[int]] = {}
    for atom, one in zip(atoms.tolist(), np.split(table[:, 1:], start[1:]), strict=True):
        alike.setdefault(one.tobytes(), []).append(atom)
    block = np.full(len(stays), -1, np.intp)
    for number, members in enumerate(m for m in alike.values() if len(m) > 1):
        block[members] = number
    return block


def _stands(link: Link, moved: Mapping[Axis, Indices]) -> bool:
    """Whether the link is still one when both axes have moved: each pair of indices becomes another pair."""
    if link.a not in moved and link.b not in moved:
        return True
    a = moved[link.a][link.at_a] if link.a in moved else link.at_a
    b = moved[link.b][link.at_b] if link.b in moved else link.at_b
    width = 1 + max(int(x.max(initial=0)) for x in (link.at_b, b))
    key = link.at_a * width + link.at_b
    order = np.argsort(key, kind="stable")
    at = np.searchsorted(key[order], a * width + b)
    if (at >= len(key)).any() or not np.array_equal(key[order][at], a * width + b):
        return False
    pair = order[at]
    # Of several indices that belong to one, the first stays the first.
    return all(np.array_equal(_rank(x), _rank(x)[pair]) for x in (link.at_a, link.at_b))


def _rank(values: Indices) -> Indices:
    """How many equal values stand before each."""
    by_value = np.argsort(values, kind="stable")
    start = np.searchsorted(values[by_value], values)
    rank = np.empty(len(values), np.intp)
    rank[by_value] = np.arange(len(values))
    return rank - start
