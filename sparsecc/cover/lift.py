"""Lifting: re-fuses adjacent meta-ops to larger ones with no, or few, refused cells inside.

The merging is the iterated one that reading notes of SpMMPlu (DAC 2023) describe: start from unit cells, fuse
neighbours of equal shape in one or both directions, prefer the larger, repeat until nothing changes.
"""

from __future__ import annotations

import numpy as np

from sparsecc.cover.metaops import K0, K_MAP, M0, M_MAP, Int64, K, M, MetaOps, expand
from sparsecc.cover.rows import has_bicliques

ORDERS = ("k-first", "m-first", "square-first")

# Places in a list of indices are told apart from indices of a range by this offset.
_LISTED = 1 << 31


def _start(metaops: MetaOps, start: int, at: int) -> Int64:
    """Where an axis begins: the first index of a range, or the place in the index pool of a list."""
    t = metaops.table.astype(np.int64)
    return np.where(t[:, at] >= 0, t[:, at] + _LISTED, t[:, start])


def _merge_runs(metaops: MetaOps, along_k: bool) -> MetaOps:
    """Fuse every maximal run of adjacent meta-ops whose other axis is the same."""
    if len(metaops) < 2:
        return metaops
    along = (K0, K, K_MAP) if along_k else (M0, M, M_MAP)
    across = (M0, M, M_MAP) if along_k else (K0, K, K_MAP)
    begin, other = _start(metaops, along[0], along[2]), _start(metaops, across[0], across[2])
    size = metaops.table[:, along[1]].astype(np.int64)
    other_size = metaops.table[:, across[1]]
    order = np.lexsort((begin, other_size, other))
    b, s, o, os = begin[order], size[order], other[order], other_size[order]
    joined = (o[1:] == o[:-1]) & (os[1:] == os[:-1]) & (b[1:] == b[:-1] + s[:-1])
    head = np.flatnonzero(np.concatenate(([True], ~joined)))
    table = metaops.table[order[head]].copy()
    table[:, along[1]] = np.add.reduceat(s, head)
    return MetaOps(table, metaops.index)


def _in_bands(metaops: MetaOps, along_k: bool) -> bool:
    """Whether any two meta-ops have, on the other axis, the same rows (columns) or none in common."""
    start, size, at = (M0, M, M_MAP) if along_k else (K0, K, K_MAP)
    t = metaops.table
    owner, value, _ = expand(t[:, start], t[:, size], t[:, at], metaops.index)
    band = np.unique(np.stack([_start(metaops, start, at), t[:, size]]), axis=1, return_inverse=True)[1]
    last = np.zeros(int(value.max(initial=-1)) + 1, np.int64)
    last[value] = band[owner]
    return bool((last[value] == band[owner]).all())


def _merge_gaps(metaops: MetaOps, along_k: bool, max_gap: int, min_fill: float) -> MetaOps:
    """Fuse runs over gaps of at most max_gap indices while the runs' share of the result stays >= min_fill.

    Nothing is fused unless the meta-ops lie in bands across, for then a gap belongs to no other meta-op.
    """
    if not _in_bands(metaops, along_k):
        return metaops
    along = (K0, K, K_MAP) if along_k else (M0, M, M_MAP)
    across = (M0, M, M_MAP) if along_k else (K0, K, K_MAP)
    other = _start(metaops, across[0], across[2])
    order = np.lexsort((_start(metaops, along[0], along[2]), metaops.table[:, across[1]], other))
    t = metaops.table[order].copy()
    other = other[order]
    kept = t[:, along[1]].astype(np.int64)
    while len(t) > 1:
        end = t[:-1, along[0]] + t[:-1, along[1]]
        gap = t[1:, along[0]] - end
        span = t[1:, along[0]] + t[1:, along[1]] - t[:-1, along[0]]
        same = (other[1:] == other[:-1]) & (t[1:, across[1]] == t[:-1, across[1]])
        ranges = (t[1:, along[2]] < 0) & (t[:-1, along[2]] < 0)
        good = same & ranges & (gap > 0) & (gap <= max_gap) & (kept[1:] + kept[:-1] >= min_fill * span)
        # Of a chain of candidates take every other one, so that each meta-op merges once in a round.
        number = np.arange(len(good))
        starts = good & ~np.concatenate(([False], good[:-1]))
        chain_start = np.maximum.accumulate(np.where(starts, number, -1))
        take = np.flatnonzero(good & ((number - chain_start) % 2 == 0))
        if not take.size:
            break
        t[take, along[1]] = span[take]
        kept[take] += kept[take + 1]
        stay = np.ones(len(t), bool)
        stay[take + 1] = False
        t, kept, other = t[stay], kept[stay], other[stay]
    return MetaOps(t, metaops.index)


def _merge_squares(metaops: MetaOps) -> MetaOps:
    """Fuse aligned 2 x 2 quadruples of equal ranges to one, doubling until none is left."""
    while len(metaops) >= 4:
        t = metaops.table.astype(np.int64)
        m, k = np.maximum(t[:, M], 1), np.maximum(t[:, K], 1)
        ranged = (t[:, M_MAP] < 0) & (t[:, K_MAP] < 0) & (t[:, M0] % m == 0) & (t[:, K0] % k == 0)
        quad = np.stack([m, k, t[:, M0] // (2 * m), t[:, K0] // (2 * k)])
        order = np.lexsort((t[:, K0], t[:, M0], *quad[::-1], ~ranged))
        key, ok = quad[:, order], ranged[order]
        same = (key[:, 3:] == key[:, :-3]).all(axis=0) & ok[3:] & ok[:-3]
        head = np.flatnonzero(same)
        if not head.size:
            break
        table = metaops.table[order].copy()
        table[head, M] *= 2
        table[head, K] *= 2
        stay = np.ones(len(table), bool)
        stay[(head[:, None] + np.arange(1, 4)).ravel()] = False
        metaops = MetaOps(table[stay], metaops.index)
    return metaops


def lift(metaops: MetaOps, order: str = "k-first", max_gap: int = 0, min_fill: float = 1.0) -> MetaOps:
    """Fuse adjacent meta-ops until nothing changes.

    First exactly (no refused cell inside), in this order of axes; then, for max_gap > 0, along the first axis
    over gaps of at most max_gap indices while at least min_fill of the fused meta-op was kept cells. Order
    square-first has no first axis and bridges no gaps. Covers with bicliques are left as they are: their
    order says who owns shared points.
    """
    if order not in ORDERS:
        raise ValueError(f"order {order!r} is not one of {', '.join(ORDERS)}")
    if has_bicliques(metaops):
        return metaops
    k_first = order != "m-first"
    if order == "square-first":
        metaops = _merge_squares(metaops)
    metaops = _merge_runs(metaops, k_first)
    if max_gap > 0 and order != "square-first":
        metaops = _merge_gaps(metaops, k_first, max_gap, min_fill)
    while True:
        before = len(metaops)
        metaops = _merge_runs(_merge_runs(metaops, not k_first), k_first)
        if len(metaops) == before:
            break
    return in_order(metaops)


def in_order(metaops: MetaOps) -> MetaOps:
    """Sorted by first row, then first column."""
    t = metaops.table
    row = np.where(t[:, M_MAP] >= 0, first_listed(metaops, t[:, M_MAP]), t[:, M0])
    column = np.where(t[:, K_MAP] >= 0, first_listed(metaops, t[:, K_MAP]), t[:, K0])
    return metaops.select(np.lexsort((column, row)))


def first_listed(metaops: MetaOps, at: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Int64:
    """First index of each list; 0 where the axis is a range."""
    if not len(metaops.index):
        return np.zeros(len(at), np.int64)
    return metaops.index[np.maximum(at, 0)].astype(np.int64)
