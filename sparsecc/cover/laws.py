"""Where each nonzero lies in a cover, and the laws a cover must keep (exact cover, conflict-free groups)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsecc.cover.metaops import (
    K0,
    K_MAP,
    M0,
    M_MAP,
    N0,
    Int32,
    Int64,
    K,
    M,
    MetaOps,
    N,
    distinct_axes,
    expand,
)

# Points of the plane looked at together, some 20 bytes each: few enough to stay in the processor's caches.
CHUNK = 1 << 18


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

    The first meta-op that holds a point owns it. Only bicliques (rows and columns both listed) may hold a
    point that another one owns, which is zero in them; `twice` is the first point for which this is broken,
    as (meta-op, owner, row, column), or None.
    """

    owner: Int32
    row: Int32
    column: Int32
    twice: tuple[int, int, int, int] | None


@dataclass(frozen=True, eq=False)
class _Lines:
    """The plane of the matrix with one line for all rows in a run that lie in the same meta-ops.

    An *entry* is a meta-op on a line, in the order of lines, then meta-ops.
    """

    of_row: Int64
    """Line of each row."""
    head: Int64
    """First row of each line, and M."""
    entry_line: Int64
    entry_metaop: Int64
    entry_slot: Int32
    """Which of the row sets that hold the row is the meta-op's."""
    slot_first: Int64
    """Of each row, the first entry in slot_place."""
    slot_place: Int32
    """Place of each row in each of the row sets that hold it."""


def _lines(metaops: MetaOps, pattern: Pattern) -> _Lines:
    """Row sets occur in many meta-ops, and rows in many of the same row sets: each is looked at once."""
    t = metaops.table
    first, which = distinct_axes(t[:, M0], t[:, M], t[:, M_MAP])
    row_set, row, place = expand(t[first, M0], t[first, M], t[first, M_MAP], metaops.index)
    by_row = np.argsort(row, kind="stable")
    row_set, row, place = row_set[by_row], row[by_row], place[by_row]
    slot_first = np.searchsorted(row, np.arange(pattern.m + 1))
    count = np.diff(slot_first)
    # Rows without meta-ops and nonzeros belong to no line; between two others they change nothing.
    live = np.flatnonzero((count > 0) | (np.diff(pattern.indptr) > 0))
    before = np.arange(len(row)) - count[row]
    differs = np.bincount(row[row_set != row_set[np.maximum(before, 0)]], minlength=pattern.m)[live] > 0
    is_head = differs | (np.diff(count[live], prepend=-1) != 0)
    is_head[:1] = True
    of_row = np.zeros(pattern.m, np.int64)
    of_row[live] = np.cumsum(is_head) - 1
    head = live[is_head]

    # The meta-ops of each row set, one set after another; from them, those of each line.
    members = np.argsort(which, kind="stable")
    members_count = np.bincount(which, minlength=len(first))
    members_first = np.cumsum(members_count) - members_count
    lines, slots, slot = expand(slot_first[head], count[head], np.full(len(head), -1), metaops.index)
    sets = row_set[slots]
    pair, member, _ = expand(members_first[sets], members_count[sets], np.full(len(sets), -1), metaops.index)
    line, metaop = lines[pair], members[member]
    order = np.lexsort((metaop, line)) if (slot > 0).any() else slice(None)
    return _Lines(
        of_row,
        np.append(head, pattern.m),
        line[order],
        metaop[order],
        slot[pair][order],
        slot_first[:-1],
        place,
    )


def locate(metaops: MetaOps, pattern: Pattern) -> Places:
    """Find every nonzero of the pattern in the meta-ops. O(nonzeros + columns of meta-ops on all lines)."""
    t = metaops.table
    if len(t) == 1 and t[0, M_MAP] < 0 and t[0, K_MAP] < 0:
        row, column = pattern.row_of() - t[0, M0], pattern.indices - t[0, K0]
        inside = (row >= 0) & (row < t[0, M]) & (column >= 0) & (column < t[0, K])
        return Places(np.where(inside, 0, -1).astype(np.int32), row, column, None)

    owner = np.full(pattern.nnz, -1, np.int32)
    local_row = np.zeros(pattern.nnz, np.int32)
    local_column = np.zeros(pattern.nnz, np.int32)
    twice: tuple[int, int, int, int] | None = None
    lines = _lines(metaops, pattern)
    free = (t[:, M_MAP] >= 0) & (t[:, K_MAP] >= 0)
    width = t[lines.entry_metaop, K].astype(np.int64)
    row_nonzeros = np.diff(pattern.indptr)
    height = max(1, CHUNK // max(1, pattern.k))
    for first in range(0, len(lines.head) - 1, height):
        last = min(first + height, len(lines.head) - 1)
        a, b = np.searchsorted(lines.entry_line, [first, last])
        plane = np.full((last - first) * pattern.k, -1, np.int32)  # number of a point, from 0 in this chunk
        # An unsound cover may hold points many times over; it is cut short.
        if not free.any() and width[a:b].sum() > 4 * plane.size:
            b = a + int(np.searchsorted(np.cumsum(width[a:b]), 4 * plane.size))
        metaop = lines.entry_metaop[a:b]
        entry, column, place = expand(t[metaop, K0], t[metaop, K], t[metaop, K_MAP], metaops.index)
        at = np.repeat((lines.entry_line[a:b] - first) * pattern.k, width[a:b]) + column
        number = np.arange(len(at), dtype=np.int32)
        plane[at[::-1]] = number[::-1]  # the first meta-op that holds a point owns it
        if twice is None and (clash := np.flatnonzero((plane[at] != number) & ~free[metaop[entry]])).size:
            i = int(clash[0])
            holders = int(metaop[entry[i]]), int(metaop[entry[plane[at[i]]]])
            twice = *holders, int(lines.head[lines.entry_line[a + entry[i]]]), int(column[i])

        rows = slice(int(lines.head[first]), int(lines.head[last]))
        here = slice(int(pattern.indptr[rows.start]), int(pattern.indptr[rows.stop]))
        start = np.repeat((lines.of_row[rows] - first) * pattern.k, row_nonzeros[rows])
        point = plane[start + pattern.indices[here]]
        slots = np.repeat(lines.slot_first[rows], row_nonzeros[rows])
        if not (found := point >= 0).all():
            here = np.flatnonzero(found) + here.start
            point, slots = point[found], slots[found]
        of_point = entry[point]
        owner[here] = metaop[of_point]
        local_row[here] = lines.slot_place[slots + lines.entry_slot[a:b][of_point]]
        local_column[here] = place[point]
    return Places(owner, local_row, local_column, twice)


def broken_cover_law(metaops: MetaOps, pattern: Pattern, n: int) -> str | None:
    """Law 1: every nonzero owned by one meta-op, no point in two but for bicliques, none without a nonzero.

    Returns None when the law holds, else a sentence that names the meta-op. A whole-space meta-op may be
    empty: it is the dense plan of an operator without nonzeros.
    """
    for axis, name, start, size, at, bound in (
        ("rows", "row", M0, M, M_MAP, pattern.m),
        ("columns", "column", K0, K, K_MAP, pattern.k),
    ):
        t = metaops.table
        if (t[:, size] <= 0).any():
            return f"meta-op {int(np.argmax(t[:, size] <= 0))} has no {axis}"
        # Of meta-ops with the same rows, or columns, the first is looked at: it is the first to fail.
        metaop = np.sort(distinct_axes(t[:, start], t[:, size], t[:, at])[0])
        owner, value, _ = expand(t[metaop, start], t[metaop, size], t[metaop, at], metaops.index)
        if (bad := np.flatnonzero((value < 0) | (value >= bound))).size:
            i = int(bad[0])
            return f"meta-op {metaop[owner[i]]} has {name} {value[i]}, outside 0..{bound - 1}"
        listed = t[metaop, at] >= 0
        if listed.any():
            inside = listed[owner]
            key = np.sort(owner[inside] * bound + value[inside])
            if (same := np.flatnonzero(np.diff(key) == 0)).size:
                i, v = divmod(int(key[same[0]]), bound)
                return f"meta-op {metaop[i]} lists {name} {v} twice"
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
    """Law 2: the first (meta-op, other meta-op, row) of the set that write the same output, or None."""
    t = metaops.table
    owner, row, _ = expand(t[:, M0], t[:, M], t[:, M_MAP], metaops.index)
    first, end = t[:, N0], t[:, N0] + t[:, N]
    if (first == first[:1]).all():
        order = np.argsort(row, kind="stable")
    else:
        order = np.lexsort((first[owner], row))
    # Of the meta-ops on a row, sorted by their first position, two that follow each other overlap if any do.
    before, after = owner[order[:-1]], owner[order[1:]]
    same = np.flatnonzero((np.diff(row[order]) == 0) & (first[after] < end[before]))
    if not same.size:
        return None
    i = int(same[0])
    return int(before[i]), int(after[i]), int(row[order[i]])


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
