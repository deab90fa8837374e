"""Compaction: re-indexes an operator so that its nonzeros stand closer. Only maps change, nothing moves."""

from __future__ import annotations

import numpy as np

from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import Axis, Int32, MetaOps, concatenate


def _axis(indices: Int32, unit: int, bound: int) -> Axis:
    """A range where the indices are consecutive and aligned to the unit, else the list."""
    if len(indices) == 0:
        return indices
    first, last = int(indices[0]), int(indices[-1])
    consecutive = last - first + 1 == len(indices)
    aligned = first % unit == 0 and ((last + 1) % unit == 0 or last + 1 == bound)
    return range(first, last + 1) if consecutive and aligned else indices


def live_rows(pattern: Pattern) -> Int32:
    """Rows with a nonzero."""
    return np.flatnonzero(np.diff(pattern.indptr)).astype(np.int32)


def live_columns(pattern: Pattern) -> Int32:
    """Columns with a nonzero."""
    used = np.zeros(pattern.k, bool)
    used[pattern.indices] = True
    return np.flatnonzero(used).astype(np.int32)


def global_compaction(pattern: Pattern, n: int, unit: tuple[int, int, int]) -> MetaOps:
    """One meta-op without the empty rows and columns; none for a matrix without nonzeros."""
    if pattern.nnz == 0:
        return MetaOps.of([])
    rows = _axis(live_rows(pattern), unit[0], pattern.m)
    return MetaOps.of([(rows, range(n), _axis(live_columns(pattern), unit[2], pattern.k))])


def window_compaction(pattern: Pattern, n: int, unit: tuple[int, int, int], height: int) -> MetaOps:
    """One meta-op for each window of `height` live rows, holding just the columns that the window uses.

    This is the sparse graph translation of TC-GNN (ATC 2023) for any window height.
    """
    rows = live_rows(pattern)
    if not len(rows):
        return MetaOps.of([])
    place = np.zeros(pattern.m, np.int64)
    place[rows] = np.arange(len(rows)) // height
    key = place[pattern.row_of()] * pattern.k + pattern.indices
    windows = -(-len(rows) // height)
    # A flag for each (window, column) is cheaper than sorting unless nearly all of them are zero.
    if windows * pattern.k <= 64 * max(pattern.nnz, 1 << 16):
        used = np.zeros(windows * pattern.k, bool)
        used[key] = True
        key = np.flatnonzero(used)
    else:
        key = np.unique(key)
    window, column = np.divmod(key, pattern.k)
    bounds = np.searchsorted(window, np.arange(windows + 1))
    parts = [
        MetaOps.of(
            [
                (
                    _axis(rows[w * height : (w + 1) * height], unit[0], pattern.m),
                    range(n),
                    _axis(column[bounds[w] : bounds[w + 1]].astype(np.int32), unit[2], pattern.k),
                )
            ]
        )
        for w in range(windows)
    ]
    return concatenate(parts)
