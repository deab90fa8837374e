"""Partition of rows to blocks of bounded size, similar rows together: few rows are accumulated at once.

All arithmetic that decides is on integers: the partition is the same on every machine.
"""

from __future__ import annotations

import numpy as np

from sparsecc.cover.biclique_search import Index, Plane, panels

BISECTION_ROUNDS, EXCHANGE_ROUNDS = 12, 6
# Vectors are scaled to this largest value, so that products of 2**20 of them fit into 64 bits.
SCALE = 1 << 10


def _scaled(vector: Index) -> Index:
    return vector * SCALE // max(1, int(np.abs(vector).max()))


def _halved(plane: Plane, rows: Index, first: int) -> tuple[Index, Index]:
    """The rows in two sets, `first` of them in one, along the direction in which they differ most.

    The direction is the leading singular vector of the rows less their mean, found by power iteration.
    """
    ones = plane[rows].astype(np.int64)
    column_sum = np.add.reduce(ones, axis=0)
    direction = np.arange(plane.shape[1], dtype=np.int64) * 7919 % 101 - 50
    score = np.zeros(len(rows), np.int64)
    for _ in range(BISECTION_ROUNDS):
        score = _scaled(len(rows) * (ones @ direction) - int(column_sum @ direction))
        direction = _scaled(len(rows) * (score @ ones) - column_sum * int(score.sum()))
    order = np.argsort(score, kind="stable")
    return rows[order[:first]], rows[order[first:]]


def _bisected(plane: Plane, rows: Index, max_rows: int) -> list[Index]:
    """Blocks of max_rows rows, but for the last one, by halving."""
    count = -(-len(rows) // max_rows)
    if count <= 1:
        return [rows]
    one, other = _halved(plane, rows, count // 2 * max_rows)
    return _bisected(plane, one, max_rows) + _bisected(plane, other, max_rows)


def _exchanged(plane: Plane, blocks: list[Index]) -> list[Index]:
    """Balanced k-means: each row moves to the block whose columns are most like its own, sizes stay.

    A column counts by how much denser it is in the block than in all rows. Rows with most to lose go first.
    """
    ones = plane.astype(np.int64)
    total = np.maximum(np.add.reduce(ones, axis=0), 1)
    sizes = [len(block) for block in blocks]
    for _ in range(EXCHANGE_ROUNDS):
        inside = np.stack([np.add.reduce(ones[block], axis=0) * len(plane) // len(block) for block in blocks])
        alike = ones @ (SCALE * inside // total).T
        wish = np.argsort(-alike, axis=1, kind="stable")
        best = np.sort(alike, axis=1)
        room = list(sizes)
        home = np.zeros(len(plane), np.int64)
        for row in np.argsort(best[:, -2] - best[:, -1], kind="stable").tolist():
            home[row] = block = next(b for b in wish[row].tolist() if room[b])
            room[block] -= 1
        blocks = [np.flatnonzero(home == b) for b in range(len(sizes))]
    return blocks


def partition(plane: Plane, max_rows: int, um: int, uk: int) -> list[Index]:
    """Blocks of at most max_rows rows: in the order they have, or clustered, if that takes fewer panels."""
    rows = np.arange(len(plane))
    natural = [rows[i : i + max_rows] for i in range(0, len(rows), max_rows)]
    if len(natural) <= 1:
        return natural
    halved = [np.sort(block) for block in _bisected(plane, rows, max_rows)]
    return min(
        (natural, halved, _exchanged(plane, halved)),
        key=lambda blocks: sum(len(panels(plane[block], um, uk)) for block in blocks),
    )
