"""Where each nonzero lies in a cover, and the laws a cover must keep (exact cover, conflict-free groups)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, Int32, Int64, K, M, MetaOps, expand

# Points of the plane looked at together: bounds the memory to about 20 bytes each.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Pattern:
    """The nonzero pattern of W in CSR form, [m, k], columns sorted inside each row."""

    m: int
    k: int
    indptr: Int64
    indices: Int32

    @property
    def nnz(self) -> int:
        return len(self.indices)

    def row_of(self) -> Int32:
        """Row of each nonzero."""
        return np.repeat(np.arange(self.m, dtype=np.int32), np.diff(self.indptr))


@dataclass(frozen=True)
class Places:
    """For each nonzero: the meta-op that owns it (-1: none) and the row and column inside that meta-op.

    The first meta-op that holds a point owns it. Only bicliques (rows and columns both listed) may hold a point that
    another one owns, which is zero in them; `twice` is the first point for which this is broken, as (meta-op,
    owner, row, column), or None.
    """

    owner: Int32
    row: Int32
    column: Int32
    twice: tuple[int, int, int, int] | None


def locate(metaops: MetaOps, pattern: Pattern) -> Places:
    """Find every nonzero of the pattern in the meta-ops. O(area of the meta-ops + nonzeros)."""
    t = metaops.table
    nonzero_row = pattern.row_of()
    if len(t) == 1 and t[0, M_MAP] < 0 and t[0, K_MAP] < 0:
        row, column = nonzero_row - t[0, M0], pattern.indices - t[0, K0]
        inside = (row >= 0) & (row < t[0, M]) & (column >= 0) & (column < t[0, K])
        return Places(np.where(inside, 0, -1).astype(np.int32), row, column, None)

    owner = np.full(pattern.nnz, -1, np.int32)
    local_row = np.zeros(pattern.nnz, np.int32)
    local_column = np.zeros(pattern.nnz, np.int32)
    twice: tuple[int, int, int, int] | None = None
    # One entry for each (meta-op, row); taken in the order of rows, so that a band of rows is a slice.
    pair_owner, pair_row, pair_place = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    by_row = np.argsort(pair_row, kind="stable")
    pair_owner, pair_row, pair_place = pair_owner[by_row], pair_row[by_row], pair_place[by_row]
    width = t[pair_owner, K].astype(np.int64)
    free = (t[:, M_MAP] >= 0) & (t[:, K_MAP] >= 0)
    band_rows = max(1, CHUNK // max(1, pattern.k))
    for first in range(0, pattern.m, band_rows):
        last = min(first + band_rows, pattern.m)
        a, b = np.searchsorted(pair_row, [first, last])
        lo, hi = int(pattern.indptr[first]), int(pattern.indptr[last])
        plane = np.full((last - first) * pattern.k, -1, np.int32)  # number of a point, from 0 in this band
        # An unsound cover may hold points many times over; it is cut short.
        if not free.any() and width[a:b].sum() > 4 * plane.size:
            b = a + int(np.searchsorted(np.cumsum(width[a:b]), 4 * plane.size))
        pairs = slice(a, b)
        who = pair_owner[pairs]
        point_pair, point_column, point_place = expand(t[who, K0], t[who, K], t[who, K_MAP], metaops.index)
        at = (pair_row[pairs][point_pair] - first).astype(np.int64) * pattern.k + point_column
        number = np.arange(len(at), dtype=np.int32)
        plane[at[::-1]] = number[::-1]  # the first meta-op that holds a point owns it
        if twice is None and (clash := np.flatnonzero((plane[at] != number) & ~free[who[point_pair]])).size:
            i, j = int(clash[0]), int(plane[at[clash[0]]])
            row = int(pair_row[pairs][point_pair[i]])
            twice = int(who[point_pair[i]]), int(who[point_pair[j]]), row, int(point_column[i])
        point = plane[(nonzero_row[lo:hi] - first).astype(np.int64) * pattern.k + pattern.indices[lo:hi]]
        found = point >= 0
        pair = point_pair[point[found]]
        here = np.flatnonzero(found) + lo
        owner[here] = who[pair]
        local_row[here] = pair_place[pairs][pair]
        local_column[here] = point_place[point[found]]
    return Places(owner, local_row, local_column, twice)


def broken_cover_law(metaops: MetaOps, pattern: Pattern, n: int) -> str | None:
    """Law 1: every nonzero owned by exactly one meta-op, no point in two but for bicliques, none without a nonzero.

    Returns None when the law holds, else a sentence that names the meta-op. A whole-space meta-op may be
    empty: it is the dense plan of an operator without nonzeros.
    """
    for axis, name, start, size, at, bound in (
        ("rows", "row", M0, M, M_MAP, pattern.m),
        ("columns", "column", K0, K, K_MAP, pattern.k),
    ):
        t = metaops.table
        owner, value, _ = expand(t[:, start], t[:, size], t[:, at], metaops.index)
        if (t[:, size] <= 0).any():
            return f"meta-op {int(np.argmax(t[:, size] <= 0))} has no {axis}"
        if (bad := np.flatnonzero((value < 0) | (value >= bound))).size:
            i = int(bad[0])
            return f"meta-op {owner[i]} has {name} {value[i]}, outside 0..{bound - 1}"
        listed = t[:, at] >= 0
        if listed.any():
            inside = listed[owner]
            key = np.sort(owner[inside] * bound + value[inside])
            if (same := np.flatnonzero(np.diff(key) == 0)).size:
                i, v = divmod(int(key[same[0]]), bound)
                return f"meta-op {i} lists {name} {v} twice"
    full = (metaops.table[:, 2] == 0) & (metaops.table[:, 3] == n)
    if not full.all():
        i = int(np.argmin(full))
        p = metaops.positions(i)
        return f"meta-op {i} has positions {p.start}:{p.stop}; a meta-op of an SpMM needs all of 0:{n}"
    places = locate(metaops, pattern)
    if places.twice is not None:
        j, i, row, column = places.twice
        return f"meta-ops {i} and {j} both hold point (row {row}, column {column})"
    if (missing := np.flatnonzero(places.owner < 0)).size:
        at = int(missing[0])
        row = int(pattern.row_of()[at])
        return f"no meta-op holds the nonzero at row {row}, column {pattern.indices[at]}"
    count = np.bincount(places.owner, minlength=len(metaops))
    is_whole = len(metaops) == 1 and metaops.area == pattern.m * pattern.k
    if (empty := np.flatnonzero(count == 0)).size and not is_whole:
        return f"meta-op {int(empty[0])} owns no nonzero"
    return None


def conflict(metaops: MetaOps) -> tuple[int, int, int] | None:
    """Law 2: the first (meta-op, other meta-op, row) of the set that write the same output row, or None."""
    t = metaops.table
    owner, row, _ = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    order = np.argsort(row, kind="stable")
    same = np.flatnonzero(np.diff(row[order]) == 0)
    if not same.size:
        return None
    i = int(same[0])
    return int(owner[order[i]]), int(owner[order[i + 1]]), int(row[order[i]])


def broken_alignment(metaops: MetaOps, unit: tuple[int, int, int], pattern: Pattern) -> str | None:
    """Ranges start on multiples of the unit and end on one or at the edge; lists hold at most whole units."""
    t = metaops.table
    for name, start, size, at, step, bound in (
        ("rows", M0, M, M_MAP, unit[0], pattern.m),
        ("columns", K0, K, K_MAP, unit[2], pattern.k),
    ):
        stop = t[:, start] + t[:, size]
        bad = (t[:, at] < 0) & ((t[:, start] % step != 0) | ((stop % step != 0) & (stop != bound)))
        if bad.any():
            i = int(np.argmax(bad))
            return (
                f"meta-op {i} has {name} {t[i, start]}:{stop[i]}, not aligned to the unit's {step} "
                f"(edge at {bound})"
            )
    return None


def fill(metaops: MetaOps, nnz: int) -> float:
    """Nonzeros / points of the M x K plane in the meta-ops; 1.0 for no meta-ops."""
    return nnz / metaops.area if metaops.area else 1.0


def unit_cells(metaops: MetaOps, unit: tuple[int, int, int]) -> NDArray[np.int64]:
    """Unit cells (of the M x K plane) that each meta-op occupies, its sides rounded up to whole units."""
    m = -(-metaops.table[:, M].astype(np.int64) // unit[0])
    return m * -(-metaops.table[:, K].astype(np.int64) // unit[2])
