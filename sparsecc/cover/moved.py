"""A cover of a matrix, carried over to the same matrix with rows and columns in another order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.cells import Unit
from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, Int32, K, M, MetaOps

Order = NDArray[np.integer]


def moved_cover(metaops: MetaOps, rows: Order, columns: Order, unit: Unit, tile: int) -> MetaOps:
    """The same blocks of the matrix whose row i is the old row rows[i], and so for columns.

    Lists that have become ranges of whole units are such. A list of columns is cut where whole tiles of so
    many columns have; other lists stay as they are, so that those which shared a tile still do. Ranges of all
    rows or columns stay ranges.
    """
    table = metaops.table.copy()
    pool: list[Int32] = []
    total = 0
    for order, (first, size, at) in ((rows, (M0, M, M_MAP)), (columns, (K0, K, K_MAP))):
        place = np.empty(len(order), np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        # Entries of the pool that belong to lists of the other axis mean nothing here.
        lists = place[np.minimum(metaops.index, len(order) - 1)]
        grown = [lists]
        base, length, known = total, len(lists), dict[tuple[int, int], int]()
        apart = np.flatnonzero((table[:, at] < 0) & (table[:, size] < len(order)))
        table[:, at] += np.where(table[:, at] >= 0, base, 0)
        for i in apart.tolist():
            key = int(table[i, first]), int(table[i, size])
            if key not in known:
                known[key] = base + length
                grown.append(place[key[0] : key[0] + key[1]])
                length += key[1]
            table[i, at] = known[key]
        table[apart, first] = 0
        pool += grown
        total += length
    index = np.concatenate(pool)
    runs = _runs(index)
    for first, size, at, step, bound in (
        (M0, M, M_MAP, unit[0], len(rows)),
        (K0, K, K_MAP, unit[2], len(columns)),
    ):
        listed = np.flatnonzero(table[:, at] >= 0)
        place = table[listed, at]
        begin, end = index[place], index[place] + table[listed, size]
        ranges = (runs[place] >= table[listed, size]) & _aligned(begin, end, step, bound)
        table[listed[ranges], first] = begin[ranges]
        table[listed[ranges], at] = -1
    return MetaOps(_cut(table, index, runs, unit[2], len(columns), tile), index)


def _aligned(begin: Int32, end: Int32, step: int, bound: int) -> NDArray[np.bool_]:
    """Whether ranges are of whole units."""
    return (begin % step == 0) & ((end % step == 0) | (end == bound))


def _runs(index: Int32) -> NDArray[np.int64]:
    """How many consecutive numbers begin at each place."""
    ends = np.append(np.flatnonzero(np.diff(index) != 1), len(index) - 1)
    return ends[np.searchsorted(ends, np.arange(len(index)))] - np.arange(len(index)) + 1


def _cut(table: Int32, index: Int32, runs: NDArray[np.int64], step: int, bound: int, tile: int) -> Int32:
    """Lists of columns cut at tiles, where some tiles of them are consecutive."""
    found: list[Int32] = []
    for record in table:
        if record[K_MAP] < 0:
            found.append(record[None])
            continue
        at = int(record[K_MAP]) + np.arange(0, int(record[K]), tile)
        width = np.minimum(tile, record[K_MAP] + record[K] - at)
        consecutive = (runs[at] >= width) & _aligned(index[at], index[at] + width, step, bound)
        # A piece is a run of tiles in a list, or of tiles that follow each other.
        joins = ~consecutive[1:] & ~consecutive[:-1]
        joins |= consecutive[1:] & consecutive[:-1] & (index[at[1:]] == index[at[1:] - 1] + 1)
        starts = np.flatnonzero(np.append(True, ~joins))
        pieces = np.repeat(record[None], len(starts), axis=0)
        pieces[:, K] = np.add.reduceat(width, starts)
        pieces[:, K_MAP] = np.where(consecutive[starts], -1, at[starts])
        pieces[:, K0] = np.where(consecutive[starts], index[at[starts]], 0)
        found.append(pieces)
    return np.concatenate(found).astype(np.int32) if found else table
